// Package policy decides who may lease what.
//
// A credential spec names an account and grants nothing. What grants is a list
// of rules in the agent's configuration; with no rules, root of the host alone
// may lease. A rule matches what the kernel and the service manager say of a
// caller (user, unit, control group) and never what the caller says of itself.
//
// The package is pure: the caller's facts come in as a [Subject], and
// [Policy.Decide] answers. An answer says no more to the caller than "denied";
// the reason is for the agent's own log.
package policy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ErrDenied is wrapped by every refusal.
var ErrDenied = errors.New("the policy does not allow this lease")

// Subject is the caller as package peer found it.
type Subject struct {
	// HostRoot is root of the initial user namespace: it may do everything.
	HostRoot bool
	// UID and GID of the caller.
	UID, GID uint32
	// Unit is the systemd unit that the caller's control group belongs to; empty
	// for none. Cgroup is the group's path.
	Unit, Cgroup string
	// Subordinate reports whether an id lies in the caller's ranges of subuid(5)
	// (for gid, subgid(5)); nil for a caller that has none.
	SubordinateUID, SubordinateGID func(id uint32) bool
}

// Request is what the caller wants.
type Request struct {
	// Spec is the name of the credential spec; empty for a lease of an account
	// by its name.
	Spec string
	// Accounts are the sAMAccountNames, without '$', of all accounts that the
	// lease would hold.
	Accounts []string
	// UID and GID own the lease.
	UID, GID uint32
	// Keytab: the lease would hold the account's keys.
	Keytab bool
}

// Rule grants leases to the callers it matches. A rule without users, units and
// cgroups matches nobody, and one without specs and accounts grants nothing.
type Rule struct {
	// Name appears in the log when the rule decides.
	Name string `yaml:"name"`
	// Users are the uids of callers, as numbers.
	Users []uint32 `yaml:"users"`
	// Units are systemd units, with the wildcards of path.Match: app@*.service.
	Units []string `yaml:"units"`
	// Cgroups are control groups; each matches itself and all below it.
	Cgroups []string `yaml:"cgroups"`
	// CredentialSpecs are names of specs, with the wildcards of path.Match. The
	// accounts of such a spec need not be listed.
	CredentialSpecs []string `yaml:"credential_specs"`
	// Accounts are sAMAccountNames without '$', with the wildcards of path.Match,
	// compared without case.
	Accounts []string `yaml:"accounts"`
	// Keytab allows leases with keys, not tickets alone.
	Keytab bool `yaml:"keytab"`
	// Leases is how many of the caller's user may be alive at once; 0 for the
	// agent's own quota.
	Leases int `yaml:"leases"`
}

// Policy is a list of rules; the first one that grants decides. The zero value
// admits root of the host alone.
type Policy struct {
	Rules []Rule
	// Containers publish credential specs to the containers of this host; without
	// any, none is published.
	Containers []ContainerRule
	// Tasks are the accounts that the launcher of tasks may use, with the wildcards
	// of path.Match.
	Tasks []string
}

// Grant is what a policy gives.
type Grant struct {
	// Rule is the name of the rule that decided; "root" for root of the host.
	Rule string
	// Leases is the quota that the rule sets; 0 for the agent's own.
	Leases int
	// Files and ReloadSignal are those of a rule for containers.
	Files        *ContainerFiles
	ReloadSignal string
}

// Decide answers a request. A refusal wraps ErrDenied and gives a reason that is
// for the log: the caller must not learn from it which specs or accounts exist.
func (p Policy) Decide(s Subject, r Request) (Grant, error) {
	if s.HostRoot {
		return Grant{Rule: "root"}, nil
	}
	// The owner is checked before the rules, so that no rule can give a caller
	// files of another user: security 5.
	if err := ownsIDs(s, r); err != nil {
		return Grant{}, err
	}
	reason := "no rule matches the caller"
	for i, rule := range p.Rules {
		if !rule.matches(s) {
			continue
		}
		name := rule.label(i)
		switch {
		case !rule.grants(r):
			reason = fmt.Sprintf("rule %s matches the caller and does not grant this", name)
		case r.Keytab && !rule.Keytab:
			reason = fmt.Sprintf("rule %s grants tickets and no keytab", name)
		default:
			return Grant{Rule: name, Leases: rule.Leases}, nil
		}
	}
	return Grant{}, fmt.Errorf("%w: %s", ErrDenied, reason)
}

// DecideTask answers for the launcher of tasks: every account must be one of its.
func (p Policy) DecideTask(accounts []string) error {
	for _, a := range accounts {
		if !matchAny(lower(p.Tasks), strings.ToLower(strings.TrimSuffix(a, "$"))) {
			return fmt.Errorf("%w: ecs.accounts has no %q", ErrDenied, a)
		}
	}
	return nil
}

// ownsIDs holds security 5: a lease belongs to the caller or to an id that the
// caller's user namespaces may use.
func ownsIDs(s Subject, r Request) error {
	if r.UID != s.UID && (s.SubordinateUID == nil || !s.SubordinateUID(r.UID)) {
		return fmt.Errorf("%w: uid %d is neither the caller's own (%d) nor in its subordinate ranges", ErrDenied, r.UID, s.UID)
	}
	if r.GID != s.GID && (s.SubordinateGID == nil || !s.SubordinateGID(r.GID)) {
		return fmt.Errorf("%w: gid %d is neither the caller's own (%d) nor in its subordinate ranges", ErrDenied, r.GID, s.GID)
	}
	return nil
}

func (r Rule) matches(s Subject) bool {
	return slices.Contains(r.Users, s.UID) ||
		s.Unit != "" && matchAny(r.Units, s.Unit) ||
		slices.ContainsFunc(r.Cgroups, func(g string) bool { return below(s.Cgroup, g) })
}

// grants reports whether the rule names the spec, or every account of the
// request.
func (r Rule) grants(q Request) bool {
	if q.Spec != "" && matchAny(r.CredentialSpecs, q.Spec) {
		return true
	}
	if len(q.Accounts) == 0 || len(r.Accounts) == 0 {
		return false
	}
	return !slices.ContainsFunc(q.Accounts, func(a string) bool {
		return !matchAny(lower(r.Accounts), strings.ToLower(strings.TrimSuffix(a, "$")))
	})
}

func (r Rule) label(i int) string {
	if r.Name != "" {
		return strconv.Quote(r.Name)
	}
	return fmt.Sprintf("%d", i+1)
}

// Validate reports all faults of the rules at once, each with the rule's place.
func (p Policy) Validate() error {
	var faults []error
	for i, r := range p.Rules {
		fault := func(field, format string, a ...any) {
			faults = append(faults, fmt.Errorf("rules[%d].%s: %s", i, field, fmt.Sprintf(format, a...)))
		}
		for field, patterns := range map[string][]string{"units": r.Units, "credential_specs": r.CredentialSpecs, "accounts": r.Accounts} {
			for _, pattern := range patterns {
				if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
					fault(field, "%q is not a pattern", pattern)
				}
			}
		}
		for _, g := range r.Cgroups {
			if !isCgroup(g) {
				fault("cgroups", "%q: want an absolute path below the root", g)
			}
		}
		if len(r.Users)+len(r.Units)+len(r.Cgroups) == 0 {
			fault("users", "the rule matches nobody: give users, units or cgroups")
		}
		if len(r.CredentialSpecs)+len(r.Accounts) == 0 {
			fault("accounts", "the rule grants nothing: give credential_specs or accounts")
		}
		if r.Leases < 0 {
			fault("leases", "%d is negative", r.Leases)
		}
	}
	for i, r := range p.Containers {
		faults = append(faults, r.faults(i)...)
	}
	for _, pattern := range p.Tasks {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			faults = append(faults, fmt.Errorf("ecs.accounts: %q is not a pattern", pattern))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, s)
		return err == nil && ok
	})
}

// isCgroup tells whether g can be a rule's control group: "/" would hold every
// process of the host.
func isCgroup(g string) bool { return path.Clean(g) == g && path.IsAbs(g) && g != "/" }

// below reports whether the group g holds the group of the caller.
func below(caller, g string) bool {
	return caller == g || strings.HasPrefix(caller, g+"/")
}

func lower(s []string) []string {
	out := make([]string, len(s))
	for i, v := range s {
		out[i] = strings.ToLower(strings.TrimSuffix(v, "$"))
	}
	return out
}
