package locate

import (
	"context"
	"fmt"
	"net"
	"time"
)

// hedgeDelay is how long one controller may take to accept a connection before
// the next one is tried beside it (RFC 8305, Section 5 has 250 ms for the
// addresses of one host).
const hedgeDelay = 250 * time.Millisecond

// Dial connects to the first of the controllers that accepts, in their order,
// starting the next one whenever one fails or is slower than 250 ms. So a dead
// controller costs a quarter of a second, a refusing one nothing. Controllers
// that failed, or that were overtaken, are set aside.
func (l *Locator) Dial(ctx context.Context, s Service, controllers []Controller) (net.Conn, Controller, error) {
	if len(controllers) == 0 {
		return nil, Controller{}, &NoControllerError{Domain: l.cfg.Domain}
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &dialRace{l: l, service: s, controllers: controllers, results: make(chan dialResult)}
	defer r.drain()
	defer cancel()
	hedge := time.NewTimer(hedgeDelay)
	defer hedge.Stop()
	r.start(ctx)
	for {
		select {
		case res := <-r.results:
			r.running--
			if res.err == nil {
				r.setSlowAside(res.i)
				return res.conn, controllers[res.i], nil
			}
			r.failed(ctx, res)
			if !r.start(ctx) && r.running == 0 {
				return nil, Controller{}, &NoControllerError{Domain: l.cfg.Domain, Causes: r.errs}
			}
			hedge.Reset(hedgeDelay)
		case <-hedge.C:
			if r.start(ctx) {
				hedge.Reset(hedgeDelay)
			}
		case <-ctx.Done():
			return nil, Controller{}, context.Cause(ctx)
		}
	}
}

type dialResult struct {
	i    int
	conn net.Conn
	err  error
}

// dialRace is the state of one Dial; only that goroutine touches it.
type dialRace struct {
	l           *Locator
	service     Service
	controllers []Controller
	results     chan dialResult
	started     int // attempts, in the order of controllers
	running     int
	errs        []error
}

// start begins the next attempt, if there is one left.
func (r *dialRace) start(ctx context.Context) bool {
	if r.started == len(r.controllers) {
		return false
	}
	i := r.started
	r.started, r.running = r.started+1, r.running+1
	go func() {
		conn, err := r.l.cfg.Dial(ctx, "tcp", r.controllers[i].Endpoint(r.service))
		r.results <- dialResult{i, conn, err}
	}()
	return true
}

func (r *dialRace) failed(ctx context.Context, res dialResult) {
	if ctx.Err() == nil {
		r.l.Failed(r.controllers[res.i])
	}
	r.errs = append(r.errs, fmt.Errorf("%v: %w", r.controllers[res.i], res.err))
}

// setSlowAside sets aside those that began before the winner and have not
// answered: they had at least hedgeDelay more.
func (r *dialRace) setSlowAside(winner int) {
	for i := range winner {
		r.l.Failed(r.controllers[i])
	}
}

// drain waits for the attempts that lost, whose context has ended, and closes
// what they opened.
func (r *dialRace) drain() {
	for ; r.running > 0; r.running-- {
		if res := <-r.results; res.conn != nil {
			_ = res.conn.Close()
		}
	}
}
