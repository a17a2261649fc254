package cmdlet

import (
	"context"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/ldapc"
)

func objectCmdlets() []*definition {
	return []*definition{
		{
			name: "Get-ADObject", synopsis: "Finds any objects", example: `Get-ADObject -Filter 'sAMAccountName -like "WebApp01*"'`,
			params: search(parameter{name: "IncludeDeletedObjects", kind: flag}), run: getObjects,
		},
		{
			name: "Set-ADObject", synopsis: "Changes any object", example: "Set-ADObject WebApp01$ -Replace @{userAccountControl = 4096}", changes: true,
			params: []parameter{
				identity, {name: "Add", kind: table}, {name: "Remove", kind: table}, {name: "Replace", kind: table}, {name: "Clear", kind: texts},
				{name: "Description", kind: text1}, {name: "DisplayName", kind: text1}, {name: "PassThru", kind: flag},
			},
			run: setObject,
		},
		{
			name: "Get-ADDomain", synopsis: "Shows the domain", example: "Get-ADDomain", params: []parameter{{name: "Identity", kind: text1, position: 1}},
			run: getDomain,
		},
	}
}

func getObjects(ctx context.Context, c *invocation) ([]any, error) {
	if c.flag("IncludeDeletedObjects") {
		return nil, fmt.Errorf("%w: -IncludeDeletedObjects is not known here", ErrParameter)
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	var found []ad.Attributes
	if name := c.text("Identity"); name != "" {
		o, err := s.Object(ctx, name, "name")
		if err != nil {
			return nil, err
		}
		found = []ad.Attributes{o}
	} else {
		f, err := c.filter()
		if err != nil {
			return nil, err
		}
		scope := ldapc.Subtree
		switch strings.ToLower(c.text("SearchScope")) {
		case "base", "0":
			scope = ldapc.Base
		case "onelevel", "1":
			scope = ldapc.OneLevel
		}
		if found, err = s.Objects(ctx, ad.Query{Filter: f, Base: c.text("SearchBase"), Scope: scope, Attrs: []string{"name"}}); err != nil {
			return nil, err
		}
	}
	var list []any
	for _, a := range found {
		o := newObject("ADObject").set("DistinguishedName", a.DN).set("Name", nameOf(a.DN)).set("ObjectClass", objectClass(a)).set("ObjectGUID", a.GUID.String())
		if o, err = c.extend(ctx, s, o, a.DN, nil); err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

// objectClass is the most special class of an object: the last value.
func objectClass(a ad.Attributes) string {
	for _, name := range a.Order {
		if values := a.Values[name]; strings.EqualFold(name, "objectClass") && len(values) > 0 {
			return string(values[len(values)-1])
		}
	}
	return classOf(a.Kind)
}

func setObject(ctx context.Context, c *invocation) ([]any, error) {
	changes, err := c.hashTables()
	if err != nil {
		return nil, err
	}
	for name, attr := range settable {
		if c.has(name) {
			changes = append(changes, replaceText(attr, c.text(name)))
		}
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	o, err := s.SetObject(ctx, c.text("Identity"), changes...)
	if err != nil || !c.flag("PassThru") {
		return nil, err
	}
	return []any{newObject("ADObject").set("DistinguishedName", o.DN).set("Name", nameOf(o.DN)).set("ObjectClass", classOf(o.Kind)).set("ObjectGUID", o.GUID.String())}, nil
}

func getDomain(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	i, err := s.Info(ctx)
	if err != nil {
		return nil, err
	}
	return []any{newObject("ADDomain").set("DistinguishedName", i.BaseDN).set("DNSRoot", i.DNSName).set("DomainMode", i.DomainLevel.String()).
		set("DomainSID", i.SID.String()).set("Forest", i.Forest).set("Name", nameOf(i.BaseDN)).set("NetBIOSName", i.NetBIOS).
		set("ObjectGUID", i.GUID.String()).set("PDCEmulator", i.Controller)}, nil
}
