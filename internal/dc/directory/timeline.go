package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/secret"
)

// ringOf is the root keys as this transaction sees them, so that no timeline is given
// a key that goes at the same time.
func (w *Writer) ringOf() (*kds.Ring, error) {
	keys, err := w.RootKeys()
	if err != nil {
		return nil, err
	}
	return kds.NewRing(w.cache, keys...), nil
}

func (w *Writer) setTimeline(g dtyp.GUID, t kds.Timeline) error {
	return w.SetPrivate(g, PrivateTimeline, secret.New(t.Append(nil)))
}

// createTimeline begins the passwords of a new gMSA.
func (d *draft) createTimeline() error {
	days, ok := d.number(d.e, "msDS-ManagedPasswordInterval")
	if !ok {
		return constraint("msDS-ManagedPasswordInterval is missing")
	}
	ring, err := d.ringOf()
	if err != nil {
		return err
	}
	t, err := kds.Create(ring, d.now, days, d.salt())
	if err != nil {
		return timelineError(err)
	}
	return d.setTimeline(d.e.GUID, t)
}

// timelineError is the result of an error of package kds. That no root key serves yet
// is what AD says in the code that its tools look for.
func timelineError(err error) error {
	switch {
	case errors.Is(err, gkdi.ErrNoRootKey):
		return &Error{Code: NoSuchObject, Win32: Win32NoKey, Message: "no KDS root key can be used yet", Err: err}
	case errors.Is(err, kds.ErrInterval):
		return &Error{Code: ConstraintViolation, Win32: Win32Constraint, Message: "msDS-ManagedPasswordInterval is out of range", Err: err}
	}
	return err
}

// renameSalt gives a gMSA whose sAMAccountName changed the salt of its new name, from
// the next password on.
func (d *draft) renameSalt(name string) error {
	if d.old == nil || !d.isGMSA() {
		return nil
	}
	t, err := d.Timeline(d.e.GUID)
	if err != nil {
		return fmt.Errorf("timeline of %s: %w", name, err)
	}
	if t, err = t.Rename(d.now, d.salt()); err != nil {
		return timelineError(err)
	}
	return d.setTimeline(d.e.GUID, t)
}

// settleReaders notes that who may read a gMSA's password was changed.
func (d *draft) settleReaders() error {
	if d.changed("msDS-GroupMSAMembership") {
		d.noteReaders()
	}
	return nil
}

// noteReaders lets the audit be told, once in an operation, that who may read a gMSA's
// password was changed or can be by whom they could not before: by the attribute itself,
// the owner or the list of the object. It counts as reading the password.
func (d *draft) noteReaders() {
	if d.isGMSA() && !slices.Contains(d.kinds, audit.KindReaders) {
		d.kinds = append(d.kinds, audit.KindReaders)
	}
}

// rotate ends the password of a gMSA that is in force.
func (d *draft) rotate() error {
	t, err := d.Timeline(d.e.GUID)
	if errors.Is(err, rows.ErrNotFound) {
		return unwilling("the object is no gMSA")
	}
	if err != nil {
		return err
	}
	ring, err := d.ringOf()
	if err != nil {
		return err
	}
	if t, err = t.Rotate(ring, d.now); err != nil {
		return timelineError(err)
	}
	return d.setTimeline(d.e.GUID, t)
}

// Rotate ends the password of a gMSA early: another follows within 10 h and 10 min, see
// kds.Timeline.Rotate. It takes the right to write pwdLastSet, and is what replacing
// that attribute by 0 does over LDAP.
func (d *Directory) Rotate(ctx context.Context, c Caller, object dtyp.GUID) error {
	event := audit.Event{Kind: audit.KindRotate, GUID: object, Attributes: []string{"pwdLastSet"}}
	return d.perform(ctx, c, event, func(ch *change) error {
		m, err := ch.loadGUID(object)
		if err != nil {
			return err
		}
		if err := m.mayWrite(m.mustAttribute("pwdLastSet")); err != nil {
			return err
		}
		m.setNumber("pwdLastSet", int64(m.now))
		if err := m.rotate(); err != nil {
			return err
		}
		return m.write()
	})
}

// RefreshTimelines gives every gMSA's timeline the entry that a new root key asks for.
// It is called once an hour: each account must be seen once in each of its periods, the
// shortest of which lasts 10 h. An account at a time is changed, and only where there is
// something to change; what is wrong with one keeps no other from its own.
func (d *Directory) RefreshTimelines(ctx context.Context) error {
	var due []dtyp.GUID
	var failed error
	err := d.View(ctx, func(r *Reader) error {
		accounts, err := collect(r.Find(r.known.objectClass, []byte(classGMSA)))
		for _, g := range accounts {
			_, changed, err := r.refreshed(g, d.Ring())
			failed = errors.Join(failed, err)
			if changed {
				due = append(due, g)
			}
		}
		return err
	})
	for _, g := range due {
		failed = errors.Join(failed, d.Update(ctx, func(w *Writer) error { return w.refresh(g) }))
	}
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("refresh timelines: %w", err)
	}
	return nil
}

// refresh gives one timeline what it needs now.
func (w *Writer) refresh(g dtyp.GUID) error {
	ring, err := w.ringOf()
	if err != nil {
		return err
	}
	t, changed, err := w.refreshed(g, ring)
	if err != nil || !changed {
		return err
	}
	return w.setTimeline(g, t)
}

// refreshed is the timeline of an object with what root keys ask for now. An object
// without one, such as a tombstone, and a domain without a usable key need nothing.
func (r *Reader) refreshed(g dtyp.GUID, ring *kds.Ring) (t kds.Timeline, changed bool, err error) {
	if t, err = r.Timeline(g); err == nil {
		t, changed, err = t.Refresh(ring, dtyp.FiletimeOf(r.cfg.Now()))
	}
	if errors.Is(err, rows.ErrNotFound) || errors.Is(err, gkdi.ErrNoRootKey) {
		return t, false, nil
	}
	if err != nil {
		err = fmt.Errorf("timeline of %s: %w", g, err)
	}
	return t, changed, err
}
