package kclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

// What an exchange can end with, for errors.Is. The protocol's own code is there
// too: errors.Is(err, krb5.ErrPreauthFailed).
var (
	// ErrUnreachable: no controller answered in time.
	ErrUnreachable = errors.New("no controller answers")
	// ErrWrongKey: the password or key is not the account's current one.
	ErrWrongKey = errors.New("wrong password or key")
	// ErrExpired: the password has expired, or must be changed first.
	ErrExpired = errors.New("password expired")
	// ErrRevoked: the account is disabled, expired or locked out; the NTSTATUS of
	// the krb5.KRBError says which.
	ErrRevoked = errors.New("account refused")
	// ErrUnknownClient: the realm has no such account.
	ErrUnknownClient = errors.New("account unknown")
	// ErrUnknownServer: no account has that service principal name.
	ErrUnknownServer = errors.New("service unknown")
	// ErrSkew: the clocks differ by more than can be corrected.
	ErrSkew = errors.New("clock skew")
	// ErrEType: client and KDC share no encryption type for this account.
	ErrEType = errors.New("no common encryption type")
	// ErrTicket: the ticket that was shown has expired or is not accepted.
	ErrTicket = errors.New("ticket not accepted")
	// ErrReferral: another realm is responsible.
	ErrReferral = errors.New("another realm is responsible")
	// ErrReply: an answer is malformed or fails a check. Someone else may have
	// sent it.
	ErrReply = errors.New("unacceptable answer")
	// ErrIndeterminate: a password change was sent and no answer came. The old
	// password or the new one is in force.
	ErrIndeterminate = errors.New("the outcome is not known")
)

// Error is what every exchange returns when it fails.
type Error struct {
	// Op is "AS exchange", "TGS exchange" or "kpasswd exchange".
	Op string
	// Client and Server are the principals asked for.
	Client, Server krb5.Principal
	// KDC is the controller that answered; zero if none did.
	KDC KDC
	// Kind is one of the sentinel errors of this package, or nil.
	Kind error
	// Err is the cause: a *krb5.KRBError, a kpasswd.Result, a failed check.
	Err error
}

// Error says what was asked for, of whom, and what came.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s for %v", e.Op, e.Server)
	if !e.Client.Name.IsZero() {
		s += fmt.Sprintf(" as %v", e.Client)
	}
	if e.KDC != (KDC{}) {
		s += fmt.Sprintf(" at %v", e.KDC)
	}
	if _, said := errors.AsType[*krb5.KRBError](e.Err); e.Kind != nil && !said && !errors.Is(e.Err, e.Kind) {
		s += ": " + e.Kind.Error()
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// Hint says what to look at next; it is empty where nothing useful is known.
func (e *Error) Hint() string {
	if k, ok := errors.AsType[*krb5.KRBError](e.Err); ok {
		if h := statusHint(k); h != "" {
			return h
		}
	}
	if errors.Is(e.Kind, ErrUnknownServer) {
		return fmt.Sprintf("no account has the service principal name %v, or two have it", e.Server.Name)
	}
	return hints[e.Kind]
}

var hints = map[error]string{
	ErrUnreachable:   "check that the controller is up and that ports 88 and 464 (TCP) are not blocked",
	ErrWrongKey:      "the password was mistyped, or the keytab is older than the account's last password change: fetch it anew",
	ErrExpired:       "change the account's password",
	ErrRevoked:       "look at the account's userAccountControl, accountExpires, lockoutTime and logonHours",
	ErrUnknownClient: "check the spelling; names of computers and managed service accounts end in $",
	ErrSkew:          "set the clock of this host by the domain's (chrony, systemd-timesyncd)",
	ErrEType:         "the account may have no AES keys: set its password anew, and look at msDS-SupportedEncryptionTypes",
	ErrTicket:        "get a new ticket-granting ticket",
	ErrReply:         "someone between here and the controller may be tampering; see whether another controller answers the same",
	ErrIndeterminate: "try the new password, then the old one",
}

func statusHint(k *krb5.KRBError) string {
	status, ok := k.NTStatus()
	if !ok {
		return ""
	}
	switch status {
	case krb5.StatusAccountDisabled:
		return "enable the account: userAccountControl must be 4096 for a computer or managed service account"
	case krb5.StatusAccountLockedOut:
		return "wait until the lockout ends, or unlock the account"
	case krb5.StatusAccountExpired:
		return "set accountExpires to a later time"
	case krb5.StatusPasswordExpired, krb5.StatusPasswordMustChange:
		return "change the account's password"
	case krb5.StatusInvalidLogonHours:
		return "the account's logonHours forbid this time"
	case krb5.StatusInvalidWorkstation:
		return "the account's userWorkstations forbid this host"
	}
	return ""
}

// kinds says what a code means for whoever asked.
var kinds = map[krb5.ErrorCode]error{
	krb5.ErrClientUnknown:      ErrUnknownClient,
	krb5.ErrServerUnknown:      ErrUnknownServer,
	krb5.ErrNotUnique:          ErrUnknownServer,
	krb5.ErrETypeNoSupport:     ErrEType,
	krb5.ErrClientRevoked:      ErrRevoked,
	krb5.ErrNameExpired:        ErrRevoked,
	krb5.ErrClientNotYet:       ErrRevoked,
	krb5.ErrKeyExpired:         ErrExpired,
	krb5.ErrPreauthFailed:      ErrWrongKey,
	krb5.ErrSkew:               ErrSkew,
	krb5.ErrWrongRealm:         ErrReferral,
	krb5.ErrTGTRevoked:         ErrTicket,
	krb5.ErrTicketExpired:      ErrTicket,
	krb5.ErrTicketNotYetValid:  ErrTicket,
	krb5.ErrBadIntegrity:       ErrTicket,
	krb5.ErrModified:           ErrTicket,
	krb5.ErrBadMatch:           ErrTicket,
	krb5.ErrServiceUnavailable: ErrUnreachable,
}

// kindOf finds the sentinel for a cause, or nothing.
func kindOf(err error) error {
	for _, kind := range []error{ErrIndeterminate, ErrUnreachable, ErrReply, ErrReferral, ErrSkew, ErrEType, ErrWrongKey} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	if k, ok := errors.AsType[*krb5.KRBError](err); ok {
		return kinds[k.Code]
	}
	if _, ok := errors.AsType[kpasswd.Result](err); ok {
		return nil
	}
	if errors.Is(err, crypto.ErrIntegrity) {
		return ErrWrongKey
	}
	return nil
}

// SaltError says that the KDC announced another salt than that of [SaltedKeys].
type SaltError struct {
	// Salt is the KDC's.
	Salt string
	// Tried says that a key was tried nevertheless, before the KDC announced it.
	Tried bool
}

func (e *SaltError) Error() string {
	return fmt.Sprintf("the KDC makes the account's keys with the salt %q", e.Salt)
}

// badReply is a check that an answer fails.
func badReply(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrReply, fmt.Errorf(format, args...))
}

// outside says that a time of a reply is too far from ours.
func outside(what string, got, now time.Time) error {
	return fmt.Errorf("%w: the %s %v of the answer is %v from our time", ErrSkew, what, got, got.Sub(now).Round(time.Second))
}
