package krb5

import (
	"io"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// KRBPriv is a message under the session key: RFC 4120, Section 5.7.1.
type KRBPriv struct {
	EncPart EncryptedData // [EncKRBPrivPart], [UsageKRBPriv]
}

// ParseKRBPriv reads a KRB-PRIV.
func ParseKRBPriv(b []byte) (KRBPriv, error) {
	return der.Parse(b, MaxMessage, "KRB-PRIV", readKRBPriv)
}

// Append appends the DER of m. The enc-part has the number [3]: RFC 4120 leaves
// [2] out.
func (m KRBPriv) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, MsgPriv, 0, func() {
			b.Explicit(3, func() { m.EncPart.build(b) })
		})
	})
}

func readKRBPriv(v der.Value) KRBPriv {
	s := enterMessage(v, MsgPriv, 0, "KRB-PRIV")
	m := KRBPriv{EncPart: readEncryptedData(s.Field(3, "enc-part"))}
	s.End()
	return m
}

// MessageBody is the same in KRB-SAFE-BODY and EncKrbPrivPart: RFC 4120,
// Sections 5.6.1 and 5.7.1.
type MessageBody struct {
	UserData  []byte
	Timestamp time.Time // optional
	Usec      int       // microseconds; written if there is a Timestamp
	// SeqNumber is optional; 0 is written as absent, and absent means 0.
	SeqNumber uint32
	// SAddress is the sender's address.
	//
	// Deviation: it may be absent. Heimdal's type has it as optional, and a
	// client behind address translation does not know it.
	SAddress HostAddress
	RAddress HostAddress // optional
}

func (m MessageBody) buildFields(b *der.Builder) {
	b.OctetsField(0, m.UserData)
	b.OptionalTime(1, m.Timestamp)
	if !m.Timestamp.IsZero() {
		b.IntField(2, int64(m.Usec))
	}
	optionalUint(b, 3, m.SeqNumber)
	optionalAddress(b, 4, m.SAddress)
	optionalAddress(b, 5, m.RAddress)
}

func readMessageBody(s der.Reader) MessageBody {
	m := MessageBody{
		UserData:  s.Field(0, "user-data").Octets(),
		Timestamp: s.Optional(1, "timestamp").Time(),
		Usec:      int(s.Optional(2, "usec").Range(0, maxMicros)),
		SeqNumber: s.Optional(3, "seq-number").Uint32(),
		SAddress:  readOptional(s.Optional(4, "s-address"), readHostAddress),
		RAddress:  readOptional(s.Optional(5, "r-address"), readHostAddress),
	}
	s.End()
	return m
}

// EncKRBPrivPart is what a KRB-PRIV encrypts.
type EncKRBPrivPart struct {
	MessageBody
}

// ParseEncKRBPrivPart reads an EncKrbPrivPart.
func ParseEncKRBPrivPart(b []byte) (EncKRBPrivPart, error) {
	return der.Parse(b, MaxMessage, "EncKrbPrivPart", func(v der.Value) EncKRBPrivPart {
		return EncKRBPrivPart{readMessageBody(v.Inner(der.Application(tagEncPriv)).Sequence("EncKrbPrivPart"))}
	})
}

// Append appends the DER of p.
func (p EncKRBPrivPart) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Nest(der.Application(tagEncPriv), func() {
			b.Sequence(func() { p.buildFields(b) })
		})
	})
}

// SealPriv makes the KRB-PRIV of body.
func SealPriv(key *crypto.Key, body MessageBody, rand io.Reader) (KRBPriv, error) {
	e, err := Seal(key, UsageKRBPriv, EncKRBPrivPart{body}.Append(nil), rand)
	return KRBPriv{EncPart: e}, err
}

// Open decrypts m. Whoever calls it checks address, time and sequence number.
func (m KRBPriv) Open(key *crypto.Key) (MessageBody, error) {
	plain, err := m.EncPart.Open(key, UsageKRBPriv)
	if err != nil {
		return MessageBody{}, err
	}
	p, err := ParseEncKRBPrivPart(plain)
	return p.MessageBody, err
}

// KRBSafe is a message with a keyed checksum: RFC 4120, Section 5.6.1.
type KRBSafe struct {
	Body MessageBody
	// RawBody is the DER of the body, over which the checksum is taken.
	// ParseKRBSafe sets it; Append writes it in place of Body if it is set.
	RawBody  []byte
	Checksum Checksum // [UsageKRBSafe]
}

// AppendBody appends the DER of the body alone, for the checksum.
func (m KRBSafe) AppendBody(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() { m.Body.buildFields(b) })
	})
}

// ParseKRBSafe reads a KRB-SAFE.
func ParseKRBSafe(b []byte) (KRBSafe, error) {
	return der.Parse(b, MaxMessage, "KRB-SAFE", func(v der.Value) KRBSafe {
		s := enterMessage(v, MsgSafe, 0, "KRB-SAFE")
		body := s.Field(2, "safe-body")
		m := KRBSafe{Body: readMessageBody(body.Sequence("KRB-SAFE-BODY")), RawBody: body.Raw(der.TagSequence)}
		m.Checksum = readChecksum(s.Field(3, "cksum"))
		s.End()
		return m
	})
}

// Append appends the DER of m.
func (m KRBSafe) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, MsgSafe, 0, func() {
			if m.RawBody != nil {
				b.RawField(2, m.RawBody)
			} else {
				b.Explicit(2, func() { b.Sequence(func() { m.Body.buildFields(b) }) })
			}
			b.Explicit(3, func() { m.Checksum.build(b) })
		})
	})
}

// KRBCred carries credentials to another: RFC 4120, Section 5.8.1.
type KRBCred struct {
	Tickets [][]byte      // DER of each
	EncPart EncryptedData // [EncKRBCredPart], [UsageKRBCred]; EType 0 means plain
}

// ParseKRBCred reads a KRB-CRED.
func ParseKRBCred(b []byte) (KRBCred, error) {
	return der.Parse(b, MaxMessage, "KRB-CRED", func(v der.Value) KRBCred {
		s := enterMessage(v, MsgCred, 0, "KRB-CRED")
		m := KRBCred{Tickets: readTickets(s.Field(2, "tickets")), EncPart: readEncryptedData(s.Field(3, "enc-part"))}
		s.End()
		return m
	})
}

// Append appends the DER of m.
func (m KRBCred) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, MsgCred, 0, func() {
			b.Explicit(2, func() { buildTickets(b, m.Tickets) })
			b.Explicit(3, func() { m.EncPart.build(b) })
		})
	})
}

// EncKRBCredPart describes the tickets of a KRB-CRED, in their order.
type EncKRBCredPart struct {
	TicketInfo []KRBCredInfo
	Nonce      uint32    // optional: 0 is absent
	Timestamp  time.Time // optional
	Usec       int       // microseconds; written if there is a Timestamp
	SAddress   HostAddress
	RAddress   HostAddress
}

// KRBCredInfo is what the owner of a ticket must know; all but the key is
// optional.
type KRBCredInfo struct {
	Key       EncryptionKey
	PRealm    string
	PName     PrincipalName
	Flags     TicketFlags
	AuthTime  time.Time
	StartTime time.Time
	EndTime   time.Time
	RenewTill time.Time
	SRealm    string
	SName     PrincipalName
	CAddr     []HostAddress
}

// ParseEncKRBCredPart reads an EncKrbCredPart.
func ParseEncKRBCredPart(b []byte) (EncKRBCredPart, error) {
	return der.Parse(b, MaxMessage, "EncKrbCredPart", func(v der.Value) EncKRBCredPart {
		s := v.Inner(der.Application(tagEncCred)).Sequence("EncKrbCredPart")
		p := EncKRBCredPart{
			TicketInfo: der.List(s.Field(0, "ticket-info"), "ticket-info", MaxTickets, readKRBCredInfo),
			Nonce:      s.Optional(1, "nonce").Uint32(),
			Timestamp:  s.Optional(2, "timestamp").Time(),
			Usec:       int(s.Optional(3, "usec").Range(0, maxMicros)),
			SAddress:   readOptional(s.Optional(4, "s-address"), readHostAddress),
			RAddress:   readOptional(s.Optional(5, "r-address"), readHostAddress),
		}
		s.End()
		return p
	})
}

// Append appends the DER of p.
func (p EncKRBCredPart) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Nest(der.Application(tagEncCred), func() {
			b.Sequence(func() {
				b.Explicit(0, func() {
					b.Sequence(func() {
						for _, i := range p.TicketInfo {
							i.build(b)
						}
					})
				})
				optionalUint(b, 1, p.Nonce)
				b.OptionalTime(2, p.Timestamp)
				if !p.Timestamp.IsZero() {
					b.IntField(3, int64(p.Usec))
				}
				optionalAddress(b, 4, p.SAddress)
				optionalAddress(b, 5, p.RAddress)
			})
		})
	})
}

func (i KRBCredInfo) build(b *der.Builder) {
	b.Sequence(func() {
		b.Explicit(0, func() { i.Key.build(b) })
		b.OptionalText(1, i.PRealm)
		optionalName(b, 2, i.PName)
		if i.Flags != 0 {
			b.BitsField(3, uint32(i.Flags))
		}
		b.OptionalTime(4, i.AuthTime)
		b.OptionalTime(5, i.StartTime)
		b.OptionalTime(6, i.EndTime)
		b.OptionalTime(7, i.RenewTill)
		b.OptionalText(8, i.SRealm)
		optionalName(b, 9, i.SName)
		optionalAddresses(b, 10, i.CAddr)
	})
}

func readKRBCredInfo(v der.Value) KRBCredInfo {
	s := v.Sequence("KrbCredInfo")
	i := KRBCredInfo{
		Key:       readEncryptionKey(s.Field(0, "key")),
		PRealm:    s.Optional(1, "prealm").Text(),
		PName:     readOptional(s.Optional(2, "pname"), readPrincipalName),
		Flags:     TicketFlags(s.Optional(3, "flags").Bits32()),
		AuthTime:  s.Optional(4, "authtime").Time(),
		StartTime: s.Optional(5, "starttime").Time(),
		EndTime:   s.Optional(6, "endtime").Time(),
		RenewTill: s.Optional(7, "renew-till").Time(),
		SRealm:    s.Optional(8, "srealm").Text(),
		SName:     readOptional(s.Optional(9, "sname"), readPrincipalName),
		CAddr:     readHostAddresses(s.Optional(10, "caddr")),
	}
	s.End()
	return i
}
