package ldapd

import (
	"context"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// operate carries out an operation that is answered by a result alone.
func (c *conn) operate(ctx context.Context, m ldapmsg.Message, o options) error {
	if c.caller.Anonymous() {
		return errAnonymous()
	}
	if m.Op == ldapmsg.OpCompareRequest {
		return c.compare(ctx, m)
	}
	if c.at.globalCatalog {
		return fail(unwillingToPerform, dsUnwilling, "the global catalog is read only")
	}
	switch m.Op {
	case ldapmsg.OpAddRequest:
		return c.add(ctx, m)
	case ldapmsg.OpModifyRequest:
		return c.modify(ctx, m, o)
	case ldapmsg.OpDelRequest:
		return c.s.cfg.Directory.Delete(ctx, c.caller, directory.DeleteRequest{DN: m.Delete(), Tree: o.tree})
	}
	return c.modifyDN(ctx, m)
}

// compare fails with the result that says whether the value is there: RFC 4511,
// Section 4.10.
func (c *conn) compare(ctx context.Context, m ldapmsg.Message) error {
	q, err := m.Compare()
	if err != nil {
		return malformed(err)
	}
	equal, err := c.s.cfg.Directory.Compare(ctx, c.caller, q.DN, q.Attribute, q.Value)
	switch {
	case err != nil:
		return err
	case equal:
		return fail(compareTrue, 0, "")
	}
	return fail(compareFalse, 0, "")
}

func (c *conn) add(ctx context.Context, m ldapmsg.Message) error {
	w, err := m.Add()
	if err != nil {
		return malformed(err)
	}
	q := directory.AddRequest{DN: w.DN, Attributes: make([]directory.Attribute, len(w.Attributes))}
	for i, a := range w.Attributes {
		q.Attributes[i] = directory.Attribute(a)
	}
	return c.s.cfg.Directory.Add(ctx, c.caller, q)
}

func (c *conn) modify(ctx context.Context, m ldapmsg.Message, o options) error {
	w, err := m.Modify()
	if err != nil {
		return malformed(err)
	}
	q := directory.ModifyRequest{DN: w.DN, Changes: make([]directory.Change, len(w.Changes)),
		Permissive: o.permissive, SDFlags: o.sdFlags, HasSDFlags: o.hasSDFlags}
	for i, ch := range w.Changes {
		q.Changes[i] = directory.Change{Op: directory.ChangeOp(ch.Op), Attribute: directory.Attribute(ch.Attribute)}
	}
	change := func() error { return c.s.cfg.Directory.Modify(ctx, c.caller, q) }
	if slices.ContainsFunc(q.Changes, c.isOldPassword) {
		return c.s.cfg.ChangePassword(ctx, q.DN, c.caller.From, change)
	}
	return change()
}

// isOldPassword reports whether a change is one half of a change of a password by
// whoever knows it: the old one, which is deleted ([MS-ADTS] 3.1.1.3.1.5.1).
func (c *conn) isOldPassword(ch directory.Change) bool {
	name, _, _ := strings.Cut(ch.Name, ";")
	a, ok := c.s.cfg.Directory.Schema().Attribute(name) // which has an OID too
	return ok && a.Name == "unicodePwd" && ch.Op == directory.ChangeDelete
}

func (c *conn) modifyDN(ctx context.Context, m ldapmsg.Message) error {
	w, err := m.ModifyDN()
	if err != nil {
		return malformed(err)
	}
	return c.s.cfg.Directory.ModifyDN(ctx, c.caller, directory.ModifyDNRequest{
		DN: w.DN, NewRDN: w.NewRDN, DeleteOldRDN: w.DeleteOldRDN, NewSuperior: w.NewSuperior,
	})
}
