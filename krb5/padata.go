package krb5

import (
	"encoding/binary"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// PAType is a pre-authentication type of the IANA registry.
type PAType int32

// The pre-authentication types that Active Directory and its clients use.
const (
	PATGSReq             PAType = 1   // AP-REQ with the TGT
	PAEncTimestamp       PAType = 2   // [PAEncTSEnc], encrypted
	PAPWSalt             PAType = 3   // salt; in errors of AD an extended error, [MS-KILE] 2.2.1
	PAETypeInfo          PAType = 11  // [ETypeInfo]
	PAPKASRepOld         PAType = 15  // RFC 4556 draft 9
	PAPKASReq            PAType = 16  // RFC 4556
	PAPKASRep            PAType = 17  // RFC 4556
	PAETypeInfo2         PAType = 19  // [ETypeInfo2]
	PAPACRequest         PAType = 128 // [PACRequest]
	PAForUser            PAType = 129 // [MS-SFU] 2.2.1
	PAForX509User        PAType = 130 // [MS-SFU] 2.2.2
	PAFXCookie           PAType = 133 // RFC 6113
	PAFXFast             PAType = 136 // RFC 6113
	PAFXError            PAType = 137 // RFC 6113
	PAEncryptedChallenge PAType = 138 // RFC 6113
	PAReqEncPARep        PAType = 149 // RFC 6806: empty in the request, a [Checksum] of it in the reply
	PAASFreshness        PAType = 150 // RFC 8070
	PASupportedETypes    PAType = 165 // [MS-KILE] 2.2.8: a bit mask as msDS-SupportedEncryptionTypes
	PAPACOptions         PAType = 167 // [PACOptions]
)

// PAData is one element of pre-authentication data: RFC 4120, Section 5.2.7.
type PAData struct {
	Type  PAType
	Value []byte
}

// MethodData is a list of PAData, as e-data of error 25 has it: RFC 4120,
// Section 5.9.1.
type MethodData []PAData

// Find returns the value of the first element of type t.
func (m MethodData) Find(t PAType) ([]byte, bool) {
	for _, p := range m {
		if p.Type == t {
			return p.Value, true
		}
	}
	return nil, false
}

// ParseMethodData reads METHOD-DATA.
func ParseMethodData(b []byte) (MethodData, error) {
	return der.Parse(b, MaxMessage, "METHOD-DATA", func(v der.Value) MethodData { return readPADataList(v) })
}

// Append appends the DER of m.
func (m MethodData) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) { buildPAData(b, m) })
}

func buildPAData(b *der.Builder, list []PAData) {
	b.Sequence(func() {
		for _, p := range list {
			b.Sequence(func() {
				b.IntField(1, int64(p.Type))
				b.OctetsField(2, p.Value)
			})
		}
	})
}

// optionalPAData writes [n] SEQUENCE OF PA-DATA unless there is none.
func optionalPAData(b *der.Builder, n int, list []PAData) {
	if len(list) > 0 {
		b.Explicit(n, func() { buildPAData(b, list) })
	}
}

func readPADataList(v der.Value) []PAData {
	return der.List(v, "PA-DATA list", MaxPAData, func(v der.Value) PAData {
		s := v.Sequence("PA-DATA")
		p := PAData{Type: PAType(s.Field(1, "padata-type").Int32()), Value: s.Field(2, "padata-value").Octets()}
		s.End()
		return p
	})
}

// PAEncTSEnc is what PA-ENC-TIMESTAMP encrypts: RFC 4120, Section 5.2.7.2;
// [UsageASReqTimestamp].
type PAEncTSEnc struct {
	Time time.Time // whole seconds
	Usec int       // microseconds; optional, absent reads as 0
}

// ParsePAEncTSEnc reads a PA-ENC-TS-ENC.
func ParsePAEncTSEnc(b []byte) (PAEncTSEnc, error) {
	return der.Parse(b, MaxMessage, "PA-ENC-TS-ENC", func(v der.Value) PAEncTSEnc {
		s := v.Sequence("PA-ENC-TS-ENC")
		p := PAEncTSEnc{
			Time: s.Field(0, "patimestamp").Time(),
			Usec: int(s.Optional(1, "pausec").Range(0, maxMicros)),
		}
		s.End()
		return p
	})
}

// Append appends the DER of p.
func (p PAEncTSEnc) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() {
			b.TimeField(0, p.Time)
			b.IntField(1, int64(p.Usec))
		})
	})
}

// ETypeInfo2Entry says how the key of one encryption type comes from the
// password: RFC 4120, Section 5.2.7.5.
type ETypeInfo2Entry struct {
	EType crypto.EType
	// Salt is meaningful if HasSalt: without one, the default salt of RFC 4120,
	// Section 5.2.7.5 is meant, and RC4 has none.
	Salt    string
	HasSalt bool
	// S2KParams is nil if absent; for AES the iteration count, four bytes, big
	// endian (RFC 3962, Section 4).
	S2KParams []byte
}

// ETypeInfo2 lists the encryption types of a client, best first.
type ETypeInfo2 []ETypeInfo2Entry

// ParseETypeInfo2 reads the value of PA-ETYPE-INFO2.
func ParseETypeInfo2(b []byte) (ETypeInfo2, error) {
	return der.Parse(b, MaxMessage, "ETYPE-INFO2", func(v der.Value) ETypeInfo2 {
		return der.List(v, "ETYPE-INFO2", MaxETypes, readETypeInfo2Entry)
	})
}

func readETypeInfo2Entry(v der.Value) ETypeInfo2Entry {
	s := v.Sequence("ETYPE-INFO2-ENTRY")
	e := ETypeInfo2Entry{EType: crypto.EType(s.Field(0, "etype").Int32())}
	salt := s.Optional(1, "salt")
	e.Salt, e.HasSalt = salt.Text(), salt.Present()
	e.S2KParams = s.Optional(2, "s2kparams").Octets()
	s.End()
	return e
}

// Append appends the DER of l.
func (l ETypeInfo2) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() {
			for _, e := range l {
				b.Sequence(func() {
					b.IntField(0, int64(e.EType))
					if e.HasSalt {
						b.TextField(1, e.Salt)
					}
					if e.S2KParams != nil {
						b.OctetsField(2, e.S2KParams)
					}
				})
			}
		})
	})
}

// ETypeInfoEntry is the older form, which AD sends to clients that offer RC4
// alone: RFC 4120, Section 5.2.7.4.
type ETypeInfoEntry struct {
	EType crypto.EType
	Salt  []byte // nil if absent
}

// ETypeInfo lists the encryption types of a client, best first.
type ETypeInfo []ETypeInfoEntry

// ParseETypeInfo reads the value of PA-ETYPE-INFO.
func ParseETypeInfo(b []byte) (ETypeInfo, error) {
	return der.Parse(b, MaxMessage, "ETYPE-INFO", func(v der.Value) ETypeInfo {
		return der.List(v, "ETYPE-INFO", MaxETypes, func(v der.Value) ETypeInfoEntry {
			s := v.Sequence("ETYPE-INFO-ENTRY")
			e := ETypeInfoEntry{EType: crypto.EType(s.Field(0, "etype").Int32()), Salt: s.Optional(1, "salt").Octets()}
			s.End()
			return e
		})
	})
}

// Append appends the DER of l.
func (l ETypeInfo) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() {
			for _, e := range l {
				b.Sequence(func() {
					b.IntField(0, int64(e.EType))
					if e.Salt != nil {
						b.OctetsField(1, e.Salt)
					}
				})
			}
		})
	})
}

// PACRequest asks for a ticket with or without a PAC: KERB-PA-PAC-REQUEST,
// [MS-KILE] 2.2.3.
type PACRequest struct {
	IncludePAC bool
}

// ParsePACRequest reads the value of PA-PAC-REQUEST.
func ParsePACRequest(b []byte) (PACRequest, error) {
	return der.Parse(b, MaxMessage, "KERB-PA-PAC-REQUEST", func(v der.Value) PACRequest {
		s := v.Sequence("KERB-PA-PAC-REQUEST")
		p := PACRequest{IncludePAC: s.Field(0, "include-pac").Bool()}
		s.End()
		return p
	})
}

// Append appends the DER of p.
func (p PACRequest) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() { b.BoolField(0, p.IncludePAC) })
	})
}

// PACOptions is PA-PAC-OPTIONS, [MS-KILE] 2.2.10.
type PACOptions uint32

// The options of [PACOptions].
const (
	PACOptClaims      PACOptions = 1 << (31 - 0)
	PACOptBranchAware PACOptions = 1 << (31 - 1)
	PACOptForwardFull PACOptions = 1 << (31 - 2) // forward to a full controller
	PACOptRBCD        PACOptions = 1 << (31 - 3) // resource-based constrained delegation, [MS-SFU] 2.2.5
)

// ParsePACOptions reads the value of PA-PAC-OPTIONS.
func ParsePACOptions(b []byte) (PACOptions, error) {
	return der.Parse(b, MaxMessage, "PA-PAC-OPTIONS", func(v der.Value) PACOptions {
		s := v.Sequence("PA-PAC-OPTIONS")
		p := PACOptions(s.Field(0, "options").Bits32())
		s.End()
		return p
	})
}

// Append appends the DER of p.
func (p PACOptions) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() { b.BitsField(0, uint32(p)) })
	})
}

// ParseSupportedETypes reads PA-SUPPORTED-ENCTYPES, the account's
// msDS-SupportedEncryptionTypes: [MS-KILE] 2.2.8, four bytes, little endian.
func ParseSupportedETypes(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, lengthError("PA-SUPPORTED-ENCTYPES", len(b), 4)
	}
	return binary.LittleEndian.Uint32(b), nil
}
