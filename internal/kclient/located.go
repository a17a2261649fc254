package kclient

import (
	"context"
	"sync"

	"github.com/opengmsa/opengmsa/internal/locate"
)

// Located makes the controllers that a locator finds the KDCs of a client. An
// AS or TGS exchange needs no writable controller: locate.Any will do, unless
// what follows must go to the same one.
func Located(l *locate.Locator, need locate.Need) KDCs { return &located{locator: l, need: need} }

type located struct {
	locator *locate.Locator
	need    locate.Need

	mu   sync.Mutex
	last []locate.Controller // guarded by mu: what KDCs returned last
}

func (s *located) KDCs(ctx context.Context) ([]KDC, error) {
	controllers, err := s.locator.Controllers(ctx, s.need)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.last = controllers
	s.mu.Unlock()
	kdcs := make([]KDC, len(controllers))
	for i, c := range controllers {
		kdcs[i] = kdcOf(c)
	}
	return kdcs, nil
}

func kdcOf(c locate.Controller) KDC {
	return KDC{Host: c.Name, Kerberos: c.Endpoint(locate.Kerberos), Kpasswd: c.Endpoint(locate.Kpasswd)}
}

// Failed finds the controller again, which the locator wants to know.
func (s *located) Failed(k KDC) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	for _, c := range last {
		if kdcOf(c) == k {
			s.locator.Failed(c)
			return
		}
	}
}
