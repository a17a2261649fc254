package krb5

import (
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// KDCReq is an AS-REQ or a TGS-REQ: RFC 4120, Section 5.4.1.
type KDCReq struct {
	Type   MessageType // MsgASReq or MsgTGSReq
	PAData []PAData
	Body   KDCReqBody
	// RawBody is the DER of the body, over which a TGS-REQ has its checksum.
	// ParseKDCReq sets it; Append writes it in place of Body if it is set.
	RawBody []byte
}

// KDCReqBody is what is asked for.
type KDCReqBody struct {
	Options KDCOptions
	CName   PrincipalName // optional, only in an AS-REQ
	Realm   string        // of the server, and in an AS-REQ of the client too
	SName   PrincipalName // optional
	From    time.Time     // optional
	// Till is the end wished for; zero asks for as long as the KDC grants.
	Till      time.Time
	RTime     time.Time // renewable until; optional
	Nonce     uint32
	ETypes    []crypto.EType // in the order of preference
	Addresses []HostAddress  // optional
	// EncAuthorizationData is optional: [UsageTGSReqAuthDataSKey] or
	// [UsageTGSReqAuthDataSub].
	EncAuthorizationData EncryptedData
	AdditionalTickets    [][]byte // DER of each; optional
}

// ParseKDCReq reads an AS-REQ or a TGS-REQ.
func ParseKDCReq(b []byte) (KDCReq, error) { return der.Parse(b, MaxMessage, "KDC-REQ", readKDCReq) }

// Append appends the DER of r.
func (r KDCReq) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, r.Type, 1, func() {
			optionalPAData(b, 3, r.PAData)
			if r.RawBody != nil {
				b.RawField(4, r.RawBody)
				return
			}
			b.Explicit(4, func() { r.Body.build(b) })
		})
	})
}

func readKDCReq(v der.Value) KDCReq {
	r := KDCReq{Type: MsgASReq}
	if v.Tag() == der.Application(int(MsgTGSReq)) {
		r.Type = MsgTGSReq
	}
	s := enterMessage(v, r.Type, 1, "KDC-REQ")
	r.PAData = readPADataList(s.Optional(3, "padata"))
	body := s.Field(4, "req-body")
	r.Body = readKDCReqBody(body)
	r.RawBody = body.Raw(der.TagSequence)
	s.End()
	return r
}

// ParseKDCReqBody reads a KDC-REQ-BODY.
func ParseKDCReqBody(b []byte) (KDCReqBody, error) {
	return der.Parse(b, MaxMessage, "KDC-REQ-BODY", readKDCReqBody)
}

// Append appends the DER of q, over which the checksum of a TGS-REQ is taken.
func (q KDCReqBody) Append(dst []byte) []byte { return build(dst, q.build) }

func (q KDCReqBody) build(b *der.Builder) {
	b.Sequence(func() {
		b.BitsField(0, uint32(q.Options))
		optionalName(b, 1, q.CName)
		b.TextField(2, q.Realm)
		optionalName(b, 3, q.SName)
		b.OptionalTime(4, q.From)
		b.TimeField(5, q.Till)
		b.OptionalTime(6, q.RTime)
		b.IntField(7, int64(q.Nonce))
		b.Explicit(8, func() {
			b.Sequence(func() {
				for _, e := range q.ETypes {
					b.Int(int64(e))
				}
			})
		})
		optionalAddresses(b, 9, q.Addresses)
		if q.EncAuthorizationData.Cipher != nil {
			b.Explicit(10, func() { q.EncAuthorizationData.build(b) })
		}
		if len(q.AdditionalTickets) > 0 {
			b.Explicit(11, func() { buildTickets(b, q.AdditionalTickets) })
		}
	})
}

func buildTickets(b *der.Builder, tickets [][]byte) {
	b.Sequence(func() {
		for _, t := range tickets {
			b.Raw(t)
		}
	})
}

// readKDCReqBody reads the body.
//
// Deviation: a missing till reads as none, because Heimdal's type has it as
// optional.
func readKDCReqBody(v der.Value) KDCReqBody {
	s := v.Sequence("KDC-REQ-BODY")
	q := KDCReqBody{
		Options:              KDCOptions(s.Field(0, "kdc-options").Bits32()),
		CName:                readOptional(s.Optional(1, "cname"), readPrincipalName),
		Realm:                s.Field(2, "realm").Text(),
		SName:                readOptional(s.Optional(3, "sname"), readPrincipalName),
		From:                 s.Optional(4, "from").Time(),
		Till:                 s.Optional(5, "till").Time(),
		RTime:                s.Optional(6, "rtime").Time(),
		Nonce:                s.Field(7, "nonce").Uint32(),
		ETypes:               der.List(s.Field(8, "etype"), "KDC-REQ-BODY.etype", MaxETypes, readEType),
		Addresses:            readHostAddresses(s.Optional(9, "addresses")),
		EncAuthorizationData: readOptional(s.Optional(10, "enc-authorization-data"), readEncryptedData),
		AdditionalTickets:    readTickets(s.Optional(11, "additional-tickets")),
	}
	s.End()
	return q
}

func readEType(v der.Value) crypto.EType { return crypto.EType(v.Int32()) }

// KDCRep is an AS-REP or a TGS-REP: RFC 4120, Section 5.4.2.
type KDCRep struct {
	Type   MessageType // MsgASRep or MsgTGSRep
	PAData []PAData
	CRealm string
	CName  PrincipalName
	// Ticket is the DER of the ticket, as the KDC issued it: see [ParseTicket].
	Ticket []byte
	// EncPart is an [EncKDCRepPart]: [UsageASRepEncPart] in the client's key,
	// [UsageTGSRepEncPart] or [UsageTGSRepSubkey].
	EncPart EncryptedData
}

// ParseKDCRep reads an AS-REP or a TGS-REP.
func ParseKDCRep(b []byte) (KDCRep, error) { return der.Parse(b, MaxMessage, "KDC-REP", readKDCRep) }

// Append appends the DER of r.
func (r KDCRep) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, r.Type, 0, func() {
			optionalPAData(b, 2, r.PAData)
			b.TextField(3, r.CRealm)
			nameField(b, 4, r.CName)
			b.RawField(5, r.Ticket)
			b.Explicit(6, func() { r.EncPart.build(b) })
		})
	})
}

func readKDCRep(v der.Value) KDCRep {
	r := KDCRep{Type: MsgASRep}
	if v.Tag() == der.Application(int(MsgTGSRep)) {
		r.Type = MsgTGSRep
	}
	s := enterMessage(v, r.Type, 0, "KDC-REP")
	r.PAData = readPADataList(s.Optional(2, "padata"))
	r.CRealm = s.Field(3, "crealm").Text()
	r.CName = readPrincipalName(s.Field(4, "cname"))
	r.Ticket = rawTicket(s.Field(5, "ticket"))
	r.EncPart = readEncryptedData(s.Field(6, "enc-part"))
	s.End()
	return r
}

// LastReq is one entry of last-req: RFC 4120, Section 5.4.2. A negative type
// speaks of this KDC alone.
type LastReq struct {
	Type  int32
	Value time.Time
}

// Types of [LastReq] that announce an expiry.
const (
	LRPasswordExpires int32 = 6
	LRAccountExpires  int32 = 7
)

// EncKDCRepPart is what the client learns about its ticket: RFC 4120, Section
// 5.4.2, with encrypted-pa-data of RFC 6806, Section 11.
type EncKDCRepPart struct {
	Type          MessageType // MsgASRep or MsgTGSRep, as it is tagged
	Key           EncryptionKey
	LastReq       []LastReq
	Nonce         uint32
	KeyExpiration time.Time // optional
	Flags         TicketFlags
	AuthTime      time.Time
	StartTime     time.Time // optional
	EndTime       time.Time
	RenewTill     time.Time // optional
	SRealm        string
	SName         PrincipalName
	CAddr         []HostAddress // optional
	PAData        []PAData      // encrypted-pa-data; optional
}

// ParseEncKDCRepPart reads an EncASRepPart or an EncTGSRepPart.
//
// Deviation: the type is reported, not demanded, because some KDCs tag the part
// of an AS-REP as EncTGSRepPart; RFC 4120, Section 5.4.2 advises to relax the
// check. The key usage numbers keep the two apart.
func ParseEncKDCRepPart(b []byte) (EncKDCRepPart, error) {
	return der.Parse(b, MaxMessage, "EncKDCRepPart", readEncKDCRepPart)
}

// Append appends the DER of p.
func (p EncKDCRepPart) Append(dst []byte) []byte {
	tag := tagEncAS
	if p.Type == MsgTGSRep {
		tag = tagEncTGS
	}
	return build(dst, func(b *der.Builder) {
		b.Nest(der.Application(tag), func() {
			b.Sequence(func() { p.buildFields(b) })
		})
	})
}

func (p EncKDCRepPart) buildFields(b *der.Builder) {
	b.Explicit(0, func() { p.Key.build(b) })
	b.Explicit(1, func() {
		b.Sequence(func() {
			for _, l := range p.LastReq {
				b.Sequence(func() {
					b.IntField(0, int64(l.Type))
					b.TimeField(1, l.Value)
				})
			}
		})
	})
	b.IntField(2, int64(p.Nonce))
	b.OptionalTime(3, p.KeyExpiration)
	b.BitsField(4, uint32(p.Flags))
	b.TimeField(5, p.AuthTime)
	b.OptionalTime(6, p.StartTime)
	b.TimeField(7, p.EndTime)
	b.OptionalTime(8, p.RenewTill)
	b.TextField(9, p.SRealm)
	nameField(b, 10, p.SName)
	optionalAddresses(b, 11, p.CAddr)
	optionalPAData(b, 12, p.PAData)
}

func readEncKDCRepPart(v der.Value) EncKDCRepPart {
	p := EncKDCRepPart{Type: MsgASRep}
	tag := tagEncAS
	if v.Tag() == der.Application(tagEncTGS) {
		p.Type, tag = MsgTGSRep, tagEncTGS
	}
	s := v.Inner(der.Application(tag)).Sequence("EncKDCRepPart")
	p.Key = readEncryptionKey(s.Field(0, "key"))
	p.LastReq = der.List(s.Field(1, "last-req"), "LastReq", MaxLastReq, readLastReq)
	p.Nonce = s.Field(2, "nonce").Uint32()
	p.KeyExpiration = s.Optional(3, "key-expiration").Time()
	p.Flags = TicketFlags(s.Field(4, "flags").Bits32())
	p.AuthTime = s.Field(5, "authtime").Time()
	p.StartTime = s.Optional(6, "starttime").Time()
	p.EndTime = s.Field(7, "endtime").Time()
	p.RenewTill = s.Optional(8, "renew-till").Time()
	p.SRealm = s.Field(9, "srealm").Text()
	p.SName = readPrincipalName(s.Field(10, "sname"))
	p.CAddr = readHostAddresses(s.Optional(11, "caddr"))
	p.PAData = readPADataList(s.Optional(12, "encrypted-pa-data"))
	s.End()
	return p
}

func readLastReq(v der.Value) LastReq {
	s := v.Sequence("LastReq")
	l := LastReq{Type: s.Field(0, "lr-type").Int32(), Value: s.Field(1, "lr-value").Time()}
	s.End()
	return l
}

// String is the name of the message.
func (t MessageType) String() string {
	switch t {
	case MsgASReq:
		return "AS-REQ"
	case MsgASRep:
		return "AS-REP"
	case MsgTGSReq:
		return "TGS-REQ"
	case MsgTGSRep:
		return "TGS-REP"
	case MsgAPReq:
		return "AP-REQ"
	case MsgAPRep:
		return "AP-REP"
	case MsgSafe:
		return "KRB-SAFE"
	case MsgPriv:
		return "KRB-PRIV"
	case MsgCred:
		return "KRB-CRED"
	case MsgError:
		return "KRB-ERROR"
	}
	return fmt.Sprintf("message type %d", uint8(t))
}
