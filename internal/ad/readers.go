package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/secdesc"
)

const readersAttr = "msDS-GroupMSAMembership"

// Reader is who may retrieve a gMSA's password by an entry of its own.
type Reader struct {
	SID dtyp.SID
	// Object is whose SID it is; nil where the domain does not know it.
	Object *Object
	// Hosts are the computers in a group, through groups in it too.
	Hosts []Object
}

// Readers resolves who may retrieve the password of a gMSA.
func (s *Session) Readers(ctx context.Context, a Account) ([]Reader, error) {
	if a.MSA == nil || a.MSA.Readers == nil {
		return nil, nil
	}
	var list []Reader
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		list, err = d.readers(ctx, a.MSA.Readers.Trustees(secdesc.ReadManagedPassword))
		return err
	})
	return list, err
}

func (d *desk) readers(ctx context.Context, sids []dtyp.SID) ([]Reader, error) {
	var list []Reader
	for _, sid := range sids {
		r := Reader{SID: sid}
		o, err := d.lookup(ctx, sid.String())
		switch {
		case err == nil:
			r.Object = &o
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
		if err == nil && o.Kind == KindGroup {
			members, err := d.members(ctx, o.DN, true)
			if err != nil {
				return nil, err
			}
			r.Hosts = slices.DeleteFunc(members, func(m Object) bool { return m.Kind != KindComputer })
		}
		list = append(list, r)
	}
	return list, nil
}

// AddReaders lets principals retrieve the password of a gMSA, and returns those
// that could not before.
func (s *Session) AddReaders(ctx context.Context, account string, principals ...string) (Account, []dtyp.SID, error) {
	return s.editReaders(ctx, account, principals, func(l *secdesc.ACL, sid dtyp.SID) bool {
		return l.Allow(sid, secdesc.ReadManagedPassword)
	})
}

// RemoveReaders takes that from principals, and returns those that had it. Who is
// in a group that has it keeps it.
func (s *Session) RemoveReaders(ctx context.Context, account string, principals ...string) (Account, []dtyp.SID, error) {
	return s.editReaders(ctx, account, principals, func(l *secdesc.ACL, sid dtyp.SID) bool {
		return l.Revoke(sid, secdesc.ReadManagedPassword)
	})
}

// editReaders changes the entries of some principals in the descriptor and leaves
// all others in their place, those too that another administrator writes meanwhile.
func (s *Session) editReaders(ctx context.Context, account string, principals []string, edit func(*secdesc.ACL, dtyp.SID) bool) (Account, []dtyp.SID, error) {
	var a Account
	var changed []dtyp.SID
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		sids, err := d.sids(ctx, principals)
		if err != nil {
			return err
		}
		return unlessChanged(ctx, func() (err error) {
			a, changed, err = d.editReadersOnce(ctx, account, sids, edit)
			return err
		})
	})
	return a, changed, err
}

// editReadersOnce fails with a conflict when somebody else was faster.
func (d *desk) editReadersOnce(ctx context.Context, account string, sids []dtyp.SID, edit func(*secdesc.ACL, dtyp.SID) bool) (Account, []dtyp.SID, error) {
	a, err := d.serviceAccount(ctx, account)
	if err != nil {
		return a, nil, err
	}
	if a.Kind != KindGMSA {
		return a, nil, fmt.Errorf("%s is a %v: %w", a.DN, a.Kind, ErrNotGMSA)
	}
	sd := editable(a.MSA.Readers)
	changed := slices.DeleteFunc(slices.Clone(sids), func(sid dtyp.SID) bool { return !edit(sd.DACL, sid) })
	if len(changed) == 0 {
		return a, nil, nil
	}
	w, err := swapReaders(a, sd)
	if err != nil {
		return a, nil, err
	}
	if err := denied(d.swap(ctx, a.DN, w), "write "+readersAttr, a.DN); err != nil {
		return a, nil, err
	}
	dn := a.DN
	a, err = d.account(ctx, dn)
	return a, changed, stands(err, dn, "changed")
}

// editable is the descriptor, or a new one, with a list to edit.
func editable(sd *secdesc.SecurityDescriptor) *secdesc.SecurityDescriptor {
	if sd == nil {
		fresh := secdesc.GroupMSAMembership()
		return &fresh
	}
	if sd.DACL == nil {
		// Nobody meant to let everybody read the password; who edits the list says
		// who may.
		sd.DACL = &secdesc.ACL{Revision: secdesc.RevisionDS}
	}
	return sd
}

// swapReaders puts a descriptor in the place of the one that was read.
func swapReaders(a Account, sd *secdesc.SecurityDescriptor) (swap, error) {
	b, err := sd.Append(nil)
	return swap{attr: readersAttr, old: a.MSA.readers, value: string(b)}, err
}

// replaceReaders is the swap after which the principals, and of those that are granted
// it by an entry of their own only they, may retrieve the password.
func (d *desk) replaceReaders(ctx context.Context, a Account, principals []string) (swap, error) {
	if a.Kind != KindGMSA {
		return swap{}, fmt.Errorf("%s is a %v: %w", a.DN, a.Kind, ErrNotGMSA)
	}
	sids, err := d.sids(ctx, principals)
	if err != nil {
		return swap{}, err
	}
	sd := editable(a.MSA.Readers)
	SetTrustees(sd.DACL, secdesc.ReadManagedPassword, sids)
	return swapReaders(a, sd)
}

// SetTrustees makes want, and nobody else, the ones whom the list grants the right
// by entries of their own. Entries that deny, are inherited, or grant something
// else stay where they are.
func SetTrustees(l *secdesc.ACL, right secdesc.Mask, want []dtyp.SID) {
	var have []dtyp.SID
	for _, e := range l.ACEs {
		if e.Type.IsAllow() {
			have = append(have, e.SID)
		}
	}
	for _, sid := range have {
		if !slices.Contains(want, sid) {
			l.Revoke(sid, right)
		}
	}
	for _, sid := range want {
		l.Allow(sid, right)
	}
}
