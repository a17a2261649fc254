package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Group is a group of the directory.
type Group struct {
	Object
	CN          string
	Type        adproto.GroupType
	Description string
}

var groupAttrs = append([]string{"cn", "groupType", "description"}, objectAttrs...)

// NewGroup describes a group to make.
type NewGroup struct {
	Name        string // the object's name
	SAM         string // sAMAccountName; empty means Name
	Type        adproto.GroupType
	Description string
	DisplayName string
	Path        string // distinguished name of the container; empty means Users
	Members     []string
}

// CreateGroup makes a group. It fails when an account of the name exists, of
// whatever kind.
func (s *Session) CreateGroup(ctx context.Context, n NewGroup) (Group, error) {
	if n.SAM == "" {
		n.SAM = n.Name
	}
	if name, err := adproto.ParseAccountName(n.SAM); err != nil {
		return Group{}, err
	} else if name.Form != adproto.FormSAM {
		return Group{}, fmt.Errorf("%w %q: want a name without a domain", adproto.ErrAccountName, n.SAM)
	}
	var g Group
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		if err := d.free(ctx, n.SAM); err != nil {
			return err
		}
		members, err := d.lookupAll(ctx, n.Members)
		if err != nil {
			return err
		}
		parent, err := d.container(ctx, usersContainer, n.Path)
		if err != nil {
			return err
		}
		dn := adproto.NewDN("CN", n.Name, parent)
		member := Change{Attr: "member"}
		for _, m := range members {
			member.Values = append(member.Values, m.DN)
		}
		err = d.add(ctx, dn, []Change{
			{Attr: "objectClass", Values: []string{"group"}}, {Attr: "sAMAccountName", Values: []string{n.SAM}},
			{Attr: "groupType", Values: []string{strconv.Itoa(int(int32(n.Type)))}},
			{Attr: "description", Values: []string{n.Description}}, {Attr: "displayName", Values: []string{n.DisplayName}}, member,
		})
		if err != nil {
			return denied(err, "create group objects", parent.String())
		}
		g, err = d.group(ctx, dn.String())
		return stands(err, dn.String(), "made")
	})
	return g, err
}

// TakenError says who has a name that was to be given.
type TakenError struct {
	What, Value string // "the name", "webapp01$"
	Owner       string // distinguished name
}

// Error names the owner.
func (e *TakenError) Error() string {
	return fmt.Sprintf("%s %s is taken: %s has it", e.What, e.Value, e.Owner)
}

// Is lets errors.Is find [ldapc.ErrExists].
func (e *TakenError) Is(target error) bool { return target == ldapc.ErrExists }

// free fails when an account of the domain has the sAMAccountName.
func (d *desk) free(ctx context.Context, sam string) error {
	found, err := d.Search(ctx, ldapc.Search{
		Base: d.names.Base.String(), Scope: ldapc.Subtree, Filter: adproto.Equal("sAMAccountName", sam), Attrs: []string{"objectClass"}, Limit: 1,
	})
	switch {
	case err != nil:
		return err
	case len(found) > 0:
		return &TakenError{"the name", sam, found[0].DN}
	}
	return nil
}

// group reads a group by anything that names it.
func (d *desk) group(ctx context.Context, name string) (Group, error) {
	e, err := d.entry(ctx, name, groupAttrs, KindGroup)
	if errors.Is(err, ErrNotFound) {
		return Group{}, fmt.Errorf("group %w", err)
	}
	if err != nil {
		return Group{}, err
	}
	o, err := parseObject(e)
	if err != nil {
		return Group{}, err
	}
	if o.Kind != KindGroup {
		return Group{}, fmt.Errorf("%s is a %v, not a group: %w", o.DN, o.Kind, ErrNotFound)
	}
	r := attrs{e: e}
	g := Group{Object: o, CN: r.string("cn"), Type: adproto.GroupType(r.number("groupType")), Description: r.string("description")}
	return g, r.err
}

// Group reads a group.
func (s *Session) Group(ctx context.Context, name string) (Group, error) {
	var g Group
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		g, err = d.group(ctx, name)
		return err
	})
	return g, err
}

// Groups lists the groups that satisfy the filter.
func (s *Session) Groups(ctx context.Context, f adproto.Filter, base string) ([]Group, error) {
	var groups []Group
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		entries, err := d.Search(ctx, ldapc.Search{
			Base: orElse(base, d.names.Base.String()), Scope: ldapc.Subtree, Attrs: groupAttrs, Filter: adproto.And(kindFilter(KindGroup), f),
		})
		if err != nil {
			return err
		}
		for _, e := range entries {
			o, err := parseObject(e)
			if err != nil {
				return err
			}
			r := attrs{e: e}
			groups = append(groups, Group{Object: o, CN: r.string("cn"), Type: adproto.GroupType(r.number("groupType")), Description: r.string("description")})
		}
		return nil
	})
	return groups, err
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Members lists the members of a group; with nested also those of the groups in
// it, and of their groups.
func (s *Session) Members(ctx context.Context, group string, nested bool) ([]Object, error) {
	var members []Object
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		g, err := d.group(ctx, group)
		if err != nil {
			return err
		}
		members, err = d.members(ctx, g.DN, nested)
		return err
	})
	return members, err
}

// members are those of the domain, and those of others that the global catalog shows.
func (d *desk) members(ctx context.Context, group string, nested bool) ([]Object, error) {
	f := adproto.Equal("memberOf", group)
	if nested {
		dn, err := adproto.ParseDN(group)
		if err != nil {
			return nil, err
		}
		f = adproto.InChain("memberOf", dn)
	}
	members, err := d.objects(ctx, d.names.Base.String(), f)
	if err != nil {
		return nil, err
	}
	entries, err := d.others(ctx, f, objectAttrs...)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		o, err := parseObject(e)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(members, func(m Object) bool { return m.GUID == o.GUID }) {
			members = append(members, o)
		}
	}
	return members, nil
}

// objects searches for objects below base.
func (d *desk) objects(ctx context.Context, base string, f adproto.Filter) ([]Object, error) {
	entries, err := d.Search(ctx, ldapc.Search{Base: base, Scope: ldapc.Subtree, Filter: f, Attrs: objectAttrs})
	if err != nil {
		return nil, err
	}
	list := make([]Object, 0, len(entries))
	for _, e := range entries {
		o, err := parseObject(e)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

// Memberships lists the groups that an account is in: directly, and its primary
// group, as Get-ADPrincipalGroupMembership does; with nested also their groups.
func (s *Session) Memberships(ctx context.Context, account string, nested bool) ([]Object, error) {
	var groups []Object
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		e, err := d.entry(ctx, account, append([]string{"primaryGroupID"}, objectAttrs...))
		if err != nil {
			return err
		}
		o, err := parseObject(e)
		if err != nil {
			return err
		}
		f := adproto.Equal("member", o.DN)
		if dn, err := adproto.ParseDN(o.DN); nested && err == nil {
			f = adproto.InChain("member", dn)
		}
		r := attrs{e: e}
		if rid := r.number("primaryGroupID"); rid != 0 && !o.SID.IsZero() {
			f = adproto.Or(adproto.EqualBytes("objectSid", o.SID.Domain().Child(rid).Bytes()), f)
		}
		groups, err = d.objects(ctx, d.names.Base.String(), f)
		return err
	})
	return groups, err
}

// ErrLoop is a membership that would make a group a member of itself.
var ErrLoop = errors.New("the group would be a member of itself")

// AddMembers puts accounts and groups into a group, all or none, and returns those
// that were not members before.
func (s *Session) AddMembers(ctx context.Context, group string, members ...string) ([]Object, error) {
	return s.changeMembers(ctx, AddValues, group, members)
}

// RemoveMembers takes members out of a group, all or none, and returns those that
// were members.
func (s *Session) RemoveMembers(ctx context.Context, group string, members ...string) ([]Object, error) {
	return s.changeMembers(ctx, RemoveValues, group, members)
}

func (s *Session) changeMembers(ctx context.Context, op ChangeOp, group string, members []string) ([]Object, error) {
	var changed []Object
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		g, err := d.group(ctx, group)
		if err != nil {
			return err
		}
		objects, err := d.lookupAll(ctx, members)
		if err != nil {
			return err
		}
		change := Change{Op: op, Attr: "member"}
		for _, o := range objects {
			is, err := d.isMember(ctx, g.DN, o.DN)
			if err != nil {
				return err
			}
			if is == (op == AddValues) {
				continue
			}
			if err := d.checkLoop(ctx, op, g, o); err != nil {
				return err
			}
			change.Values, changed = append(change.Values, o.DN), append(changed, o)
		}
		if len(changed) == 0 {
			return nil
		}
		return denied(d.modify(ctx, g.DN, []Change{change}), "write the members of the group", g.DN)
	})
	return changed, err
}

// isMember asks whether dn is a direct member.
func (d *desk) isMember(ctx context.Context, group, dn string) (bool, error) {
	found, err := d.Search(ctx, ldapc.Search{Base: group, Scope: ldapc.Base, Filter: adproto.Equal("member", dn), Attrs: []string{"objectClass"}})
	return len(found) > 0, err
}

// checkLoop refuses a member that is the group or holds it.
func (d *desk) checkLoop(ctx context.Context, op ChangeOp, g Group, member Object) error {
	if op != AddValues || member.Kind != KindGroup {
		return nil
	}
	if member.GUID == g.GUID {
		return fmt.Errorf("%s: %w", g.DN, ErrLoop)
	}
	dn, err := adproto.ParseDN(member.DN)
	if err != nil {
		return err
	}
	found, err := d.Search(ctx, ldapc.Search{Base: g.DN, Scope: ldapc.Base, Filter: adproto.InChain("memberOf", dn), Attrs: []string{"objectClass"}})
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%s is in %s already: %w", g.DN, member.DN, ErrLoop)
	}
	return err
}

// RemoveGroup deletes a group.
func (s *Session) RemoveGroup(ctx context.Context, name string) (Group, error) {
	var g Group
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		if g, err = d.group(ctx, name); err != nil {
			return err
		}
		return d.remove(ctx, g.DN)
	})
	return g, err
}
