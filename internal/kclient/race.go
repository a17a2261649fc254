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
func (c *Client) race(ctx context.Context, prefer string, try attempt) ([]byte, KDC, error) {
	kdcs, err := c.cfg.KDCs.KDCs(ctx)
	if err != nil {
		return nil, KDC{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	r := &racing{kdcs: preferred(kdcs, prefer), try: try, failed: c.cfg.KDCs.Failed, outcomes: make(chan outcome, len(kdcs))}
	return r.run(ctx, c.cfg.Timeout, c.cfg.HedgeAfter)
}

// preferred puts the controller of that name before the others.
func preferred(kdcs []KDC, host string) []KDC {
	i := slices.IndexFunc(kdcs, func(k KDC) bool { return host != "" && strings.EqualFold(k.Host, host) })
	if i <= 0 {
		return kdcs
	}
	return slices.Concat(kdcs[i:i+1], kdcs[:i], kdcs[i+1:])
}

// outcome is what one controller gave.
type outcome struct {
	i     int
	reply []byte
	err   error
}

// racing is the state of one race; its goroutines end before run returns.
type racing struct {
	kdcs     []KDC
	try      attempt
	failed   func(KDC)
	outcomes chan outcome
	wg       sync.WaitGroup
	started  int
	done     []int // indices of the controllers that failed
	errs     []error
}

func (r *racing) run(caller context.Context, timeout, hedgeAfter time.Duration) ([]byte, KDC, error) {
	ctx, cancel := context.WithTimeoutCause(caller, timeout, errNoAnswer)
	defer r.wg.Wait()
	defer cancel()
	hedge := time.NewTimer(hedgeAfter)
	defer hedge.Stop()
	r.start(ctx)
	for len(r.done) < r.started {
		select {
		case o := <-r.outcomes:
			if o.err == nil {
				r.overtaken(o.i)
				return o.reply, r.kdcs[o.i], nil
			}
			r.lost(o, caller.Err() == nil)
			r.start(ctx)
		case <-hedge.C:
			r.start(ctx)
		}
		hedge.Reset(hedgeAfter)
	}
	if caller.Err() != nil {
		return nil, KDC{}, fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(caller))
	}
	return nil, KDC{}, &unreachableError{r.errs}
}

// errNoAnswer is what an attempt ends with at the end of the time.
var errNoAnswer = errors.New("no answer in time")

// start asks the next controller, if there is one and time is left.
func (r *racing) start(ctx context.Context) {
	if r.started == len(r.kdcs) || ctx.Err() != nil {
		return
	}
	i := r.started
	r.started++
	r.wg.Go(func() {
		reply, err := r.try(ctx, r.kdcs[i])
		r.outcomes <- outcome{i, reply, err}
	})
}

// lost notes a failure; it is not the controller's fault if the caller gave up.
func (r *racing) lost(o outcome, itsFault bool) {
	r.done = append(r.done, o.i)
	r.errs = append(r.errs, fmt.Errorf("%v: %w", r.kdcs[o.i], o.err))
	if itsFault {
		r.failed(r.kdcs[o.i])
	}
}

// overtaken reports the controllers that were asked before the winner and are
// still silent.
func (r *racing) overtaken(winner int) {
	for i := range winner {
		finished := false
		for _, d := range r.done {
			finished = finished || d == i
		}
		if !finished {
			r.failed(r.kdcs[i])
		}
	}
}

// unreachableError lists what became of each controller.
type unreachableError struct{ errs []error }

func (e *unreachableError) Error() string {
	list := make([]string, len(e.errs))
	for i, err := range e.errs {
		list[i] = err.Error()
	}
	return ErrUnreachable.Error() + ": " + strings.Join(list, "; ")
}

func (e *unreachableError) Unwrap() []error { return append([]error{ErrUnreachable}, e.errs...) }
