package krb5

import (
	"net/netip"
	"slices"

	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

func (n PrincipalName) build(b *der.Builder) {
	b.Sequence(func() {
		b.IntField(0, int64(n.Type))
		b.Explicit(1, func() {
			b.Sequence(func() {
				for _, c := range n.Components {
					b.Text(c)
				}
			})
		})
	})
}

// ParsePrincipalName reads a PrincipalName that stands alone.
func ParsePrincipalName(b []byte) (PrincipalName, error) {
	return der.Parse(b, MaxMessage, "PrincipalName", readPrincipalName)
}

// Append appends the DER of n: RFC 4120, Section 5.2.2.
func (n PrincipalName) Append(dst []byte) []byte { return build(dst, n.build) }

func readPrincipalName(v der.Value) PrincipalName {
	s := v.Sequence("PrincipalName")
	n := PrincipalName{
		Type:       NameType(s.Field(0, "name-type").Int32()),
		Components: der.List(s.Field(1, "name-string"), "PrincipalName.name-string", MaxComponents, der.Value.Text),
	}
	s.End()
	return n
}

// IsZero reports whether the name is absent.
func (n PrincipalName) IsZero() bool { return n.Type == 0 && len(n.Components) == 0 }

// nameField writes [n] PrincipalName.
func nameField(b *der.Builder, n int, name PrincipalName) {
	b.Explicit(n, func() { name.build(b) })
}

// optionalName is nameField, left out for the zero name.
func optionalName(b *der.Builder, n int, name PrincipalName) {
	if !name.IsZero() {
		nameField(b, n, name)
	}
}

// AddressType is the type of a [HostAddress]: RFC 4120, Section 7.5.3.
type AddressType int32

// The address types in use.
const (
	AddrIPv4    AddressType = 2
	AddrNetBIOS AddressType = 20 // 16 bytes, padded with blanks: what Windows sends
	AddrIPv6    AddressType = 24
)

// HostAddress is RFC 4120, Section 5.2.5. The zero value stands for an absent
// one.
type HostAddress struct {
	Type    AddressType
	Address []byte
}

// AddressOf is the address in network byte order.
func AddressOf(a netip.Addr) HostAddress {
	a = a.Unmap()
	if a.Is4() {
		return HostAddress{Type: AddrIPv4, Address: a.AsSlice()}
	}
	return HostAddress{Type: AddrIPv6, Address: a.AsSlice()}
}

// IsZero reports whether the address is absent.
func (a HostAddress) IsZero() bool { return a.Type == 0 && len(a.Address) == 0 }

func (a HostAddress) build(b *der.Builder) {
	b.Sequence(func() {
		b.IntField(0, int64(a.Type))
		b.OctetsField(1, a.Address)
	})
}

func readHostAddress(v der.Value) HostAddress {
	s := v.Sequence("HostAddress")
	a := HostAddress{Type: AddressType(s.Field(0, "addr-type").Int32()), Address: s.Field(1, "address").Octets()}
	s.End()
	return a
}

func readHostAddresses(v der.Value) []HostAddress {
	return der.List(v, "HostAddresses", MaxAddresses, readHostAddress)
}

// optionalAddress writes [n] HostAddress unless a is absent.
func optionalAddress(b *der.Builder, n int, a HostAddress) {
	if !a.IsZero() {
		b.Explicit(n, func() { a.build(b) })
	}
}

// optionalAddresses writes [n] HostAddresses unless there are none.
func optionalAddresses(b *der.Builder, n int, list []HostAddress) {
	if len(list) == 0 {
		return
	}
	b.Explicit(n, func() {
		b.Sequence(func() {
			for _, a := range list {
				a.build(b)
			}
		})
	})
}

// ADType is the type of an element of authorization data: RFC 4120, Section
// 7.5.4, and [MS-KILE] 2.2.
type ADType int32

// The types of authorization data that Active Directory and its clients use.
const (
	ADIfRelevant        ADType = 1   // AD-IF-RELEVANT: a container
	ADAndOr             ADType = 5   // AD-AND-OR
	ADMandatoryForKDC   ADType = 8   // AD-MANDATORY-FOR-KDC
	ADWin2KPAC          ADType = 128 // the PAC, [MS-PAC]
	ADETypeNegotiation  ADType = 129 // RFC 4537
	ADTokenRestrictions ADType = 141 // KERB-AUTH-DATA-TOKEN-RESTRICTIONS, [MS-KILE] 2.2.6
	ADLocal             ADType = 142 // KERB-LOCAL, [MS-KILE] 2.2.4
	ADAPOptions         ADType = 143 // KERB-AP-OPTIONS, four bytes, little endian, [MS-KILE] 3.2.5.8
	ADTargetName        ADType = 144 // the SPN the client meant, UTF-16, [MS-KILE] 3.2.5.8
)

// APOptionsCBT in a [ADAPOptions] element says that the client supports channel
// bindings: KERB_AP_OPTIONS_CBT, [MS-KILE] 3.2.5.8.
const APOptionsCBT = 0x4000

// AuthorizationData is RFC 4120, Section 5.2.6. Containers are not opened: parse
// the data of [ADIfRelevant] with [ParseAuthorizationData].
type AuthorizationData []ADElement

// ADElement is one element of authorization data.
type ADElement struct {
	Type ADType
	Data []byte
}

// ParseAuthorizationData reads AuthorizationData, as it stands in a container.
func ParseAuthorizationData(b []byte) (AuthorizationData, error) {
	return der.Parse(b, MaxMessage, "AuthorizationData", readAuthorizationData)
}

// Append appends the DER of a.
func (a AuthorizationData) Append(dst []byte) []byte {
	size := adOverhead
	for _, e := range a {
		size += adOverhead + len(e.Data)
	}
	return build(slices.Grow(dst, size), a.build)
}

// adOverhead is more than an element, or the list, takes besides its data, in bytes.
const adOverhead = 24

// IfRelevant wraps a into one AD-IF-RELEVANT element.
func (a AuthorizationData) IfRelevant() AuthorizationData {
	return AuthorizationData{{Type: ADIfRelevant, Data: a.Append(nil)}}
}

// Find returns the data of the first element of type t on the top level or
// directly within AD-IF-RELEVANT, where clients and KDCs put what they send.
func (a AuthorizationData) Find(t ADType) ([]byte, bool) {
	for _, e := range a {
		if e.Type == t {
			return e.Data, true
		}
		if e.Type != ADIfRelevant {
			continue
		}
		inner, err := ParseAuthorizationData(e.Data)
		if err != nil {
			continue
		}
		for _, e := range inner {
			if e.Type == t {
				return e.Data, true
			}
		}
	}
	return nil, false
}

func (a AuthorizationData) build(b *der.Builder) {
	b.Sequence(func() {
		for _, e := range a {
			b.Sequence(func() {
				b.IntField(0, int64(e.Type))
				b.OctetsField(1, e.Data)
			})
		}
	})
}

func readAuthorizationData(v der.Value) AuthorizationData {
	return der.List(v, "AuthorizationData", MaxAuthorizationData, func(v der.Value) ADElement {
		s := v.Sequence("AuthorizationData")
		e := ADElement{Type: ADType(s.Field(0, "ad-type").Int32()), Data: s.Field(1, "ad-data").Octets()}
		s.End()
		return e
	})
}

// optionalAuthorizationData writes [n] AuthorizationData unless there is none.
func optionalAuthorizationData(b *der.Builder, n int, a AuthorizationData) {
	if len(a) > 0 {
		b.Explicit(n, func() { a.build(b) })
	}
}
