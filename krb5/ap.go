package krb5

import (
	"time"

	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// Authenticator proves that its sender knows the session key now: RFC 4120,
// Section 5.5.1.
type Authenticator struct {
	CRealm string
	CName  PrincipalName
	// Checksum is over the application's data; optional. GSS-API puts its own
	// structure here (type 0x8003, RFC 4121, Section 4.1.1).
	Checksum Checksum
	CUsec    int // microseconds of CTime
	CTime    time.Time
	Subkey   EncryptionKey // optional
	// SeqNumber is optional; 0 is written as absent, and absent means 0.
	SeqNumber         uint32
	AuthorizationData AuthorizationData // optional
}

// ParseAuthenticator reads an Authenticator.
func ParseAuthenticator(b []byte) (Authenticator, error) {
	return der.Parse(b, MaxMessage, "Authenticator", readAuthenticator)
}

// Append appends the DER of a.
func (a Authenticator) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Nest(der.Application(tagAuthent), func() {
			b.Sequence(func() { a.buildFields(b) })
		})
	})
}

func (a Authenticator) buildFields(b *der.Builder) {
	b.IntField(0, protocolVersion)
	b.TextField(1, a.CRealm)
	nameField(b, 2, a.CName)
	if !a.Checksum.IsZero() {
		b.Explicit(3, func() { a.Checksum.build(b) })
	}
	b.IntField(4, int64(a.CUsec))
	b.TimeField(5, a.CTime)
	optionalKey(b, 6, a.Subkey)
	optionalUint(b, 7, a.SeqNumber)
	optionalAuthorizationData(b, 8, a.AuthorizationData)
}

func readAuthenticator(v der.Value) Authenticator {
	s := v.Inner(der.Application(tagAuthent)).Sequence("Authenticator")
	readVersion(s.Field(0, "authenticator-vno"))
	a := Authenticator{
		CRealm:            s.Field(1, "crealm").Text(),
		CName:             readPrincipalName(s.Field(2, "cname")),
		Checksum:          readOptional(s.Optional(3, "cksum"), readChecksum),
		CUsec:             int(s.Field(4, "cusec").Range(0, maxMicros)),
		CTime:             s.Field(5, "ctime").Time(),
		Subkey:            readOptional(s.Optional(6, "subkey"), readEncryptionKey),
		SeqNumber:         s.Optional(7, "seq-number").Uint32(),
		AuthorizationData: readAuthorizationData(s.Optional(8, "authorization-data")),
	}
	s.End()
	return a
}

// optionalUint writes [n] UInt32, left out for 0.
func optionalUint(b *der.Builder, n int, v uint32) {
	if v != 0 {
		b.IntField(n, int64(v))
	}
}

// readOptional reads a field that may be absent, whose type has required fields.
func readOptional[T any](v der.Value, read func(der.Value) T) T {
	if !v.Present() {
		var zero T
		return zero
	}
	return read(v)
}

// APReq shows a ticket to a server: RFC 4120, Section 5.5.1.
type APReq struct {
	Options APOptions
	// Ticket is the DER of the ticket, as the KDC issued it: see [ParseTicket].
	Ticket []byte
	// Authenticator is an encrypted [Authenticator]: [UsageAPReqAuthenticator],
	// or [UsageTGSReqAuthenticator] for the KDC.
	Authenticator EncryptedData
}

// ParseAPReq reads an AP-REQ.
func ParseAPReq(b []byte) (APReq, error) { return der.Parse(b, MaxMessage, "AP-REQ", readAPReq) }

// Append appends the DER of r.
func (r APReq) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, MsgAPReq, 0, func() {
			b.BitsField(2, uint32(r.Options))
			b.RawField(3, r.Ticket)
			b.Explicit(4, func() { r.Authenticator.build(b) })
		})
	})
}

func readAPReq(v der.Value) APReq {
	s := enterMessage(v, MsgAPReq, 0, "AP-REQ")
	r := APReq{
		Options:       APOptions(s.Field(2, "ap-options").Bits32()),
		Ticket:        rawTicket(s.Field(3, "ticket")),
		Authenticator: readEncryptedData(s.Field(4, "authenticator")),
	}
	s.End()
	return r
}

// APRep is the server's proof in return: RFC 4120, Section 5.5.2.
type APRep struct {
	EncPart EncryptedData // [EncAPRepPart], [UsageAPRepEncPart]
}

// ParseAPRep reads an AP-REP.
func ParseAPRep(b []byte) (APRep, error) { return der.Parse(b, MaxMessage, "AP-REP", readAPRep) }

// Append appends the DER of r.
func (r APRep) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, MsgAPRep, 0, func() {
			b.Explicit(2, func() { r.EncPart.build(b) })
		})
	})
}

func readAPRep(v der.Value) APRep {
	s := enterMessage(v, MsgAPRep, 0, "AP-REP")
	r := APRep{EncPart: readEncryptedData(s.Field(2, "enc-part"))}
	s.End()
	return r
}

// EncAPRepPart is RFC 4120, Section 5.5.2. CTime and CUsec repeat those of the
// authenticator.
type EncAPRepPart struct {
	CTime     time.Time
	CUsec     int           // microseconds
	Subkey    EncryptionKey // optional
	SeqNumber uint32        // optional: 0 is written as absent, and absent means 0
}

// ParseEncAPRepPart reads an EncAPRepPart.
func ParseEncAPRepPart(b []byte) (EncAPRepPart, error) {
	return der.Parse(b, MaxMessage, "EncAPRepPart", readEncAPRepPart)
}

// Append appends the DER of p.
func (p EncAPRepPart) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Nest(der.Application(tagEncAP), func() {
			b.Sequence(func() {
				b.TimeField(0, p.CTime)
				b.IntField(1, int64(p.CUsec))
				optionalKey(b, 2, p.Subkey)
				optionalUint(b, 3, p.SeqNumber)
			})
		})
	})
}

func readEncAPRepPart(v der.Value) EncAPRepPart {
	s := v.Inner(der.Application(tagEncAP)).Sequence("EncAPRepPart")
	p := EncAPRepPart{
		CTime:     s.Field(0, "ctime").Time(),
		CUsec:     int(s.Field(1, "cusec").Range(0, maxMicros)),
		Subkey:    readOptional(s.Optional(2, "subkey"), readEncryptionKey),
		SeqNumber: s.Optional(3, "seq-number").Uint32(),
	}
	s.End()
	return p
}
