package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The runtimes of [Container.Runtime].
const (
	Podman     = "podman"
	Docker     = "docker"
	Containerd = "containerd"
	CRIO       = "cri-o"
	// OtherRuntime is one whose control groups have no known form: plain runc, or
	// an engine that was told of another one.
	OtherRuntime = "other"
	// Rootless is any runtime of a user other than root, as podman without sudo. The
	// kernel says whose it is, and nothing beyond: the user names the control group.
	Rootless = "rootless"
)

func runtimes() []string {
	return []string{Podman, Docker, Containerd, CRIO, OtherRuntime, Rootless}
}

// Container is a container as the kernel shows it. Its image, its environment and its
// annotations are whatever somebody made them: nothing of them is here (security 3).
type Container struct {
	// Runtime is who made it, by the name of its control group (package peer).
	Runtime string
	// Cgroup is the control group's path.
	Cgroup string
	// UID and GID are the host's ids of its program's user.
	UID, GID uint32
	// Files is whom it wants the files for, as ids of the host; nil for its program's
	// user.
	Files *ContainerFiles
	// User is who runs the runtime, for [Rootless]; nil for root of the host.
	User *Subject
	// Namespace and Pod are those of Kubernetes, as the runtime says and nobody whom it
	// serves; empty for a runtime that does not say.
	Namespace, Pod string
}

// ContainerRule publishes credential specs to containers. Whoever may start a container
// with an engine that a rule lists may use the rule's specs: access to an engine's API
// is use of every spec published to it. That is why there is no rule by default.
type ContainerRule struct {
	// Name appears in the log when the rule decides.
	Name string `yaml:"name"`
	// CredentialSpecs are names of specs, with the wildcards of path.Match.
	CredentialSpecs []string `yaml:"credential_specs"`
	// Runtimes are those that may use them: podman, docker, containerd, cri-o, and
	// "other" for plain runc and control groups of no known form; "rootless" for those
	// of Owners.
	Runtimes []string `yaml:"runtimes"`
	// Owners are the uids of users whose rootless containers may use the specs. A user
	// decides alone what such a container is: the rule gives the user the accounts.
	Owners []uint32 `yaml:"owners"`
	// Cgroups, where given, are control groups that hold the container's.
	Cgroups []string `yaml:"cgroups"`
	// Users, where given, are the host's uids of the container's program.
	Users []uint32 `yaml:"users"`
	// Namespaces and Pods, where given, are those of Kubernetes, with the wildcards of
	// path.Match. Containerd's CRI names them; of other runtimes no container matches.
	Namespaces []string `yaml:"namespaces"`
	Pods       []string `yaml:"pods"`
	// Keytab allows keys, not tickets alone.
	Keytab bool `yaml:"keytab"`
	// Annotations lets a container's annotation name the spec. An image may bring
	// annotations of its own, so that whoever runs a foreign image with such a rule
	// may give it an identity without meaning to; a device is always asked for by
	// name.
	Annotations bool `yaml:"annotations"`
	// Files, where given, is whom the files are for: an image may start as root and
	// become another user. A container that says so itself, by its annotation, comes first.
	Files *ContainerFiles `yaml:"files"`
	// ReloadSignal is sent to the container's first process after the keys have changed:
	// HUP, USR1, USR2, WINCH or TERM.
	ReloadSignal string `yaml:"reload_signal"`
}

// ContainerFiles is whom a lease's files are for; in a rule, as ids of the container.
type ContainerFiles struct {
	UID uint32 `yaml:"uid"`
	GID uint32 `yaml:"gid"`
	// Group may read the files too.
	Group bool `yaml:"group"`
}

// reloadSignals are the signals that a rule may name.
func reloadSignals() []string { return []string{"", "HUP", "USR1", "USR2", "WINCH", "TERM"} }

// ContainerRequest is what a container asks for.
type ContainerRequest struct {
	// Spec is the name of the credential spec, and ByAnnotation that an annotation
	// gave it.
	Spec         string
	ByAnnotation bool
	// Keytab: the lease would hold the account's keys.
	Keytab bool
}

// DecideContainer answers for a container. The reason of a refusal is for the log.
func (p Policy) DecideContainer(c Container, r ContainerRequest) (Grant, error) {
	if c.User != nil {
		for _, f := range []ContainerFiles{{UID: c.UID, GID: c.GID}, c.files()} {
			if err := ownsIDs(*c.User, Request{UID: f.UID, GID: f.GID}); err != nil { // security 5
				return Grant{}, err
			}
		}
	}
	reason := fmt.Sprintf("no rule for containers publishes %q to one of %s in the control group %s", r.Spec, c.Runtime, c.Cgroup)
	for i, rule := range p.Containers {
		if !matchAny(rule.CredentialSpecs, r.Spec) {
			continue
		}
		label := containerLabel(rule, i)
		switch {
		case !rule.matches(c):
			reason = fmt.Sprintf("rule %s for containers is not for runtime %s, control group %s, uid %d, pod %q of namespace %q", label, c.Runtime, c.Cgroup, c.UID, c.Pod, c.Namespace)
		case r.ByAnnotation && !rule.Annotations:
			reason = fmt.Sprintf("rule %s for containers does not have annotations name specs", label)
		case r.Keytab && !rule.Keytab:
			reason = fmt.Sprintf("rule %s for containers grants tickets and no keytab", label)
		default:
			return Grant{Rule: label, Files: rule.Files, ReloadSignal: rule.ReloadSignal}, nil
		}
	}
	return Grant{}, fmt.Errorf("%w: %s", ErrDenied, reason)
}

// files is whom the files are for.
func (c Container) files() ContainerFiles {
	if c.Files != nil {
		return *c.Files
	}
	return ContainerFiles{UID: c.UID, GID: c.GID}
}

// Published tells whether any rule publishes a spec, and whether with keys.
func (p Policy) Published(spec string) (tickets, keytab bool) {
	for _, rule := range p.Containers {
		if matchAny(rule.CredentialSpecs, spec) {
			tickets, keytab = true, keytab || rule.Keytab
		}
	}
	return tickets, keytab
}

// AnyRootless tells whether some rule is for rootless containers.
func (p Policy) AnyRootless() bool {
	return slices.ContainsFunc(p.Containers, func(r ContainerRule) bool { return len(r.Owners) > 0 })
}

func (r ContainerRule) matches(c Container) bool {
	return slices.Contains(r.Runtimes, c.Runtime) &&
		(c.User == nil || slices.Contains(r.Owners, c.User.UID)) &&
		(len(r.Users) == 0 || slices.Contains(r.Users, c.UID) && slices.Contains(r.Users, c.files().UID)) &&
		(len(r.Namespaces) == 0 || c.Namespace != "" && matchAny(r.Namespaces, c.Namespace)) &&
		(len(r.Pods) == 0 || c.Pod != "" && matchAny(r.Pods, c.Pod)) &&
		(len(r.Cgroups) == 0 || slices.ContainsFunc(r.Cgroups, func(g string) bool { return below(c.Cgroup, g) }))
}

func containerLabel(r ContainerRule, i int) string {
	if r.Name != "" {
		return strconv.Quote(r.Name)
	}
	return strconv.Itoa(i + 1)
}

func (r ContainerRule) faults(i int) []error {
	var faults []error
	fault := func(field, format string, a ...any) {
		faults = append(faults, fmt.Errorf("containers.rules[%d].%s: %s", i, field, fmt.Sprintf(format, a...)))
	}
	if !slices.Contains(reloadSignals(), r.ReloadSignal) {
		fault("reload_signal", "%q: want one of %s", r.ReloadSignal, strings.Join(reloadSignals()[1:], ", "))
	}
	for field, patterns := range map[string][]string{"credential_specs": r.CredentialSpecs, "namespaces": r.Namespaces, "pods": r.Pods} {
		for _, pattern := range patterns {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				fault(field, "%q is not a pattern", pattern)
			}
		}
	}
	if len(r.Namespaces)+len(r.Pods) > 0 && !slices.Equal(r.Runtimes, []string{Containerd}) {
		fault("namespaces", "only containerd names them: want runtimes: [%s]", Containerd)
	}
	if len(r.CredentialSpecs) == 0 {
		fault("credential_specs", "the rule publishes nothing: name credential specs")
	}
	for _, name := range r.Runtimes {
		if !slices.Contains(runtimes(), name) {
			fault("runtimes", "%q: want %s", name, strings.Join(runtimes(), ", "))
		}
	}
	if len(r.Runtimes) == 0 {
		fault("runtimes", "the rule is for nobody: want some of %s", strings.Join(runtimes(), ", "))
	}
	if rootless := slices.Contains(r.Runtimes, Rootless); rootless != (len(r.Owners) > 0) {
		fault("owners", "runtime %s and the uids of its users belong together", Rootless)
	}
	if slices.Contains(r.Owners, 0) {
		fault("owners", "root's containers are those of the other runtimes")
	}
	for _, g := range r.Cgroups {
		if !isCgroup(g) {
			fault("cgroups", "%q: want an absolute path below the root", g)
		}
	}
	return faults
}
