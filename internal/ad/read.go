package ad

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Hint says which controllers a read should ask first or last. Both are wishes:
// the others are asked where those do not answer.
type Hint struct {
	// Prefer is the name of the controller to ask first.
	Prefer string
	// Avoid names controllers that are asked last, such as the one whose answer
	// turned out to be stale.
	Avoid []string
}

// controllers lists whom to ask, best first.
func (s *Session) controllers(ctx context.Context, need locate.Need, h Hint) ([]locate.Controller, error) {
	list, err := s.d.locator.Controllers(ctx, need)
	if err != nil {
		return nil, err
	}
	rank := func(c locate.Controller) int {
		switch {
		case slices.Contains(h.Avoid, c.Name):
			return 2
		case c.Name == h.Prefer:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b locate.Controller) int { return rank(a) - rank(b) })
	return list, nil
}

// readFunc asks one controller something that changes nothing, so that it may
// be asked of several.
type readFunc[T any] func(ctx context.Context, conn *ldapc.Conn, c locate.Controller) (T, error)

// read asks the controllers in their order until one answers: the next one when
// one fails, and beside it when one is slow. So a read survives the death of a
// controller at any moment, within Config.HedgeAfter and the time that the next
// one takes. An answer that is a refusal is an answer.
func read[T any](ctx context.Context, s *Session, need locate.Need, h Hint, ask readFunc[T]) (T, error) {
	var zero T
	list, err := s.controllers(ctx, need, h)
	if err != nil {
		return zero, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &readRace[T]{s: s, list: list, ask: ask, results: make(chan readResult[T])}
	defer r.drain()
	defer cancel()
	hedge := time.NewTimer(s.d.cfg.HedgeAfter)
	defer hedge.Stop()
	r.start(ctx)
	for {
		select {
		case res := <-r.results:
			r.running--
			if res.err == nil || !res.elsewhere {
				r.overtake(res.i)
				return res.value, res.err
			}
			r.failed(ctx, res)
			if !r.start(ctx) && r.running == 0 {
				return zero, r.error(s.d.Name(), need)
			}
			hedge.Reset(s.d.cfg.HedgeAfter)
		case <-hedge.C:
			slow := r.started - 1
			if r.start(ctx) {
				// The tickets for the next one should not wait for this one too.
				s.d.locator.Failed(list[slow])
				hedge.Reset(s.d.cfg.HedgeAfter)
			}
		case <-ctx.Done():
			return zero, context.Cause(ctx)
		}
	}
}

type readResult[T any] struct {
	i         int
	value     T
	err       error
	elsewhere bool // another controller may do better
}

// readRace is the state of one read; only its goroutine touches it.
type readRace[T any] struct {
	s       *Session
	list    []locate.Controller
	ask     readFunc[T]
	results chan readResult[T]
	started int
	running int
	over    []int // attempts that failed
	errs    []error
}

func (r *readRace[T]) start(ctx context.Context) bool {
	if r.started == len(r.list) {
		return false
	}
	i := r.started
	r.started, r.running = r.started+1, r.running+1
	go func() {
		res := r.attempt(ctx, r.list[i])
		res.i = i
		r.results <- res
	}()
	return true
}

// attempt asks one controller. A kept connection that turns out to be dead is
// replaced once: controllers close idle ones.
func (r *readRace[T]) attempt(ctx context.Context, c locate.Controller) readResult[T] {
	for {
		conn, kept, err := r.s.conn(ctx, c)
		if err != nil {
			return readResult[T]{err: err, elsewhere: !errors.Is(err, ErrIdentity) && !errors.Is(err, errClosed)}
		}
		value, err := r.ask(ctx, conn.Conn, c)
		lost := !conn.Alive()
		r.s.release(conn)
		if !unanswered(err) || ctx.Err() != nil {
			return readResult[T]{value: value, err: err}
		}
		r.s.drop(c)
		if !kept || !lost {
			return readResult[T]{err: err, elsewhere: true}
		}
	}
}

// unanswered reports whether err is not the directory's answer, but the lack of
// one, or its wish to be left alone.
func unanswered(err error) bool {
	if e, ok := errors.AsType[*ldapc.Error](err); ok {
		return e.Temporary()
	}
	return errors.Is(err, ldapc.ErrConnection)
}

// silent reports whether err says that a controller cannot be reached.
func silent(err error) bool {
	_, isNet := errors.AsType[net.Error](err)
	return isNet || errors.Is(err, ldapc.ErrConnection) || errors.Is(err, locate.ErrNoController)
}

func (r *readRace[T]) failed(ctx context.Context, res readResult[T]) {
	if ctx.Err() == nil && silent(res.err) {
		r.s.d.locator.Failed(r.list[res.i])
	}
	r.over = append(r.over, res.i)
	r.errs = append(r.errs, fmt.Errorf("%v: %w", r.list[res.i], res.err))
}

// overtake sets aside the controllers that were asked before the winner and are
// still silent, and drops their connections.
func (r *readRace[T]) overtake(winner int) {
	for i := range winner {
		if !slices.Contains(r.over, i) {
			r.s.d.locator.Failed(r.list[i])
			r.s.drop(r.list[i])
		}
	}
}

func (r *readRace[T]) error(domain string, need locate.Need) error {
	if len(r.errs) == 1 {
		return r.errs[0]
	}
	return &locate.NoControllerError{Domain: domain, Need: need, Causes: r.errs}
}

// drain waits for the attempts that lost; their context has ended.
func (r *readRace[T]) drain() {
	for ; r.running > 0; r.running-- {
		<-r.results
	}
}
