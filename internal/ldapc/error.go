package ldapc

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/explain"
)

// What callers branch on. Connection phase:
var (
	// ErrNotEncrypted is a server that will not encrypt, or that would step back
	// from it. No password is read and none is sent.
	ErrNotEncrypted = errors.New("LDAP connection would not be encrypted")
	// ErrCertificate is a certificate that does not prove the controller's name,
	// or that no trusted authority signed. Nothing was sent.
	ErrCertificate = errors.New("certificate of the directory is not accepted")
	// ErrAnswer is an answer that no directory gives. Somebody else may have sent
	// it.
	ErrAnswer = errors.New("malformed answer")
	// ErrCredentials is a bind that the directory refused.
	ErrCredentials = errors.New("directory refuses the credentials")
	// ErrChannelBinding is a bind inside TLS whose channel binding the directory
	// refused: somebody stands between, or the binding was left out.
	ErrChannelBinding = errors.New("directory refuses the channel binding")
)

// Request phase:
var (
	// ErrEncryptionRequired is a read that the directory grants over encrypted
	// connections only.
	ErrEncryptionRequired = errors.New("directory requires an encrypted connection")
	// ErrNoSuchObject is an entry that does not exist, or that the caller may
	// not see.
	ErrNoSuchObject = errors.New("no such object")
	// ErrAccess is a request that the caller may not make.
	ErrAccess = errors.New("access denied")
	// ErrExists is an entry or a unique value that is there already.
	ErrExists = errors.New("already exists")
	// ErrConnection is a connection that broke or did not answer in time; the
	// request may be made again on another.
	ErrConnection = errors.New("LDAP connection lost")
)

// Error is a result other than success, with Active Directory's own codes taken
// out of the diagnostic message: [MS-ADTS] 3.1.1.3.4 and [MS-ERREF].
type Error struct {
	// Op is what was asked, such as "bind" or "search CN=x,DC=y".
	Op string
	// Code is the LDAP result code, RFC 4511, Section 4.1.9.
	Code uint16
	// Win32 is the code in front of the message, such as 0x202D or 0x80090308;
	// 0 where there is none.
	Win32 uint32
	// Data is the status behind the word "data", such as 0x52E; 0 where there is
	// none.
	Data uint32
	// Message is the diagnostic message as it came.
	Message string
}

var (
	win32Prefix = regexp.MustCompile(`^(?:error: )?([0-9A-Fa-f]{8}):`)
	dataField   = regexp.MustCompile(`\bdata ([0-9A-Fa-f]+)\b`)
	bareCode    = regexp.MustCompile(`^([0-9A-Fa-f]{8})$`)
)

// newError reads the codes out of a result.
func newError(op string, code uint16, message string) *Error {
	e := &Error{Op: op, Code: code, Message: message}
	for _, re := range []*regexp.Regexp{win32Prefix, bareCode} {
		if m := re.FindStringSubmatch(message); m != nil {
			v, _ := strconv.ParseUint(m[1], 16, 32) // eight digits always fit
			e.Win32 = uint32(v)
		}
	}
	if m := dataField.FindStringSubmatch(message); m != nil {
		if v, err := strconv.ParseUint(m[1], 16, 32); err == nil {
			e.Data = uint32(v)
		}
	}
	return e
}

// Error is the cause in words and the codes.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: LDAP %d (%s)", e.Op, e.Code, ldap.LDAPResultCodeMap[e.Code])
	if c := e.Cause(); c != "" {
		s += ": " + c
	}
	if e.Message != "" {
		s += fmt.Sprintf(" [%s]", e.Message)
	}
	return s
}

// Cause is what the codes mean, in words; empty where nobody knows more than the
// result code.
func (e *Error) Cause() string {
	meaning, _ := e.brief()
	return meaning
}

// Hint is the next thing to do; empty where there is none.
func (e *Error) Hint() string {
	_, hint := e.brief()
	return hint
}

// brief is what is written about the code that tells most: of a refused bind the one
// behind "data".
func (e *Error) brief() (meaning, hint string) {
	if e.Data != 0 && e.Code == ldap.LDAPResultInvalidCredentials && explain.IsLogonFailure(e.Data) {
		return explain.Brief(e.Data)
	}
	if e.Win32 == 0 {
		return "", ""
	}
	return explain.Brief(e.Win32)
}

// ProtocolCode is the result code with Active Directory's own, such as "LDAP 49
// data 52e" or "LDAP 1 0000202D".
func (e *Error) ProtocolCode() string {
	s := fmt.Sprintf("LDAP %d", e.Code)
	switch {
	case e.Data != 0:
		s += fmt.Sprintf(" data %x", e.Data)
	case e.Win32 != 0:
		s += fmt.Sprintf(" %08X", e.Win32)
	}
	return s
}

// Temporary reports whether the directory asks to be left alone for now: busy
// (51) or unavailable (52).
func (e *Error) Temporary() bool {
	return e.Code == ldap.LDAPResultBusy || e.Code == ldap.LDAPResultUnavailable
}

// Is maps the codes to the sentinels of this package.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrChannelBinding:
		return e.Code == ldap.LDAPResultInvalidCredentials && (e.Win32 == secBadBindings || e.Data == secBadBindings)
	case ErrCredentials:
		return e.Code == ldap.LDAPResultInvalidCredentials && !e.Is(ErrChannelBinding)
	case ErrEncryptionRequired:
		return e.Win32 == dsConfidentialityRequired || e.Code == ldap.LDAPResultConfidentialityRequired
	case ErrNotEncrypted:
		return e.Code == ldap.LDAPResultStrongAuthRequired
	case ErrNoSuchObject:
		return e.Code == ldap.LDAPResultNoSuchObject
	case ErrAccess:
		return e.Code == ldap.LDAPResultInsufficientAccessRights
	case ErrExists:
		return e.Code == ldap.LDAPResultEntryAlreadyExists || e.Code == ldap.LDAPResultAttributeOrValueExists
	}
	return false
}

// Codes of [MS-ERREF] that decide something here.
const (
	secBadBindings            = 0x80090346 // SEC_E_BAD_BINDINGS
	dsConfidentialityRequired = 0x202D     // ERROR_DS_CONFIDENTIALITY_REQUIRED
	dsOperationsError         = 0x2020     // ERROR_DS_OPERATIONS_ERROR
)

// typed turns an error of the LDAP library into one of this package.
func typed(op string, err error) error {
	if err == nil {
		return nil
	}
	le, ok := errors.AsType[*ldap.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w: %w", op, ErrConnection, err)
	}
	if le.ResultCode >= ldap.ErrorNetwork {
		if le.ResultCode == ldap.ErrorNetwork {
			return fmt.Errorf("%s: %w: %w", op, ErrConnection, le.Err)
		}
		return fmt.Errorf("%s: %w", op, err)
	}
	message := ""
	if le.Err != nil {
		message = le.Err.Error()
	}
	return newError(op, le.ResultCode, message)
}
