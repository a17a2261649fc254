package account

import (
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Key names an account as one host identity keeps it.
type Key struct {
	Realm string // the domain's realm, in capitals
	Name  string // sAMAccountName, with its $
	// Host names whose identity reads the password: the host's own account or
	// a plug-in's. Hosts and accounts spread their requests by it.
	Host string
}

// String is NAME@REALM.
func (k Key) String() string { return k.Name + "@" + k.Realm }

// Profile is what a lease wants of its tickets. Leases of one account with equal
// profiles share them.
type Profile struct {
	// Forwardable asks for tickets that can be forwarded.
	Forwardable bool
	// Lifetime is the wanted life of the ticket-granting ticket; 0 is as long as
	// the domain gives.
	Lifetime time.Duration
	// EncTypes bounds the keys used to authenticate; empty means those of the
	// pool.
	EncTypes []crypto.EType
	// Services are the principals, of the account's own realm, whose tickets
	// are fetched ahead.
	Services []krb5.PrincipalName
}

// Snapshot is what a lease is made of: it never changes. A newer one replaces it.
type Snapshot struct {
	// Account is the key that was asked for, Principal what the domain calls
	// the account: it has the name of the last read.
	Account     Key
	Principal   krb5.Principal
	SID         dtyp.SID
	DNSHostName string
	SPNs        []string

	// Credentials are the ticket-granting ticket and after it the tickets of
	// Profile.Services. They are empty as long as the KDC gave none.
	Credentials []krb5.Credential
	// Issuers are the controllers that issued them, in the same order.
	Issuers []string
	// Offset is how far the domain's clock is ahead of the host's, for the
	// programs that use the tickets.
	Offset time.Duration
	// Initiator are the keys in force, to authenticate with; Acceptor all keys
	// that tickets of now or soon may be under, the newest first.
	Initiator KeySet
	Acceptor  []KeySet

	// Made is when the snapshot was made and GoodUntil when its first ticket ends
	// (zero without tickets), both by the host's clock.
	Made, GoodUntil time.Time
}

// Outlook is what is known of an account's future, by the host's clock. It changes
// without a change of anything that a lease is made of.
type Outlook struct {
	// Expires is when the last controller goes on to the next password; zero if
	// unknown.
	Expires time.Time
	// NextAction is when the guard acts on the account next.
	NextAction time.Time
	// Controller answered last; empty if none did.
	Controller string
}

// Usable reports whether the snapshot has tickets that live at now.
func (s *Snapshot) Usable(now time.Time) bool {
	return s != nil && len(s.Credentials) > 0 && now.Before(s.GoodUntil)
}

// same reports whether a lease made of o, and what its journal says, need no change
// for s.
func (s *Snapshot) same(o *Snapshot) bool {
	if o == nil {
		return false
	}
	return s.Principal.Equal(o.Principal) && s.SID == o.SID && s.DNSHostName == o.DNSHostName &&
		slices.Equal(s.SPNs, o.SPNs) && s.Initiator.same(o.Initiator) &&
		slices.EqualFunc(s.Acceptor, o.Acceptor, KeySet.same) &&
		slices.EqualFunc(s.Credentials, o.Credentials, func(x, y krb5.Credential) bool {
			return string(x.Ticket) == string(y.Ticket)
		})
}

func (k KeySet) same(o KeySet) bool {
	return k.KVNO == o.KVNO && k.Salt == o.Salt && k.Proven == o.Proven && slices.EqualFunc(k.Keys, o.Keys, (*crypto.Key).Equal)
}

// id is equal for profiles that can share tickets.
func (p Profile) id() string {
	var b strings.Builder
	if p.Forwardable {
		b.WriteByte('f')
	}
	b.WriteString(p.Lifetime.String())
	for _, e := range p.EncTypes {
		b.WriteByte(byte(e))
	}
	for _, s := range p.Services {
		b.WriteByte('\n')
		b.WriteString(s.String())
	}
	return b.String()
}
