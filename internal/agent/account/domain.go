package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
)

// Domain is a domain as one host identity sees it. One value serves all
// accounts of that pair and must be comparable (a pointer), since the accounts
// of one Domain share the knowledge whether a controller answers. Its methods
// are called by many goroutines at once; each call is one exchange with one
// controller, after as many attempts to find one as the implementation likes,
// and ends with the context.
//
// Every error is a [*Error], so that its reason can be branched on; any other
// error counts as [ErrNoController] does not: it concerns the account alone.
type Domain interface {
	// ReadPassword reads msDS-ManagedPassword over a sealed connection, and
	// after it, in a second search on the same connection, the attributes that
	// describe the password in force (see [Reading]).
	ReadPassword(ctx context.Context, account string, hint ReadHint) (Reading, error)

	// Authenticate makes one AS exchange. It must not try a key after the KDC
	// announced a salt (ETYPE-INFO2) other than AuthRequest.Salt: it returns
	// [ErrSalt] with the KDC's, and the key counts as not tried. It tries one
	// key of one encryption type, the first that the KDC offers too.
	Authenticate(ctx context.Context, req AuthRequest) (Authentication, error)

	// ServiceTicket makes one TGS exchange with a ticket-granting ticket that
	// Authenticate returned, and names the controller that issued the ticket.
	ServiceTicket(ctx context.Context, tgt krb5.Credential, service krb5.PrincipalName) (cred krb5.Credential, controller string, err error)
}

// Salter is a [Domain] that can be asked for an account's salt before there are
// keys, so that deriving them, which takes milliseconds, and asking, which takes
// about as long, are done at once. An error only means that the exchange has to
// ask.
type Salter interface {
	Salt(ctx context.Context, client krb5.Principal, controller string, etypes ...crypto.EType) (string, error)
}

// ReadHint says how a read should differ from the last one. Both fields are
// wishes: where only one controller is left, it is asked.
type ReadHint struct {
	// Avoid names controllers that should not be asked, as Reading.Controller
	// spelled them.
	Avoid []string
	// FreshTicket asks for a new ticket-granting ticket of the host and a new
	// bind, so that the host's groups of this minute count.
	FreshTicket bool
}

// Reading is what a controller said of an account and its password.
type Reading struct {
	// Blob is msDS-ManagedPassword.
	Blob managedpassword.Blob
	// KVNO is msDS-KeyVersionNumber and ID is msDS-ManagedPasswordId, both read
	// after Blob: the search that triggers a rollover still returns the old
	// ones. 0 and nil where the controller did not give them.
	KVNO uint32
	ID   *managedpassword.ID

	Name        string // sAMAccountName, with its $
	SID         dtyp.SID
	DNSHostName string
	SPNs        []string // servicePrincipalName
	EncTypes    uint32   // msDS-SupportedEncryptionTypes ([MS-KILE] 2.2.7); 0 if absent
	Controller  string   // who answered, a name that ReadHint.Avoid understands
}

// AuthRequest is one AS exchange.
type AuthRequest struct {
	Client krb5.Principal
	// Keys are the keys of one password, at most one for each encryption type,
	// the preferred first.
	Keys []*crypto.Key
	// Salt is what Keys were made with.
	Salt string
	// Proven says that a KDC accepted a key with this salt before, or that it is
	// known to use this salt: the exchange may begin with pre-authentication.
	Proven bool
	// Controller should be asked, if not empty: it is the one that called the
	// password in force.
	Controller string
	// Forwardable and Lifetime (0: as long as the KDC gives) are the wishes
	// for the ticket.
	Forwardable bool
	Lifetime    time.Duration
}

// Authentication is the outcome of an AS exchange.
type Authentication struct {
	Credential krb5.Credential
	// KVNO is that of the reply's encrypted part, 0 if absent. It is a hint
	// only: a KDC that still accepts the old key states the new number.
	KVNO       uint32
	Controller string
	// Offset is how far the domain's clock is ahead of the host's, as an
	// authenticated answer proved it; 0 while they agree.
	Offset time.Duration
}

// The reasons of a failure. ErrWrongKey to ErrNoEncType are about the
// account, ErrHost about the host's own identity, the rest about the way to the
// domain.
var (
	// ErrWrongKey: the KDC refused the key, KDC_ERR_PREAUTH_FAILED (24).
	ErrWrongKey = errors.New("the key was refused")
	// ErrSalt: the KDC announced another salt; no key was tried.
	ErrSalt = errors.New("the KDC uses another salt")
	// ErrWithheld: the directory returned the account without its password:
	// this host may not read it.
	ErrWithheld = errors.New("this host may not read the managed password")
	// ErrNotFound: there is no such gMSA.
	ErrNotFound = errors.New("no such group managed service account")
	// ErrDisabled: KDC_ERR_CLIENT_REVOKED (18): disabled, expired or locked.
	ErrDisabled = errors.New("the account is disabled, expired or locked out")
	// ErrNoRootKey: the domain cannot derive a password for the account.
	ErrNoRootKey = errors.New("the domain has no usable KDS root key")
	// ErrNoEncType: the account and this host share no encryption type.
	ErrNoEncType = errors.New("the account and this host share no encryption type")
	// ErrNotInstalled: a standalone account, whose password the domain gives to
	// nobody, was not installed on this host.
	ErrNotInstalled = errors.New("the standalone account is not installed on this host")
	// ErrNotLinked: a standalone account is not linked to this host's computer
	// account.
	ErrNotLinked = errors.New("the standalone account is not this host's")
	// ErrStore: the host's own credentials could not be had.
	ErrStore = errors.New("the host's own credentials cannot be had")
	// ErrHost: the host's own credentials were refused.
	ErrHost = errors.New("the host's own credentials were not accepted")
	// ErrUnsealed: no connection protected enough to read a password on.
	ErrUnsealed = errors.New("the connection to the directory is not sealed")
	// ErrSkew: the clocks differ too much, KRB_AP_ERR_SKEW (37).
	ErrSkew = errors.New("the clocks of host and controller differ too much")
	// ErrAnswer: what came is no answer that can be believed: malformed, or a
	// ticket that the domain itself does not take.
	ErrAnswer = errors.New("the domain's answer cannot be believed")
	// ErrTicket: the KDC did not take the ticket-granting ticket that was shown
	// to it.
	ErrTicket = errors.New("the KDC does not take its own ticket")
	// ErrNoController: no controller answered.
	ErrNoController = errors.New("no domain controller answered")
)

// Error is how a [Domain] fails.
type Error struct {
	Reason     error  // one of the reasons above
	Controller string // who refused, if anybody did
	Salt       string // the salt that the KDC announced, if it did
	Err        error  // what happened, with the protocol's own code; may be nil
}

// Error is the reason and the cause.
func (e *Error) Error() string {
	s := e.Reason.Error()
	if e.Controller != "" {
		s = e.Controller + ": " + s
	}
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	return s
}

// Unwrap makes both the reason and the cause visible to errors.Is.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// Events is told what the CCG log records. Its methods are called by workers,
// one at a time for an account, and must not block.
type Events interface {
	// Fetched: a password was read that was not known before (event 2).
	Fetched(Key)
	// Refetching: the password has expired and is read anew (event 7).
	Refetching(Key)
	// Failed: credentials could not be had for the reason given (event 8);
	// [ErrStore] is the plug-in's failure (event 6). It is called when the
	// reason changes, and once an hour while it lasts.
	Failed(Key, error)
}
