package dc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/control"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// Status is how a controller is.
type Status struct {
	Domain directory.Domain `json:"domain"`
	// Running says whether it serves; the next three fields are set if it does.
	Running   bool         `json:"running"`
	PID       int          `json:"pid,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     Ports        `json:"ports,omitzero"`
	// Started is when it was opened.
	Started time.Time `json:"started"`
	// Time is its clock.
	Time time.Time `json:"time"`
	// USN is the highest update sequence number.
	USN      uint64    `json:"usn"`
	RootKeys []RootKey `json:"rootKeys"`
	// CAExpires is when the certificate authority of the domain ends.
	CAExpires time.Time `json:"caExpires"`
}

// RootKey is a KDS root key as a status tells it.
type RootKey struct {
	ID       dtyp.GUID `json:"id"`
	Created  time.Time `json:"created"`
	UseStart time.Time `json:"useStart"`
}

// Status tells how the controller is.
func (c *Controller) Status(ctx context.Context) (Status, error) {
	s := Status{Domain: c.directory.Domain(), Started: c.started, Time: c.cfg.Now(), RootKeys: []RootKey{}, CAExpires: c.authority.Expires()}
	if sockets := c.sockets.Load(); sockets != nil {
		s.Running, s.PID, s.Addresses, s.Ports = true, os.Getpid(), sockets.Addresses, sockets.Ports
	}
	for _, k := range c.directory.Ring().Keys() {
		s.RootKeys = append(s.RootKeys, RootKey{ID: k.ID, Created: k.Created.Time(), UseStart: k.UseStart.Time()})
	}
	err := c.directory.View(ctx, func(r *directory.Reader) error { s.USN = r.HighestUSN(); return nil })
	return s, err
}

// The methods of the control socket.
const (
	methodStatus = "status"
	methodExport = "export-keytab"
	methodRotate = "rotate-keys"
)

// handle answers the control socket.
func (c *Controller) handle(ctx context.Context, r control.Request) (any, error) {
	switch r.Method {
	case methodStatus:
		return c.Status(ctx)
	case methodExport:
		var principals []string
		if err := json.Unmarshal(r.Params, &principals); err != nil {
			return nil, fmt.Errorf("%s: %w", methodExport, err)
		}
		s, err := c.ExportKeytab(ctx, principals)
		return s.Reveal(), err
	case methodRotate:
		return c.rotateKeys(ctx, r.Params)
	}
	return nil, fmt.Errorf("no method %q", r.Method)
}

// call asks the running controller, and ok is false if none runs.
func (d Data) call(ctx context.Context, method string, params, result any) (ok bool, err error) {
	if err := d.check(); err != nil {
		return false, err
	}
	err = control.Call(ctx, d.path(controlFile), method, params, result)
	if errors.Is(err, control.ErrUnreachable) {
		return false, ctx.Err()
	}
	return true, err
}

// Status tells how the controller of the data directory is, whether it runs or not.
func (d Data) Status(ctx context.Context, cfg Config) (s Status, err error) {
	if ok, err := d.call(ctx, methodStatus, nil, &s); ok || err != nil {
		return s, err
	}
	err = d.with(ctx, cfg, func(c *Controller) error {
		s, err = c.Status(ctx)
		return err
	})
	return s, err
}

// with opens the controller of the data directory, which does not run, for as long as fn
// does.
func (d Data) with(ctx context.Context, cfg Config, fn func(*Controller) error) error {
	c, err := d.Open(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(fn(c), c.Close())
}
