package krb5

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// KRBError is a KRB-ERROR, RFC 4120, Section 5.9.1; a pointer to it is an error
// that unwraps to its [ErrorCode]. Nothing in it is authenticated.
type KRBError struct {
	CTime  time.Time // of the request; optional
	CUsec  int       // microseconds; written if there is a CTime
	STime  time.Time // of the server
	SUsec  int       // microseconds
	Code   ErrorCode
	CRealm string        // optional
	CName  PrincipalName // optional
	Realm  string
	SName  PrincipalName
	EText  string // optional; for people
	EData  []byte // optional; its form depends on Code: see MethodData and NTStatus
}

// ParseKRBError reads a KRB-ERROR.
func ParseKRBError(b []byte) (KRBError, error) {
	return der.Parse(b, MaxMessage, "KRB-ERROR", readKRBError)
}

// Append appends the DER of e.
func (e KRBError) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		buildMessage(b, MsgError, 0, func() {
			b.OptionalTime(2, e.CTime)
			if !e.CTime.IsZero() {
				b.IntField(3, int64(e.CUsec))
			}
			b.TimeField(4, e.STime)
			b.IntField(5, int64(e.SUsec))
			b.IntField(6, int64(e.Code))
			b.OptionalText(7, e.CRealm)
			optionalName(b, 8, e.CName)
			b.TextField(9, e.Realm)
			nameField(b, 10, e.SName)
			b.OptionalText(11, e.EText)
			if e.EData != nil {
				b.OctetsField(12, e.EData)
			}
		})
	})
}

func readKRBError(v der.Value) KRBError {
	s := enterMessage(v, MsgError, 0, "KRB-ERROR")
	e := KRBError{
		CTime:  s.Optional(2, "ctime").Time(),
		CUsec:  int(s.Optional(3, "cusec").Range(0, maxMicros)),
		STime:  s.Field(4, "stime").Time(),
		SUsec:  int(s.Field(5, "susec").Range(0, maxMicros)),
		Code:   ErrorCode(s.Field(6, "error-code").Int32()),
		CRealm: s.Optional(7, "crealm").Text(),
		CName:  readOptional(s.Optional(8, "cname"), readPrincipalName),
		Realm:  s.Field(9, "realm").Text(),
		SName:  readPrincipalName(s.Field(10, "sname")),
		EText:  s.Optional(11, "e-text").LooseText(),
		EData:  s.Optional(12, "e-data").Octets(),
	}
	s.End()
	return e
}

// Error is the code, its meaning, the KDC's own text and the NTSTATUS, as far as
// they are there.
func (e *KRBError) Error() string {
	var s strings.Builder
	s.WriteString(e.Code.Error())
	if e.EText != "" && e.EText != e.Code.String() {
		fmt.Fprintf(&s, " (%q)", e.EText)
	}
	if status, ok := e.NTStatus(); ok {
		fmt.Fprintf(&s, ", %s", status)
	}
	return s.String()
}

// ProtocolCode is the code as Error begins with it, such as "24
// KDC_ERR_PREAUTH_FAILED".
func (e *KRBError) ProtocolCode() string { return fmt.Sprintf("%d %v", int32(e.Code), e.Code.String()) }

// Unwrap returns the code.
func (e *KRBError) Unwrap() error { return e.Code }

// ServerTime is STime with its microseconds.
func (e *KRBError) ServerTime() time.Time {
	return e.STime.Add(time.Duration(e.SUsec) * time.Microsecond)
}

// MethodData reads e-data as the list of pre-authentication types that codes 24
// and 25 carry; it is empty if e-data is something else.
func (e *KRBError) MethodData() MethodData {
	m, err := ParseMethodData(e.EData)
	if err != nil {
		return nil
	}
	return m
}

// NTStatus is the extended error that Active Directory puts into e-data, as
// KERB-ERROR-DATA or as PA-PW-SALT within METHOD-DATA: [MS-KILE] 2.2.1, 2.2.2.
func (e *KRBError) NTStatus() (NTStatus, bool) {
	if len(e.EData) == 0 {
		return 0, false
	}
	if d, err := ParseErrorData(e.EData); err == nil {
		if x, err := ParseExtError(d.Value); err == nil && d.Type == ErrorDataExtended {
			return x.Status, true
		}
		return 0, false
	}
	if salt, ok := e.MethodData().Find(PAPWSalt); ok {
		if x, err := ParseExtError(salt); err == nil {
			return x.Status, true
		}
	}
	return 0, false
}

// ErrorData is KERB-ERROR-DATA, [MS-KILE] 2.2.2.
type ErrorData struct {
	Type  int32
	Value []byte // nil if absent
}

// ErrorDataExtended is KERB_ERR_TYPE_EXTENDED: Value is a KERB-EXT-ERROR.
// ErrorDataSkewRecovery is KERB_AP_ERR_TYPE_SKEW_RECOVERY, with no value.
const (
	ErrorDataSkewRecovery = 2
	ErrorDataExtended     = 3
)

// ParseErrorData reads a KERB-ERROR-DATA.
func ParseErrorData(b []byte) (ErrorData, error) {
	return der.Parse(b, MaxMessage, "KERB-ERROR-DATA", func(v der.Value) ErrorData {
		s := v.Sequence("KERB-ERROR-DATA")
		d := ErrorData{Type: s.Field(1, "data-type").Int32(), Value: s.Optional(2, "data-value").Octets()}
		s.End()
		return d
	})
}

// Append appends the DER of d.
func (d ErrorData) Append(dst []byte) []byte {
	return build(dst, func(b *der.Builder) {
		b.Sequence(func() {
			b.IntField(1, int64(d.Type))
			if d.Value != nil {
				b.OctetsField(2, d.Value)
			}
		})
	})
}

// ExtError is KERB-EXT-ERROR, [MS-KILE] 2.2.1: 12 bytes, little endian.
type ExtError struct {
	Status NTStatus
	Flags  uint32 // 1: the status is valid
}

// extErrorSize is the size of a KERB-EXT-ERROR in bytes.
const extErrorSize = 12

// ParseExtError reads a KERB-EXT-ERROR.
func ParseExtError(b []byte) (ExtError, error) {
	if len(b) != extErrorSize {
		return ExtError{}, lengthError("KERB-EXT-ERROR", len(b), extErrorSize)
	}
	return ExtError{Status: NTStatus(binary.LittleEndian.Uint32(b)), Flags: binary.LittleEndian.Uint32(b[8:])}, nil
}

// Append appends the twelve bytes of e; the reserved field is 0.
func (e ExtError) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(e.Status))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, e.Flags)
}

// lengthError is the fault of a structure of fixed size.
func lengthError(typ string, got, want int) error {
	return &SyntaxError{Type: typ, Got: fmt.Sprintf("%d bytes", got), Want: fmt.Sprintf("%d", want)}
}

// NTStatus is a status code of [MS-ERREF] 2.3.
type NTStatus uint32

// The status codes with which a KDC explains a refusal.
const (
	StatusAccessDenied        NTStatus = 0xC0000022
	StatusNoSuchUser          NTStatus = 0xC0000064
	StatusWrongPassword       NTStatus = 0xC000006A
	StatusPasswordRestriction NTStatus = 0xC000006C
	StatusLogonFailure        NTStatus = 0xC000006D
	StatusAccountRestriction  NTStatus = 0xC000006E
	StatusInvalidLogonHours   NTStatus = 0xC000006F
	StatusInvalidWorkstation  NTStatus = 0xC0000070
	StatusPasswordExpired     NTStatus = 0xC0000071
	StatusAccountDisabled     NTStatus = 0xC0000072
	StatusTimeDifference      NTStatus = 0xC0000133
	StatusNoTrustSAMAccount   NTStatus = 0xC000018B
	StatusAccountExpired      NTStatus = 0xC0000193
	StatusPasswordMustChange  NTStatus = 0xC0000224
	StatusAccountLockedOut    NTStatus = 0xC0000234
	StatusAuthFirewall        NTStatus = 0xC0000413
)

var statusTexts = map[NTStatus]string{
	StatusAccessDenied:        "STATUS_ACCESS_DENIED: access is denied",
	StatusNoSuchUser:          "STATUS_NO_SUCH_USER: the account does not exist",
	StatusWrongPassword:       "STATUS_WRONG_PASSWORD: the password is wrong",
	StatusPasswordRestriction: "STATUS_PASSWORD_RESTRICTION: the new password violates the policy",
	StatusLogonFailure:        "STATUS_LOGON_FAILURE: the name or the password is wrong",
	StatusAccountRestriction:  "STATUS_ACCOUNT_RESTRICTION: a restriction of the account forbids this logon",
	StatusInvalidLogonHours:   "STATUS_INVALID_LOGON_HOURS: the account may not log on at this time",
	StatusInvalidWorkstation:  "STATUS_INVALID_WORKSTATION: the account may not log on from this computer",
	StatusPasswordExpired:     "STATUS_PASSWORD_EXPIRED: the password has expired",
	StatusAccountDisabled:     "STATUS_ACCOUNT_DISABLED: the account is disabled",
	StatusTimeDifference:      "STATUS_TIME_DIFFERENCE_AT_DC: the clocks are too far apart",
	StatusNoTrustSAMAccount:   "STATUS_NO_TRUST_SAM_ACCOUNT: the computer has no account in the domain",
	StatusAccountExpired:      "STATUS_ACCOUNT_EXPIRED: the account has expired",
	StatusPasswordMustChange:  "STATUS_PASSWORD_MUST_CHANGE: the password must be changed before the first logon",
	StatusAccountLockedOut:    "STATUS_ACCOUNT_LOCKED_OUT: the account is locked out",
	StatusAuthFirewall:        "STATUS_AUTHENTICATION_FIREWALL_FAILED: the account may not authenticate to this computer",
}

// String is "NTSTATUS 0xC0000072 STATUS_ACCOUNT_DISABLED: the account is
// disabled".
func (s NTStatus) String() string {
	if t, ok := statusTexts[s]; ok {
		return fmt.Sprintf("NTSTATUS 0x%08X %s", uint32(s), t)
	}
	return fmt.Sprintf("NTSTATUS 0x%08X", uint32(s))
}
