package krb5

import "github.com/opengmsa/opengmsa/krb5/internal/der"

// What a message may hold. The limits bound what a hostile peer can make us
// allocate; they are several times what Active Directory sends. Nesting is
// bounded by the grammar: no type of this package contains itself.
const (
	// MaxMessage is the size of the largest message, in bytes: a ticket with the
	// largest PAC that Windows allows (MaxTokenSize, 65,535) and its frame.
	MaxMessage = 128 << 10
	// MaxComponents is the number of components of a name; a service has two or
	// three.
	MaxComponents = 16
	// MaxPAData is the number of elements of padata or METHOD-DATA.
	MaxPAData = 64
	// MaxETypes is the number of encryption types of a request.
	MaxETypes = 64
	// MaxAddresses is the number of host addresses.
	MaxAddresses = 64
	// MaxAuthorizationData is the number of elements on one level.
	MaxAuthorizationData = 64
	// MaxTickets is the number of additional tickets, or of those in a KRB-CRED.
	MaxTickets = 16
	// MaxLastReq is the number of last-req entries.
	MaxLastReq = 32
)

// SyntaxError is what every parser of this package returns: the type and field,
// the offset, what was found and what was expected.
type SyntaxError = der.SyntaxError

// maxMicros is the largest number of microseconds beside a KerberosTime: RFC
// 4120, Section 5.2.4.
const maxMicros = 999_999

// protocolVersion is pvno, tkt-vno and authenticator-vno: RFC 4120, Section 5.
const protocolVersion = 5

// readVersion reads a version number, which must be 5.
func readVersion(v der.Value) { v.Range(protocolVersion, protocolVersion) }

// MessageType is msg-type: RFC 4120, Section 7.5.7. It is the application tag of
// the message too.
type MessageType uint8

// The message types.
const (
	MsgASReq  MessageType = 10
	MsgASRep  MessageType = 11
	MsgTGSReq MessageType = 12
	MsgTGSRep MessageType = 13
	MsgAPReq  MessageType = 14
	MsgAPRep  MessageType = 15
	MsgSafe   MessageType = 20
	MsgPriv   MessageType = 21
	MsgCred   MessageType = 22
	MsgError  MessageType = 30
)

// Application tags of what is not a message of its own: RFC 4120, Appendix A.
const (
	tagTicket  = 1
	tagAuthent = 2
	tagEncTkt  = 3
	tagEncAS   = 25
	tagEncTGS  = 26
	tagEncAP   = 27
	tagEncPriv = 28
	tagEncCred = 29
)

// TypeOf tells from its first byte what message b is; ok is false if it is none.
// It says nothing about the rest.
func TypeOf(b []byte) (t MessageType, ok bool) {
	if len(b) == 0 || b[0]&0xe0 != 0x60 {
		return 0, false
	}
	switch t = MessageType(b[0] & 0x1f); t {
	case MsgASReq, MsgASRep, MsgTGSReq, MsgTGSRep, MsgAPReq, MsgAPRep, MsgSafe, MsgPriv, MsgCred, MsgError:
		return t, true
	}
	return 0, false
}

// buildMessage writes the frame that all messages share: the application tag, a
// SEQUENCE, and the fields pvno [n] and msg-type [n+1].
func buildMessage(b *der.Builder, t MessageType, n int, body func()) {
	b.Nest(der.Application(int(t)), func() {
		b.Sequence(func() {
			b.IntField(n, protocolVersion)
			b.IntField(n+1, int64(t))
			body()
		})
	})
}

// enterMessage reads the same.
func enterMessage(v der.Value, t MessageType, n int, typ string) der.Reader {
	s := v.Inner(der.Application(int(t))).Sequence(typ)
	readVersion(s.Field(n, "pvno"))
	s.Field(n+1, "msg-type").Range(int64(t), int64(t))
	return s
}
