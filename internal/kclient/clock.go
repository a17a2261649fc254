package kclient

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

const (
	// maxOffset is the largest clock offset that is ever taken.
	maxOffset = 24 * time.Hour
	// minOffset is the smallest that is worth taking: times in tickets have whole
	// seconds, and an answer may have been on its way for some.
	minOffset = 30 * time.Second
)

// clock is how far the realm's clock is ahead of ours.
//
// An offset enters it only from the encrypted part of a reply to a request with
// a fresh nonce: the KDC itself says what time it is. The time in a KRB-ERROR
// proves nothing. It is used for the one request that is then sent once more, so
// that a domain with a single controller works too, and forgotten unless that
// request's encrypted answer agrees. What someone gains who forges such an error
// is one encrypted timestamp of a time up to a day away, for a key that he does
// not have.
type clock struct {
	offset atomic.Int64 // nanoseconds
}

// Offset is how far the realm's clock is ahead of the local one, as an encrypted
// reply has proved it; 0 while they agree within 30 seconds. It is at most 24
// hours. A credential cache stores it, and who makes authenticators adds it.
func (c *Client) Offset() time.Duration { return time.Duration(c.clock.offset.Load()) }

// Now is the realm's time: the local clock and Offset.
func (c *Client) Now() time.Time { return c.cfg.Now().Add(c.Offset()) }

// suggested is the offset that a KRB-ERROR speaks of; it is an error if it would
// be too large.
func (c *Client) suggested(e *krb5.KRBError) (time.Duration, error) {
	if e.STime.IsZero() {
		return 0, e
	}
	d := e.ServerTime().Sub(c.cfg.Now())
	if d.Abs() > maxOffset {
		return 0, fmt.Errorf("%w; the controller's clock says %v, %v from ours, which is more than %v", e, e.STime, d.Round(time.Second), maxOffset)
	}
	return d, nil
}

// learn takes the time that an authenticated reply gives, as seen at the local
// time at.
func (c *Client) learn(kdcTime, at time.Time) {
	d := kdcTime.Sub(at)
	if (d - c.Offset()).Abs() < minOffset {
		return
	}
	if d.Abs() < minOffset {
		d = 0
	}
	c.clock.offset.Store(int64(d))
}
