package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/doctor"
)

// Finding is one thing that should be otherwise, or known.
type Finding struct {
	// Check names what was looked for, such as read-everyone; Subject is what it was
	// found at: an account, a host, a root key or the domain.
	Check   string `json:"check"`
	Subject string `json:"subject"`
	doctor.Finding
}

// Report is what the audit found. Its JSON is stable: fields are only added.
type Report struct {
	Domain  string    `json:"domain"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	// Sound is true when nothing is an error or a warning.
	Sound  bool                    `json:"sound"`
	Counts map[doctor.Severity]int `json:"counts"`
	// Findings are the worst first.
	Findings []Finding `json:"findings"`
	Accounts []Account `json:"accounts"`
	// Groups are those through which somebody reads a password or could come to.
	Groups   []Group   `json:"groups"`
	RootKeys []RootKey `json:"rootKeys"`
}

// Who is a principal by its names.
type Who struct {
	SID  dtyp.SID `json:"sid"`
	Name string   `json:"name"`
	// Kind is computer, user, group, …; foreign for a SID of another domain, well-known
	// for one of none, and unknown for one that the domain does not know.
	Kind string `json:"kind"`
	DN   string `json:"distinguishedName,omitempty"`
}

// Writer is who can make itself a reader.
type Writer struct {
	Who
	Rights []string `json:"rights"`
	// Trusted is true for the domain's administrators and its system.
	Trusted bool `json:"trusted"`
}

// Account is a managed service account and who can use it.
type Account struct {
	Who
	Enabled bool `json:"enabled"`
	// Readers may retrieve the password by an entry of their own; who is in a group is
	// in the report's groups.
	Readers []Who    `json:"readers"`
	Writers []Writer `json:"writers"`
	// Hosts counts the computers that may retrieve the password, directly or by a group.
	Hosts        int        `json:"hosts"`
	EncTypes     string     `json:"kerberosEncryptionType,omitempty"`
	RootKey      string     `json:"rootKey,omitempty"`
	PasswordSet  *time.Time `json:"passwordLastSet,omitempty"`
	NextRollover *time.Time `json:"nextRollover,omitempty"`
}

// Group is a group with all that is in it, directly or through other groups.
type Group struct {
	Who
	Members []Who `json:"members"`
}

// RootKey is a root key with what it gives away.
type RootKey struct {
	ID        dtyp.GUID `json:"keyId"`
	Created   time.Time `json:"creationTime"`
	Effective time.Time `json:"effectiveTime"`
	// Current and Previous count the accounts whose password in force, and whose one
	// before that, it makes.
	Current  int `json:"current"`
	Previous int `json:"previous"`
}

// Config says how to judge.
type Config struct {
	Now time.Time
	// Stale is how long a host may not have logged on; 0 means [DefaultStale].
	Stale time.Duration
	// Version is the program's, for the report.
	Version string
}

// DefaultStale is how long a host may not have logged on. LeastStale is the least that
// can be told: lastLogonTimestamp lags by up to 14 days.
const (
	DefaultStale = 90 * 24 * time.Hour
	LeastStale   = 15 * 24 * time.Hour
)

// Judge makes the report.
func Judge(inv ad.Inventory, cfg Config) Report {
	if cfg.Stale == 0 {
		cfg.Stale = DefaultStale
	}
	j := &judge{cfg: cfg, inv: inv, members: inv.Members(), circles: map[dtyp.SID]*circle{}}
	j.report = Report{Domain: inv.Domain, Version: cfg.Version, Time: cfg.Now.UTC().Truncate(time.Second), Counts: map[doctor.Severity]int{},
		Findings: []Finding{}, Accounts: []Account{}, Groups: []Group{}, RootKeys: []RootKey{}}
	for i := range inv.Services {
		j.account(&inv.Services[i])
	}
	j.rootKeys()
	j.hosts()
	j.groups()
	j.sum()
	return j.report
}

// judge is one run of Judge.
type judge struct {
	cfg     Config
	inv     ad.Inventory
	members *ad.Members
	report  Report
	// circles keeps who is behind each SID that was asked for.
	circles map[dtyp.SID]*circle
}

// circle is who acts for a SID: the principal itself, or those in a group, directly or
// through others. It is made once: thousands of accounts may have one group of thousands.
type circle struct {
	members       []*ad.Principal // of a group
	hosts, others []*ad.Principal // the computers, and who is neither computer nor group
	// accounts are those whose passwords the SID may read.
	accounts []string
}

func (j *judge) add(check, subject string, f doctor.Finding) {
	j.report.Findings = append(j.report.Findings, Finding{check, subject, f})
}

func (j *judge) sum() {
	slices.SortStableFunc(j.report.Findings, func(a, b Finding) int {
		switch {
		case a.Severity.Worse(b.Severity):
			return -1
		case b.Severity.Worse(a.Severity):
			return 1
		}
		return cmp.Or(strings.Compare(a.Check, b.Check), strings.Compare(a.Subject, b.Subject))
	})
	for _, f := range j.report.Findings {
		j.report.Counts[f.Severity]++
	}
	j.report.Sound = j.report.Counts[doctor.Error]+j.report.Counts[doctor.Warning] == 0
}

// who names a SID.
func (j *judge) who(sid dtyp.SID) Who {
	if p := j.members.Principal(sid); p != nil {
		return j.named(p)
	}
	w := Who{SID: sid, Name: sid.String(), Kind: "unknown"}
	switch domain := sid.Domain(); {
	case wellKnown[sid] != "":
		w.Name, w.Kind = wellKnown[sid], "well-known"
	case !sid.IsDomain() && domain.IsDomain() && domain != j.inv.SID:
		w.Kind = "foreign"
	}
	return w
}

func (j *judge) named(p *ad.Principal) Who {
	w := Who{SID: p.SID, Name: p.Name, Kind: p.Kind.String(), DN: p.DN}
	if p.Name != "" {
		return w
	}
	// What else has a SID stands for a principal of elsewhere.
	w.Name, w.Kind = p.SID.String(), "foreign"
	if name := wellKnown[p.SID]; name != "" {
		w.Name, w.Kind = name, "well-known"
	}
	return w
}

// wellKnown are the names of SIDs that are of no domain.
var wellKnown = map[dtyp.SID]string{
	dtyp.Everyone: "Everyone", dtyp.Anonymous: "ANONYMOUS LOGON", dtyp.AuthenticatedUsers: "Authenticated Users", dtyp.LocalSystem: "SYSTEM",
	dtyp.PrincipalSelf: "SELF", dtyp.CreatorOwner: "CREATOR OWNER", dtyp.OwnerRights: "OWNER RIGHTS", dtyp.Network: "NETWORK",
	dtyp.Interactive: "INTERACTIVE", dtyp.Service: "SERVICE", dtyp.EnterpriseDomainControllers: "ENTERPRISE DOMAIN CONTROLLERS",
	dtyp.LocalService: "LOCAL SERVICE", dtyp.NetworkService: "NETWORK SERVICE", dtyp.ThisOrganization: "This Organization",
	dtyp.OtherOrganization: "Other Organization",
}

// circle is the one of a SID.
func (j *judge) circle(sid dtyp.SID) *circle {
	if c := j.circles[sid]; c != nil {
		return c
	}
	c := &circle{members: j.members.Below(sid)}
	j.circles[sid] = c
	list := c.members
	if p := j.members.Principal(sid); p != nil {
		list = append(slices.Clip(list), p)
	}
	for _, p := range list {
		switch p.Kind {
		case ad.KindComputer:
			c.hosts = append(c.hosts, p)
		case ad.KindGroup:
		default:
			c.others = append(c.others, p)
		}
	}
	return c
}

// groups lists the groups that were asked for on the way.
func (j *judge) groups() {
	for sid, c := range j.circles {
		if p := j.members.Principal(sid); p == nil || p.Kind != ad.KindGroup {
			continue
		}
		g := Group{Who: j.who(sid), Members: []Who{}}
		for _, p := range c.members {
			g.Members = append(g.Members, j.named(p))
		}
		slices.SortFunc(g.Members, byName)
		j.report.Groups = append(j.report.Groups, g)
	}
	slices.SortFunc(j.report.Groups, func(a, b Group) int { return byName(a.Who, b.Who) })
}

func byName(a, b Who) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.DN, b.DN))
}

func (j *judge) account(p *ad.Principal) {
	a := Account{Who: j.named(p), Enabled: !p.Control.Disabled(), Readers: []Who{}, Writers: []Writer{},
		PasswordSet: instant(p.PasswordSet), NextRollover: instant(p.NextRollover())}
	if p.EncTypes != 0 {
		a.EncTypes = p.EncTypes.String()
	}
	if p.MSA != nil {
		if p.MSA.ID != nil {
			a.RootKey = p.MSA.ID.RootKeyID.String()
		}
		j.readers(p, &a)
		j.writers(p, &a)
	}
	j.state(p)
	j.report.Accounts = append(j.report.Accounts, a)
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC().Truncate(time.Second)
	return &u
}

// aes are the encryption types that are no longer broken.
const aes = adproto.EncAES128 | adproto.EncAES256 | adproto.EncAES128SHA256 | adproto.EncAES256SHA384
