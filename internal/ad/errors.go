package ad

import (
	"errors"
	"fmt"
)

// What callers branch on. Errors of the layers below stay visible too:
// locate.ErrNoController, kclient.ErrWrongKey, ldapc.ErrEncryptionRequired and
// the rest.
var (
	// ErrIdentity: the identity's own ticket could not be had; the cause is a
	// *kclient.Error. Nothing was asked of the directory.
	ErrIdentity = errors.New("own credentials are not accepted")
	// ErrNotFound: no account has that name.
	ErrNotFound = errors.New("no such account")
	// ErrAmbiguous: several accounts answer to that name.
	ErrAmbiguous = errors.New("several accounts have this name")
	// ErrNotGMSA: the account exists and is no group managed service account.
	ErrNotGMSA = errors.New("not a group managed service account")
	// ErrWithheld: the directory returned the account without its password, and
	// without a word: the identity is not allowed to retrieve it.
	ErrWithheld = errors.New("the directory withholds the managed password")
	// ErrNoRootKey: the domain has no KDS root key that makes the account's
	// password.
	ErrNoRootKey = errors.New("no usable KDS root key")
	// ErrInterval: the account's msDS-ManagedPasswordInterval is 0, for which no
	// password exists. It cannot be changed: the account must be made anew.
	ErrInterval = errors.New("the managed password interval is 0 days")
	// ErrNoSecret: the operation needs a password or key, and the identity is a
	// ticket.
	ErrNoSecret = errors.New("the identity has no password or key of its own")
)

// WithheldError says who was not given which password; it is an [ErrWithheld].
type WithheldError struct {
	Account    string // distinguished name
	Client     string // who asked
	Controller string
}

// Error names account, controller and client.
func (e *WithheldError) Error() string {
	return fmt.Sprintf("%s gives %s no password of %s: %v", e.Controller, e.Client, e.Account, ErrWithheld)
}

// Is lets errors.Is find [ErrWithheld].
func (e *WithheldError) Is(target error) bool { return target == ErrWithheld }

// Hint is the next thing to do.
func (e *WithheldError) Hint() string {
	return fmt.Sprintf("let %s retrieve it: Set-ADServiceAccount -PrincipalsAllowedToRetrieveManagedPassword; a host that was added to a group needs a new ticket", e.Client)
}
