package cmdlet

import (
	"context"
	"fmt"
	"strings"
)

func specCmdlets() []*definition {
	return []*definition{
		{
			name: "New-CredentialSpec", synopsis: "Makes the credential spec of a gMSA", example: "New-CredentialSpec -AccountName WebApp01 -AdditionalAccounts LogAgentSvc, OtherSvc",
			changes: true,
			params: []parameter{
				{name: "AccountName", kind: text1, position: 1, required: true, piped: true}, {name: "Path", kind: text1},
				{name: "FileName", kind: text1, aliases: []string{"Name"}}, {name: "Domain", kind: text1},
				{name: "AdditionalAccounts", kind: objects}, {name: "NoClobber", kind: flag},
			},
			run: newSpec,
		},
		{
			name: "Get-CredentialSpec", synopsis: "Lists the credential specs of this host", example: "Get-CredentialSpec",
			params: []parameter{{name: "Name", kind: text1, position: 1}}, run: getSpecs,
		},
	}
}

func specObject(f SpecFile) *Object {
	return newObject("CredentialSpec").set("Name", f.Name).set("Path", f.Path)
}

func newSpec(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	if d := c.text("Domain"); d != "" && !strings.EqualFold(d, s.Domain().Name()) {
		return nil, fmt.Errorf("%w: -Domain %s: the domain that is asked is %s; name another with gmsa's own option --domain", ErrParameter, d, s.Domain().Name())
	}
	spec := Spec{Account: c.text("AccountName"), Path: c.text("Path"), Name: c.text("FileName"), NoClobber: c.flag("NoClobber")}
	for _, v := range flat(c.values["additionalaccounts"]) {
		if h, ok := v.(*hashTable); ok {
			name, _ := h.get("AccountName")
			domain, _ := h.get("Domain")
			spec.Additional = append(spec.Additional, SpecAccount{str(name), str(domain)})
			continue
		}
		spec.Additional = append(spec.Additional, SpecAccount{Name: str(v)})
	}
	u, err := s.Usable(ctx, spec.Account)
	if err == nil && !u.OK {
		c.in.host.Warn(u.Warning)
	}
	f, err := c.in.host.CreateSpec(ctx, s, spec)
	if err != nil {
		return nil, err
	}
	return []any{specObject(f)}, nil
}

func getSpecs(ctx context.Context, c *invocation) ([]any, error) {
	files, err := c.in.host.Specs(ctx)
	var list []any
	for _, f := range files {
		if name := c.text("Name"); name == "" || matches(f.Name, name) {
			list = append(list, specObject(f))
		}
	}
	return list, err
}
