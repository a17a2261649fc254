// Package dctest gives the tests of the controller's packages a domain to work on: the
// directory of contoso.com in memory, with the objects of a new domain in it and a clock
// that the test moves. It speaks no protocol; package domaintest runs a whole controller.
package dctest

import (
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// AdminPassword is Administrator's.
const AdminPassword = "Passw0rd!Admin"

// Domain is a domain in memory.
type Domain struct {
	*directory.Directory
	// Clock is the directory's.
	Clock *Clock
	// Events is what the directory was told to record.
	Events *Events
}

// New makes the domain contoso.com with its controller dc1, at noon of a day in 2026.
func New(t testing.TB) *Domain {
	t.Helper()
	return NewAt(t, noon)
}

// noon is what the clock shows at first.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// NewIn makes the domain in a store that is empty.
func NewIn(t testing.TB, s store.Store) *Domain {
	t.Helper()
	return newDomain(t, s, noon)
}

// NewWithoutRootKey makes it there at another time, without a KDS root key.
func NewWithoutRootKey(t testing.TB, s store.Store, now time.Time) *Domain {
	t.Helper()
	return newDomain(t, s, now, func(c *provision.Config) { c.NoRootKey = true })
}

// NewAt makes the domain at another time, such as that of this machine, by which the
// programs of others go.
func NewAt(t testing.TB, now time.Time) *Domain {
	t.Helper()
	return newDomain(t, memory.New(), now)
}

func newDomain(t testing.TB, s store.Store, now time.Time, change ...func(*provision.Config)) *Domain {
	t.Helper()
	sch, err := loadSchema()
	if err != nil {
		t.Fatal(err)
	}
	d := &Domain{Clock: NewClock(now), Events: &Events{}}
	seal, err := atrest.Create(t.Context(), s, secret.New(make([]byte, atrest.KeySize)), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	passwords := &account.Passwords{}
	d.Directory, err = directory.Create(t.Context(), directory.Config{Store: s, Schema: sch, Seal: seal,
		Passwords: passwords, Audit: d.Events, Now: d.Clock.Now, Rand: rand.Reader}, directory.Domain{
		DNSName: "contoso.com", NetBIOS: "CONTOSO", Site: "Default-First-Site-Name", Host: "dc1",
		SID:  dtyp.NewSID(dtyp.AuthorityNT, 21, 702590844, 1001920913, 2680819671),
		GUID: dtyp.GUID{0x6c, 0xb6, 0xd9, 0x56, 0x46, 0xd7, 0x87, 0x4f, 0xbd, 0x26, 0x26, 0x76, 0x0c, 0xfd, 0xca, 0x2e},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := provision.Config{Passwords: passwords, AdminPassword: Password(AdminPassword), Rand: rand.Reader}
	for _, f := range change {
		f(&cfg)
	}
	if err = provision.Objects(t.Context(), d.Directory, cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

// loadSchema reads the tables once for all tests of a process: a schema is immutable.
var loadSchema = sync.OnceValues(schema.Load)

// Password is a password as the directory takes it, in UTF-16LE.
func Password(ascii string) secret.Bytes {
	b := make([]byte, 0, 2*len(ascii))
	for _, c := range []byte(ascii) {
		b = append(b, c, 0)
	}
	return secret.New(b)
}

// Caller is the account of a name as it would stand behind a sealed connection: with its
// groups, those of its primary group among them, as the directory has them now.
func (d *Domain) Caller(t testing.TB, account string) directory.Caller {
	t.Helper()
	c := directory.Caller{Name: d.Domain().NetBIOS + `\` + account, Encrypted: true}
	err := d.View(t.Context(), func(r *directory.Reader) error {
		e, err := r.Lookup(d.attribute(t, "sAMAccountName"), []byte(account))
		if err != nil {
			return err
		}
		c.SID, err = d.sid(t, e)
		if err != nil {
			return err
		}
		c.Token, err = d.token(t, r, e, c.SID)
		return err
	})
	if err != nil {
		t.Fatalf("caller %s: %v", account, err)
	}
	return c
}

// maxGroups bounds the groups of an account.
const maxGroups = 1000

func (d *Domain) token(t testing.TB, r *directory.Reader, e *rows.Entry, own dtyp.SID) (secdesc.Token, error) {
	token := secdesc.Token{SIDs: []dtyp.SID{own, dtyp.Everyone, dtyp.AuthenticatedUsers}}
	// What is in a group through a well-known SID or the primary group is found from their
	// objects.
	from := []dtyp.GUID{e.GUID}
	objectSID := d.attribute(t, "objectSid")
	primary, err := d.primaryGroup(t, e)
	if err != nil {
		return token, err
	}
	for _, sid := range append(token.SIDs[1:], primary...) {
		other, err := r.Lookup(objectSID, sid.Bytes())
		if errors.Is(err, rows.ErrNotFound) {
			continue
		}
		if err != nil {
			return token, err
		}
		from = append(from, other.GUID)
	}
	token.SIDs = append(token.SIDs, primary...)
	for _, g := range from {
		groups, err := r.Reachable(d.attribute(t, "memberOf"), g, maxGroups)
		if err != nil {
			return token, err
		}
		for _, group := range groups {
			e, err := r.Get(group)
			if err != nil {
				return token, err
			}
			sid, err := d.sid(t, e)
			if err != nil {
				return token, err
			}
			token.SIDs = append(token.SIDs, sid)
		}
	}
	return token, nil
}

// primaryGroup is the SID of the account's primary group, if it has one.
func (d *Domain) primaryGroup(t testing.TB, e *rows.Entry) ([]dtyp.SID, error) {
	values := e.Values[d.attribute(t, "primaryGroupID")]
	if len(values) == 0 {
		return nil, nil
	}
	sid, err := dtyp.ParseSID(d.Domain().SID.String() + "-" + string(values[0]))
	return []dtyp.SID{sid}, err
}

func (d *Domain) sid(t testing.TB, e *rows.Entry) (dtyp.SID, error) {
	values := e.Values[d.attribute(t, "objectSid")]
	if len(values) != 1 {
		return dtyp.SID{}, errors.New(e.Name + " has no objectSid")
	}
	return dtyp.SIDFromBytes(values[0])
}

func (d *Domain) attribute(t testing.TB, name string) *schema.Attribute {
	a, ok := d.Schema().Attribute(name)
	if !ok {
		t.Fatalf("no attribute %s", name)
	}
	return a
}

// Clock is a clock that stands still until it is moved. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock is a clock that shows now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Set makes the clock show now.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Events is a recorder that keeps what it is told.
type Events struct {
	mu     sync.Mutex
	events []audit.Event
}

// Record keeps an event.
func (r *Events) Record(e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Take returns the events since it was called last.
func (r *Events) Take() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.events
	r.events = nil
	return out
}
