package account

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
)

const (
	// refreshFrom and refreshOver: a ticket is asked for anew, not renewed, at
	// 50 to 80 % of its life, at a point of its own for each host and account.
	refreshFrom = 0.5
	refreshOver = 0.3

	// backoffFirst and backoffLast bound the pause after a failure of an
	// account; it doubles. backoffUrgent bounds it while a rollover is near.
	backoffFirst  = 15 * time.Second
	backoffLast   = 15 * time.Minute
	backoffUrgent = 30 * time.Second

	// freshPause is the least time between two new tickets of the host on behalf
	// of an account whose password is withheld.
	freshPause = time.Minute

	// demandPause is the least time between two attempts for an account that
	// fails, however many callers wait for it.
	demandPause = 2 * time.Second

	// repeatFailure is how often a failure that lasts is reported.
	repeatFailure = time.Hour

	// unsettledTicket is the life that a ticket must have left for its
	// replacement to wait until all controllers agree on a key, postponed by
	// postpone each time.
	unsettledTicket = time.Hour
	postpone        = 5 * time.Minute

	// proveLater and proveOver: while other accounts wait for a worker, a version
	// is proved this much later, spread over a time.
	proveLater = time.Minute
	proveOver  = 2 * time.Minute

	// maxTries bounds the AS exchanges of one attempt: the password in force,
	// its neighbour, and one after another read.
	maxTries = 3
)

// account is one gMSA in a pool.
type account struct {
	pool   *Pool
	key    Key
	domain Domain
	spread float64

	outlook atomic.Pointer[Outlook]

	// Guarded by Pool.mu.
	shares   map[string]*share
	isolated int       // shares of one handle made so far
	usedAt   time.Time // when the last handle of a share was closed
	due      time.Time
	index    int // in Pool.queue, -1 outside
	working  bool
	parked   bool
	wanted   bool      // somebody waits
	upset    bool      // the clock has jumped
	again    time.Time // became due while working

	// The worker owns the rest; the pool lets one work at a time.
	urgent     bool // wanted, when the turn began
	anew       bool // upset, when the turn began
	ring       Ring
	last       Reading // without its passwords
	failures   int     // of reads, in a row
	readErr    error   // of the last read
	retryAt    time.Time
	triedAt    time.Time
	freshAt    time.Time
	refetched  uint32 // the password of the last event 7
	reported   string // the reason of the last event 8
	reportedAt time.Time
	unproven   bool      // the kvno in force has not been seen in a ticket
	stale      bool      // a ticket contradicts the ring: read
	reached    bool      // a controller answered in this turn
	deaf       bool      // none answered a read in this turn
	announced  string    // the salt that the KDC is known to use, in the turn that learnt it
	remembered KnownSalt // before the first read
}

func newAccount(p *Pool, req Request) *account {
	now := p.cfg.Now()
	return &account{
		pool: p, key: req.Key, domain: req.Domain,
		spread: spreadOf(req.Key.Host, req.Key.Name, req.Key.Realm),
		shares: make(map[string]*share),
		index:  -1,
		ring:   NewRing(p.cfg.TicketLife).Restore(req.Restore, now),

		remembered: req.Salt,
	}
}

// step is one turn of a worker: whatever is due, in the order password, tickets,
// proof. After an outage that has outlived the tickets a password that is only looked
// at now and then comes last: the others wait for their first ticket.
func (a *account) step(ctx context.Context, shares []*share) outcome {
	a.reached, a.deaf, a.announced = false, false, ""
	if a.anew {
		a.unclock(shares)
	}
	patient := a.readCanWait(shares)
	var err error
	if !patient {
		err = a.readIfDue(ctx)
	}
	for _, s := range shares {
		if now := a.now(); now.Before(s.due()) && !(a.urgent && len(s.tickets) == 0) {
			continue
		}
		if e := a.refresh(ctx, s); e != nil {
			err = e
		}
	}
	if err == nil && a.reached {
		a.reported = ""
	}
	a.publish(shares)
	if patient && a.pool.crowded() {
		a.retryAt = later(a.retryAt, a.now().Add(proveLater+within(a.spread, proveOver)))
	} else if patient && err == nil {
		err = a.readIfDue(ctx)
	}
	crowded := a.unproven && a.pool.crowded()
	if !crowded {
		a.proveVersion(ctx, shares)
	}
	next := a.nextDue(shares)
	if crowded { // others wait for their first ticket
		next = earlier(next, a.now().Add(proveLater+within(a.spread, proveOver)))
	}
	a.foresee(next)
	return outcome{next: next, reached: a.reached, err: err}
}

// foresee tells the outlook.
func (a *account) foresee(next time.Time) {
	_, expires := a.ring.expiry()
	a.outlook.Store(&Outlook{Expires: expires, NextAction: next, Controller: a.last.Controller})
}

func (a *account) now() time.Time { return a.pool.cfg.Now() }

// unclock makes everything due that was planned by a clock which has jumped.
func (a *account) unclock(shares []*share) {
	a.anew = false
	a.ring = a.ring.Unclocked(a.now())
	a.retryAt, a.triedAt, a.freshAt, a.reportedAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	for _, s := range shares {
		s.refreshAt, s.retryAt, s.triedAt, s.goodUntil = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
}

// unpark lifts the pauses after failures: the domain answers again, or should be
// probed. No worker has the account.
func (a *account) unpark() {
	a.parked = false
	a.retryAt = time.Time{}
	for _, s := range a.shares {
		s.retryAt = time.Time{}
	}
}

// readIfDue reads the password if it is time.
func (a *account) readIfDue(ctx context.Context) error {
	now := a.now()
	plan := a.ring.NextRead(a.spread)
	if a.stale {
		plan = Plan{At: a.ring.last.Add(lookGap)}
	}
	due := later(plan.At, a.retryAt)
	if a.urgent && a.ring.last.IsZero() {
		due = earlier(due, a.triedAt.Add(demandPause))
	}
	if now.Before(due) {
		return nil
	}
	return a.read(ctx, plan.Avoid)
}

// readCanWait reports whether tickets have ended while nothing speaks against the keys
// that are there. Should somebody have changed them nevertheless, the KDC refuses one
// of them once, and the password is read then.
func (a *account) readCanWait(shares []*share) bool {
	now := a.now()
	return !a.stale && a.ring.Quiet(now) && slices.ContainsFunc(shares, func(s *share) bool {
		return len(s.tickets) > 0 && !now.Before(s.goodUntil)
	})
}

// read reads the password and folds it into the ring.
func (a *account) read(ctx context.Context, avoid []string) error {
	return a.reading(ctx, avoid, func(Reading) error { return nil })
}

// reading reads the password, folds it into the ring, and hands it to use before
// it is destroyed.
func (a *account) reading(ctx context.Context, avoid []string, use func(Reading) error) error {
	if a.deaf {
		return a.readErr
	}
	a.announceRefetch()
	rd, err := a.ask(ctx, avoid)
	a.triedAt = a.now()
	if err != nil {
		return a.readFailed(err)
	}
	defer rd.Blob.Destroy()
	if rd.Name == "" {
		rd.Name = a.key.Name
	}
	salt := a.recall(rd)
	announced := func() string { return salt }
	if salt == "" {
		salt = managedpassword.Salt(a.key.Realm, rd.Name)
		announced = a.askSalt(ctx, rd)
	}
	o, err := a.observation(rd, salt, a.triedAt)
	a.announced = announced()
	if err != nil {
		return a.readFailed(err)
	}
	ring, change := a.ring.Observe(o)
	a.ring, a.stale = ring, false
	a.failures, a.retryAt, a.readErr = 0, time.Time{}, nil
	if change&(NewPassword|NewInForce) != 0 {
		a.fetched(change, o)
	}
	a.unproven = a.unproven || change&(NewInForce|NewVersion) != 0
	err = use(rd)
	a.last = rd
	a.last.Blob = managedpassword.Blob{}
	return err
}

// recall is the salt that an earlier run learnt of the password in force, empty if
// there is none. Once a password was read, the ring knows better.
func (a *account) recall(rd Reading) string {
	if known := a.remembered; a.ring.last.IsZero() && rd.KVNO != 0 && rd.KVNO == known.KVNO {
		return known.Salt
	}
	return ""
}

// askSalt asks the controller for the account's salt while the keys of the first
// password are derived. The function that it returns waits for the answer, which
// is empty if there is none.
func (a *account) askSalt(ctx context.Context, rd Reading) func() string {
	s, ok := a.domain.(Salter)
	etypes := a.pool.cfg.shared(rd.EncTypes)
	if !ok || !a.ring.last.IsZero() || len(etypes) == 0 {
		return func() string { return "" }
	}
	client := krb5.Principal{Realm: a.key.Realm, Name: krb5.NewName(krb5.NamePrincipal, rd.Name)}
	answer := make(chan string, 1)
	go func() {
		salt, err := s.Salt(ctx, client, rd.Controller, etypes...)
		if err != nil {
			salt = ""
		}
		answer <- salt
	}()
	return func() string { return <-answer }
}

// ask reads the password from a controller. Where the directory withholds it,
// the host's groups may have changed: it is asked once more with a new ticket of
// the host, at most once a minute.
func (a *account) ask(ctx context.Context, avoid []string) (Reading, error) {
	rd, err := a.domain.ReadPassword(ctx, a.key.Name, ReadHint{Avoid: avoid})
	a.heard(err)
	if now := a.now(); errors.Is(err, ErrWithheld) && now.Sub(a.freshAt) >= freshPause {
		a.freshAt = now
		rd, err = a.domain.ReadPassword(ctx, a.key.Name, ReadHint{Avoid: avoid, FreshTicket: true})
		a.heard(err)
	}
	return rd, err
}

// heard notes whether a controller answered.
func (a *account) heard(err error) {
	if err == nil || definite(err) && !errors.Is(err, context.DeadlineExceeded) {
		a.reached = true
	}
}

// announceRefetch reports, once for each password, that it has expired and is
// read anew.
func (a *account) announceRefetch() {
	id := a.ring.inForceID()
	_, latest := a.ring.expiry()
	if latest.IsZero() || a.now().Before(latest) || a.refetched == id {
		return
	}
	a.refetched = id
	if a.pool.cfg.Events != nil {
		a.pool.cfg.Events.Refetching(a.key)
	}
}

func (a *account) fetched(change Change, o Observation) {
	a.pool.cfg.Log.Info("read the managed password", a.attrs(
		slog.String("controller", o.Controller), slog.Uint64("kvno", uint64(o.KVNO)),
		slog.Bool("rollover", change&NewInForce != 0), slog.Time("expires", o.Expires))...)
	if a.pool.cfg.Events != nil {
		a.pool.cfg.Events.Fetched(a.key)
	}
}

// readFailed backs off and reports, and returns its argument.
func (a *account) readFailed(err error) error {
	now := a.now()
	a.failures++
	a.readErr = err
	a.deaf = errors.Is(err, ErrNoController)
	last := backoffLast
	if a.ring.Urgent(now) && !errors.Is(err, ErrWithheld) {
		last = backoffUrgent
	}
	a.retryAt = now.Add(a.backoff(a.failures, last))
	a.failed(err)
	return err
}

// backoff is the pause after n failures in a row: it doubles up to last, and
// hosts spread over its second half.
func (a *account) backoff(n int, last time.Duration) time.Duration {
	pause := min(backoffFirst<<min(n-1, 10), last)
	return pause/2 + within(a.spread, pause/2)
}

// failed reports a failure if it is news.
func (a *account) failed(err error) {
	now := a.now()
	reason := err.Error()
	if e, ok := errors.AsType[*Error](err); ok {
		reason = e.Reason.Error()
	}
	if reason == a.reported && now.Sub(a.reportedAt) < repeatFailure || errors.Is(err, context.Canceled) {
		return
	}
	a.reported, a.reportedAt = reason, now
	a.pool.cfg.Log.Warn("cannot get credentials", a.attrs(slog.Any("error", err))...)
	if a.pool.cfg.Events != nil {
		a.pool.cfg.Events.Failed(a.key, err)
	}
}

func (a *account) attrs(more ...any) []any {
	return append([]any{slog.String("account", a.key.String())}, more...)
}

// publish makes new snapshots for the shares that differ from theirs.
func (a *account) publish(shares []*share) {
	now := a.now()
	initiator, ok := a.ring.InitiatorKeys(now)
	if !ok {
		return
	}
	a.foresee(a.nextDue(shares)) // before anybody hears of the snapshot
	acceptor := a.ring.AcceptorKeys()
	name := a.last.Name
	for _, s := range shares {
		s.publish(&Snapshot{
			Account:     a.key,
			Principal:   krb5.Principal{Realm: a.key.Realm, Name: krb5.NewName(krb5.NamePrincipal, name)},
			SID:         a.last.SID,
			DNSHostName: a.last.DNSHostName,
			SPNs:        a.last.SPNs,
			Credentials: s.tickets,
			Issuers:     s.issuers,
			Offset:      s.offset,
			Initiator:   initiator,
			Acceptor:    acceptor,
			Made:        now,
			GoodUntil:   s.goodUntil,
		})
	}
}

// nextDue is when the account needs a worker next.
func (a *account) nextDue(shares []*share) time.Time {
	plan := a.ring.NextRead(a.spread)
	if a.stale {
		plan.At = a.ring.last.Add(lookGap)
	}
	next := later(plan.At, a.retryAt)
	for _, s := range shares {
		next = earlier(next, s.due())
	}
	if t := a.ring.NextSwitch(a.now()); !t.IsZero() {
		next = earlier(next, t)
	}
	return next
}

// principal is the account's name as the last reading gave it.
func (a *account) principal() krb5.Principal {
	return krb5.Principal{Realm: a.key.Realm, Name: krb5.NewName(krb5.NamePrincipal, a.last.Name)}
}

// proveVersion asks for a ticket to the account itself and looks at its version
// and at which key opens it, once after every change: it is under this pair that
// the account's clients will come.
func (a *account) proveVersion(ctx context.Context, shares []*share) {
	i := slices.IndexFunc(shares, func(s *share) bool { return len(s.tickets) > 0 && a.now().Before(s.goodUntil) })
	if !a.unproven || i < 0 {
		return
	}
	cred, _, err := a.domain.ServiceTicket(ctx, shares[i].tickets[0], a.principal().Name)
	a.heard(err)
	if errors.Is(err, ErrNoController) {
		return // the next turn asks again
	}
	if errors.Is(err, ErrTicket) {
		// The ticket was changed on its way: another is asked for in some seconds.
		s := shares[i]
		s.refreshAt, s.retryAt, s.pressing, s.goodUntil = time.Time{}, a.now().Add(a.backoff(1, backoffLast)), true, time.Time{}
		a.failed(&Error{Reason: ErrAnswer, Controller: controllerOf(err, ""), Err: err})
		return
	}
	a.unproven = false
	if err != nil {
		a.pool.cfg.Log.Debug("no ticket to the account itself", a.attrs(slog.Any("error", err))...)
		return
	}
	t, err := krb5.ParseTicket(cred.Ticket)
	if err != nil {
		a.pool.cfg.Log.Warn("unreadable ticket", a.attrs(slog.Any("error", err))...)
		return
	}
	ring, explained := a.ring.Ticketed(t.EncPart.KVNO, a.opener(t), a.now())
	a.ring, a.stale = ring, !explained && t.EncPart.EType != crypto.RC4HMAC
	if a.stale {
		shares[i].refreshAt, shares[i].pressing = time.Time{}, true // the KDC tells its salt again
		a.pool.cfg.Log.Info("the KDC uses a key that is not known yet", a.attrs(slog.Uint64("kvno", uint64(t.EncPart.KVNO)))...)
	}
	a.publish(shares)
}
