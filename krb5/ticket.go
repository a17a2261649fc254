package krb5

import (
	"time"

	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// Ticket is RFC 4120, Section 5.3. Messages that carry a ticket keep its DER as
// it came, because only the KDC and the server can read it; [ParseTicket] opens
// the part that is plain.
type Ticket struct {
	Realm   string
	SName   PrincipalName
	EncPart EncryptedData // EncTicketPart in the server's key, [UsageTicket]
}

// ParseTicket reads a Ticket.
func ParseTicket(b []byte) (Ticket, error) { return der.Parse(b, MaxMessage, "Ticket", readTicket) }

// Append appends the DER of t.
func (t Ticket) Append(dst []byte) []byte { return build(dst, t.build) }

func (t Ticket) build(b *der.Builder) {
	b.Nest(der.Application(tagTicket), func() {
		b.Sequence(func() {
			b.IntField(0, protocolVersion)
			b.TextField(1, t.Realm)
			nameField(b, 2, t.SName)
			b.Explicit(3, func() { t.EncPart.build(b) })
		})
	})
}

func readTicket(v der.Value) Ticket {
	s := v.Inner(der.Application(tagTicket)).Sequence("Ticket")
	readVersion(s.Field(0, "tkt-vno"))
	t := Ticket{
		Realm:   s.Field(1, "realm").Text(),
		SName:   readPrincipalName(s.Field(2, "sname")),
		EncPart: readEncryptedData(s.Field(3, "enc-part")),
	}
	s.End()
	return t
}

// rawTicket is the DER of a ticket as it stands; its outer tag is checked here,
// the rest by ParseTicket.
func rawTicket(v der.Value) []byte { return v.Raw(der.Application(tagTicket)) }

func readTickets(v der.Value) [][]byte { return der.List(v, "Tickets", MaxTickets, rawTicket) }

// TransitedEncoding lists the realms that a ticket passed: RFC 4120, Section 5.3.
type TransitedEncoding struct {
	Type     int32 // 1 is DOMAIN-X500-COMPRESS
	Contents []byte
}

// EncTicketPart is what only the KDC and the server see of a ticket: RFC 4120,
// Section 5.3.
type EncTicketPart struct {
	Flags     TicketFlags
	Key       EncryptionKey
	CRealm    string
	CName     PrincipalName
	Transited TransitedEncoding
	AuthTime  time.Time
	StartTime time.Time // optional: zero is absent and means AuthTime
	EndTime   time.Time
	RenewTill time.Time     // optional
	CAddr     []HostAddress // optional
	// AuthorizationData holds the PAC within AD-IF-RELEVANT; optional.
	AuthorizationData AuthorizationData
}

// ParseEncTicketPart reads an EncTicketPart.
func ParseEncTicketPart(b []byte) (EncTicketPart, error) {
	return der.Parse(b, MaxMessage, "EncTicketPart", readEncTicketPart)
}

// Append appends the DER of p.
func (p EncTicketPart) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Nest(der.Application(tagEncTkt), func() {
			b.Sequence(func() { p.buildFields(b) })
		})
	})
}

func (p EncTicketPart) buildFields(b *der.Builder) {
	b.BitsField(0, uint32(p.Flags))
	b.Explicit(1, func() { p.Key.build(b) })
	b.TextField(2, p.CRealm)
	nameField(b, 3, p.CName)
	b.Explicit(4, func() {
		b.Sequence(func() {
			b.IntField(0, int64(p.Transited.Type))
			b.OctetsField(1, p.Transited.Contents)
		})
	})
	b.TimeField(5, p.AuthTime)
	b.OptionalTime(6, p.StartTime)
	b.TimeField(7, p.EndTime)
	b.OptionalTime(8, p.RenewTill)
	optionalAddresses(b, 9, p.CAddr)
	optionalAuthorizationData(b, 10, p.AuthorizationData)
}

func readEncTicketPart(v der.Value) EncTicketPart {
	s := v.Inner(der.Application(tagEncTkt)).Sequence("EncTicketPart")
	p := EncTicketPart{
		Flags:             TicketFlags(s.Field(0, "flags").Bits32()),
		Key:               readEncryptionKey(s.Field(1, "key")),
		CRealm:            s.Field(2, "crealm").Text(),
		CName:             readPrincipalName(s.Field(3, "cname")),
		Transited:         readTransited(s.Field(4, "transited")),
		AuthTime:          s.Field(5, "authtime").Time(),
		StartTime:         s.Optional(6, "starttime").Time(),
		EndTime:           s.Field(7, "endtime").Time(),
		RenewTill:         s.Optional(8, "renew-till").Time(),
		CAddr:             readHostAddresses(s.Optional(9, "caddr")),
		AuthorizationData: readAuthorizationData(s.Optional(10, "authorization-data")),
	}
	s.End()
	return p
}

func readTransited(v der.Value) TransitedEncoding {
	s := v.Sequence("TransitedEncoding")
	t := TransitedEncoding{Type: s.Field(0, "tr-type").Int32(), Contents: s.Field(1, "contents").Octets()}
	s.End()
	return t
}
