package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/secdesc"
)

// accountExists wants the account to be a managed service account of this domain.
func accountExists(ctx context.Context, f *Facts) []Finding {
	bare := bareName(f.account.name)
	a, err := f.asker.ServiceAccount(ctx, f.account.name)
	switch {
	case err == nil:
		f.account.account = a
		if a.Kind == ad.KindSMSA && f.spec != nil {
			return []Finding{wrong("%s is a standalone account, and containers use group ones", a.Name).because(a.DN).mend("gmsa account create NAME --dns NAME.%s --hosts GROUP", f.domain.Name())}
		}
		return []Finding{ok("%s", a.DN)}
	case !errors.Is(err, ad.ErrNotFound):
		return []Finding{failed(err, "the account %s cannot be read", bare)}
	}
	n := wrong("the domain %s has no managed service account %s", f.domain.Name(), bare)
	others, err := f.asker.ForestObjects(ctx, adproto.Or(adproto.Equal("sAMAccountName", bare+"$"), adproto.Equal("sAMAccountName", bare)))
	if err == nil {
		for _, o := range others {
			n = n.because(fmt.Sprintf("there is the %v %s", o.Kind, o.DN))
			if d := domainOf(o.DN); !strings.EqualFold(d, f.domain.Name()) && o.Kind == ad.KindGMSA {
				return []Finding{wrong("%s belongs to the domain %s, and this host to %s: a host retrieves passwords of its own domain only", bare, d, f.domain.Name()).
					because(o.DN).mend("gmsa account create %s --domain %s --hosts GROUP  # one for this domain", bare, f.domain.Name())}
			}
		}
	}
	return []Finding{n.mend("gmsa account list  # for a misspelt name").mend("gmsa account create %s --dns %s.%s --hosts GROUP", bare, strings.ToLower(bare), f.domain.Name())}
}

// domainOf is the DNS name of the domain in which an object lies.
func domainOf(dn string) string {
	d, err := adproto.ParseDN(dn)
	if err != nil {
		return ""
	}
	return d.DNSDomain()
}

// accountEnabled wants the account not to be disabled.
func accountEnabled(_ context.Context, f *Facts) []Finding {
	a := f.account.account
	if a.Control.Disabled() {
		return []Finding{wrong("%s is disabled", a.Name).because("userAccountControl "+a.Control.String()).mend("gmsa account set %s --enable", bareName(a.Name))}
	}
	return []Finding{ok("it is enabled")}
}

// wrongTypes are the account types that the guide's mask clears.
const wrongTypes = adproto.UACNormalAccount | adproto.UACInterdomainTrust | adproto.UACServerTrust

// accountFlags wants the flag without which Netlogon in a container is refused, and
// tells of unconstrained delegation, whose usual tools take that flag away.
func accountFlags(_ context.Context, f *Facts) []Finding {
	a := f.account.account
	about := fmt.Sprintf("userAccountControl %#x %v", uint32(a.Control), a.Control)
	control := uint32(a.Control&0x7FFFC5FF) | uint32(adproto.UACWorkstationTrust)
	repair := func(n Finding) Finding {
		return n.because(about).mend("gmsa account set %s --repair", bareName(a.Name)).
			mend("gmsa object set '%s' --replace userAccountControl=%d  # the same by hand", a.Name, control)
	}
	switch {
	case a.Control&adproto.UACWorkstationTrust == 0:
		return []Finding{repair(wrong("%s lacks the flag WORKSTATION_TRUST_ACCOUNT: names and SIDs cannot be translated in its containers", a.Name))}
	case a.Control&wrongTypes != 0:
		return []Finding{repair(wrong("%s has a flag of another type of account", a.Name))}
	case a.Control&adproto.UACTrustedForDelegation != 0:
		return []Finding{warning("%s is trusted for unconstrained delegation: whoever has it can act as everybody who connects to it", a.Name).
			because(about).mend("gmsa account set %s --not-trusted-for-delegation", bareName(a.Name))}
	}
	return []Finding{ok("WORKSTATION_TRUST_ACCOUNT").because(about)}
}

// accountTypes wants an encryption type that host and domain share.
func accountTypes(_ context.Context, f *Facts) []Finding {
	a := f.account.account
	switch {
	case a.EncTypes == 0:
		return []Finding{info("%s names no encryption types: the domain's default holds", a.Name)}
	case a.EncTypes&(adproto.EncDefaultAccounts|adproto.EncAES128SHA256|adproto.EncAES256SHA384) == 0:
		return []Finding{wrong("%s allows no AES, and this host nothing else", a.Name).because("msDS-SupportedEncryptionTypes "+a.EncTypes.String()).
			mend("gmsa account set %s --enctypes AES128,AES256", bareName(a.Name))}
	}
	return []Finding{ok("%v", a.EncTypes)}
}

// accountAge tells of the password's age and wants its interval to be one.
func accountAge(_ context.Context, f *Facts) []Finding {
	a := f.account.account
	if a.MSA == nil {
		return []Finding{info("a standalone account's password is kept by its host").because("set " + a.PasswordSet.Local().Format(time.DateTime))}
	}
	if a.MSA.Interval == 0 {
		return []Finding{wrong("the password interval of %s is 0 days, for which no password exists", a.Name).
			mend("gmsa account remove %s", bareName(a.Name)).mend("gmsa account create %s --dns %s --hosts GROUP", bareName(a.Name), a.DNSHostName)}
	}
	about := fmt.Sprintf("a new one every %d days, the present one of %s", a.MSA.Interval, a.PasswordSet.Local().Format(time.DateTime))
	next := a.NextRollover()
	switch {
	case next.IsZero():
		return []Finding{ok("%s", about)}
	case f.realmNow().After(next):
		return []Finding{info("a new password is due since %s: whoever asks next gets it", next.Local().Format(time.DateTime)).because(about)}
	}
	return []Finding{ok("the next password comes at %s", next.Local().Format(time.DateTime)).because(about)}
}

// accountRootKey wants the root key that makes the account's password to be there.
func accountRootKey(_ context.Context, f *Facts) []Finding {
	a := f.account.account
	if a.MSA == nil || a.MSA.ID == nil || len(f.rootKey) == 0 {
		return []Finding{info("which root key makes the password is not shown")}
	}
	for _, k := range f.rootKey {
		if k.ID == a.MSA.ID.RootKeyID {
			return []Finding{ok("root key %v", k.ID)}
		}
	}
	return []Finding{wrong("the root key that makes the password of %s is gone: %v", a.Name, a.MSA.ID.RootKeyID).
		mend("restore it from a backup").mend("wait for the next rollover at %s, which takes another key", a.NextRollover().Local().Format(time.DateTime))}
}

// accountReaders wants somebody to be allowed to retrieve the password.
func accountReaders(ctx context.Context, f *Facts) []Finding {
	a := f.account.account
	if a.MSA == nil {
		return []Finding{info("a standalone account is linked to one computer")}
	}
	allow := func(n Finding) Finding { return n.mend("gmsa account hosts add %s GROUP-OF-HOSTS", bareName(a.Name)) }
	if a.MSA.Readers == nil {
		return []Finding{allow(wrong("who may retrieve the password of %s cannot be read, or nobody may", a.Name).
			because(fmt.Sprintf("msDS-GroupMSAMembership is not shown to %s", f.asker.Domain().Name())))}
	}
	readers, err := f.asker.Readers(ctx, a)
	if err != nil {
		return []Finding{failed(err, "who may retrieve the password of %s cannot be resolved", a.Name)}
	}
	var lines []string
	for _, r := range readers {
		line := r.SID.String() + ", which the domain does not know"
		if r.Object != nil {
			line = fmt.Sprintf("the %v %s", r.Object.Kind, r.Object.DN)
			if r.Object.Kind == ad.KindGroup {
				line += fmt.Sprintf(" with %d hosts", len(r.Hosts))
			}
		}
		lines = append(lines, line)
	}
	if len(readers) == 0 {
		return []Finding{allow(wrong("nobody may retrieve the password of %s", a.Name))}
	}
	return []Finding{ok("%d may retrieve the password", len(readers)).because(lines...)}
}

// Well-known SIDs that every authenticated caller has: [MS-DTYP] 2.4.2.4.
var everyCaller = []string{"S-1-1-0", "S-1-5-11"}

// accountAccess wants the host to be among them, directly or through groups, as the
// directory has it now: its tickets are another check's.
func accountAccess(ctx context.Context, f *Facts) []Finding {
	a := f.account.account
	who := f.readerName()
	if a.MSA == nil || who == "" {
		return []Finding{info("which host is to retrieve the password is not known here: gmsa doctor --host-account NAME")}
	}
	o, err := f.asker.Lookup(ctx, who)
	if err != nil {
		return []Finding{failed(err, "the account of the host, %s, cannot be found", who)}
	}
	groups, err := f.asker.Memberships(ctx, o.DN, true)
	if err != nil {
		return []Finding{failed(err, "the groups of %s cannot be read", o.Name)}
	}
	token := secdesc.Token{SIDs: []dtyp.SID{o.SID}, Self: a.SID}
	for _, text := range everyCaller {
		sid, _ := dtyp.ParseSID(text)
		token.SIDs = append(token.SIDs, sid)
	}
	lines := []string{o.DN}
	for _, g := range groups {
		token.SIDs = append(token.SIDs, g.SID)
		lines = append(lines, "in "+g.DN)
	}
	if granted, err := secdesc.Check(a.MSA.Readers, token, secdesc.ReadManagedPassword); err == nil && granted.Has(secdesc.ReadManagedPassword) {
		return []Finding{ok("%s may retrieve the password", o.Name).because(lines...)}
	}
	n := wrong("%s may not retrieve the password of %s", o.Name, a.Name).because(lines...)
	readers, err := f.asker.Readers(ctx, a)
	if err == nil {
		for _, r := range readers {
			if r.Object != nil && r.Object.Kind == ad.KindGroup {
				n = n.mend("gmsa group add-member %s '%s'", quoted(r.Object.Name), o.Name)
			}
		}
	}
	return []Finding{n.mend("gmsa account hosts add %s '%s'", bareName(a.Name), o.Name)}
}

// quoted is a name for a shell.
func quoted(s string) string {
	if strings.ContainsAny(s, " $'\"") {
		return "'" + s + "'"
	}
	return s
}

// readerName names the account that is to retrieve the passwords.
func (f *Facts) readerName() string {
	switch {
	case f.account.spec != nil && f.account.spec.portable != "":
		return f.account.spec.portable
	case f.cfg.HostAccount != "":
		return f.cfg.HostAccount
	case f.host.principal.Realm != "":
		return f.host.principal.Name.String()
	case f.cfg.Asker != nil && f.askerIsHost():
		return f.cfg.Asker.Client().String()
	}
	return ""
}

// accountTicket retrieves the password with the ticket that the host has. Where the
// directory has the host among the readers and withholds the password all the same,
// the ticket is older than the membership: groups enter it when it is issued.
func accountTicket(ctx context.Context, f *Facts) []Finding {
	a := f.account.account
	reader := f.reader()
	if reader == nil || a.MSA == nil {
		return []Finding{info("the password is retrieved by hosts, and this is none")}
	}
	name, err := adproto.ParseAccountName(a.DN)
	if err != nil {
		return []Finding{failed(err, "the account has no usable name")}
	}
	p, err := reader.ManagedPassword(ctx, name, ad.Hint{})
	if err == nil {
		f.account.password = &p
		return []Finding{ok("the directory gives out the password").because("by " + p.Controller)}
	}
	f.account.readErr = err
	if !errors.Is(err, ad.ErrWithheld) {
		return []Finding{ok("no ticket stands in the way")}
	}
	n := wrong("the ticket of %s is older than its membership: the directory counts the groups in the ticket", f.readerName()).because(err.Error())
	if tgt, held := reader.Held(); held {
		n = n.because(fmt.Sprintf("the ticket is of %s", tgt.AuthTime.Local().Format(time.DateTime)))
	}
	if f.cfg.Asker != nil {
		n = n.mend("kinit -k '%s'  # a new ticket; Windows: restart the computer, or klist -li 0x3e7 purge", f.readerName())
	}
	return []Finding{n.mend("gmsa agent reload  # the agent takes a new ticket by itself")}
}

// accountPassword wants the retrieval to have gone well otherwise.
func accountPassword(_ context.Context, f *Facts) []Finding {
	err := f.account.readErr
	switch {
	case f.account.password != nil:
		return []Finding{ok("the password was retrieved and is dropped")}
	case err == nil:
		return []Finding{info("it was not asked for")}
	case errors.Is(err, ad.ErrNoRootKey):
		return []Finding{wrong("the controller has no KDS root key to make the password of %s from", f.account.account.Name).because(err.Error()).
			mend("gmsa kds list -U Administrator@%s", f.domain.Name()).mend("gmsa kds add --effective-immediately  # where there is none; then wait 10 hours")}
	case errors.Is(err, ldapc.ErrEncryptionRequired):
		return []Finding{wrong("the directory wants an encrypted connection").because(err.Error())}
	}
	return []Finding{failed(err, "the password of %s cannot be retrieved", f.account.account.Name)}
}

// accountLogon logs on with the password.
func accountLogon(ctx context.Context, f *Facts) []Finding {
	p := f.account.password
	if p == nil {
		return []Finding{info("nobody here has its password")}
	}
	reader := f.reader()
	err := reader.LogOn(ctx, p.Account, p.Current)
	if err != nil && !p.Previous.IsZero() && errors.Is(err, kclient.ErrWrongKey) && reader.LogOn(ctx, p.Account, p.Previous) == nil {
		return []Finding{ok("it logs on with the password before: a new one is due within minutes")}
	}
	if err != nil {
		return []Finding{failed(err, "%s cannot log on with its own password", f.account.account.Name).mend("gmsa account show %s", bareName(f.account.name))}
	}
	return []Finding{ok("it logs on, with key version %d", p.Account.KVNO)}
}

// accountName wants nobody else to be called the same, with or without the $.
func accountName(ctx context.Context, f *Facts) []Finding {
	a := f.account.account
	bare := bareName(a.Name)
	found, err := f.asker.ForestObjects(ctx, adproto.Or(adproto.Equal("sAMAccountName", bare), adproto.Equal("sAMAccountName", bare+"$")))
	if err != nil {
		return []Finding{failed(err, "the forest cannot be searched for accounts of the same name")}
	}
	var list []Finding
	for _, o := range found {
		switch {
		case o.DN == a.DN:
		case strings.HasSuffix(o.Name, "$"):
			list = append(list, wrong("the forest has another account called %s", o.Name).because(o.DN, a.DN).mend("rename or remove one of them"))
		default:
			list = append(list, wrong("the %v %s has the name of the account without its $: whoever looks the name up finds either", o.Kind, o.Name).
				because(o.DN).mend("gmsa object set '%s' --replace sAMAccountName=OTHER", o.DN))
		}
	}
	if len(list) == 0 {
		return []Finding{ok("nobody else is called %s", bare)}
	}
	return list
}

// accountSPNs wants the names by which clients reach what runs as the account.
func accountSPNs(_ context.Context, f *Facts) []Finding {
	a := f.account.account
	var list []Finding
	if len(a.SPNs) == 0 {
		list = append(list, info("%s has no service principal name: nobody can get a ticket for it, as for an account that only connects to others", a.Name).
			mend("gmsa spn add %s host/%s host/%s", bareName(a.Name), bareName(a.Name), a.DNSHostName))
	} else {
		list = append(list, ok("%d service principal names", len(a.SPNs)).because(a.SPNs...))
	}
	if !f.account.primary {
		return list
	}
	for _, u := range f.cfg.URLs {
		list = append(list, spnOf(a, u))
	}
	return list
}

// spnOf wants the account to have the name that a browser asks a ticket for: http/HOST,
// or host/HOST, which stands for it ([MS-ADTS] 6.1.1.2.4.1.1, sPNMappings).
func spnOf(a ad.Account, address string) Finding {
	host := address
	if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	class, ask := "http", "http/"+host
	if c, h, found := strings.Cut(address, "/"); found && !strings.Contains(address, "://") {
		class, host, ask = strings.ToLower(c), h, address
	}
	for _, name := range a.SPNs {
		p, err := adproto.ParseSPN(name)
		if err != nil || !strings.EqualFold(p.Host, host) {
			continue
		}
		if strings.EqualFold(p.Class, class) || strings.EqualFold(p.Class, "host") && class == "http" {
			return ok("clients of %s ask for %s, and %s has %s", address, ask, a.Name, name)
		}
	}
	return wrong("clients of %s ask for a ticket for %s, and %s does not have that name", address, ask, a.Name).
		because(a.SPNs...).mend("gmsa spn add %s %s", bareName(a.Name), ask)
}

// accountDuplicates wants the account's service principal names to be its alone.
func accountDuplicates(ctx context.Context, f *Facts) []Finding {
	a := f.account.account
	names := slices.Clone(a.SPNs)
	if len(names) == 0 {
		return []Finding{ok("it has none")}
	}
	filters := make([]adproto.Filter, len(names))
	for i, n := range names {
		filters[i] = adproto.Equal("servicePrincipalName", n)
	}
	found, err := f.asker.ForestObjects(ctx, adproto.Or(filters...))
	if err != nil {
		return []Finding{failed(err, "the forest cannot be searched for its service principal names")}
	}
	for _, o := range found {
		if o.DN != a.DN {
			return []Finding{wrong("the %v %s has a service principal name of %s too: nobody gets a ticket for it", o.Kind, o.Name, a.Name).
				because(o.DN, "among "+strings.Join(names, ", ")).
				mend("gmsa spn list '%s'", o.Name).mend("gmsa spn remove '%s' NAME", o.Name)}
		}
	}
	return []Finding{ok("they are its alone")}
}
