package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestDecideContainer(t *testing.T) {
	p := Policy{Containers: []ContainerRule{
		{Name: "web", CredentialSpecs: []string{"contoso_web*"}, Runtimes: []string{Podman, Docker}},
		{Name: "sql", CredentialSpecs: []string{"sql"}, Runtimes: []string{Docker}, Cgroups: []string{"/db.slice"}, Users: []uint32{999}, Keytab: true},
		{Name: "shop", CredentialSpecs: []string{"shop"}, Runtimes: []string{Containerd}, Namespaces: []string{"shop"}, Pods: []string{"web-*"}},
	}}
	for name, c := range map[string]struct {
		c      Container
		spec   string
		keytab bool
		rule   string // empty: denied
	}{
		"a spec of a rule":            {Container{Runtime: Podman}, "contoso_webapp01", false, `"web"`},
		"another spec":                {Container{Runtime: Podman}, "hr", false, ""},
		"another runtime":             {Container{Runtime: Containerd}, "contoso_webapp01", false, ""},
		"a runtime that is not known": {Container{Runtime: OtherRuntime}, "contoso_webapp01", false, ""},
		"tickets do not include keys": {Container{Runtime: Docker}, "contoso_webapp01", true, ""},
		"all attributes of a rule":    {Container{Runtime: Docker, Cgroup: "/db.slice/docker-1.scope", UID: 999}, "sql", true, `"sql"`},
		"another control group":       {Container{Runtime: Docker, Cgroup: "/db.slice2/docker-1.scope", UID: 999}, "sql", false, ""},
		"a namespace and a pod":       {Container{Runtime: Containerd, Namespace: "shop", Pod: "web-1"}, "shop", false, `"shop"`},
		"another namespace":           {Container{Runtime: Containerd, Namespace: "shop2", Pod: "web-1"}, "shop", false, ""},
		"another pod":                 {Container{Runtime: Containerd, Namespace: "shop", Pod: "db-1"}, "shop", false, ""},
		"no namespace":                {Container{Runtime: Containerd, Pod: "web-1"}, "shop", false, ""},
		"files for another user":      {Container{Runtime: Docker, Cgroup: "/db.slice/docker-1.scope", UID: 999, Files: &ContainerFiles{UID: 1000}}, "sql", true, ""},
		"another user":                {Container{Runtime: Docker, Cgroup: "/db.slice/docker-1.scope", UID: 0}, "sql", false, ""},
		"a name that is a pattern":    {Container{Runtime: Podman}, "*", false, ""},
		"a name with a path in it":    {Container{Runtime: Podman}, "contoso_web/../hr", false, ""},
		"no name":                     {Container{Runtime: Podman}, "", false, ""},
	} {
		g, err := p.DecideContainer(c.c, ContainerRequest{Spec: c.spec, Keytab: c.keytab})
		if c.rule == "" && !errors.Is(err, ErrDenied) || c.rule != "" && (err != nil || g.Rule != c.rule) {
			t.Errorf("%s: rule %s, %v; want %q", name, g.Rule, err, c.rule)
		}
	}
}

// security 5: whoever runs a container without root gives its files to nobody else.
func TestDecideRootlessContainer(t *testing.T) {
	p := Policy{Containers: []ContainerRule{
		{Name: "root's", CredentialSpecs: []string{"*"}, Runtimes: []string{Podman, OtherRuntime}},
		{Name: "users'", CredentialSpecs: []string{"web"}, Runtimes: []string{Rootless}, Owners: []uint32{1000}},
	}}
	user := Subject{UID: 1000, GID: 1000, SubordinateUID: func(id uint32) bool { return id == 100001 }, SubordinateGID: func(id uint32) bool { return id == 100002 }}
	other := Subject{UID: 1001, GID: 1001}
	for name, c := range map[string]struct {
		c    Container
		spec string
		rule string
	}{
		"the user's own ids":    {Container{Runtime: Rootless, UID: 1000, GID: 1000, User: &user}, "web", `"users'"`},
		"subordinate ids":       {Container{Runtime: Rootless, UID: 100001, GID: 100002, User: &user}, "web", `"users'"`},
		"files for another":     {Container{Runtime: Rootless, UID: 1000, GID: 1000, User: &user, Files: &ContainerFiles{UID: 1001, GID: 1000}}, "web", ""},
		"files for a group":     {Container{Runtime: Rootless, UID: 1000, GID: 1000, User: &user, Files: &ContainerFiles{UID: 100001, GID: 1000, Group: true}}, "web", `"users'"`},
		"another's uid":         {Container{Runtime: Rootless, UID: 1001, GID: 1000, User: &user}, "web", ""},
		"root's uid":            {Container{Runtime: Rootless, UID: 0, GID: 1000, User: &user}, "web", ""},
		"root's gid":            {Container{Runtime: Rootless, UID: 1000, GID: 0, User: &user}, "web", ""},
		"a spec of root's":      {Container{Runtime: Rootless, UID: 1000, GID: 1000, User: &user}, "sql", ""},
		"a user without a rule": {Container{Runtime: Rootless, UID: 1001, GID: 1001, User: &other}, "web", ""},
		"root's, by no runtime": {Container{Runtime: Rootless, UID: 1000, GID: 1000}, "sql", ""},
	} {
		g, err := p.DecideContainer(c.c, ContainerRequest{Spec: c.spec})
		if c.rule == "" && !errors.Is(err, ErrDenied) || c.rule != "" && (err != nil || g.Rule != c.rule) {
			t.Errorf("%s: rule %s, %v; want %q", name, g.Rule, err, c.rule)
		}
	}
	if !p.AnyRootless() || (Policy{Containers: p.Containers[:1]}).AnyRootless() {
		t.Error("AnyRootless")
	}
}

// security 2: the default publishes nothing, and a rule for containers gives no
// process of the host anything.
func TestWithoutRulesNothingIsPublished(t *testing.T) {
	if _, err := (Policy{}).DecideContainer(Container{Runtime: Docker}, ContainerRequest{Spec: "x"}); !errors.Is(err, ErrDenied) {
		t.Errorf("err = %v", err)
	}
	p := Policy{Containers: []ContainerRule{{CredentialSpecs: []string{"*"}, Runtimes: runtimes(), Keytab: true}}}
	if _, err := p.Decide(Subject{UID: 1000, GID: 1000}, Request{Spec: "x", Accounts: []string{"x"}, UID: 1000, GID: 1000}); !errors.Is(err, ErrDenied) {
		t.Errorf("err = %v", err)
	}
}

func TestValidateContainerRules(t *testing.T) {
	err := Policy{Containers: []ContainerRule{
		{CredentialSpecs: []string{"["}, Runtimes: []string{"rkt"}, Cgroups: []string{"/"}, Namespaces: []string{"["}},
		{},
		{CredentialSpecs: []string{"x"}, Runtimes: []string{Rootless}},
		{CredentialSpecs: []string{"x"}, Runtimes: []string{Podman}, Owners: []uint32{1000}},
		{CredentialSpecs: []string{"x"}, Runtimes: []string{Rootless}, Owners: []uint32{0}},
	}}.Validate()
	for _, want := range []string{
		`containers.rules[0].credential_specs: "["`, `containers.rules[0].runtimes: "rkt"`, `containers.rules[0].cgroups: "/"`,
		`containers.rules[0].namespaces: "["`, "containers.rules[0].namespaces: only containerd names them",
		"containers.rules[1].credential_specs: the rule publishes nothing", "containers.rules[1].runtimes: the rule is for nobody",
		"containers.rules[2].owners: runtime rootless and the uids", "containers.rules[3].owners: runtime rootless and the uids",
		"containers.rules[4].owners: root's containers are",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

// security 3: an image may bring annotations of its own.
func TestAnnotationsNameSpecsOnlyWhereARuleSaysSo(t *testing.T) {
	rule := ContainerRule{CredentialSpecs: []string{"x"}, Runtimes: []string{Podman}}
	r := ContainerRequest{Spec: "x", ByAnnotation: true}
	if _, err := (Policy{Containers: []ContainerRule{rule}}).DecideContainer(Container{Runtime: Podman}, r); !errors.Is(err, ErrDenied) {
		t.Errorf("err = %v", err)
	}
	rule.Annotations = true
	if _, err := (Policy{Containers: []ContainerRule{rule}}).DecideContainer(Container{Runtime: Podman}, r); err != nil {
		t.Error(err)
	}
}
