package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/peer"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

const (
	// reapAfter is how long the files of the version before stay, for readers
	// that are on their way to them.
	reapAfter = time.Second

	// rewriteAgain is the pause after a lease's files could not be written.
	rewriteAgain = 5 * time.Second

	// unitPoll is how often the units with a lease are looked at.
	unitPoll = 5 * time.Second

	// leaseUnit begins the name of a unit that holds the lease of another one:
	// the rest is the other's name (internal/deliver/systemd).
	leaseUnit = "gmsa-lease-"
)

// book holds the leases that are alive.
//
// A lease is there from the moment its directory is complete and the journal
// has it. Its end comes from its workload's pidfd, its unit's control group or
// a caller, whoever is first; then the journal is told, the directory removed
// and the accounts given up.
type book struct {
	root    *lease.Root
	units   string // directory of the units' links
	systemd string // directory of systemd's own links, /run/systemd/units
	journal *journal
	pool    *account.Pool
	watcher *peer.Watcher
	log     *slog.Logger
	rotated func(*entry) // runs the lease's on_rotate command
	know    func(target) // tells the event log where an account comes from

	render renderer

	mu      sync.Mutex
	entries map[lease.ID]*entry
	byUser  map[uint32]int // leases by creator, those being made included
	byUnit  map[string]*entry
	making  int

	dirtyMu sync.Mutex
	dirty   map[*entry]struct{}
	wake    chan struct{} // capacity 1
}

// entry is a lease and what keeps it.
type entry struct {
	lease.Lease

	// mu guards what follows.
	mu     sync.Mutex
	dir    *lease.Dir
	holds  []hold // one for each account; none for a lease that cannot be kept up
	ended  bool
	forget func()              // ends the watch of the workload
	shown  []*account.Snapshot // what the files were made of; nil if unknown
	keys   keyDigest           // of the files
	keyed  bool                // keys is known
}

// hold is a lease's hold on one account.
type hold struct {
	target
	handle *account.Handle
}

// order is what a lease is made of, when everything was checked.
type order struct {
	lease    lease.Lease
	targets  []target
	profile  account.Profile
	workload *peer.Process // nil for a unit, or until removed; create owns it
	quota    int           // of the creator; 0 for none
	total    int           // of all
}

func newBook(b *book) *book {
	b.entries = map[lease.ID]*entry{}
	b.byUser = map[uint32]int{}
	b.byUnit = map[string]*entry{}
	b.dirty = map[*entry]struct{}{}
	b.wake = make(chan struct{}, 1)
	return b
}

// create makes a lease. It waits for the accounts' tickets as long as ctx.
func (b *book) create(ctx context.Context, o order) (*entry, error) {
	if err := b.reserve(o); err != nil {
		o.close()
		return nil, err
	}
	e := &entry{Lease: o.lease}
	e.holds = b.open(o.targets, o.profile, o.lease.Options.Isolated, past{})
	if err := b.fill(ctx, e); err != nil {
		closeHolds(e.holds)
		b.settle(e, false)
		o.close()
		return nil, err
	}
	b.enter(e)
	b.settle(e, true)
	b.follow(e)
	if o.workload == nil {
		return e, nil
	}
	if err := b.watch(e, o.workload); err != nil {
		b.remove(e, "its workload cannot be watched")
		return nil, err
	}
	return e, nil
}

// close gives back what an order holds.
func (o order) close() {
	if o.workload != nil {
		o.workload.Close()
	}
}

// settle ends the making of a lease.
func (b *book) settle(e *entry, made bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.making--
	if !made {
		b.unbook(e)
	}
}

// follow has the lease written again whenever one of its accounts changes, and
// now if one has since its files were made.
func (b *book) follow(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, h := range e.holds {
		h.handle.Watch(func(*account.Snapshot) { b.touch(e) })
		if e.shown == nil || h.handle.Snapshot() != e.shown[i] {
			b.touch(e)
		}
	}
}

// reserve counts a lease before it is made, so that no quota is passed by many
// requests at once.
func (b *book) reserve(o order) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.entries) + b.making; n >= o.total {
		return busy("the agent has %d leases, and makes no more", n)
	}
	if n := b.byUser[o.lease.Creator]; o.quota > 0 && n >= o.quota {
		return busy("the user has %d leases, and may have no more", n)
	}
	b.making++
	b.byUser[o.lease.Creator]++
	return nil
}

// unbook takes a lease out of its creator's count; mu is held.
func (b *book) unbook(e *entry) {
	if b.byUser[e.Creator]--; b.byUser[e.Creator] <= 0 {
		delete(b.byUser, e.Creator)
	}
}

// open takes hold of the accounts of a lease.
func (b *book) open(targets []target, profile account.Profile, isolated bool, before past) []hold {
	holds := make([]hold, len(targets))
	for i, t := range targets {
		b.know(t)
		p := profile
		p.Services = append(slices.Clone(t.services), profile.Services...)
		holds[i] = hold{target: t, handle: b.pool.Open(account.Request{
			Key: t.key, Domain: t.identity.Domain, Profile: p, Isolated: isolated,
			Restore: before.keys[t.account], Salt: before.salts[t.account],
		})}
	}
	return holds
}

func closeHolds(holds []hold) {
	for _, h := range holds {
		h.handle.Close()
	}
}

// fill waits for the credentials and writes directory and journal.
func (b *book) fill(ctx context.Context, e *entry) error {
	snaps := make([]*account.Snapshot, len(e.holds))
	for i, h := range e.holds {
		s, err := h.handle.Wait(ctx)
		if err != nil {
			return failureOf(err, h.account.Name)
		}
		snaps[i] = s
	}
	content, keys, err := b.content(e, snaps)
	if err != nil {
		return err
	}
	dir, err := b.root.Create(e.ID, e.Owner, content)
	if err != nil {
		return storageFailure(err)
	}
	e.Salts = saltsOf(e.Lease, snaps)
	if err := b.journal.put(e.Lease, true); err != nil {
		return storageFailure(errors.Join(err, b.root.Remove(e.ID)))
	}
	e.dir, e.shown, e.keys, e.keyed = dir, snaps, keys, true
	return nil
}

// content encodes what the lease's directory shows. An account that has no
// snapshot yet, after a restart or when a spec names a new one, keeps the files
// that are there and holds no other up.
func (b *book) content(e *entry, snaps []*account.Snapshot) (lease.Content, keyDigest, error) {
	conf, err := b.krb5Conf(e)
	if err != nil {
		return lease.Content{}, keyDigest{}, err
	}
	c := lease.Content{Krb5Conf: conf, Accounts: make([]lease.AccountFiles, len(snaps))}
	var keys keyDigest
	for i, name := range directoryNames(e.Accounts) {
		files := lease.AccountFiles{Name: name}
		if snaps[i] == nil {
			files.CCache = b.present(e.ID, name, lease.CCacheName)
			files.Keytab = b.present(e.ID, name, lease.KeytabName)
			files.ClientKeytab = b.present(e.ID, name, lease.ClientKeytabName)
			shown, _ := digestFiles(files.Keytab, files.ClientKeytab)
			keys = keys.and(shown)
			c.Accounts[i] = files
			continue
		}
		r, err := b.render.render(snaps[i])
		if err != nil {
			return lease.Content{}, keyDigest{}, err
		}
		if files.CCache = r.ccache; r.ccache.IsZero() {
			// Keys come before tickets: those at hand stay.
			files.CCache = b.present(e.ID, name, lease.CCacheName)
		}
		if e.Options.Keytab {
			files.Keytab, files.ClientKeytab = r.keytab, r.clientKeytab
		}
		c.Accounts[i] = files
		keys = keys.and(r.keys)
	}
	return c, keys, nil
}

// present reads a file that a lease shows now; empty if there is none.
func (b *book) present(id lease.ID, name, file string) secret.Bytes {
	data, err := b.root.Read(id, name, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("cannot read a file of a lease", slog.String("lease", id.String()), slog.Any("error", err))
	}
	return data
}

// krb5Conf encodes the lease's krb5.conf.
func (b *book) krb5Conf(e *entry) ([]byte, error) {
	var realms []lease.Realm
	for _, h := range e.holds {
		r := h.identity.Realm()
		if !slices.ContainsFunc(realms, func(o lease.Realm) bool { return o.Name == r.Name }) {
			realms = append(realms, r)
		}
	}
	return b.render.krb5Conf(lease.Krb5Conf{Realms: realms, Dir: b.view(e), Forwardable: e.Options.Forwardable})
}

// view is where the workload sees the directory: a unit by its link, and a
// container where it is mounted. A process of the host finds it by its
// environment.
func (b *book) view(e *entry) string {
	if e.Unit.IsZero() {
		return lease.MountPoint
	}
	return b.unitLink(e.Unit.Name)
}

// unitLink is the link to a unit's lease, by the name of the service that needs
// it.
func (b *book) unitLink(unit string) string {
	return filepath.Join(b.units, strings.TrimPrefix(unit, leaseUnit))
}

// enter puts a complete lease into the book. An earlier lease of the same unit
// ends.
func (b *book) enter(e *entry) {
	b.mu.Lock()
	b.entries[e.ID] = e
	var before *entry
	if !e.Unit.IsZero() {
		before = b.byUnit[e.Unit.Name]
		b.byUnit[e.Unit.Name] = e
	}
	b.mu.Unlock()
	if !e.Unit.IsZero() {
		b.linkUnit(e)
	}
	if before != nil {
		b.remove(before, "its unit has another lease")
	}
}

// linkUnit points the unit's link to the lease.
func (b *book) linkUnit(e *entry) {
	temporary := filepath.Join(b.units, "."+e.ID.String())
	err := os.Symlink(e.dir.Path(), temporary)
	if err == nil {
		err = os.Rename(temporary, b.unitLink(e.Unit.Name))
	}
	if err != nil {
		b.log.Error("cannot link a unit's lease", slog.String("unit", e.Unit.Name), slog.Any("error", errors.Join(err, os.Remove(temporary))))
	}
}

// unlinkUnit removes the unit's link if it is this lease's.
func (b *book) unlinkUnit(e *entry) {
	path := b.unitLink(e.Unit.Name)
	if target, err := os.Readlink(path); err == nil && target == e.dir.Path() {
		_ = os.Remove(path)
	}
}

// watch ends the lease when p does. It owns p.
func (b *book) watch(e *entry, p *peer.Process) error {
	forget, err := b.watcher.Watch(p, func() { b.remove(e, "its workload has ended") })
	if err != nil {
		p.Close()
		return err
	}
	e.mu.Lock()
	ended := e.ended
	e.forget = forget
	e.mu.Unlock()
	if ended {
		forget()
	}
	return nil
}

// remove ends a lease; a second call does nothing. It reports whether it was
// the first.
func (b *book) remove(e *entry, why string) bool {
	b.mu.Lock()
	if b.entries[e.ID] != e {
		b.mu.Unlock()
		return false
	}
	delete(b.entries, e.ID)
	if b.byUnit[e.Unit.Name] == e {
		delete(b.byUnit, e.Unit.Name)
	}
	b.unbook(e)
	b.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	closeHolds(e.holds)
	if e.forget != nil {
		e.forget()
	}
	if !e.Unit.IsZero() {
		b.unlinkUnit(e)
	}
	if err := errors.Join(b.journal.end(e.ID), e.dir.Remove()); err != nil {
		b.log.Error("cannot remove a lease wholly", slog.String("lease", e.ID.String()), slog.Any("error", err))
	}
	b.log.Info("lease ended", slog.String("lease", e.ID.String()), slog.String("because", why))
	return true
}

// find returns a lease, nil for none.
func (b *book) find(id lease.ID) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries[id]
}

// ofUnit returns the lease of a unit, nil for none.
func (b *book) ofUnit(name string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byUnit[name]
}

// all lists the leases by id.
func (b *book) all() []*entry {
	b.mu.Lock()
	list := slices.Collect(maps.Values(b.entries))
	b.mu.Unlock()
	slices.SortFunc(list, func(x, y *entry) int { return slices.Compare(x.ID[:], y.ID[:]) })
	return list
}

// count is how many leases there are.
func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.entries)
}

// touch has a lease written again. It does not block: it is called by the
// pool's workers.
func (b *book) touch(e *entry) {
	b.dirtyMu.Lock()
	b.dirty[e] = struct{}{}
	b.dirtyMu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *book) takeDirty() []*entry {
	b.dirtyMu.Lock()
	defer b.dirtyMu.Unlock()
	list := slices.Collect(maps.Keys(b.dirty))
	clear(b.dirty)
	return list
}

// run rewrites leases whose accounts have changed, until ctx is done.
func (b *book) run(ctx context.Context) error {
	units := time.NewTicker(unitPoll)
	defer units.Stop()
	reap := time.NewTimer(0)
	defer reap.Stop()
	var written []*entry
	for {
		select {
		case <-ctx.Done():
			b.reap(written)
			return nil
		case <-units.C:
			b.checkUnits()
		case <-reap.C:
			b.reap(written)
			written = nil
		case <-b.wake:
			for _, e := range b.takeDirty() {
				if ctx.Err() != nil {
					break
				}
				b.rewrite(e)
				written = append(written, e)
			}
			reap.Reset(reapAfter)
		}
	}
}

// reap removes the old versions of leases.
func (b *book) reap(list []*entry) {
	for _, e := range list {
		e.mu.Lock()
		if !e.ended {
			if err := e.dir.Reap(); err != nil {
				b.log.Error("cannot remove old files of a lease", slog.Any("error", err))
			}
		}
		e.mu.Unlock()
	}
}

// rewrite writes what the accounts of a lease are now.
func (b *book) rewrite(e *entry) {
	changed, err := b.refresh(e)
	if err != nil {
		b.log.Error("cannot rewrite a lease; its files stay as they are", slog.String("lease", e.ID.String()), slog.Any("error", err))
		time.AfterFunc(rewriteAgain, func() { b.touch(e) })
	}
	if changed && e.Options.OnRotate != "" {
		b.rotated(e)
	}
	if changed && e.Options.Signal != "" {
		b.signal(e)
	}
}

// signal tells a workload that its keys have changed.
func (b *book) signal(e *entry) {
	p, err := peer.OpenProcess(e.Workload.PID, e.Workload.Start)
	if err == nil {
		err = p.Signal(unix.SignalNum("SIG" + e.Options.Signal))
		p.Close()
	}
	if err != nil && !errors.Is(err, peer.ErrGone) {
		b.log.Error("cannot signal a workload", slog.String("lease", e.ID.String()), slog.String("signal", e.Options.Signal), slog.Any("error", err))
	}
}

// refresh is rewrite, and reports whether the keys are others than before.
func (b *book) refresh(e *entry) (changed bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended || len(e.holds) == 0 {
		return false, nil
	}
	snaps := make([]*account.Snapshot, len(e.holds))
	known := true
	for i, h := range e.holds {
		snaps[i] = h.handle.Snapshot()
		known = known && snaps[i] != nil
	}
	if !known && !slices.ContainsFunc(snaps, func(s *account.Snapshot) bool { return s != nil }) {
		return false, nil // nothing is known yet since the start
	}
	content, keys, err := b.content(e, snaps)
	if err != nil {
		return false, err
	}
	if content.Accounts[0].CCache.IsZero() {
		return false, nil // a primary account without a ticket: what is shown stays
	}
	if err := e.dir.Write(content); err != nil {
		return false, err
	}
	changed = e.keyed && e.keys != keys
	e.shown, e.keys, e.keyed = snaps, keys, known || e.Options.Keytab
	if salts := saltsOf(e.Lease, snaps); !slices.Equal(salts, e.Salts) {
		e.Salts = salts
		err = b.journal.put(e.Lease, false)
	}
	return changed, err
}

// saltsOf is what a lease tells the next agent of its accounts' salts: the newest
// that a KDC took.
func saltsOf(l lease.Lease, snaps []*account.Snapshot) []lease.Salt {
	salts := make([]lease.Salt, len(snaps))
	if len(l.Salts) == len(salts) {
		copy(salts, l.Salts)
	}
	for i, s := range snaps {
		if s != nil && s.Initiator.Proven && s.Initiator.KVNO != 0 {
			salts[i] = lease.Salt{KVNO: s.Initiator.KVNO, Salt: s.Initiator.Salt}
		}
	}
	return salts
}

// invocation is the id of the present run of a unit, empty for none: the target
// of a link that systemd keeps as long as the unit is active.
func (b *book) invocation(unit string) string {
	id, err := os.Readlink(filepath.Join(b.systemd, "invocation:"+unit))
	if err != nil {
		return ""
	}
	return id
}

// checkUnits ends the leases of units that have stopped or been started again.
func (b *book) checkUnits() {
	b.mu.Lock()
	list := slices.Collect(maps.Values(b.byUnit))
	b.mu.Unlock()
	for _, e := range list {
		if b.invocation(e.Unit.Name) != e.Unit.Invocation {
			b.remove(e, "its unit has ended")
		}
	}
}

// retarget gives a lease the accounts that its credential spec names now.
func (b *book) retarget(e *entry, targets []target, profile account.Profile) {
	accounts := accountsOf(targets)
	e.mu.Lock()
	if e.ended || slices.Equal(accounts, e.Accounts) && e.sameIdentities(targets) {
		e.mu.Unlock()
		return
	}
	old := e.holds
	e.holds = b.open(targets, profile, e.Options.Isolated, past{})
	e.Accounts, e.Salts, e.Plugin = accounts, nil, pluginOf(targets)
	e.shown, e.keyed = nil, false
	l := e.Lease
	e.mu.Unlock()
	b.follow(e)
	closeHolds(old)
	if err := b.journal.put(l, false); err != nil {
		b.log.Error("cannot record a changed lease", slog.String("lease", e.ID.String()), slog.Any("error", err))
	}
	b.touch(e)
}

func (e *entry) sameIdentities(targets []target) bool {
	return slices.EqualFunc(e.holds, targets, func(h hold, t target) bool {
		return h.key == t.key && h.identity.Domain == t.identity.Domain
	})
}

// restored is how a lease of the journal is resolved again.
type restored func(lease.Lease) (targets []target, profile account.Profile, err error)

// past is what leases tell of their accounts that the domain may not tell, or not
// as fast.
type past struct {
	keys  map[lease.Account][]account.KeySet
	salts map[lease.Account]account.KnownSalt
}

// past is what the leases of an agent before this one tell.
func (b *book) past(leases []lease.Lease) past {
	p := past{keys: b.heldKeys(leases), salts: knownSalts(leases)}
	for a, sets := range p.keys {
		for i := range sets {
			if known := p.salts[a]; known.KVNO == sets[i].KVNO && known.KVNO != 0 {
				sets[i].Salt = known.Salt // the keytab has none
			}
		}
	}
	return p
}

// restore takes over the leases of an agent before this one.
func (b *book) restore(leases []lease.Lease, resolve restored) {
	before := b.past(leases)
	keep := map[lease.ID]bool{}
	for _, l := range leases {
		switch err := b.takeOver(l, resolve, before); {
		case err == nil:
			keep[l.ID] = true
		default:
			b.log.Info("lease not taken over", slog.String("lease", l.ID.String()), slog.Any("error", err))
			if err := b.journal.end(l.ID); err != nil {
				b.log.Error("cannot write the journal", slog.Any("error", err))
			}
		}
	}
	removed, err := b.root.Sweep(func(id lease.ID) bool { return keep[id] })
	if err != nil {
		b.log.Error("cannot sweep the lease directory", slog.Any("error", err))
	}
	if removed > 0 || len(keep) > 0 {
		b.log.Info("leases taken over", slog.Int("leases", len(keep)), slog.Int("removed", removed))
	}
}

// takeOver goes on with one lease, whose workload must still run. A lease whose
// accounts cannot be resolved any more keeps its files as they are.
func (b *book) takeOver(l lease.Lease, resolve restored, before past) error {
	var workload *peer.Process
	if !l.Unit.IsZero() && b.invocation(l.Unit.Name) != l.Unit.Invocation {
		return errGone
	}
	if !l.Workload.IsZero() {
		var err error
		if workload, err = peer.OpenProcess(l.Workload.PID, l.Workload.Start); err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
	}
	dir, err := b.root.Open(l.ID, l.Owner)
	if err != nil {
		if workload != nil {
			workload.Close()
		}
		return err
	}
	e := &entry{Lease: l, dir: dir}
	if targets, profile, err := resolve(l); err != nil {
		b.log.Error("a lease cannot be kept up, its files stay as they are", slog.String("lease", l.ID.String()), slog.Any("error", err))
	} else {
		e.keys, e.keyed = b.keysOf(l)
		if e.Accounts = accountsOf(targets); !slices.Equal(e.Accounts, l.Accounts) {
			e.Salts = nil
		}
		e.Plugin = pluginOf(targets)
		e.holds = b.open(targets, profile, l.Options.Isolated, before)
	}
	b.mu.Lock()
	b.byUser[l.Creator]++
	b.mu.Unlock()
	b.enter(e)
	b.follow(e)
	if workload != nil {
		if err := b.watch(e, workload); err != nil {
			b.log.Error("cannot watch a workload", slog.Any("error", err))
		}
	}
	return nil
}

func accountsOf(targets []target) []lease.Account {
	list := make([]lease.Account, len(targets))
	for i, t := range targets {
		list[i] = t.account
	}
	return list
}

// heldKeys reads the keys in the keytabs of all leases: the domain may not give
// the old ones back. A lease's owner can write to its keytab; whoever has one
// has the account's keys, and gains nothing by adding another.
func (b *book) heldKeys(leases []lease.Lease) map[lease.Account][]account.KeySet {
	held := map[lease.Account][]account.KeySet{}
	for _, l := range leases {
		if !l.Options.Keytab {
			continue
		}
		for i, name := range directoryNames(l.Accounts) {
			a := l.Accounts[i]
			for _, set := range keySets(b.present(l.ID, name, lease.KeytabName).Reveal(), a.Name+"$") {
				if !slices.ContainsFunc(held[a], func(s account.KeySet) bool { return s.KVNO == set.KVNO }) {
					held[a] = append(held[a], set)
				}
			}
		}
	}
	return held
}

// knownSalts are the salts that an agent before this one knew of the accounts, each
// of the highest version.
func knownSalts(leases []lease.Lease) map[lease.Account]account.KnownSalt {
	known := map[lease.Account]account.KnownSalt{}
	for _, l := range leases {
		if len(l.Salts) != len(l.Accounts) {
			continue // an earlier version wrote the journal
		}
		for i, a := range l.Accounts {
			if s := l.Salts[i]; s.KVNO > known[a].KVNO {
				known[a] = account.KnownSalt(s)
			}
		}
	}
	return known
}

// keysOf tells which keys the files of a lease have.
func (b *book) keysOf(l lease.Lease) (keys keyDigest, ok bool) {
	for _, name := range directoryNames(l.Accounts) {
		digest, ok := digestFiles(b.present(l.ID, name, lease.KeytabName), b.present(l.ID, name, lease.ClientKeytabName))
		if !ok {
			return keyDigest{}, false
		}
		keys = keys.and(digest)
	}
	return keys, true
}

// digestFiles is the digest of the keytabs in two files; not ok if they are
// none.
func digestFiles(acceptor, initiator secret.Bytes) (digest keyDigest, ok bool) {
	a, err1 := keytab.Parse(acceptor.Reveal())
	i, err2 := keytab.Parse(initiator.Reveal())
	if err1 != nil || err2 != nil {
		return keyDigest{}, false
	}
	digest, err := digestKeys(a, i)
	return digest, err == nil
}

// profileOf is what a lease wants of its tickets.
func profileOf(o lease.Options, cfg config.Config) (account.Profile, error) {
	services, err := serviceNames(o.SPNs)
	if err != nil {
		return account.Profile{}, err
	}
	return account.Profile{Forwardable: o.Forwardable, Lifetime: cfg.Tickets.Lifetime, Services: services}, nil
}
