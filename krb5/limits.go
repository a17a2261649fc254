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

// Message types: RFC 4120, Section 7.5.7. They are the application tags too.
const (
	msgASReq   = 10
	msgASRep   = 11
	msgTGSReq  = 12
	msgTGSRep  = 13
	msgAPReq   = 14
	msgAPRep   = 15
	msgSafe    = 20
	msgPriv    = 21
	msgCred    = 22
	msgKRBErr  = 30
	tagTicket  = 1
	tagAuthent = 2
	tagEncTkt  = 3
	tagEncAS   = 25
	tagEncTGS  = 26
	tagEncAP   = 27
	tagEncPriv = 28
	tagEncCred = 29
)

// readMsgType reads msg-type, which must agree with the application tag.
func readMsgType(v der.Value, want int64) { v.Range(want, want) }
