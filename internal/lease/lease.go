// Package lease is what a workload holds of a service account: the model of a
// lease, and its directory on a file system that never reaches a disk.
//
// It knows nothing of how tickets and keys are come by (internal/agent/account),
// of who may have them (internal/agent/policy) or of how the directory gets
// into a container (internal/deliver). Start with [Lease], then [Storage] and
// [Dir].
package lease

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/opengmsa/opengmsa/secret"
)

// MountPoint is where a container sees its lease's directory.
const MountPoint = "/run/gmsa"

// SettingKDC is the setting of a credential cache in which gmsa notes which
// controller issued a ticket, for klist to show; other programs ignore it.
const SettingKDC = "gmsa_kdc_called"

// The names of a lease's files, in its directory and below [AccountsDir]/NAME.
const (
	CCacheName       = "ccache"        // MIT credential cache, version 4
	KeytabName       = "keytab"        // to accept: the keys before, now and next
	ClientKeytabName = "client.keytab" // to initiate: the key in force alone
	Krb5ConfName     = "krb5.conf"
	AccountsDir      = "accounts"
)

// ID names a lease: 128 random bits. Nothing that a caller chose is ever part
// of a path, and who does not know the ID cannot reach the directory.
type ID [16]byte

// NewID makes an ID.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

// ErrID is a string that is no lease id.
var ErrID = errors.New("no lease id")

// ParseID reads the form of [ID.String]: exactly 32 lower-case hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("%w: %d characters, want %d", ErrID, len(s), hex.EncodedLen(len(id)))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return ID{}, fmt.Errorf("%w: want 32 lower-case hex digits", ErrID)
	}
	return id, nil
}

// String is the ID in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is for JSON.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	if err == nil {
		*id = parsed
	}
	return err
}

// Account names a service account of a domain that the agent knows.
type Account struct {
	// Name is the sAMAccountName without the dollar sign.
	Name string `json:"name"`
	// Domain is the DNS name of the domain, in lower case.
	Domain string `json:"domain"`
}

// String is NAME@domain.
func (a Account) String() string { return a.Name + "@" + a.Domain }

// Salt is the public salt (RFC 4120, Section 4) under which a KDC took the keys of
// an account's password of a version.
type Salt struct {
	KVNO uint32 `json:"kvno,omitempty"` // 0: nothing is known
	Salt string `json:"salt,omitempty"`
}

// Process is a process of this host; the start time tells it from a later one
// with the same PID.
type Process struct {
	PID int `json:"pid"`
	// Start is field 22 of /proc/PID/stat: clock ticks since boot.
	Start uint64 `json:"start"`
}

// IsZero reports whether p names no process.
func (p Process) IsZero() bool { return p == Process{} }

// Unit is one run of a systemd unit.
type Unit struct {
	Name string `json:"name"`
	// Invocation is the id that systemd gives to each run of a unit, in hex.
	Invocation string `json:"invocation"`
}

// IsZero reports whether u names no unit.
func (u Unit) IsZero() bool { return u == Unit{} }

// Owner is whom a lease's files belong to.
type Owner struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// Mode is 0400, or 0440 for a workload that drops its user but keeps the
	// group.
	Mode fs.FileMode `json:"mode"`
}

// ErrMode is a mode other than 0400 and 0440.
var ErrMode = errors.New("mode of a lease's files must be 0400 or 0440")

// noID is the uid and gid that the kernel takes for "leave as it is".
const noID = 1<<32 - 1

// Validate checks the mode, and that uid and gid are numbers a file can have.
func (o Owner) Validate() error {
	if o.Mode != 0o400 && o.Mode != 0o440 {
		return fmt.Errorf("%w: %#o", ErrMode, o.Mode)
	}
	if o.UID == noID || o.GID == noID {
		return fmt.Errorf("uid %d, gid %d: %d is not an id", o.UID, o.GID, uint32(noID))
	}
	return nil
}

// Options are what a workload asks for beyond a ticket.
type Options struct {
	// Keytab adds both keytabs: the one to accept with and the one to initiate.
	Keytab bool `json:"keytab,omitempty"`
	// Isolated asks for a TGT of its own instead of the one that all leases of
	// the account share.
	Isolated bool `json:"isolated,omitempty"`
	// Forwardable asks for a TGT that may be delegated.
	Forwardable bool `json:"forwardable,omitempty"`
	// OnRotate names a command of the agent's configuration that runs as the
	// lease's owner after the keys have changed.
	OnRotate string `json:"onRotate,omitempty"`
	// Signal is sent to the workload after the keys have changed, such as HUP.
	Signal string `json:"signal,omitempty"`
	// SPNs are services whose tickets are put into the cache ahead of use.
	SPNs []string `json:"spns,omitempty"`
}

// Lease is the identity of one or several accounts, in the hands of one
// workload. It holds no secret; the journal writes it as JSON, to which later
// versions only add fields.
type Lease struct {
	ID ID `json:"id"`
	// Spec is the name of the credential spec, empty for a lease made by
	// account name or from a raw spec.
	Spec string `json:"spec,omitempty"`
	// Accounts has at least one element; the first is the primary account,
	// whose files lie at the top of the directory.
	Accounts []Account `json:"accounts"`
	// Salts tell, in the order of Accounts, what is known of the salt of each
	// account's keys, so that the next agent need not ask; empty where nothing is.
	Salts []Salt `json:"salts,omitempty"`
	// Plugin is the PluginGUID of the credential spec if a plug-in yields the
	// identity that reads the passwords; empty for the host's own. The plug-in's
	// input, which may be a password, stays in the spec alone.
	Plugin string `json:"plugin,omitempty"`
	// Reader names the user that reads the passwords if whoever asked for the lease
	// brought one: USER@DOMAIN; its password is kept in memory alone.
	Reader string `json:"reader,omitempty"`
	Owner  Owner  `json:"owner"`
	// Creator is the uid of the process that asked for the lease, against
	// whose quota it counts.
	Creator uint32 `json:"creator"`
	// The lease ends with Workload or with Unit; where both are zero, it ends
	// when it is removed.
	Workload Process `json:"workload,omitzero"`
	Unit     Unit    `json:"unit,omitzero"`
	// Container is the runtime's name for the container whose first process is
	// Workload; empty for others.
	Container string    `json:"container,omitempty"`
	Options   Options   `json:"options,omitzero"`
	Created   time.Time `json:"created"`
}

// Reader is a user that reads managed passwords in the place of the host.
type Reader struct {
	User string
	// Domain is the DNS name of the user's domain, in lower case.
	Domain   string
	Password secret.Bytes
}

// String is USER@DOMAIN, which is no secret.
func (r Reader) String() string { return r.User + "@" + r.Domain }

// Format keeps fmt from looking into r.
func (r Reader) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// CCachePath is the path by which Kerberos programs are told of the credential cache
// in a lease's directory. Heimdal, which Samba's programs carry, opens no cache whose
// last component is a symbolic link, as DIR/ccache is: hence the way through ..data.
func CCachePath(dir string) string { return dir + "/..data/" + CCacheName }

// Env is the environment that points a Kerberos program at a lease's directory
// as the workload sees it. The keytabs' variables are set even where the lease
// has none, so that no other identity is picked up instead.
func Env(dir string) []string {
	return []string{
		"KRB5CCNAME=FILE:" + CCachePath(dir),
		"KRB5_CONFIG=" + dir + "/" + Krb5ConfName,
		"KRB5_KTNAME=FILE:" + dir + "/" + KeytabName,
		"KRB5_CLIENT_KTNAME=FILE:" + dir + "/" + ClientKeytabName,
	}
}
