package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

const spnAttr = "servicePrincipalName"

// checkSPNs refuses names that are malformed or that another account of the forest
// has; owner is who may have them.
func (d *desk) checkSPNs(ctx context.Context, owner string, names []string) error {
	if err := wellFormed(names); err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	any := make([]adproto.Filter, len(names))
	for i, n := range names {
		any[i] = adproto.Equal(spnAttr, n)
	}
	found, err := d.forest(ctx, adproto.Or(any...), spnAttr)
	if err != nil {
		return err
	}
	for _, e := range found {
		if strings.EqualFold(e.DN, owner) {
			continue
		}
		for _, v := range e.GetEqualFoldAttributeValues(spnAttr) {
			if i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, v) }); i >= 0 {
				return &TakenError{"the service principal name", names[i], e.DN}
			}
		}
	}
	return nil
}

// whySPNs explains a constraint violation by a name that another account has under
// an alias: host/X stands for http/X, cifs/X and others (sPNMappings, [MS-ADTS]
// 3.1.1.5.1.3), so that controllers refuse one where another account has the other.
func (d *desk) whySPNs(ctx context.Context, err error, owner string, names []string) error {
	e, ok := errors.AsType[*ldapc.Error](err)
	if !ok || e.Code != ldap.LDAPResultConstraintViolation {
		return err
	}
	for _, n := range names {
		_, rest, _ := strings.Cut(n, "/")
		f := adproto.Filter{Kind: adproto.FilterSubstrings, Attr: spnAttr, Final: []byte("/" + rest)}
		found, searchErr := d.forest(ctx, f, spnAttr)
		if searchErr != nil {
			return err
		}
		for _, e := range found {
			if strings.EqualFold(e.DN, owner) {
				continue
			}
			return fmt.Errorf("%w: %w", &TakenError{"an alias of the service principal name", n, e.DN}, err)
		}
	}
	return err
}

// AddSPNs gives an account service principal names that must be free in the whole
// forest, and returns those that it did not have.
func (s *Session) AddSPNs(ctx context.Context, account string, names ...string) (Account, []string, error) {
	return s.changeSPNs(ctx, AddValues, account, names)
}

// RemoveSPNs takes service principal names from an account, and returns those that
// it had.
func (s *Session) RemoveSPNs(ctx context.Context, account string, names ...string) (Account, []string, error) {
	return s.changeSPNs(ctx, RemoveValues, account, names)
}

func (s *Session) changeSPNs(ctx context.Context, op ChangeOp, account string, names []string) (Account, []string, error) {
	var a Account
	var changed []string
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		if a, err = d.account(ctx, account, KindGMSA, KindSMSA, KindComputer, KindUser); err != nil {
			return err
		}
		for _, n := range names {
			i := slices.IndexFunc(a.SPNs, func(have string) bool { return strings.EqualFold(have, n) })
			switch {
			case op == AddValues && i < 0:
				changed = append(changed, n)
			case op == RemoveValues && i >= 0:
				changed = append(changed, a.SPNs[i]) // as the directory spells it
			}
		}
		if op == AddValues {
			if err := d.checkSPNs(ctx, a.DN, changed); err != nil {
				return err
			}
		}
		if len(changed) == 0 {
			return nil
		}
		if err := denied(d.modify(ctx, a.DN, []Change{{op, spnAttr, changed}}), "write "+spnAttr, a.DN); err != nil {
			return d.whySPNs(ctx, err, a.DN, changed)
		}
		dn := a.DN
		a, err = d.account(ctx, dn)
		return stands(err, dn, "changed")
	})
	return a, changed, err
}

// DuplicateSPN is a service principal name that several accounts have: none of them
// can be reached by it.
type DuplicateSPN struct {
	SPN    string
	Owners []string // distinguished names
}

// DuplicateSPNs searches the forest, in pages, and holds one short string for each
// name.
func (s *Session) DuplicateSPNs(ctx context.Context) ([]DuplicateSPN, error) {
	var list []DuplicateSPN
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		entries, err := d.forest(ctx, adproto.Present(spnAttr), spnAttr)
		if err != nil {
			return fmt.Errorf("service principal names of the forest: %w", err)
		}
		list = duplicates(entries)
		return nil
	})
	return list, err
}

// duplicates finds the names that more than one entry has.
func duplicates(entries []*ldap.Entry) []DuplicateSPN {
	first := make(map[string]string, 2*len(entries))
	twice := map[string]*DuplicateSPN{}
	for _, e := range entries {
		for _, v := range e.GetEqualFoldAttributeValues(spnAttr) {
			key := strings.ToLower(v)
			if p, err := adproto.ParseSPN(v); err == nil {
				key = p.Normal().String()
			}
			owner, seen := first[key]
			switch {
			case !seen:
				first[key] = e.DN
			case twice[key] != nil:
				if !slices.Contains(twice[key].Owners, e.DN) {
					twice[key].Owners = append(twice[key].Owners, e.DN)
				}
			case owner != e.DN:
				twice[key] = &DuplicateSPN{v, []string{owner, e.DN}}
			}
		}
	}
	var list []DuplicateSPN
	for _, x := range twice {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(a, b DuplicateSPN) int { return strings.Compare(strings.ToLower(a.SPN), strings.ToLower(b.SPN)) })
	return list
}
