package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/doctor"
)

// finding makes one; %s and the like are filled in by its callers.
func finding(s doctor.Severity, problem string, evidence []string, remedies ...string) doctor.Finding {
	return doctor.Finding{Severity: s, Problem: problem, Evidence: evidence, Remedies: remedies}
}

// crowds are groups that hold everybody, or every computer, so that an entry for them
// is one for nobody in particular.
func (j *judge) crowd(sid dtyp.SID) bool {
	switch sid {
	case dtyp.Everyone, dtyp.Anonymous, dtyp.AuthenticatedUsers, dtyp.Network, dtyp.ThisOrganization,
		dtyp.BuiltinUsers, dtyp.BuiltinGuests, dtyp.BuiltinPreWindows2000:
		return true
	}
	return slices.ContainsFunc([]uint32{dtyp.RIDDomainUsers, dtyp.RIDDomainGuests, dtyp.RIDDomainComputers}, func(rid uint32) bool {
		return sid == j.inv.SID.Child(rid)
	})
}

// readers judges who may retrieve a gMSA's password.
func (j *judge) readers(p *ad.Principal, a *Account) {
	if p.MSA.Readers == nil {
		j.add("readers-unseen", p.Name, finding(doctor.Warning, "who may read the password cannot be seen: msDS-GroupMSAMembership is not set, or hidden from whoever asks",
			nil, "gmsa audit as a member of Domain Admins", "gmsa account hosts add "+arg(p.Name)+" HOST"))
		return
	}
	var circles []*circle
	anybody := false
	for _, sid := range p.ReaderSIDs() {
		w := j.who(sid)
		a.Readers = append(a.Readers, w)
		j.reader(p, w)
		c := j.circle(sid)
		anybody = anybody || j.crowd(sid) || len(c.hosts)+len(c.others) > 0 || w.Kind == "foreign" || w.Kind == "well-known"
		if j.crowd(sid) {
			continue // its members are everybody's: none of them is a finding by itself
		}
		c.accounts = append(c.accounts, p.Name)
		circles = append(circles, c)
		j.insiders(p, w, c.others)
	}
	a.Hosts = hostsOf(circles)
	if !anybody {
		j.add("unread", p.Name, finding(doctor.Warning, "nobody may read the password: no host can use the account",
			readersText(a.Readers), "gmsa account hosts add "+arg(p.Name)+" HOST", "gmsa account remove "+arg(p.Name)))
	}
}

// hostsOf counts the computers of circles, each once.
func hostsOf(circles []*circle) int {
	if len(circles) == 1 {
		return len(circles[0].hosts)
	}
	seen := map[*ad.Principal]bool{}
	for _, c := range circles {
		for _, h := range c.hosts {
			seen[h] = true
		}
	}
	return len(seen)
}

func readersText(readers []Who) []string {
	var list []string
	for _, w := range readers {
		list = append(list, fmt.Sprintf("%s %s (%v) has nobody in it", w.Kind, w.Name, w.SID))
	}
	return list
}

// reader judges one entry.
func (j *judge) reader(p *ad.Principal, w Who) {
	remove := fmt.Sprintf("gmsa account hosts remove %s %s", arg(p.Name), w.SID)
	evidence := []string{fmt.Sprintf("msDS-GroupMSAMembership grants ReadProperty to %v", w.SID)}
	switch {
	case j.crowd(w.SID):
		j.add("read-everyone", p.Name, finding(doctor.Error, w.Name+" may read the password: everybody, in effect", evidence, remove))
	case w.Kind == "foreign":
		j.add("read-foreign", p.Name, finding(doctor.Warning, "a principal of another domain may read the password: "+w.Name, evidence, remove))
	case w.Kind == "unknown":
		j.add("read-unknown", p.Name, finding(doctor.Warning, "a SID that the domain does not know may read the password: whoever is given it, or had it, reads on", evidence, remove))
	}
}

// insiders judges those that are no computers and read by an entry of their own or by a
// group: users together, for there may be many.
func (j *judge) insiders(p *ad.Principal, via Who, list []*ad.Principal) {
	entry := fmt.Sprintf("by msDS-GroupMSAMembership for %s (%v)", via.Name, via.SID)
	var users []string
	var first *ad.Principal
	for _, m := range list {
		w := j.named(m)
		switch {
		case m.Kind == ad.KindUser:
			users = append(users, m.DN)
			first = cmp.Or(first, m)
		case m.Name != "" || m.SID == via.SID:
		case j.crowd(m.SID):
			j.add("read-everyone", p.Name, finding(doctor.Error, w.Name+" may read the password: everybody, in effect", []string{entry}, withdraw(p, via, m)))
		case w.Kind == "foreign":
			j.add("read-foreign", p.Name, finding(doctor.Warning, "a principal of another domain may read the password: "+w.Name, []string{entry}, withdraw(p, via, m)))
		}
	}
	if first == nil {
		return
	}
	problem := "a person's account may read the password: " + first.Name
	if len(users) > 1 {
		problem = fmt.Sprintf("accounts of %d persons may read the password", len(users))
	}
	j.add("read-user", p.Name, finding(doctor.Warning, problem, append(some("", users), entry), withdraw(p, via, first)))
}

// withdraw is the command after which m no longer reads through via.
func withdraw(p *ad.Principal, via Who, m *ad.Principal) string {
	if m.SID == via.SID {
		return fmt.Sprintf("gmsa account hosts remove %s %v", arg(p.Name), m.SID)
	}
	return fmt.Sprintf("gmsa group remove-member %s %v, or of a group in it", arg(via.Name), m.SID)
}

// trusted reports whether a principal rules the domain anyway.
func (j *judge) trusted(sid dtyp.SID) bool {
	switch sid {
	case dtyp.LocalSystem, dtyp.BuiltinAdministrators, dtyp.EnterpriseDomainControllers,
		j.inv.SID.Child(dtyp.RIDDomainAdmins), j.inv.SID.Child(dtyp.RIDAdministrator), j.inv.SID.Child(dtyp.RIDDomainControllers):
		return true
	}
	// Those of the root domain have its SID, wherever that is.
	rid, domain := sid.RID(), sid.Domain()
	return domain.IsDomain() && (rid == dtyp.RIDEnterpriseAdmins || !j.inv.Whole && domain != j.inv.SID && rid == dtyp.RIDDomainAdmins)
}

// rules reports whether sid is an administrator of the domain, by a group too.
func (j *judge) rules(sid dtyp.SID) bool {
	if j.trusted(sid) {
		return true
	}
	p := j.members.Principal(sid)
	return p != nil && slices.ContainsFunc(j.members.Above(p), func(g *ad.Principal) bool { return j.trusted(g.SID) })
}

// writers judges who else can become a reader.
func (j *judge) writers(p *ad.Principal, a *Account) {
	if p.Descriptor == nil {
		j.add("permissions-unseen", p.Name, finding(doctor.Warning, "the permissions of the account cannot be seen", nil, "gmsa audit as a member of Domain Admins"))
		return
	}
	for _, m := range p.Masters() {
		w := Writer{Who: j.who(m.SID), Rights: m.Rights, Trusted: j.rules(m.SID)}
		a.Writers = append(a.Writers, w)
		if w.Trusted || m.SID == dtyp.BuiltinAccountOperators && len(j.circle(m.SID).members) == 0 {
			continue // every gMSA's default descriptor has Account Operators, [MS-ADSC]
		}
		severity := doctor.Warning
		if j.crowd(m.SID) {
			severity = doctor.Error
		}
		evidence := []string{fmt.Sprintf("%s %s (%v): %s on %s", w.Kind, w.Name, w.SID, strings.Join(w.Rights, ", "), p.DN)}
		for _, in := range j.circle(m.SID).members {
			if len(evidence) == 6 {
				evidence = append(evidence, "and more")
				break
			}
			evidence = append(evidence, "in it: "+j.named(in).Name)
		}
		j.add("write-access", p.Name, finding(severity, w.Name+" can make itself a reader of the password", evidence,
			writerRemedies(p, m)...))
	}
}

// writerRemedies are commands of those that everybody has for permissions: Windows' and
// Samba's.
func writerRemedies(p *ad.Principal, m ad.Master) []string {
	list := []string{fmt.Sprintf(`dsacls "%s" /R %v`, strings.ReplaceAll(p.DN, `"`, `\"`), m.SID)}
	if slices.Contains(m.Rights, "owner") {
		list = []string{fmt.Sprintf(`dsacls "%s" /takeOwnership, as a member of Domain Admins`, strings.ReplaceAll(p.DN, `"`, `\"`))}
	}
	return append(list, "if it is inherited or of the class, take it from the container: samba-tool dsacl get, or the Security tab there")
}

// privileged are the groups whose members can take over the domain.
func (j *judge) privileged(sid dtyp.SID) bool {
	switch sid {
	case dtyp.BuiltinAdministrators, dtyp.BuiltinAccountOperators, dtyp.BuiltinServerOperators, dtyp.BuiltinPrintOperators, dtyp.BuiltinBackupOperators:
		return true
	}
	return sid.Domain().IsDomain() && slices.Contains([]uint32{
		dtyp.RIDDomainAdmins, dtyp.RIDDomainControllers, dtyp.RIDSchemaAdmins, dtyp.RIDEnterpriseAdmins,
		dtyp.RIDGroupPolicyCreators, dtyp.RIDKeyAdmins, dtyp.RIDEnterpriseKeyAdmins,
	}, sid.RID())
}

// rolloverGrace is how late a password may be: the directory makes the next one when a
// host asks for it, and hosts ask every few hours.
const rolloverGrace = 24 * time.Hour

// standaloneAge is how old an sMSA's password gets where its host changes it: 30 days,
// Windows' MaximumPasswordAge, and as much again for hosts that are off for a while.
const standaloneAge = 60 * 24 * time.Hour

// state judges an account by itself.
func (j *judge) state(p *ad.Principal) {
	name := arg(p.Name)
	if p.EncTypes != 0 && p.EncTypes&aes == 0 {
		j.add("rc4-only", p.Name, finding(doctor.Error, "the account has no AES encryption type: its tickets can be cracked",
			[]string{"msDS-SupportedEncryptionTypes: " + p.EncTypes.String()}, "gmsa account set "+name+" --enctypes AES128,AES256"))
	}
	if p.Control&adproto.UACTrustedForDelegation != 0 {
		j.add("unconstrained-delegation", p.Name, finding(doctor.Error, "the account is trusted for unconstrained delegation: whoever runs as it can be everybody who logs on to it",
			[]string{"userAccountControl: TRUSTED_FOR_DELEGATION"}, "gmsa account set "+name+" --not-trusted-for-delegation"))
	}
	j.privileges(p)
	late := j.cfg.Now.Sub(p.NextRollover())
	switch {
	case p.Control.Disabled():
	case p.Kind == ad.KindGMSA && !p.NextRollover().IsZero() && late > rolloverGrace:
		j.add("not-rotated", p.Name, finding(doctor.Warning, "the password is past its interval: no host has asked for the next one",
			[]string{fmt.Sprintf("its interval of %d days ended at %s", p.MSA.Interval, p.NextRollover().UTC().Format(time.RFC3339))},
			"gmsa account test "+name+", on a host that may read it", "gmsa account remove "+name+", if nothing uses it"))
	case p.Kind == ad.KindSMSA && !p.PasswordSet.IsZero() && j.cfg.Now.Sub(p.PasswordSet) > standaloneAge:
		j.add("not-rotated", p.Name, finding(doctor.Warning, "its host has not changed the password",
			[]string{"pwdLastSet: " + p.PasswordSet.UTC().Format(time.RFC3339)}, "gmsa account keys "+name+", on its host"))
	}
}

func (j *judge) privileges(p *ad.Principal) {
	var evidence, remedies []string
	for _, g := range j.members.Above(p) {
		if j.privileged(g.SID) {
			evidence = append(evidence, "in "+g.DN)
		}
	}
	for _, g := range j.members.Of(p) {
		if above := append([]*ad.Principal{g}, j.members.Above(g)...); slices.ContainsFunc(above, func(g *ad.Principal) bool { return j.privileged(g.SID) }) {
			remedies = append(remedies, fmt.Sprintf("gmsa group remove-member %s %s", arg(g.Name), arg(p.Name)))
		}
	}
	switch {
	case len(evidence) > 0:
		j.add("privileged", p.Name, finding(doctor.Error, "the account is in a privileged group: each of its hosts is an administrator of the domain", evidence, remedies...))
	case p.AdminCount:
		j.add("admin-count", p.Name, finding(doctor.Info, "the account was in a protected group: it still has that group's permissions",
			[]string{"adminCount: 1"}, "gmsa object set "+arg(p.Name)+" --clear adminCount"))
	}
}

// rootKeys judges the root keys and what they reach.
func (j *judge) rootKeys() {
	index := map[dtyp.GUID]int{}
	for i, k := range j.inv.RootKeys {
		index[k.ID] = i
		j.report.RootKeys = append(j.report.RootKeys, RootKey{ID: k.ID, Created: k.Created, Effective: k.UseStart})
	}
	orphans := map[dtyp.GUID][]string{}
	for _, p := range j.inv.Services {
		if p.MSA == nil {
			continue
		}
		if id := p.MSA.PreviousID; id != nil {
			if i, ok := index[id.RootKeyID]; ok {
				j.report.RootKeys[i].Previous++
			}
		}
		if id := p.MSA.ID; id != nil {
			if i, ok := index[id.RootKeyID]; ok {
				j.report.RootKeys[i].Current++
			} else {
				orphans[id.RootKeyID] = append(orphans[id.RootKeyID], p.Name)
			}
		}
	}
	j.orphans(orphans)
	for i, k := range j.report.RootKeys {
		newest := i == len(j.report.RootKeys)-1
		if k.Current+k.Previous == 0 && !newest && j.inv.Whole && j.inv.RootKeys[i].FirstUse().Before(j.cfg.Now) {
			j.add("root-key-idle", k.ID.String(), finding(doctor.Info, "the root key makes no password any more, and there is a newer one",
				[]string{"made " + k.Created.UTC().Format(time.RFC3339)}, "gmsa kds remove "+k.ID.String()))
		}
	}
}

// orphans are accounts whose passwords come from keys that are not there. Where no key
// can be seen at all, whoever asks may not see them.
func (j *judge) orphans(orphans map[dtyp.GUID][]string) {
	if len(j.inv.RootKeys) == 0 && len(j.report.Accounts) > 0 && slices.ContainsFunc(j.inv.Services, func(p ad.Principal) bool { return p.Kind == ad.KindGMSA }) {
		j.add("root-keys-unseen", j.inv.Domain, finding(doctor.Warning, "no KDS root key can be seen: there is none, or they are hidden from whoever asks",
			nil, "gmsa audit as a member of Enterprise Admins", "gmsa kds add"))
		return
	}
	for id, names := range orphans {
		slices.Sort(names)
		j.add("root-key-missing", id.String(), finding(doctor.Error, "passwords in force come from a root key that is not there: nobody can make them",
			some("account ", names), "restore the root key, or make the accounts anew: gmsa account remove, gmsa account create"))
	}
}

// hosts judges the computers that read passwords.
func (j *judge) hosts() {
	stale := map[*ad.Principal][]string{}
	for _, c := range j.circles {
		for _, h := range c.hosts {
			if len(c.accounts) > 0 && (h.Control.Disabled() || j.idle(h) > j.cfg.Stale) {
				stale[h] = append(stale[h], c.accounts...)
			}
		}
	}
	for h, accounts := range stale {
		slices.Sort(accounts)
		evidence := append([]string{h.DN}, some("account ", slices.Compact(accounts))...)
		problem := "a disabled computer may read passwords"
		if !h.Control.Disabled() {
			problem = fmt.Sprintf("a computer that has not logged on for %d days may read passwords", int(j.idle(h)/(24*time.Hour)))
			if h.LastLogon.IsZero() {
				problem = "a computer that has never logged on may read passwords"
			}
		}
		j.add("stale-host", h.Name, finding(doctor.Warning, problem, evidence, "gmsa computer remove "+arg(h.Name)))
	}
}

// idle is how long ago a computer logged on, or was made.
func (j *judge) idle(h *ad.Principal) time.Duration {
	since := h.LastLogon
	if since.IsZero() {
		since = h.WhenCreated
	}
	if since.IsZero() {
		return 0
	}
	return j.cfg.Now.Sub(since)
}

// some are the first of many names, as lines of evidence.
func some(kind string, names []string) []string {
	const most = 5
	list := slices.Clone(names[:min(len(names), most)])
	for i, n := range list {
		list[i] = kind + n
	}
	if len(names) > most {
		list = append(list, fmt.Sprintf("and %d more", len(names)-most))
	}
	return list
}

// arg is a name as a word of a shell's command line.
func arg(name string) string {
	if name != "" && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789._-") == "" && name[0] != '-' {
		return name
	}
	bare := adproto.AccountName{Name: name}.Bare()
	if bare != name {
		return arg(bare) // the $ of an account need not be written
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
