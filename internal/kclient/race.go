package kclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

// attempt asks one controller.
type attempt func(context.Context, KDC) ([]byte, error)

// send gives a request to whichever controller answers first, the preferred one
// before the others, and returns its answer.
func (c *Client) send(ctx context.Context, prefer string, request []byte) ([]byte, KDC, error) {
	return c.race(ctx, prefer, func(ctx context.Context, k KDC) ([]byte, error) { return c.ask(ctx, k, request) })
}

// ask is one attempt at one controller: by datagram if wanted, and over TCP if
// the answer is too big for that or none comes.
func (c *Client) ask(ctx context.Context, k KDC, request []byte) ([]byte, error) {
	if c.cfg.UDP && len(request) <= maxUDP {
		reply, err := c.udp(ctx, k.Kerberos, request)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil && errorCode(reply) != krb5.ErrResponseTooBig {
			return usable(reply)
		}
	}
	reply, err := c.tcp(ctx, k.Kerberos, request)
	if err != nil {
		return nil, err
	}
	return usable(reply)
}

// errorCode is the code of a KRB-ERROR, and 0 for anything else.
func errorCode(reply []byte) krb5.ErrorCode {
	if t, ok := krb5.TypeOf(reply); !ok || t != krb5.MsgError {
		return krb5.ErrNone
	}
	e, err := krb5.ParseKRBError(reply)
	if err != nil {
		return krb5.ErrNone
	}
	return e.Code
}

// usable tells a controller that cannot serve from one that can: another may
// know better.
func usable(reply []byte) ([]byte, error) {
	if code := errorCode(reply); code == krb5.ErrServiceUnavailable {
		return nil, code
	}
	return reply, nil
}

// race asks the controllers in their order. The next one is asked as soon as
// one fails, and beside those that are silent for HedgeAfter; the first answer
// counts. So a controller that refuses costs nothing, and a dead one HedgeAfter.
//
// A request may thus reach two controllers. That is safe for AS and TGS
// exchanges, which change nothing; a wrong password may be counted twice.
func (c *Client) race(caller context.Context, prefer string, try attempt) ([]byte, KDC, error) {
	kdcs, err := c.cfg.KDCs.KDCs(caller)
	if err != nil {
		return nil, KDC{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if len(kdcs) == 0 {
		return nil, KDC{}, fmt.Errorf("%w: none is known", ErrUnreachable)
	}
	kdcs = preferred(kdcs, prefer)
	ctx, cancel := context.WithTimeoutCause(caller, c.cfg.Timeout, errNoAnswer)
	r := &racing{cancel: cancel, kdcs: kdcs, try: try, hedgeAfter: c.cfg.HedgeAfter, winner: -1}
	r.run(ctx)
	switch {
	case r.winner >= 0:
		r.report(c.cfg.KDCs.Failed)
		return r.reply, kdcs[r.winner], nil
	case caller.Err() != nil:
		return nil, KDC{}, fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(caller))
	}
	r.report(c.cfg.KDCs.Failed)
	return nil, KDC{}, &unreachableError{kind: r.kind(), kdcs: kdcs, errs: r.errs}
}

// preferred puts the controller of that name before the others.
func preferred(kdcs []KDC, host string) []KDC {
	i := slices.IndexFunc(kdcs, func(k KDC) bool { return host != "" && strings.EqualFold(k.Host, host) })
	if i <= 0 {
		return kdcs
	}
	return slices.Concat(kdcs[i:i+1], kdcs[:i], kdcs[i+1:])
}

// errNoAnswer is what an attempt ends with at the end of the time.
var errNoAnswer = errors.New("no answer in time")

// racing is the state of one race. The first attempt runs in the caller's
// goroutine, so that the usual case costs no change of goroutine; the others run
// in their own, and end before run returns.
type racing struct {
	cancel     context.CancelFunc // decides the race
	kdcs       []KDC
	try        attempt
	hedgeAfter time.Duration
	wg         sync.WaitGroup

	mu sync.Mutex
	// All are guarded by mu.
	hedge   *time.Timer
	started int
	running int
	errs    []error // by controller; nil for one that has not failed
	winner  int     // index, or -1
	reply   []byte
}

func (r *racing) run(ctx context.Context) {
	defer r.cancel()
	r.mu.Lock()
	r.errs = make([]error, len(r.kdcs))
	r.started, r.running = 1, 1
	if len(r.kdcs) > 1 {
		r.hedge = time.AfterFunc(r.hedgeAfter, func() { r.late(ctx) })
	}
	r.mu.Unlock()
	r.ask(ctx, 0)
	r.wg.Wait()
}

// ask is the attempt at one controller, and what follows from its end.
func (r *racing) ask(ctx context.Context, i int) {
	reply, err := r.try(ctx, r.kdcs[i])
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.winner >= 0:
		// Too late, or stopped because another one won.
	case err == nil:
		r.winner, r.reply = i, reply
		r.cancel()
	default:
		r.errs[i] = err
		r.next(ctx)
	}
	r.running--
	if r.hedge != nil && (r.winner >= 0 || r.running == 0) {
		r.hedge.Stop()
	}
}

// late is called when nobody has answered for hedgeAfter.
func (r *racing) late(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running > 0 {
		r.next(ctx)
	}
}

// next starts the next attempt, if one is left; r.mu is held, and an attempt
// still counts as running, so that run waits.
func (r *racing) next(ctx context.Context) {
	if r.winner >= 0 || r.started == len(r.kdcs) || ctx.Err() != nil {
		return
	}
	i := r.started
	r.started++
	r.running++
	r.wg.Go(func() { r.ask(ctx, i) })
	r.hedge.Reset(r.hedgeAfter)
}

// report tells of the controllers that failed, or were asked before the winner
// and are still silent.
func (r *racing) report(failed func(KDC)) {
	for i, k := range r.kdcs[:r.started] {
		if r.errs[i] != nil || i < r.winner {
			failed(k)
		}
	}
}

// kind is what the failures of all controllers come to: if only malformed
// answers came, there is somebody who answers.
func (r *racing) kind() error {
	malformed := 0
	for _, err := range r.errs {
		switch {
		case errors.Is(err, errFraming):
			malformed++
		case err != nil:
			return ErrUnreachable
		}
	}
	if malformed > 0 {
		return ErrReply
	}
	return ErrUnreachable
}

// unreachableError lists what became of each controller.
type unreachableError struct {
	kind error // ErrUnreachable or ErrReply
	kdcs []KDC
	errs []error // by controller; nil for one that was not asked
}

func (e *unreachableError) Error() string {
	var list []string
	for i, err := range e.errs {
		if err != nil {
			list = append(list, fmt.Sprintf("%v: %v", e.kdcs[i], err))
		}
	}
	return e.kind.Error() + ": " + strings.Join(list, "; ")
}

func (e *unreachableError) Unwrap() []error {
	out := []error{e.kind}
	for _, err := range e.errs {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}
