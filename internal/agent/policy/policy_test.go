package policy

import (
	"errors"
	"strings"
	"testing"
)

var rules = Policy{Rules: []Rule{
	{Name: "web", Units: []string{"nginx.service", "app@*.service"}, Accounts: []string{"WebApp*"}, Leases: 3},
	{Name: "keys", Units: []string{"sshd.service"}, CredentialSpecs: []string{"contoso_webapp01"}, Keytab: true},
	{Users: []uint32{1000}, Accounts: []string{"webapp02", "logsvc"}},
	{Name: "jobs", Cgroups: []string{"/system.slice/jobs.slice"}, Accounts: []string{"*"}},
}}

func TestDecide(t *testing.T) {
	nginx := Subject{UID: 33, GID: 33, Unit: "nginx.service"}
	own := func(s Subject, r Request) Request { r.UID, r.GID = s.UID, s.GID; return r }
	alice := Subject{UID: 1000, GID: 1000}
	tests := map[string]struct {
		s    Subject
		r    Request
		rule string // empty: denied
	}{
		"root may do everything":                         {Subject{HostRoot: true}, Request{Accounts: []string{"x"}, UID: 7, Keytab: true}, "root"},
		"uid 0 of a user namespace is nobody":            {Subject{UID: 0}, Request{Accounts: []string{"webapp01"}}, ""},
		"a unit by its name":                             {nginx, own(nginx, Request{Accounts: []string{"webapp01"}}), `"web"`},
		"case and dollar do not matter":                  {nginx, own(nginx, Request{Accounts: []string{"WEBAPP01$"}}), `"web"`},
		"an instance of a template":                      {Subject{Unit: "app@7.service"}, Request{Accounts: []string{"webapp01"}}, `"web"`},
		"a unit that only begins alike":                  {Subject{Unit: "nginx.service.evil.service"}, Request{Accounts: []string{"webapp01"}}, ""},
		"an account outside of the pattern":              {nginx, own(nginx, Request{Accounts: []string{"sqlsvc"}}), ""},
		"one account of two is not granted":              {nginx, own(nginx, Request{Accounts: []string{"webapp01", "sqlsvc"}}), ""},
		"tickets do not include keys":                    {nginx, own(nginx, Request{Accounts: []string{"webapp01"}, Keytab: true}), ""},
		"a spec grants all its accounts":                 {Subject{Unit: "sshd.service"}, Request{Spec: "contoso_webapp01", Accounts: []string{"a", "b"}, Keytab: true}, `"keys"`},
		"a spec by another name":                         {Subject{Unit: "sshd.service"}, Request{Spec: "contoso_webapp02", Accounts: []string{"a"}}, ""},
		"a user":                                         {alice, own(alice, Request{Accounts: []string{"webapp02", "logsvc"}}), "3"},
		"a user for root":                                {alice, Request{Accounts: []string{"webapp02"}}, ""},
		"a user for another group":                       {alice, Request{Accounts: []string{"webapp02"}, UID: 1000}, ""},
		"a control group and what is below it":           {Subject{Cgroup: "/system.slice/jobs.slice/x.service"}, Request{Accounts: []string{"x"}}, `"jobs"`},
		"a control group with the same first letters":    {Subject{Cgroup: "/system.slice/jobs.slice-evil"}, Request{Accounts: []string{"x"}}, ""},
		"no account at all":                              {alice, own(alice, Request{}), ""},
		"a caller without a unit matches no unit rule":   {Subject{}, Request{Accounts: []string{"webapp01"}}, ""},
		"a caller without a cgroup matches no cgroup":    {Subject{Cgroup: ""}, Request{Accounts: []string{"x"}}, ""},
		"a second rule grants what the first one didn't": {Subject{UID: 1000, Unit: "nginx.service"}, Request{Accounts: []string{"logsvc"}, UID: 1000}, "3"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			g, err := rules.Decide(c.s, c.r)
			if c.rule == "" {
				if !errors.Is(err, ErrDenied) {
					t.Fatalf("granted by %s, want a refusal", g.Rule)
				}
				return
			}
			if err != nil || g.Rule != c.rule {
				t.Fatalf("rule %s, %v; want rule %s", g.Rule, err, c.rule)
			}
		})
	}
}

// security 5
func TestLeasesForSubordinateIDs(t *testing.T) {
	in := func(id uint32) bool { return id >= 100000 && id < 165536 }
	alice := Subject{UID: 1000, GID: 1000, SubordinateUID: in, SubordinateGID: in}
	for name, c := range map[string]struct {
		uid, gid uint32
		want     bool
	}{
		"own ids":                    {1000, 1000, true},
		"mapped root of a container": {100000, 100000, true},
		"the last mapped id":         {165535, 1000, true},
		"one too far":                {165536, 1000, false},
		"root":                       {0, 0, false},
		"another user":               {1001, 1001, false},
	} {
		_, err := rules.Decide(alice, Request{Accounts: []string{"webapp02"}, UID: c.uid, GID: c.gid})
		if (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// security 2: naming is not authorisation.
func TestTheZeroPolicyAdmitsRootAlone(t *testing.T) {
	if _, err := (Policy{}).Decide(Subject{UID: 1000, GID: 1000, Unit: "a.service", Cgroup: "/a"}, Request{Spec: "s", Accounts: []string{"a"}, UID: 1000, GID: 1000}); !errors.Is(err, ErrDenied) {
		t.Errorf("err = %v", err)
	}
	if _, err := (Policy{}).Decide(Subject{HostRoot: true}, Request{Spec: "s"}); err != nil {
		t.Error(err)
	}
}

func TestValidateReportsAllFaultsAtOnce(t *testing.T) {
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	err := Policy{Rules: []Rule{
		{Units: []string{"["}, Accounts: []string{""}, Leases: -1},
		{Cgroups: []string{"/", "a/b", "/a/../b"}},
	}}.Validate()
	for _, want := range []string{
		`rules[0].units: "["`, `rules[0].accounts: ""`, "rules[0].leases: -1",
		`rules[1].cgroups: "/"`, `rules[1].cgroups: "a/b"`, `rules[1].cgroups: "/a/../b"`, "rules[1].accounts: the rule grants nothing",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}
