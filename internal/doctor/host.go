package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// agentConfig wants the agent's configuration to be one.
func agentConfig(_ context.Context, f *Facts) []Finding {
	h := f.cfg.Host
	switch {
	case errors.Is(h.ConfigErr, fs.ErrNotExist):
		return []Finding{info("there is no %s: the agent's own defaults hold", h.ConfigPath)}
	case h.ConfigErr != nil:
		return []Finding{wrong("%s is not in order", h.ConfigPath).because(strings.Split(h.ConfigErr.Error(), "\n")...).
			mend("gmsa agent check-config --config %s", h.ConfigPath)}
	}
	return []Finding{ok("%s is in order", h.ConfigPath)}
}

// joinAgain is the command that makes a host's keys anew.
const joinAgain = "gmsa computer join -U Administrator@%s --out %s"

// hostKeytab wants a keytab with keys of a computer of the domain, which nobody else
// can read.
func hostKeytab(_ context.Context, f *Facts) []Finding {
	path := f.cfg.Host.Keytab
	join := func(n Finding) Finding { return n.mend(joinAgain, f.domain.Name(), path) }
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []Finding{join(wrong("this host is not joined to %s: there is no keytab %s", f.domain.Name(), path))}
	}
	if err != nil {
		return []Finding{wrong("the keytab %s cannot be read", path).because(err.Error()).mend("run gmsa doctor as root")}
	}
	if n, bad := openToOthers(path, st); bad {
		return []Finding{n}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return []Finding{wrong("the keytab %s cannot be read", path).because(err.Error()).mend("run gmsa doctor as root")}
	}
	defer clear(b)
	kt, err := keytab.Parse(b)
	if err != nil {
		return []Finding{join(wrong("%s is no keytab", path).because(err.Error()))}
	}
	if f.host.principal = hostPrincipal(kt, f.cfg.Host.Principal, f.domain.Realm()); f.host.principal.Realm == "" {
		return []Finding{join(wrong("the keytab %s has no key of a computer of %s", path, f.domain.Realm()).because(principals(kt)...))}
	}
	entries := kt.Newest(f.host.principal)
	for _, e := range entries {
		f.host.keys = append(f.host.keys, e.Key)
		f.host.kvno = e.KVNO
	}
	if len(entries) == 0 {
		return []Finding{join(wrong("the keytab %s has no AES key of %v", path, f.host.principal))}
	}
	return []Finding{ok("%s has the keys of %v, version %d", path, f.host.principal, f.host.kvno)}
}

// openToOthers tells of a keytab that others than its owner can read, or that is not
// root's: whoever reads it is the host.
func openToOthers(path string, st fs.FileInfo) (Finding, bool) {
	owner, known := ownerOf(st)
	switch {
	case known && owner != 0 && owner != os.Geteuid():
		return wrong("the keytab %s belongs to the user %d, who so is the host", path, owner).mend("chown root:root %s", path).mend("chmod 0600 %s", path), true
	case known && st.Mode().Perm()&0o077 != 0:
		return wrong("the keytab %s can be read by others: its mode is %04o", path, st.Mode().Perm()).mend("chmod 0600 %s", path), true
	}
	return Finding{}, false
}

// hostPrincipal is the computer whose keys the keytab has: the one that is named, else
// the first of the realm.
func hostPrincipal(kt keytab.Keytab, name, realm string) krb5.Principal {
	want, _, _ := strings.Cut(name, "@")
	for _, p := range kt.Principals() {
		own := p.Name.String()
		named := name == "" && strings.HasSuffix(own, "$") || name != "" && strings.EqualFold(strings.TrimSuffix(own, "$"), strings.TrimSuffix(want, "$"))
		if named && strings.EqualFold(p.Realm, realm) {
			return p
		}
	}
	return krb5.Principal{}
}

func principals(kt keytab.Keytab) (lines []string) {
	for _, p := range kt.Principals() {
		lines = append(lines, "it has "+p.String())
	}
	return lines
}

// hostLogon wants the domain to take the host's keys.
func hostLogon(ctx context.Context, f *Facts) []Finding {
	id := ad.WithKeys(f.host.principal.Name, f.host.keys...)
	session, err := ad.Open(f.domain, id)
	if err != nil {
		return []Finding{failed(err, "the host's keys cannot be used")}
	}
	tgt, err := session.TGT(ctx)
	if err != nil {
		_ = session.Close()
		return []Finding{f.refused(err, f.host.principal.String(), f.cfg.Host.Keytab)}
	}
	f.host.session = session
	return []Finding{ok("%v has a ticket until %s", f.host.principal, tgt.EndTime.Local().Format("15:04"))}
}

// refused says why a KDC gave a host no ticket.
func (f *Facts) refused(err error, who, path string) Finding {
	join := func(n Finding) Finding { return n.because(err.Error()).mend(joinAgain, f.domain.Name(), path) }
	switch {
	case errors.Is(err, kclient.ErrUnknownClient):
		return join(wrong("the domain has no account %s", who))
	case errors.Is(err, kclient.ErrWrongKey):
		return join(wrong("the keys of %s in %s (version %d) are not those in force: its password was changed elsewhere", who, path, f.host.kvno))
	case errors.Is(err, kclient.ErrRevoked):
		return wrong("the account %s is disabled, locked or expired", who).because(err.Error()).
			mend("gmsa object set '%s' --replace userAccountControl=4096", strings.TrimSuffix(who, "@"+f.domain.Realm()))
	case errors.Is(err, kclient.ErrExpired):
		return join(wrong("the password of %s has expired", who))
	case errors.Is(err, kclient.ErrEType):
		return join(wrong("the domain has no key of %s of a type that %s has", who, path))
	}
	return failed(err, "%s gets no ticket", who)
}

// credentials opens the session in which the directory is asked.
func credentials(ctx context.Context, f *Facts) []Finding {
	if f.cfg.Asker == nil {
		if f.asker = f.portable(); f.asker != nil {
			return []Finding{ok("the directory is asked as the portable account")}
		}
		if f.host.session == nil {
			return []Finding{wrong("there are no credentials to ask the directory with").mend("kinit, or name a user: gmsa doctor -U NAME@%s", f.domain.Name())}
		}
		f.asker = f.host.session
		return []Finding{ok("the directory is asked as %v", f.host.principal)}
	}
	session, err := ad.Open(f.domain, *f.cfg.Asker)
	if err != nil {
		return []Finding{failed(err, "the credentials cannot be used")}
	}
	f.asker = session
	tgt, err := session.TGT(ctx)
	if err != nil {
		return []Finding{failed(err, "the domain refuses %s", f.cfg.Asker).mend("kinit, or name a user: gmsa doctor -U NAME@%s", f.domain.Name())}
	}
	return []Finding{ok("the directory is asked as %v", tgt.Client)}
}

// portable is the session of a portable account where the host has none of its own.
func (f *Facts) portable() *ad.Session {
	if f.cfg.joined() {
		return nil
	}
	for _, s := range f.specs {
		if s.reader != nil {
			return s.reader
		}
	}
	return nil
}

// hostKVNO wants the version of the keytab's keys to be the directory's: services that
// accept tickets with the keytab look for the version in the ticket.
func hostKVNO(ctx context.Context, f *Facts) []Finding {
	name, err := adproto.ParseAccountName(f.host.principal.Name.String())
	if err != nil {
		return []Finding{failed(err, "the host's account has no usable name")}
	}
	a, err := f.asker.FindService(ctx, name)
	if err != nil {
		return []Finding{failed(err, "the host's account cannot be read")}
	}
	if a.KVNO != 0 && a.KVNO != f.host.kvno {
		return []Finding{wrong("the keytab has version %d of the keys of %s, and the directory version %d", f.host.kvno, a.Name, a.KVNO).
			because("the keys are accepted, but a service that is to accept tickets with them does not find the version that the tickets name").
			mend(joinAgain, f.domain.Name(), f.cfg.Host.Keytab)}
	}
	return []Finding{ok("version %d", a.KVNO).because(a.DN)}
}

// agentRuns wants the agent to answer and to have nothing to complain of but what
// other checks find.
func agentRuns(ctx context.Context, f *Facts) []Finding {
	st, err := f.cfg.Agent.Status(ctx)
	if err != nil {
		return []Finding{wrong("the agent does not answer").because(err.Error()).
			mend("systemctl start gmsa-agent").mend("journalctl -u gmsa-agent shows why it ended")}
	}
	f.agent = st
	list := []Finding{ok("the agent answers").because("version "+st.Version, fmt.Sprintf("%d leases, on %s", st.Leases, st.Storage))}
	for _, x := range st.Specs {
		n := warning("the agent has the credential spec %s and cannot use it: %s", x.Of, x.Problem).mend("gmsa credspec check %s", x.Of)
		list = append(list, n)
	}
	return list
}

// agentAccounts repeats what the agent reports of identities and accounts, once
// nothing else explains it.
func agentAccounts(_ context.Context, f *Facts) []Finding {
	var list []Finding
	for _, x := range append(f.agent.Identities, f.agent.Accounts...) {
		n := warning("the agent has trouble with %s: %s", x.Of, x.Problem).mend("gmsa agent reload  # it tries again at once")
		n.Remedies = append(n.Remedies, x.Remedies...)
		list = append(list, n)
	}
	if len(list) == 0 {
		return []Finding{ok("the agent reports no trouble")}
	}
	return list
}
