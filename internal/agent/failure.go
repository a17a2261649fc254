package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
)

// denied is the whole answer to a caller whom the policy does not admit: it
// says nothing about which specs and accounts exist.
func denied(err error) error {
	return &agentapi.Failure{
		Kind: agentapi.Kind_KIND_DENIED, Message: "the agent's policy does not allow this", Err: err,
		Hints: []string{"root may do everything; rules in /etc/gmsa/agent.yaml admit others, and the agent's log names the reason"},
	}
}

// usage is a request that cannot be meant as it is.
func usage(format string, a ...any) error {
	return &agentapi.Failure{Kind: agentapi.Kind_KIND_USAGE, Message: fmt.Sprintf(format, a...)}
}

// notFound is something that does not exist, or not for this caller.
func notFound(format string, a ...any) error {
	return &agentapi.Failure{Kind: agentapi.Kind_KIND_NOT_FOUND, Message: fmt.Sprintf(format, a...)}
}

// busy is a limit that the caller has reached.
func busy(format string, a ...any) error {
	return &agentapi.Failure{
		Kind: agentapi.Kind_KIND_DENIED, Message: fmt.Sprintf(format, a...),
		Hints: []string{"limits are set under quotas in /etc/gmsa/agent.yaml"},
	}
}

// cause is what a reason of package account means to a person.
type cause struct {
	reason  error
	kind    agentapi.Kind
	message string // with the account's name for %s
	hints   []string
	event   event.ID
}

// causes are in the order in which they are looked for. Their hints come after
// those that the error itself has.
func causes() []cause {
	return []cause{
		{account.ErrWithheld, agentapi.Kind_KIND_DENIED, "the domain does not let this host read the password of %s",
			[]string{"make the host or one of its groups one of those that may: Set-ADServiceAccount %s -PrincipalsAllowedToRetrieveManagedPassword …", "gmsa agent status names the host's identity"}, event.IDFetchFailed},
		{account.ErrNotFound, agentapi.Kind_KIND_NOT_FOUND, "the domain has no gMSA %s",
			[]string{"look at the name's spelling; Get-ADServiceAccount -Filter * lists the accounts there are"}, event.IDFetchFailed},
		{account.ErrDisabled, agentapi.Kind_KIND_DENIED, "the account %s is disabled, expired or locked out",
			[]string{"Enable-ADAccount or Unlock-ADAccount %s$, and look at accountExpires"}, event.IDFetchFailed},
		{account.ErrNoRootKey, agentapi.Kind_KIND_FAILED, "the domain has no KDS root key that makes a password for %s",
			[]string{"create one: Add-KdsRootKey; every controller serves it 10 h later"}, event.IDFetchFailed},
		{account.ErrNoEncType, agentapi.Kind_KIND_FAILED, "%s and this host have no encryption type in common",
			[]string{"Set-ADServiceAccount %s -KerberosEncryptionType AES128,AES256"}, event.IDFetchFailed},
		{plugin.ErrLoad, agentapi.Kind_KIND_FAILED, "the plug-in that reads the password of %s cannot be loaded",
			[]string{"look it up under plugins in /etc/gmsa/agent.yaml; gmsa events --id 4"}, event.IDPluginFailed},
		{account.ErrStore, agentapi.Kind_KIND_FAILED, "there are no credentials to read the password of %s with",
			[]string{"gmsa agent status and gmsa events --id 6 give the reason"}, event.IDStoreFailed},
		{account.ErrHost, agentapi.Kind_KIND_DENIED, "the domain refuses the identity that reads the password of %s",
			[]string{"gmsa agent status gives the reason; gmsa verify --keytab FILE tries a keytab"}, event.IDFetchFailed},
		{account.ErrUnsealed, agentapi.Kind_KIND_FAILED, "no connection to the directory is protected enough to read the password of %s",
			[]string{"protection and ca of the domain in /etc/gmsa/agent.yaml say how the connection is protected; somebody may stand between"}, event.IDFetchFailed},
		{account.ErrSkew, agentapi.Kind_KIND_FAILED, "the clocks of this host and the domain controller differ too much for %s",
			[]string{"synchronise the host's clock with the domain's (chronyc makestep)"}, event.IDFetchFailed},
		{account.ErrWrongKey, agentapi.Kind_KIND_FAILED, "the domain refuses every known key of %s",
			[]string{"the controllers may not agree on the password yet; the agent tries again by itself"}, event.IDFetchFailed},
		{account.ErrAnswer, agentapi.Kind_KIND_FAILED, "what came as the domain's answer for %s cannot be believed",
			[]string{"somebody between here and the controller may be tampering; see whether another controller answers the same"}, event.IDFetchFailed},
		{account.ErrTicket, agentapi.Kind_KIND_FAILED, "the domain does not take a ticket that it gave, for %s",
			[]string{"the agent tries again by itself; if that goes on, somebody between here and the controller may be tampering"}, event.IDFetchFailed},
		{account.ErrNotInstalled, agentapi.Kind_KIND_FAILED, "%s is a standalone account, and this host has no password of it",
			[]string{"as somebody who may reset its password: gmsa account install %s"}, event.IDFetchFailed},
		{account.ErrNotLinked, agentapi.Kind_KIND_DENIED, "the standalone account %s is not this host's",
			[]string{"gmsa account link COMPUTER %s"}, event.IDFetchFailed},
		{account.ErrNoController, agentapi.Kind_KIND_NO_CONTROLLER, "no domain controller answers for %s",
			[]string{"gmsa verify looks for the domain's controllers", "set servers of the domain in /etc/gmsa/agent.yaml if DNS does not know them"}, event.IDFetchFailed},
	}
}

// coded is an error that knows its protocol's own code.
type coded interface {
	error
	ProtocolCode() string
}

// failureOf says to the caller, who may use the account, why it cannot be had.
func failureOf(err error, name string) error {
	if _, ok := errors.AsType[*agentapi.Failure](err); ok {
		return err
	}
	f := &agentapi.Failure{
		Kind: agentapi.Kind_KIND_FAILED, Message: fmt.Sprintf("cannot get the credentials of %s: %v", name, err),
		Hints: hintsOf(err), Err: err,
	}
	for _, c := range causes() {
		if errors.Is(err, c.reason) {
			c.explain(f, name)
			break
		}
	}
	if f.EventID == 0 && errors.Is(err, context.DeadlineExceeded) {
		f.Kind, f.Message = agentapi.Kind_KIND_NO_CONTROLLER, fmt.Sprintf("the domain did not answer in time for %s", name)
		f.Hints = append(f.Hints, "a controller accepts connections and says nothing: gmsa verify shows which; the agent goes on trying")
	}
	if e, ok := errors.AsType[coded](err); ok {
		f.Code = e.ProtocolCode()
	}
	if errors.Is(err, account.ErrNotInstalled) {
		f.Code = agentapi.CodeNotInstalled
	}
	return f
}

// explain makes f say that this is the cause.
func (c cause) explain(f *agentapi.Failure, name string) {
	f.Kind, f.EventID, f.Message = c.kind, uint32(c.event), fill(c.message, name)
	if e, ok := errors.AsType[*account.Error](f.Err); ok && e.Err != nil {
		// Plug-ins put what to do behind their reason.
		reason, hint, ok := strings.Cut(e.Err.Error(), "; hint: ")
		f.Message += ": " + reason
		if ok {
			f.Hints = append(f.Hints, hint)
		}
	}
	for _, h := range c.hints {
		f.Hints = append(f.Hints, fill(h, name))
	}
}

// hintsOf are the hints of err and of what it wraps, each once.
func hintsOf(err error) []string {
	var hints []string
	if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
		hints = append(hints, h.Hint())
	}
	var inner []error
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		inner = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	}
	for _, err := range inner {
		for _, h := range hintsOf(err) {
			if !slices.Contains(hints, h) {
				hints = append(hints, h)
			}
		}
	}
	return hints
}

// storageFailure says why a lease's files cannot be written.
func storageFailure(err error) error {
	f := &agentapi.Failure{Kind: agentapi.Kind_KIND_FAILED, Message: "cannot write the lease", Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		f.Message, f.Code = "the lease directory is full", "ENOSPC"
		f.Hints = []string{"raise leases.size in /etc/gmsa/agent.yaml and remount: mount -o remount,size=512m /run/gmsa/leases"}
	case errors.Is(err, syscall.EROFS):
		f.Message, f.Code = "the lease directory is read-only", "EROFS"
		f.Hints = []string{"mount -o remount,rw /run/gmsa/leases"}
	case errors.Is(err, fs.ErrPermission):
		f.Message, f.Code = "the agent may not give files to this owner", "EPERM"
		f.Hints = []string{"an agent without root's rights makes leases for its own user alone"}
	}
	return f
}

// fill puts name in the place of every %s.
func fill(format, name string) string { return strings.ReplaceAll(format, "%s", name) }
