package account

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// model is a domain with one gMSA, built from the codecs alone: its controllers
// have clocks of their own, roll over at the first touch after the expiry, count
// the writes of a password, tell each other with a delay, announce the next
// password 5 minutes ahead, give the previous one back by whenCreated, and accept
// the old key 5 minutes longer by the period's own start. It follows [MS-ADTS]
// 3.1.1.4.5.39 and what Samba 4.22 was seen to do.
//
// It keeps every ticket that its KDCs issue to the account, really encrypted, for
// as long as it lives, and every agent's acceptor keys are tried on them.
type model struct {
	t    testing.TB
	seed uint64

	realm, name string
	sid         dtyp.SID
	interval    dtyp.Filetime
	created     dtyp.Filetime // whenCreated, whole seconds
	cache       *gkdi.Cache
	tgsTouches  bool // a TGS request rolls over too

	mu          sync.Mutex
	rng         *rand.Rand
	roots       []gkdi.RootKey
	keys        map[keyName]*crypto.Key
	passwords   map[passwordID]secret.Bytes
	controllers []*controller
	hosts       []*simHost
	tickets     []*issued
	excuses     []excuse
	failures    int
	issuedCount int
	rollovers   int
}

type keyName struct {
	print Fingerprint
	salt  string
	etype crypto.EType
}

// moreSeed runs the tests of this package with other chances.
var moreSeed = flag.Uint64("seed", 0, "added to the seed of every simulation")

// passwordID names a password of the model.
type passwordID struct {
	root int
	key  gkdi.KeyID
}

// record is what replicates: the account's password attributes.
type record struct {
	id       passwordID
	formerID *passwordID // msDS-ManagedPasswordPreviousId
	history  *passwordID // the password that was set before
	salt     string      // of the password in force
	formerS  string      // of the one before
	version  uint32
	written  time.Time
}

func (r record) newerThan(o record) bool {
	return r.version > o.version || r.version == o.version && r.written.After(o.written)
}

type controller struct {
	m      *model
	name   string
	offset time.Duration
	down   bool
	rec    record
}

// issued is a ticket to the account.
type issued struct {
	kvno   uint32
	cipher []byte
	by     string
	at     time.Time
	until  time.Time
	opened map[*crypto.Key]bool
}

// excuse is a span in which acceptors cannot know the key in force.
type excuse struct {
	from, until time.Time
	why         string
}

// accountName is what the agents call the account, whatever it is renamed to.
const accountName = "WebApp01$"

const ticketLife = 10 * time.Hour

func newModel(t testing.TB, seed uint64, days int64, offsets ...time.Duration) *model {
	seed += *moreSeed
	rng := rand.New(rand.NewPCG(seed, uint64(days)))
	interval, err := gkdi.RolloverInterval(days)
	if err != nil {
		t.Fatal(err)
	}
	sid, err := dtyp.ParseSID("S-1-5-21-1004336348-1177238915-682003330-1107")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{
		t: t, seed: seed, rng: rng, realm: "CONTOSO.COM", name: accountName, sid: sid, interval: interval,
		cache: gkdi.NewCache(0), keys: make(map[keyName]*crypto.Key), passwords: make(map[passwordID]secret.Bytes),
	}
	// The account is up to ten hours younger than its first period.
	start := time.Now().Add(-time.Duration(rng.Int64N(int64(9 * time.Hour)))).Truncate(time.Second)
	m.created = dtyp.FiletimeOf(start)
	m.addRoot(0)
	first := record{id: passwordID{0, gkdi.KeyIDAt(m.created)}, salt: managedpassword.Salt(m.realm, m.name), version: 1, written: start}
	for i, off := range offsets {
		// Clocks never strike an expiry to the tick.
		off += time.Duration(rng.Int64N(1e6)) + 137
		m.controllers = append(m.controllers, &controller{m: m, name: fmt.Sprintf("dc%d", i+1), offset: off, rec: first})
	}
	return m
}

// addRoot adds a root key that serves from a time.
func (m *model) addRoot(useStart dtyp.Filetime) {
	b := make([]byte, gkdi.KeySize)
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	var id dtyp.GUID
	binary.LittleEndian.PutUint64(id[:], m.rng.Uint64())
	m.roots = append(m.roots, gkdi.RootKey{ID: id, Version: gkdi.RootKeyVersion, Hash: gkdi.SHA512, Key: secret.New(b),
		UseStart: useStart, Created: dtyp.Filetime(len(m.roots) + 1)})
}

// at is the password of the period that begins at start, under the root key
// that a rollover would choose.
func (m *model) at(start dtyp.Filetime) passwordID {
	root, err := gkdi.SelectRootKey(m.roots, gkdi.KeyIDAt(start))
	if err != nil {
		panic(err)
	}
	i := slices.IndexFunc(m.roots, func(k gkdi.RootKey) bool { return k.ID == root.ID })
	return passwordID{i, gkdi.KeyIDAt(start)}
}

// password returns a copy, since readers destroy what they were given.
func (m *model) password(id passwordID) secret.Bytes {
	p, ok := m.passwords[id]
	if !ok {
		var err error
		if p, err = m.cache.Password(m.roots[id.root], m.sid, id.key); err != nil {
			panic(err)
		}
		m.passwords[id] = p
	}
	return p.Clone()
}

// derive is managedpassword.Keys with a memory, shared by all agents.
func (m *model) derive(password secret.Bytes, salt string, etypes ...crypto.EType) ([]*crypto.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*crypto.Key
	for _, e := range etypes {
		out = append(out, m.key(password, salt, e))
	}
	return out, nil
}

func (m *model) key(password secret.Bytes, salt string, e crypto.EType) *crypto.Key {
	name := keyName{FingerprintOf(password), salt, e}
	k := m.keys[name]
	if k == nil {
		ks, err := managedpassword.Keys(password, salt, e)
		if err != nil {
			panic(err)
		}
		k = ks[0]
		m.keys[name] = k
	}
	return k
}

func (m *model) keyOf(id passwordID, salt string) *crypto.Key {
	return m.key(m.password(id), salt, crypto.AES256SHA1)
}

func startOf(id passwordID) dtyp.Filetime {
	s, err := id.key.Start()
	if err != nil {
		panic(err)
	}
	return s
}

func (c *controller) now() dtyp.Filetime { return dtyp.FiletimeOf(time.Now().Add(c.offset)) }

func (c *controller) expiry() dtyp.Filetime { return startOf(c.rec.id) + c.m.interval }

// oldEnough is the rule by which the previous password is given back.
func (c *controller) oldEnough() bool {
	return c.now() >= c.m.created && c.now()-c.m.created >= c.m.interval
}

// touch rolls the account over if it has expired by this controller's clock, and
// reports whether it did.
func (c *controller) touch() bool {
	now, expiry := c.now(), c.expiry()
	if now < expiry {
		return false
	}
	old := c.rec
	missed := (now - expiry) / c.m.interval
	start := expiry + missed*c.m.interval
	rec := record{id: c.m.at(start), formerID: old.formerID, history: &old.id, formerS: old.salt,
		salt: managedpassword.Salt(c.m.realm, c.m.name), version: old.version + 1, written: time.Now()}
	switch {
	case missed == 0:
		rec.formerID = &old.id
	case c.oldEnough():
		// The period before was slept through: its password is set first.
		former := c.m.at(start - c.m.interval)
		rec.formerID, rec.history, rec.formerS = &former, &former, rec.salt
		rec.version++
	}
	c.m.rollovers++
	c.write(rec)
	return true
}

// write stores a record and sends it to the other controllers.
func (c *controller) write(rec record) {
	c.rec = rec
	for _, o := range c.m.controllers {
		if o != c {
			delay := 10*time.Second + time.Duration(c.m.rng.Int64N(int64(2*time.Minute)))
			time.AfterFunc(delay, func() { o.receive(rec, delay) })
		}
	}
}

func (c *controller) receive(rec record, delay time.Duration) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.down {
		time.AfterFunc(time.Minute, func() { c.receive(rec, delay) })
		return
	}
	if rec.newerThan(c.rec) {
		c.rec = rec
	}
}

// read is the search for msDS-ManagedPassword, and the second search.
func (c *controller) read() Reading {
	rolled := c.touch()
	m, now, expiry := c.m, c.now(), c.expiry()
	var former *passwordID
	if c.oldEnough() {
		former = c.rec.formerID
		if rolled || former == nil {
			id := m.at(startOf(c.rec.id) - m.interval)
			former = &id
		}
	}
	left := time.Duration(expiry-now) * dtyp.Tick
	current, unchanged := c.rec.id, left
	if left <= ClockSkew {
		former, current = &c.rec.id, m.at(expiry)
		unchanged += time.Duration(m.interval) * dtyp.Tick
	}
	b := managedpassword.Blob{Current: m.password(current), QueryInterval: left, UnchangedInterval: max(unchanged-ClockSkew, 0)}
	if former != nil {
		b.Previous = m.password(*former)
	}
	id := managedpassword.NewID(m.roots[c.rec.id.root].ID, c.rec.id.key, "contoso.com", "contoso.com")
	// Over the wire and back: the codec is part of what is tested.
	blob, err := managedpassword.Parse(b.Append(nil))
	if err != nil {
		panic(err)
	}
	return Reading{Blob: blob, KVNO: c.rec.version, ID: &id, Name: m.name, SID: m.sid,
		SPNs: []string{"http/webapp01.contoso.com"}, EncTypes: 0x18, Controller: c.name}
}

// accepts is the KDC's judgement of a key in an AS exchange.
func (c *controller) accepts(k *crypto.Key) bool {
	c.touch()
	if c.m.keyOf(c.rec.id, c.rec.salt).Equal(k) {
		return true
	}
	now, start := c.now(), startOf(c.rec.id)
	recent := now >= start && now-start < gkdi.MaxClockSkew
	return recent && c.rec.history != nil && c.m.keyOf(*c.rec.history, c.rec.formerS).Equal(k)
}

// issue makes a ticket to the account, and tries every agent's keys on it.
func (c *controller) issue() *issued {
	if c.m.tgsTouches {
		c.touch()
	}
	k := c.m.keyOf(c.rec.id, c.rec.salt)
	cipher, err := k.Encrypt(nil, krb5.UsageTicket, []byte("ticket to the account"), randReader{c.m.rng})
	if err != nil {
		panic(err)
	}
	now := time.Now()
	tk := &issued{kvno: c.rec.version, cipher: cipher, by: c.name, at: now, until: now.Add(ticketLife), opened: make(map[*crypto.Key]bool)}
	c.m.tickets = append(c.m.tickets, tk)
	c.m.issuedCount++
	for _, h := range c.m.hosts {
		h.try(tk)
	}
	return tk
}

type randReader struct{ rng *rand.Rand }

func (r randReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.rng.Uint32())
	}
	return len(b), nil
}

// live drops the tickets that have ended and returns the others.
func (m *model) live() []*issued {
	now := time.Now()
	m.tickets = slices.DeleteFunc(m.tickets, func(tk *issued) bool { return now.After(tk.until) })
	return m.tickets
}

// excuse says that until an instant acceptors may not know every key.
func (m *model) excuse(d time.Duration, why string) {
	now := time.Now()
	m.excuses = append(m.excuses, excuse{now, now.Add(d), why})
	time.AfterFunc(d+time.Millisecond, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, h := range m.hosts {
			for _, tk := range m.live() {
				h.try(tk)
			}
		}
	})
}

func (m *model) excused() bool {
	now := time.Now()
	m.excuses = slices.DeleteFunc(m.excuses, func(e excuse) bool { return now.After(e.until) })
	return len(m.excuses) > 0
}

func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	m.failures++
	if m.failures <= 10 {
		m.t.Errorf("seed %d, %s: %s", m.seed, time.Now().UTC().Format(time.RFC3339Nano), fmt.Sprintf(format, args...))
	}
}

// simHost is one host's way to the domain, and what its agent has published.
type simHost struct {
	m      *model
	name   string
	skew   atomic.Int64 // of the host's clock, in nanoseconds
	prefer []int        // controllers, the best first

	snap     *Snapshot // what the leases hold; it outlives the agent
	since    time.Time // tickets before are none of its concern
	refusals map[string]int
	reads    int
	fresh    int
	auths    int
	cut      bool // no way to any controller
	jumpy    bool // the host's clock jumps
}

func (m *model) host(skew time.Duration) *simHost {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &simHost{m: m, name: fmt.Sprintf("web%d$", len(m.hosts)+1), prefer: m.rng.Perm(len(m.controllers)),
		refusals: make(map[string]int)}
	h.skew.Store(int64(skew))
	m.hosts = append(m.hosts, h)
	return h
}

func (h *simHost) now() time.Time { return time.Now().Add(time.Duration(h.skew.Load())) }

// latency lets a request take its time; the lock is taken after it.
func (h *simHost) latency(ctx context.Context) error {
	h.m.mu.Lock()
	d := time.Duration(1+h.m.rng.IntN(40)) * time.Millisecond
	h.m.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// pick is the controller that answers: one that is wished for if it is up, else
// any that is not to be avoided, else any.
func (h *simHost) pick(wish string, avoid []string) (*controller, error) {
	var rest *controller
	for _, i := range h.prefer {
		c := h.m.controllers[i]
		switch {
		case c.down || h.cut:
		case c.name == wish:
			return c, nil
		case rest == nil || slices.Contains(avoid, rest.name) && !slices.Contains(avoid, c.name):
			rest = c
		}
	}
	if rest == nil {
		return nil, &Error{Reason: ErrNoController, Err: errors.New("connection refused")}
	}
	return rest, nil
}

func (h *simHost) ReadPassword(ctx context.Context, _ string, hint ReadHint) (Reading, error) {
	if err := h.latency(ctx); err != nil {
		return Reading{}, err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.reads++
	if hint.FreshTicket {
		h.fresh++
	}
	c, err := h.pick("", hint.Avoid)
	if err != nil {
		return Reading{}, err
	}
	return c.read(), nil
}

func (h *simHost) Authenticate(ctx context.Context, req AuthRequest) (Authentication, error) {
	if err := h.latency(ctx); err != nil {
		return Authentication{}, err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	c, err := h.pick(req.Controller, nil)
	if err != nil {
		return Authentication{}, err
	}
	h.auths++
	c.touch()
	if !req.Proven && req.Salt != c.rec.salt {
		return Authentication{}, &Error{Reason: ErrSalt, Controller: c.name, Salt: c.rec.salt}
	}
	if !c.accepts(req.Keys[0]) {
		k := string(req.Keys[0].Secret().Reveal())
		h.refusals[k]++
		if n := h.refusals[k]; n > 1 {
			h.m.failf("%s: a key was refused for the %dth time, now by %s", h.name, n, c.name)
		}
		return Authentication{}, &Error{Reason: ErrWrongKey, Controller: c.name, Salt: c.rec.salt, Err: errors.New("KDC_ERR_PREAUTH_FAILED (24)")}
	}
	return Authentication{Credential: h.m.credential("krbtgt", nil), KVNO: c.rec.version, Controller: c.name}, nil
}

func (m *model) credential(server string, ticket []byte) krb5.Credential {
	now := time.Now().Truncate(time.Second)
	return krb5.Credential{
		Client:   krb5.Principal{Realm: m.realm, Name: krb5.NewName(krb5.NamePrincipal, m.name)},
		Server:   krb5.Principal{Realm: m.realm, Name: krb5.NewName(krb5.NameSrvInst, server, m.realm)},
		AuthTime: now, StartTime: now, EndTime: now.Add(ticketLife),
		Ticket: append(ticket, now.String()...),
	}
}

func (h *simHost) ServiceTicket(ctx context.Context, _ krb5.Credential, service krb5.PrincipalName) (krb5.Credential, string, error) {
	if err := h.latency(ctx); err != nil {
		return krb5.Credential{}, "", err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	c, err := h.pick("", nil)
	if err != nil {
		return krb5.Credential{}, "", err
	}
	if service.Components[0] != h.m.name {
		return h.m.credential(service.String(), nil), "dc1", nil
	}
	tk := c.issue()
	cred := h.m.credential(h.m.name, nil)
	cred.Ticket = krb5.Ticket{Realm: h.m.realm, SName: service,
		EncPart: krb5.EncryptedData{EType: crypto.AES256SHA1, KVNO: tk.kvno, Cipher: tk.cipher}}.Append(nil)
	return cred, "dc1", nil
}

// published takes over the agent's new snapshot, as a lease does, and tries its
// keys on every live ticket.
func (h *simHost) published(s *Snapshot) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.snap = s
	for _, tk := range h.m.live() {
		h.try(tk)
	}
}

// try opens a ticket as an acceptor that knows its own principal does: with the
// first key of the ticket's version.
func (h *simHost) try(tk *issued) {
	if h.snap == nil || tk.at.Before(h.since) {
		return
	}
	for _, set := range h.snap.Acceptor {
		if set.KVNO != tk.kvno {
			continue
		}
		k := set.Keys[0]
		if !tk.opened[k] {
			if _, err := k.Decrypt(krb5.UsageTicket, tk.cipher); err != nil {
				break
			}
			tk.opened[k] = true
		}
		return
	}
	if h.m.excused() {
		return
	}
	var have []uint32
	for _, set := range h.snap.Acceptor {
		have = append(have, set.KVNO)
	}
	h.m.failf("%s (kvno %v, made %s): cannot open a ticket of %s, kvno %d, issued at %s", h.name, have,
		h.snap.Made.UTC().Format(time.RFC3339), tk.by, tk.kvno, tk.at.UTC().Format(time.RFC3339))
}

// knows is what the journal tells the next agent on the host.
func (h *simHost) knows() KnownSalt {
	if h.snap == nil || !h.snap.Initiator.Proven {
		return KnownSalt{}
	}
	return KnownSalt{h.snap.Initiator.KVNO, h.snap.Initiator.Salt}
}

// run runs an agent on the host until ctx is done.
func (h *simHost) run(ctx context.Context, restore []KeySet, salt KnownSalt) {
	pool := NewPool(Config{EncTypes: []crypto.EType{crypto.AES256SHA1}, Derive: h.m.derive, Now: h.now})
	if !h.jumpy {
		pool.tick = time.Hour // nobody moves this host's clock: look rarely
	}
	handle := pool.Open(Request{Key: h.key(), Domain: h, Restore: restore, Salt: salt})
	handle.Watch(h.published)
	var wg sync.WaitGroup
	wg.Go(func() { h.leases(ctx, pool) })
	_ = pool.Run(ctx)
	wg.Wait()
	handle.Close()
}

func (h *simHost) key() Key { return Key{Realm: h.m.realm, Name: accountName, Host: h.name} }
