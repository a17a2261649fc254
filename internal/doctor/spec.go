package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
)

// specFile wants the file to be readable JSON of the right form.
func specFile(_ context.Context, f *Facts) []Finding {
	s := f.spec
	if s.file.Err != nil {
		return []Finding{wrong("the credential spec %s cannot be read", s.file.Path).because(s.file.Err.Error()).mend("gmsa credspec list")}
	}
	spec, findings, err := credspec.Parse(s.file.Content)
	var list []Finding
	for _, x := range findings {
		n := wrong("%s: %s", x.Path, x.Problem)
		if x.Warning {
			n.Severity = Warning
		}
		if x.Remedy != "" {
			n = n.mend("%s", x.Remedy)
		}
		if err != nil {
			n = n.mend("gmsa credspec create ACCOUNT --out %s  # writes a new one", s.file.Path)
		}
		list = append(list, n)
	}
	if err != nil && len(list) == 0 {
		list = append(list, failed(err, "the credential spec %s is not one", s.file.Path))
	}
	if err == nil {
		s.spec, s.parsed = spec, true
		list = append(list, ok("it is a credential spec of %d accounts", len(spec.Accounts())))
	}
	return list
}

// specPlace wants the file where the agent and the engines look for it.
func specPlace(_ context.Context, f *Facts) []Finding {
	s := f.spec
	dir := filepath.Dir(s.file.Path)
	if len(s.file.Directories) == 0 || slices.Contains(s.file.Directories, dir) {
		return []Finding{ok("it lies in %s", dir)}
	}
	return []Finding{wrong("%s lies in none of the directories of credential specs", s.file.Path).because(s.file.Directories...).
		mend("install -m 0644 %s %s/", s.file.Path, s.file.Directories[0]).
		mend("docker info -f '{{.DockerRootDir}}'  # Docker's are in CredentialSpecs below it")}
}

// specFields compares each field with the domain.
func specFields(_ context.Context, f *Facts) []Finding {
	d := f.spec.spec.DomainJoinConfig
	var list []Finding
	for _, x := range f.info.Compare(d) {
		list = append(list, wrong("%s of the credential spec is %q, and the domain's is %q", x.Field, x.Got, x.Want).
			because("$.DomainJoinConfig."+x.Field+" of "+f.spec.file.Path).
			mend("gmsa credspec create %s --out %s  # or write %s by hand", orWord(d.MachineAccountName, "ACCOUNT"), f.spec.file.Path, x.Want))
	}
	if len(list) > 0 {
		return list
	}
	return []Finding{ok("Sid, Guid, DnsTreeName, DnsName and NetBiosName are the domain's")}
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// specHost looks at HostAccountConfig: a host that is not joined needs it, with the
// GUID of a plug-in that is registered here.
func specHost(_ context.Context, f *Facts) []Finding {
	h := f.spec.spec.ActiveDirectoryConfig.HostAccountConfig
	switch {
	case h == nil && f.cfg.Host == nil:
		return []Finding{ok("it has no HostAccountConfig: hosts use it with their own account")}
	case h == nil:
		return []Finding{ok("the host's own account retrieves the password")}
	}
	id, err := credspec.ParsePluginGUID(h.PluginGUID)
	if err != nil {
		return []Finding{failed(err, "PluginGUID of the credential spec is none")}
	}
	if f.cfg.Agent == nil {
		return []Finding{info("the plug-in %s is looked for on a host", h.PluginGUID)}
	}
	name, err := f.cfg.Agent.Plugin(id)
	if err != nil {
		return []Finding{failed(err, "the plug-in %s is not registered on this host", h.PluginGUID).
			because("the agent would log event 4").mend("plugins.NAME.guid: \"%s\" in agent.yaml, then gmsa agent reload; docs/plugins.md", h.PluginGUID)}
	}
	return []Finding{ok("the plug-in %s is registered as %s, version %s", h.PluginGUID, name, h.PortableCcgVersion)}
}

// pluginStore asks the plug-in for the identity that its store holds.
func pluginStore(ctx context.Context, f *Facts) []Finding {
	s := f.spec
	h := s.spec.ActiveDirectoryConfig.HostAccountConfig
	if h == nil || f.cfg.Agent == nil {
		return []Finding{ok("none is needed")}
	}
	id, err := credspec.ParsePluginGUID(h.PluginGUID)
	if err != nil {
		return []Finding{failed(err, "PluginGUID of the credential spec is none")}
	}
	p, err := f.cfg.Agent.Portable(ctx, id, h.PluginInput)
	if err != nil {
		return []Finding{failed(err, "the plug-in's store yields no credentials").because("the agent would log event 6").
			mend("let the store be reachable, and the PluginInput of %s name a secret that it has", s.file.Path)}
	}
	s.portable, s.password = p.User, p.Password
	// A password is not shown to a domain that it is not of.
	if d := s.spec.DomainJoinConfig; p.Domain != "" && !strings.EqualFold(p.Domain, f.domain.Name()) && !strings.EqualFold(p.Domain, d.NetBiosName) {
		return []Finding{wrong("the store's account %s is of the domain %s, and the credential spec of %s", p.User, p.Domain, d.DnsName).mend("put an account of %s into the store", f.domain.Name())}
	}
	return []Finding{ok("the store gives the account %s", p.User)}
}

// pluginLogon wants the domain to take what the store holds.
func pluginLogon(ctx context.Context, f *Facts) []Finding {
	s := f.spec
	if s.portable == "" {
		return []Finding{ok("none is needed")}
	}
	name, err := adproto.ParseAccountName(s.portable)
	if err != nil {
		return []Finding{failed(err, "the store's user name is none")}
	}
	id, err := ad.WithPassword(name, s.password)
	if err != nil {
		return []Finding{failed(err, "the store's credentials cannot be used")}
	}
	session, err := ad.Open(f.domain, id)
	if err != nil {
		return []Finding{failed(err, "the store's credentials cannot be used")}
	}
	if _, err := session.TGT(ctx); err != nil {
		_ = session.Close()
		return []Finding{portableRefused(err, s.portable)}
	}
	s.reader = session
	return []Finding{ok("%s logs on", s.portable)}
}

func portableRefused(err error, user string) Finding {
	rotate := func(n Finding) Finding {
		return n.because(err.Error()).mend("set a new password for %s in the domain and put it into the store", user)
	}
	switch {
	case errors.Is(err, kclient.ErrExpired):
		return rotate(wrong("the password of the portable account %s has expired", user))
	case errors.Is(err, kclient.ErrWrongKey):
		return rotate(wrong("the store's password of the portable account %s is not the one in force", user))
	case errors.Is(err, kclient.ErrUnknownClient):
		return wrong("the domain has no portable account %s", user).because(err.Error()).mend("put an account into the store that the domain has")
	case errors.Is(err, kclient.ErrRevoked):
		return wrong("the portable account %s is disabled, locked or expired", user).because(err.Error()).mend("gmsa object set %s --replace userAccountControl=512", user)
	}
	return failed(err, "the portable account %s gets no ticket", user)
}

// specAccounts wants the accounts of the spec to be of the host's domain.
func specAccounts(_ context.Context, f *Facts) []Finding {
	spec := f.spec.spec
	var list []Finding
	for _, a := range spec.Accounts() {
		if a.Domain != "" && !strings.EqualFold(a.Domain, f.info.DNSName) {
			list = append(list, wrong("the credential spec names %s of the domain %s, and this host is of %s", a.Name, a.Domain, f.info.DNSName).
				mend("gmsa credspec create %s --out %s", spec.DomainJoinConfig.MachineAccountName, f.spec.file.Path))
		}
	}
	if len(list) == 0 {
		return []Finding{ok("%s", accountNames(spec))}
	}
	return list
}

func accountNames(spec credspec.Spec) string {
	var names []string
	for _, a := range spec.Accounts() {
		names = append(names, fmt.Sprintf("%s@%s", a.Name, a.Domain))
	}
	return strings.Join(names, ", ")
}
