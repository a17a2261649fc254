package account

import (
	"errors"

	"github.com/opengmsa/opengmsa/krb5"
)

// LogonError is why a logon was refused: the code for Kerberos, the NTSTATUS beside it,
// and the cause, which is for our own log.
type LogonError struct {
	Code krb5.ErrorCode
	// Status is the extended error of AD; 0 where the peer is told nothing more.
	Status krb5.NTStatus
	// Err is the cause; nil where the status says all.
	Err error
	// wrong says that a password was guessed wrong, which counts against the account.
	wrong bool
}

// Error gives the code, the status and the cause.
func (e *LogonError) Error() string {
	s := e.Code.Error()
	if e.Status != 0 {
		s += ", " + e.Status.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the code and the cause.
func (e *LogonError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// statusSmartcardRequired is STATUS_SMARTCARD_LOGON_REQUIRED of [MS-ERREF] 2.3.1.
const statusSmartcardRequired krb5.NTStatus = 0xC00002FA

// LDAPData is the number behind "data" in the text of error 49, by which AD tells an
// LDAP client why its bind failed: the Windows code of the same meaning.
func (e *LogonError) LDAPData() uint32 {
	switch e.Status {
	case krb5.StatusInvalidLogonHours:
		return 0x530
	case krb5.StatusPasswordExpired:
		return 0x532
	case krb5.StatusAccountDisabled:
		return 0x533
	case krb5.StatusAccountExpired:
		return 0x701
	case krb5.StatusPasswordMustChange:
		return 0x773
	case krb5.StatusAccountLockedOut:
		return 0x775
	}
	return 0x52e // ERROR_LOGON_FAILURE: a name and a password that do not fit, and all else
}

// WrongPassword is the one error for a secret that is not the account's, and for an
// account that has none. The cause is for our own log.
func WrongPassword(cause error) *LogonError {
	return &LogonError{Code: krb5.ErrPreauthFailed, Status: krb5.StatusWrongPassword, Err: cause, wrong: true}
}

// UnknownClient is the error for a name that no account has.
func UnknownClient(cause error) *LogonError {
	return &LogonError{Code: krb5.ErrClientUnknown, Status: krb5.StatusNoSuchUser, Err: cause}
}

// limited is the error of whoever guesses too often.
func limited() *LogonError {
	return &LogonError{Code: krb5.ErrServiceUnavailable, Err: errors.New("too many failed logons from this address")}
}

// fault is an error of our own while somebody logs on.
func fault(err error) *LogonError { return &LogonError{Code: krb5.ErrGeneric, Err: err} }
