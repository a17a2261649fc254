// Package kpasswd is the framing of the password change protocol on port 464:
// RFC 3244, with its version 0xff80 that sets another account's password. Read
// [Request] first.
//
// The Kerberos messages inside (AP-REQ, AP-REP, KRB-PRIV, KRB-ERROR) are those of
// package krb5; the exchange is in internal/kclient.
package kpasswd

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/internal/der"
	"github.com/opengmsa/opengmsa/secret"
)

// The protocol versions: RFC 3244, Section 2.
const (
	VersionChange uint16 = 1      // user-data is the caller's own new password
	VersionSet    uint16 = 0xff80 // user-data is a [ChangePasswdData]
)

// MaxMessage is the largest message, in bytes: its length has 16 bits.
const MaxMessage = 1<<16 - 1

// MaxPassword is the longest password in bytes of UTF-8: AD takes 256 UTF-16
// units at most.
const MaxPassword = 4 * 256

// headerSize is that of length, version and AP-REQ or AP-REP length.
const headerSize = 6

// Request asks for a new password: RFC 3244, Section 2.
type Request struct {
	Version uint16 // VersionChange or VersionSet
	APReq   []byte // krb5.APReq with a subkey, ticket for kadmin/changepw
	// Priv is a krb5.KRBPriv in the subkey.
	Priv []byte
}

// ParseRequest reads a request. Any version is read, so that the server can
// answer with [ResultBadVersion].
func ParseRequest(b []byte) (Request, error) {
	version, ap, rest, err := parseFrame("kpasswd request", b)
	if err != nil {
		return Request{}, err
	}
	if len(ap) == 0 || len(rest) == 0 {
		return Request{}, &krb5.SyntaxError{Type: "kpasswd request", Field: "AP-REQ and KRB-PRIV", Offset: headerSize,
			Got: fmt.Sprintf("%d and %d bytes", len(ap), len(rest)), Want: "both"}
	}
	return Request{Version: version, APReq: ap, Priv: rest}, nil
}

// Append appends the message; it must not be longer than [MaxMessage].
func (r Request) Append(dst []byte) []byte { return appendFrame(dst, r.Version, r.APReq, r.Priv) }

// Reply answers it: either APRep and Priv, or Error.
type Reply struct {
	APRep []byte // krb5.APRep
	// Priv is a krb5.KRBPriv in the subkey of the request, not in one of the
	// AP-REP; its user-data is a [Result].
	Priv []byte
	// Error is a krb5.KRBError whose e-data is a [Result]. It is not
	// authenticated.
	Error []byte
}

// ParseReply reads a reply.
//
// Deviation: a bare KRB-ERROR without the frame is taken too; Windows sends one
// for an AP-REQ that it cannot read, and so does MIT.
func ParseReply(b []byte) (Reply, error) {
	if t, ok := krb5.TypeOf(b); ok && t == krb5.MsgError {
		return Reply{Error: b}, nil
	}
	version, ap, rest, err := parseFrame("kpasswd reply", b)
	if err != nil {
		return Reply{}, err
	}
	if version != VersionChange && version != VersionSet {
		return Reply{}, &krb5.SyntaxError{Type: "kpasswd reply", Field: "version", Offset: 2,
			Got: fmt.Sprintf("%#x", version), Want: "1 or 0xff80"}
	}
	if len(rest) == 0 {
		return Reply{}, &krb5.SyntaxError{Type: "kpasswd reply", Field: "message", Offset: len(b), Got: "0 bytes", Want: "a KRB-PRIV or KRB-ERROR"}
	}
	if len(ap) == 0 {
		return Reply{Error: rest}, nil
	}
	return Reply{APRep: ap, Priv: rest}, nil
}

// Append appends the message: RFC 3244, Section 2 wants version 1 in every
// reply.
func (r Reply) Append(dst []byte) []byte {
	if r.Error != nil {
		return appendFrame(dst, VersionChange, nil, r.Error)
	}
	return appendFrame(dst, VersionChange, r.APRep, r.Priv)
}

func appendFrame(dst []byte, version uint16, ap, rest []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(headerSize+len(ap)+len(rest)))
	dst = binary.BigEndian.AppendUint16(dst, version)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(ap)))
	dst = append(dst, ap...)
	return append(dst, rest...)
}

func parseFrame(typ string, b []byte) (version uint16, ap, rest []byte, err error) {
	if len(b) < headerSize {
		return 0, nil, nil, &krb5.SyntaxError{Type: typ, Got: fmt.Sprintf("%d bytes", len(b)), Want: fmt.Sprintf("at least %d", headerSize)}
	}
	if n := int(binary.BigEndian.Uint16(b)); n != len(b) {
		return 0, nil, nil, &krb5.SyntaxError{Type: typ, Field: "message length", Got: fmt.Sprint(n), Want: fmt.Sprint(len(b))}
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n > len(b)-headerSize {
		return 0, nil, nil, &krb5.SyntaxError{Type: typ, Field: "AP length", Offset: 4,
			Got: fmt.Sprint(n), Want: fmt.Sprintf("at most %d", len(b)-headerSize)}
	}
	end := headerSize + n
	return binary.BigEndian.Uint16(b[2:]), b[headerSize:end:end], b[end:], nil
}

// ChangePasswdData is the user-data of [VersionSet]: RFC 3244, Section 2.
type ChangePasswdData struct {
	NewPassword secret.Bytes // UTF-8
	// TargetName and TargetRealm name the account; zero means the caller's own.
	TargetName  krb5.PrincipalName
	TargetRealm string
}

// ParseChangePasswdData reads a ChangePasswdData; the password is a copy.
func ParseChangePasswdData(b []byte) (ChangePasswdData, error) {
	return der.Parse(b, MaxMessage, "ChangePasswdData", func(v der.Value) ChangePasswdData {
		s := v.Sequence("ChangePasswdData")
		password := s.Field(0, "newpasswd")
		d := ChangePasswdData{NewPassword: secret.Copy(password.Octets())}
		if d.NewPassword.Len() > MaxPassword {
			password.Fail(fmt.Sprintf("%d bytes", d.NewPassword.Len()), fmt.Sprintf("at most %d", MaxPassword))
		}
		if name := s.Optional(1, "targname"); name.Present() {
			var err error
			if d.TargetName, err = krb5.ParsePrincipalName(name.Raw(der.TagSequence)); err != nil {
				name.Fail(err.Error(), "a PrincipalName")
			}
		}
		d.TargetRealm = s.Optional(2, "targrealm").Text()
		s.End()
		return d
	})
}

// Append appends the DER of d.
func (d ChangePasswdData) Append(dst []byte) []byte {
	b := der.NewBuilder(dst)
	b.Sequence(func() {
		b.OctetsField(0, d.NewPassword.Reveal())
		if !d.TargetName.IsZero() {
			b.RawField(1, d.TargetName.Append(nil))
		}
		b.OptionalText(2, d.TargetRealm)
	})
	return b.Bytes()
}

// ResultCode says what became of a request: RFC 3244, Section 2.
type ResultCode uint16

// The result codes.
const (
	ResultSuccess           ResultCode = 0
	ResultMalformed         ResultCode = 1
	ResultHardError         ResultCode = 2
	ResultAuthError         ResultCode = 3
	ResultSoftError         ResultCode = 4 // the policy refuses the password
	ResultAccessDenied      ResultCode = 5
	ResultBadVersion        ResultCode = 6
	ResultInitialFlagNeeded ResultCode = 7
)

var resultTexts = [...]string{
	ResultSuccess:           "KRB5_KPASSWD_SUCCESS: the password was changed",
	ResultMalformed:         "KRB5_KPASSWD_MALFORMED: the request is malformed",
	ResultHardError:         "KRB5_KPASSWD_HARDERROR: the server could not do it",
	ResultAuthError:         "KRB5_KPASSWD_AUTHERROR: the request could not be authenticated",
	ResultSoftError:         "KRB5_KPASSWD_SOFTERROR: the password policy refuses the new password",
	ResultAccessDenied:      "KRB5_KPASSWD_ACCESSDENIED: the caller may not change this password",
	ResultBadVersion:        "KRB5_KPASSWD_BAD_VERSION: the server does not know this version of the protocol",
	ResultInitialFlagNeeded: "KRB5_KPASSWD_INITIAL_FLAG_NEEDED: the ticket must come from the password itself",
}

// String is the name in the RFC and what it means.
func (c ResultCode) String() string {
	if int(c) < len(resultTexts) {
		return resultTexts[c]
	}
	return fmt.Sprintf("KRB5_KPASSWD_%d", uint16(c))
}

// Result is the user-data of a reply, and the e-data of a KRB-ERROR.
type Result struct {
	Code ResultCode
	// Text is UTF-8 for people, or a [Policy] of 30 bytes from Windows.
	Text []byte
}

// ParseResult reads a result.
func ParseResult(b []byte) (Result, error) {
	if len(b) < 2 {
		return Result{}, &krb5.SyntaxError{Type: "kpasswd result", Got: fmt.Sprintf("%d bytes", len(b)), Want: "at least 2"}
	}
	return Result{Code: ResultCode(binary.BigEndian.Uint16(b)), Text: b[2:]}, nil
}

// Append appends r.
func (r Result) Append(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(r.Code)), r.Text...)
}

// Err is nil for success, and r otherwise.
func (r Result) Err() error {
	if r.Code == ResultSuccess {
		return nil
	}
	return r
}

// Error is the code and the server's explanation.
func (r Result) Error() string {
	text := fmt.Sprintf("kpasswd result %d %s", uint16(r.Code), r.Code)
	if p, ok := ParsePolicy(r.Text); ok {
		return text + " (" + p.String() + ")"
	}
	if s := strings.TrimRight(strings.ToValidUTF8(string(r.Text), "\ufffd"), "\x00"); s != "" {
		return fmt.Sprintf("%s (%q)", text, s)
	}
	return text
}

// Policy is what Windows sends in place of a text when the policy refuses a
// password: 30 bytes, big endian, behind two bytes of zero.
type Policy struct {
	MinLength  uint32
	History    uint32 // passwords remembered
	Properties uint32 // bit 0: complexity
	MaxAge     time.Duration
	MinAge     time.Duration
}

const (
	policySize = 30
	// PolicyComplex in Properties demands three of four kinds of characters:
	// DOMAIN_PASSWORD_COMPLEX, [MS-SAMR] 2.2.3.1.
	PolicyComplex = 1
)

// ParsePolicy reads a policy; ok is false if b is not one.
func ParsePolicy(b []byte) (p Policy, ok bool) {
	if len(b) != policySize || b[0] != 0 || b[1] != 0 {
		return Policy{}, false
	}
	return Policy{
		MinLength:  binary.BigEndian.Uint32(b[2:]),
		History:    binary.BigEndian.Uint32(b[6:]),
		Properties: binary.BigEndian.Uint32(b[10:]),
		MaxAge:     ticks(binary.BigEndian.Uint64(b[14:])),
		MinAge:     ticks(binary.BigEndian.Uint64(b[22:])),
	}, true
}

// ticks converts 100 ns units, without overflow.
func ticks(n uint64) time.Duration {
	const most = uint64(1<<63-1) / 100
	return time.Duration(min(n, most)) * 100
}

// Append appends the 30 bytes of p.
func (p Policy) Append(dst []byte) []byte {
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, p.MinLength)
	dst = binary.BigEndian.AppendUint32(dst, p.History)
	dst = binary.BigEndian.AppendUint32(dst, p.Properties)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.MaxAge/100))
	return binary.BigEndian.AppendUint64(dst, uint64(p.MinAge/100))
}

// String says the rules in words.
func (p Policy) String() string {
	rules := []string{}
	if p.MinLength > 0 {
		rules = append(rules, fmt.Sprintf("at least %d characters", p.MinLength))
	}
	if p.Properties&PolicyComplex != 0 {
		rules = append(rules, "three of capitals, small letters, digits and signs, and not the account's name")
	}
	if p.History > 0 {
		rules = append(rules, fmt.Sprintf("none of the last %d", p.History))
	}
	if p.MinAge > 0 {
		rules = append(rules, fmt.Sprintf("not more often than every %v", p.MinAge))
	}
	if len(rules) == 0 {
		return "no rule stated"
	}
	return "the domain wants: " + strings.Join(rules, "; ")
}
