package account

import "time"

// Travel changes the clock of the pool by fn, as if the time between had passed
// in sleep: to the pool it has not jumped.
func (p *Pool) Travel(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	p.wall = time.Time{}
}

// Idle wakes the pool and reports whether nothing is due.
func (p *Pool) Idle() bool {
	p.poke()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.working == 0 && len(p.queue) > 0 && p.queue[0].due.After(p.cfg.Now())
}

// Expiry is when the password in force ends, of an idle account.
func (h *Handle) Expiry() time.Time {
	earliest, _ := h.share.account.ring.expiry()
	return earliest
}
