package account

import (
	"container/heap"
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

const (
	// DefaultInFlight is how many accounts talk to their domains at once.
	DefaultInFlight = 32

	// linger is how long an account that nobody uses is kept, so that the next
	// lease finds it warm, with its old keys.
	linger = 15 * time.Minute

	// stepTimeout bounds one worker's turn with one account: an AS exchange, a
	// read and the tickets of a few services, with failover.
	stepTimeout = 2 * time.Minute

	// clockTick is how often the pool looks whether the clock has jumped, and
	// clockJump by how much: by an administrator's hand, or because the machine
	// slept, which no timer notices.
	clockTick = time.Minute
	clockJump = time.Minute

	// probeFirst and probeLast bound the pause between two probes of a domain
	// of which no controller answers: short enough that all accounts are back
	// well within a minute of a controller's return. One request in that time is
	// nothing to a controller that is busy, and less to one that is away.
	probeFirst = time.Second
	probeLast  = 5 * time.Second
)

// Config is what a [Pool] needs. The zero value of each field is its default.
type Config struct {
	// EncTypes are the encryption types of this host, the preferred first; the
	// default is 18, 17, 20, 19.
	EncTypes []crypto.EType
	// MaxInFlight bounds the accounts that talk to a domain at once, and with
	// them the requests in flight; the default is [DefaultInFlight].
	MaxInFlight int
	// TicketLife is the longest life of a ticket by the domain's policy; the
	// default is [DefaultTicketLife]. Old keys are kept as long.
	TicketLife time.Duration
	// Derive makes keys of passwords; the default is managedpassword.Key.
	Derive DeriveFunc
	// Events is told what the event log records; nil: nothing.
	Events Events
	// Log gets what an operator may want to know; the default discards.
	Log *slog.Logger
	// Now is the clock; the default is time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if len(c.EncTypes) == 0 {
		c.EncTypes = []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1, crypto.AES256SHA2, crypto.AES128SHA2}
	}
	c.EncTypes = slices.Clone(c.EncTypes)
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = DefaultInFlight
	}
	if c.Derive == nil {
		c.Derive = derive
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Pool keeps accounts ready. One goroutine, [Pool.Run], sleeps until the next
// account is due and hands it to a worker; at most MaxInFlight work at once, and
// an account has one worker at a time, so that a hundred callers cause one read.
//
// While no controller of a domain answers, its accounts are parked and one of
// them probes; when it gets through, all are due at once, in the order in which
// they were.
type Pool struct {
	cfg  Config
	wake chan struct{} // capacity 1
	tick time.Duration // clockTick

	mu       sync.Mutex
	accounts map[accountID]*account
	queue    queue
	links    map[Domain]*link
	working  int
	wall     time.Time // of Config.Now at the last look, without its monotonic reading
	steady   time.Time // at the same moment, with it
	idle     sync.WaitGroup
}

type accountID struct {
	key    Key
	domain Domain
}

// link is what is known of the way to a domain.
type link struct {
	down    bool
	probing bool
	probeAt time.Time
	fails   int
	parked  []*account // the most wanted first
}

// NewPool makes a pool. It does nothing before [Pool.Run].
func NewPool(cfg Config) *Pool {
	return &Pool{
		cfg:      cfg.withDefaults(),
		wake:     make(chan struct{}, 1),
		tick:     clockTick,
		accounts: make(map[accountID]*account),
		links:    make(map[Domain]*link),
	}
}

// Request asks for an account.
type Request struct {
	Key     Key
	Domain  Domain
	Profile Profile
	// Isolated asks for tickets that no other handle shares.
	Isolated bool
	// Restore are the keys that an earlier run left in keytabs. They count
	// only where the account is not open yet.
	Restore []KeySet
	// Salt is what an earlier run knew of the salt; like Restore it counts only
	// where the account is not open yet.
	Salt KnownSalt
}

// KnownSalt is the salt under which a KDC took the account's keys of a version. It
// saves the question for it as long as the directory names the same version: a
// rename changes the salt of the next password alone. It is no secret, and no more
// than a hint; if it is wrong, the KDC says so with its refusal.
type KnownSalt struct {
	KVNO uint32 // 0: nothing is known
	Salt string
}

// Open takes hold of an account, which is kept ready until the handle is closed.
// It does not block; [Handle.Wait] does.
func (p *Pool) Open(req Request) *Handle {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := accountID{req.Key, req.Domain}
	a := p.accounts[id]
	if a == nil {
		a = newAccount(p, req)
		p.accounts[id] = a
	}
	name := req.Profile.id()
	if req.Isolated {
		a.isolated++
		name += "\x00" + strconv.Itoa(a.isolated)
	}
	s := a.shares[name]
	if s == nil {
		s = newShare(a, req.Profile)
		if req.Isolated {
			s.isolated = name
		}
		a.shares[name] = s
		p.schedule(a, p.cfg.Now())
	}
	s.handles++
	return &Handle{share: s}
}

// release is the end of one handle.
func (p *Pool) release(s *share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.handles--
	if s.handles > 0 {
		return
	}
	s.idleSince = p.cfg.Now()
	s.account.usedAt = s.idleSince
	if s.isolated != "" {
		delete(s.account.shares, s.isolated)
	}
	p.schedule(s.account, s.idleSince.Add(linger))
}

// demand makes an account due now, because somebody waits for it: but for the
// pause that the account keeps after a failure of its own.
func (p *Pool) demand(s *share) {
	now := p.cfg.Now()
	if s.snapshot.Load().Usable(now) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a := s.account
	a.wanted = true
	if l := p.links[a.domain]; l != nil && a.parked {
		l.parked = slices.DeleteFunc(l.parked, func(o *account) bool { return o == a })
		l.parked = slices.Insert(l.parked, 0, a)
		if soon := now.Add(probeFirst); soon.Before(l.probeAt) {
			l.probeAt = soon
		}
		p.poke()
		return
	}
	p.schedule(a, now)
}

// schedule makes an account due at an instant, or earlier if it is already.
func (p *Pool) schedule(a *account, at time.Time) {
	switch {
	case a.parked:
	case a.working:
		if a.again.IsZero() || at.Before(a.again) {
			a.again = at
		}
	case a.index < 0:
		a.due = at
		heap.Push(&p.queue, a)
	case at.Before(a.due):
		a.due = at
		heap.Fix(&p.queue, a.index)
	}
	p.poke()
}

// crowded reports whether more accounts are due than there are workers free.
func (p *Pool) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.cfg.MaxInFlight - p.working
	return p.queue.count(0, p.cfg.Now(), free+1) > free
}

// poke makes Run look at the queue again.
func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Wake makes [Pool.Run] look at the clock, and at what is due by it, without waiting
// for its timer.
func (p *Pool) Wake() { p.poke() }

// Run works until ctx is done, and returns when the last worker has ended.
func (p *Pool) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer p.idle.Wait()
	for {
		wait := p.dispatch(ctx)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// dispatch starts workers for what is due and returns how long nothing else is.
func (p *Pool) dispatch(ctx context.Context) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if p.jumped(now) {
		p.startOver(now)
	}
	next := now.Add(p.tick)
	for _, l := range p.links {
		if !l.down || l.probing || len(l.parked) == 0 {
			continue
		}
		if now.Before(l.probeAt) {
			next = earlier(next, l.probeAt)
			continue
		}
		if p.working < p.cfg.MaxInFlight {
			a := l.parked[0]
			l.parked = slices.Delete(l.parked, 0, 1)
			l.probing = true
			a.unpark()
			p.start(ctx, a)
		}
	}
	for len(p.queue) > 0 && p.working < p.cfg.MaxInFlight {
		a := p.queue[0]
		if now.Before(a.due) {
			return earlier(next, a.due).Sub(now)
		}
		heap.Pop(&p.queue)
		switch l := p.links[a.domain]; {
		case p.retire(a, now):
		case l != nil && l.down:
			a.parked = true
			l.parked = append(l.parked, a)
			next = earlier(next, l.probeAt)
		default:
			p.start(ctx, a)
		}
	}
	return max(next.Sub(now), 0)
}

// jumped reports whether the clock has moved otherwise than time since the last
// call.
func (p *Pool) jumped(now time.Time) bool {
	wall, steady := now.Round(0), time.Now()
	off := wall.Sub(p.wall) - steady.Sub(p.steady)
	first := p.wall.IsZero()
	p.wall, p.steady = wall, steady
	return !first && off.Abs() > clockJump
}

// startOver makes every account read its password and get new tickets: nothing
// that was planned by the clock holds any more.
func (p *Pool) startOver(now time.Time) {
	p.cfg.Log.Warn("the clock has jumped: everything is read anew")
	for _, a := range p.accounts {
		a.upset = true
		p.schedule(a, now)
	}
}

// Reread makes an account, if it is open, read its password and get new tickets at
// once, whatever was planned: somebody has just set the password.
func (p *Pool) Reread(key Key, d Domain) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.accounts[accountID{key, d}]; a != nil {
		a.upset = true
		p.schedule(a, p.cfg.Now())
	}
}

// retire forgets the shares that nobody has used for linger, and the account
// when it has none left, which it reports.
func (p *Pool) retire(a *account, now time.Time) bool {
	for name, s := range a.shares {
		if s.handles == 0 && now.Sub(s.idleSince) >= linger {
			delete(a.shares, name)
		}
	}
	if len(a.shares) > 0 || now.Sub(a.usedAt) < linger {
		return false
	}
	delete(p.accounts, accountID{a.key, a.domain})
	return true
}

// start hands an account to a worker.
func (p *Pool) start(ctx context.Context, a *account) {
	a.working = true
	a.wanted, a.urgent = false, a.wanted
	a.upset, a.anew = false, a.upset
	p.working++
	shares := make([]*share, 0, len(a.shares))
	for _, s := range a.shares {
		shares = append(shares, s)
	}
	p.idle.Go(func() {
		stepCtx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		out := a.step(stepCtx, shares)
		p.finish(a, out)
	})
}

// outcome is how a worker's turn ended.
type outcome struct {
	next    time.Time // when the account is due again
	reached bool      // a controller answered
	err     error
}

// finish takes an account back from its worker.
func (p *Pool) finish(a *account, out outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working--
	a.working = false
	l := p.links[a.domain]
	if l == nil {
		l = &link{}
		p.links[a.domain] = l
	}
	now := p.cfg.Now()
	l.probing = false
	switch {
	case out.reached:
		p.raise(l)
	case errors.Is(out.err, ErrNoController):
		p.lower(l, a, now)
		p.poke()
		return
	}
	if !a.again.IsZero() {
		out.next = earlier(out.next, a.again)
		a.again = time.Time{}
	}
	p.schedule(a, out.next)
	p.poke()
}

// raise notes that a domain answers: what was parked is due.
func (p *Pool) raise(l *link) {
	if !l.down {
		return
	}
	parked := l.parked
	*l = link{}
	for _, a := range parked {
		a.unpark()
		heap.Push(&p.queue, a)
	}
}

// lower notes that no controller answered an account, which is parked.
func (p *Pool) lower(l *link, a *account, now time.Time) {
	l.down = true
	pause := min(probeFirst<<min(l.fails, 10), probeLast)
	l.fails++
	l.probeAt = now.Add(pause - within(a.spread, pause/4))
	a.again = time.Time{}
	a.parked = true
	a.due = now
	l.parked = append(l.parked, a)
}

// queue is a heap of accounts by the time at which they are due.
type queue []*account

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// count is how many accounts of the heap below i are due, as far as limit matters.
func (q queue) count(i int, now time.Time, limit int) int {
	if i >= len(q) || limit <= 0 || now.Before(q[i].due) {
		return 0
	}
	n := 1
	n += q.count(2*i+1, now, limit-n)
	return n + q.count(2*i+2, now, limit-n)
}

// Push appends; the heap calls it.
func (q *queue) Push(x any) {
	a := x.(*account)
	a.index = len(*q)
	*q = append(*q, a)
}

// Pop removes the last; the heap calls it.
func (q *queue) Pop() any {
	old := *q
	a := old[len(old)-1]
	a.index = -1
	*q = slices.Delete(old, len(old)-1, len(old))
	return a
}

// spreadOf is the place in [0,1) of a text, the same at every start.
func spreadOf(parts ...string) float64 {
	h := fnv.New64a()
	for _, s := range parts {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0})
	}
	// FNV's last bytes barely reach its high bits; a multiplication does.
	return float64((h.Sum64()*0x9E3779B97F4A7C15)>>11) / (1 << 53)
}

func earlier(t, o time.Time) time.Time {
	if o.Before(t) {
		return o
	}
	return t
}
