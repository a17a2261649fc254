package cmdlet

import (
	"context"

	"github.com/opengmsa/opengmsa/internal/ad"
)

var identity = parameter{name: "Identity", kind: text1, position: 1, required: true, piped: true}

// search are the parameters of cmdlets that find one object or several.
func search(more ...parameter) []parameter {
	return append([]parameter{
		{name: "Identity", kind: text1, position: 1, piped: true}, {name: "Filter", kind: text1}, {name: "LDAPFilter", kind: text1},
		{name: "Properties", kind: texts, aliases: []string{"Property"}}, {name: "SearchBase", kind: text1}, {name: "SearchScope", kind: text1},
		{name: "ResultSetSize", kind: objects}, {name: "ResultPageSize", kind: integer1},
	}, more...)
}

func groupCmdlets() []*definition {
	members := parameter{name: "Members", kind: texts, position: 2, required: true}
	memberOf := parameter{name: "MemberOf", kind: texts, position: 2, required: true}
	pass := parameter{name: "PassThru", kind: flag}
	return []*definition{
		{
			name: "New-ADGroup", synopsis: "Makes a group", example: `New-ADGroup -Name "WebApp01 Authorized Hosts" -SamAccountName WebApp01Hosts -GroupScope DomainLocal`, changes: true,
			params: []parameter{
				{name: "Name", kind: text1, position: 1, required: true}, {name: "GroupScope", kind: text1, position: 2, required: true},
				{name: "SamAccountName", kind: text1}, {name: "GroupCategory", kind: text1}, {name: "Description", kind: text1},
				{name: "DisplayName", kind: text1}, {name: "Path", kind: text1}, pass,
			},
			run: newGroup,
		},
		{name: "Get-ADGroup", synopsis: "Shows groups", example: "Get-ADGroup WebApp01Hosts", params: search(), run: getGroups},
		{
			name: "Remove-ADGroup", synopsis: "Deletes a group", example: "Remove-ADGroup WebApp01Hosts", changes: true, params: []parameter{identity},
			run: func(ctx context.Context, c *invocation) ([]any, error) {
				s, err := c.session(ctx)
				if err == nil {
					_, err = s.RemoveGroup(ctx, c.text("Identity"))
				}
				return nil, err
			},
		},
		{
			name: "Add-ADGroupMember", synopsis: "Puts accounts into a group", example: `Add-ADGroupMember -Identity WebApp01Hosts -Members ContainerHost01, ContainerHost02`,
			changes: true, params: []parameter{identity, members, pass}, run: groupMembers((*ad.Session).AddMembers),
		},
		{
			name: "Remove-ADGroupMember", synopsis: "Takes accounts out of a group", example: `Remove-ADGroupMember -Identity WebApp01Hosts -Members ContainerHost02`,
			changes: true, params: []parameter{identity, members, pass}, run: groupMembers((*ad.Session).RemoveMembers),
		},
		{
			name: "Get-ADGroupMember", synopsis: "Lists the members of a group", example: "Get-ADGroupMember WebApp01Hosts -Recursive",
			params: []parameter{identity, {name: "Recursive", kind: flag}}, run: getGroupMembers,
		},
		{
			name: "Add-ADPrincipalGroupMembership", synopsis: "Puts an account into groups", example: "Add-ADPrincipalGroupMembership Host4$ -MemberOf ITFarmHosts",
			changes: true, params: []parameter{identity, memberOf, pass}, run: memberships((*ad.Session).AddMembers),
		},
		{
			name: "Remove-ADPrincipalGroupMembership", synopsis: "Takes an account out of groups", example: "Remove-ADPrincipalGroupMembership Host4$ -MemberOf ITFarmHosts",
			changes: true, params: []parameter{identity, memberOf, pass}, run: memberships((*ad.Session).RemoveMembers),
		},
		{
			name: "Get-ADPrincipalGroupMembership", synopsis: "Lists the groups that an account is in", example: "Get-ADComputer Host1 | Get-ADPrincipalGroupMembership",
			params: []parameter{identity}, run: getMemberships,
		},
	}
}

func newGroup(ctx context.Context, c *invocation) ([]any, error) {
	t, err := ParseGroupType(c.text("GroupScope"), c.text("GroupCategory"))
	if err != nil {
		return nil, err
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	g, err := s.CreateGroup(ctx, ad.NewGroup{
		Name: c.text("Name"), SAM: c.text("SamAccountName"), Type: t, Description: c.text("Description"),
		DisplayName: c.text("DisplayName"), Path: c.text("Path"),
	})
	if err != nil || !c.flag("PassThru") {
		return nil, err
	}
	return []any{groupObject(g)}, nil
}

func groupObject(g ad.Group) *Object {
	scope, category := GroupScope(g.Type)
	return newObject("ADGroup").set("DistinguishedName", g.DN).set("GroupCategory", category).set("GroupScope", scope).
		set("Name", g.CN).set("ObjectClass", "group").set("ObjectGUID", g.GUID.String()).set("SamAccountName", g.Name).set("SID", g.SID.String())
}

func getGroups(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	if name := c.text("Identity"); name != "" {
		g, err := s.Group(ctx, name)
		if err != nil {
			return nil, err
		}
		o, err := c.extend(ctx, s, groupObject(g), g.DN, nil)
		return []any{o}, err
	}
	f, err := c.filter()
	if err != nil {
		return nil, err
	}
	groups, err := s.Groups(ctx, f, c.text("SearchBase"))
	if err != nil {
		return nil, err
	}
	var list []any
	for _, g := range groups {
		o, err := c.extend(ctx, s, groupObject(g), g.DN, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

// memberChange is AddMembers or RemoveMembers.
type memberChange func(s *ad.Session, ctx context.Context, group string, members ...string) ([]ad.Object, error)

func groupMembers(change memberChange) func(context.Context, *invocation) ([]any, error) {
	return func(ctx context.Context, c *invocation) ([]any, error) {
		s, err := c.session(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := change(s, ctx, c.text("Identity"), c.list("Members")...); err != nil || !c.flag("PassThru") {
			return nil, err
		}
		g, err := s.Group(ctx, c.text("Identity"))
		return []any{groupObject(g)}, err
	}
}

// memberships is the same from the member's side. Several groups are several
// changes: an error says which were made.
func memberships(change memberChange) func(context.Context, *invocation) ([]any, error) {
	return func(ctx context.Context, c *invocation) ([]any, error) {
		s, err := c.session(ctx)
		if err != nil {
			return nil, err
		}
		var done []string
		for _, group := range c.list("MemberOf") {
			if _, err := change(s, ctx, group, c.text("Identity")); err != nil {
				return nil, partly(done, err)
			}
			done = append(done, group)
		}
		return nil, nil
	}
}

func getGroupMembers(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	members, err := s.Members(ctx, c.text("Identity"), c.flag("Recursive"))
	return principals(members), err
}

func getMemberships(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := s.Memberships(ctx, c.text("Identity"), false)
	if err != nil {
		return nil, err
	}
	var list []any
	for _, g := range groups {
		full, err := s.Group(ctx, g.DN)
		if err != nil {
			return nil, err
		}
		list = append(list, groupObject(full))
	}
	return list, nil
}

func principals(objects []ad.Object) []any {
	var list []any
	for _, o := range objects {
		list = append(list, newObject("ADPrincipal").set("DistinguishedName", o.DN).set("Name", nameOf(o.DN)).set("ObjectClass", classOf(o.Kind)).
			set("ObjectGUID", o.GUID.String()).set("SamAccountName", o.Name).set("SID", o.SID.String()))
	}
	return list
}
