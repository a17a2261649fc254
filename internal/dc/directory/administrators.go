package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// protectedGroups are the groups whose members, directly or by other groups, are
// administrators: [MS-ADTS] 3.1.1.6.1.1.
func (d *Directory) protectedGroups() []dtyp.SID {
	groups := []dtyp.SID{dtyp.BuiltinAdministrators, dtyp.BuiltinAccountOperators, dtyp.BuiltinServerOperators,
		dtyp.BuiltinPrintOperators, dtyp.BuiltinBackupOperators, dtyp.BuiltinReplicator}
	for _, rid := range []uint32{dtyp.RIDDomainAdmins, dtyp.RIDEnterpriseAdmins, dtyp.RIDSchemaAdmins, dtyp.RIDDomainControllers,
		dtyp.RIDReadOnlyDCs, dtyp.RIDKeyAdmins, dtyp.RIDEnterpriseKeyAdmins} {
		groups = append(groups, d.domain.SID.Child(rid))
	}
	return groups
}

// ProtectAdministrators gives every account and group that has become an administrator the
// descriptor of CN=AdminSDHolder, so that nobody who was entrusted with the place where it
// lies, or with users as such, can set its password ([MS-ADTS] 3.1.1.6.1.3). It is called
// once an hour, as in AD. Whoever is no administrator any more keeps the descriptor.
func (d *Directory) ProtectAdministrators(ctx context.Context) error {
	var due []dtyp.GUID
	err := d.View(ctx, func(r *Reader) (err error) { due, err = r.unprotected(); return err })
	for _, g := range due {
		if err != nil {
			break
		}
		var told []audit.Event
		err = d.Update(ctx, func(w *Writer) (err error) { told, err = w.protect(g); return err })
		if err == nil {
			for _, e := range told {
				d.record(Caller{Controller: true}, &change{event: e}, nil)
			}
		}
	}
	if err == nil && len(due) > 0 {
		err = d.Inherit(ctx)
	}
	if err != nil {
		return fmt.Errorf("protect administrators: %w", err)
	}
	return nil
}

// unprotected are the administrators that have another descriptor than they should.
func (r *Reader) unprotected() (due []dtyp.GUID, err error) {
	holder, err := r.adminSDHolder()
	if err != nil || holder == nil {
		return nil, err
	}
	seen := map[dtyp.GUID]bool{}
	for _, sid := range r.protectedGroups() {
		group, err := r.bySID(sid)
		if errors.Is(err, rows.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		members, err := r.Reachable(r.known.member, group, maxTransitive)
		if err != nil {
			return nil, err
		}
		for _, g := range append(members, group) {
			if seen[g] {
				continue
			}
			seen[g] = true
			e, err := r.Get(g)
			if err != nil {
				return nil, err
			}
			if !r.protectedBy(e, holder) {
				due = append(due, g)
			}
		}
	}
	return due, nil
}

// adminSDHolder is the descriptor that administrators have, nil in a domain that has no
// such object.
func (r *Reader) adminSDHolder() ([]byte, error) {
	g, err := r.Resolve(adproto.NewDN("CN", "AdminSDHolder", adproto.NewDN("CN", "System", r.domain.DN())))
	if errors.Is(err, rows.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := r.Get(g)
	if err != nil {
		return nil, err
	}
	return r.value(e, "nTSecurityDescriptor"), nil
}

// protectedBy reports whether an object needs no protection: it has it, is no account or
// group, or is another domain's.
func (r *Reader) protectedBy(e *rows.Entry, holder []byte) bool {
	has := bytes.Equal(r.value(e, "nTSecurityDescriptor"), holder) && string(r.value(e, "adminCount")) == "1"
	return has || r.sid(e).IsZero() || rows.Replica(e) || rows.Deleted(e)
}

// protect writes the descriptor of one administrator, and gives what the audit is to be
// told.
func (w *Writer) protect(g dtyp.GUID) (told []audit.Event, err error) {
	e, err := w.Get(g)
	if errors.Is(err, rows.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	holder, err := w.adminSDHolder()
	if err != nil || w.protectedBy(e, holder) {
		return nil, err
	}
	changed := e.Clone()
	w.set(changed, "nTSecurityDescriptor", holder)
	w.set(changed, "adminCount", []byte("1"))
	if err := w.Replace(changed); err != nil {
		return nil, err
	}
	dn, err := w.DN(e)
	if err != nil {
		return nil, err
	}
	event := audit.Event{Kind: audit.KindModify, Object: dn.String(), GUID: g, Attributes: []string{"nTSecurityDescriptor", "adminCount"}}
	told = append(told, event)
	class, err := w.classes(e)
	if err == nil && class.Has(classGMSA) {
		event.Kind = audit.KindReaders
		told = append(told, event)
	}
	return told, errors.Join(err, w.inheritLater(g))
}
