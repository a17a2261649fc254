// Package audit says what a domain controller tells about who did what: who read
// which managed password or root key, who changed what, which logons failed. An
// event has no secret in it: attributes are named, their values are not told.
//
// It writes nothing: a [Recorder] does.
package audit

import (
	"net/netip"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
)

// Kind says what an event tells.
type Kind string

// The kinds of events.
const (
	KindLogon               Kind = "logon"                 // an AS exchange or a bind that failed, or was the first after failures
	KindLockout             Kind = "lockout"               // an account was locked out
	KindReadManagedPassword Kind = "read managed password" // msDS-ManagedPassword was given to somebody, or asked for in vain
	KindReadRootKey         Kind = "read root key"         // msKds-RootKeyData was given to somebody
	KindRootKeyCreated      Kind = "root key created"      // KdsSvc's event 4004
	KindAdd                 Kind = "add"
	KindModify              Kind = "modify"
	KindDelete              Kind = "delete"
	KindRename              Kind = "rename"
	KindPassword            Kind = "password"        // a password was set or changed
	KindRotate              Kind = "rotate"          // a gMSA's password was ended early
	KindRotateKeys          Kind = "rotate keys"     // krbtgt or the controller has new keys
	KindExport              Kind = "export"          // keys were written to a keytab
	KindReaders             Kind = "managed readers" // who may read a gMSA's password was changed: counts as reading it
)

// Event is one thing that somebody did or tried.
type Event struct {
	Time time.Time
	Kind Kind
	// Who did it: the SID and the NT account name (CONTOSO\alice) of the caller, both
	// empty for an anonymous one; Name alone, as it was given, where no such account
	// exists.
	SID  dtyp.SID
	Name string
	// From is the address of the peer; invalid for the controller itself.
	From netip.AddrPort
	// Object is the distinguished name of what it was done to, and GUID its
	// objectGUID; empty where there is none.
	Object string
	GUID   dtyp.GUID
	// Attributes are the names of those that were written.
	Attributes []string
	// Error is why it failed, empty where it did not. It has the code of the protocol
	// in it and says what the peer may not have been told.
	Error string
}

// Recorder keeps events. It is called from many goroutines at once, and returns
// without waiting for a disk where that is not asked of it.
type Recorder interface {
	Record(e Event)
}

// Discard is a Recorder that keeps nothing.
type Discard struct{}

// Record does nothing.
func (Discard) Record(Event) {}
