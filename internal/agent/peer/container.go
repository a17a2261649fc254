package peer

import (
	"regexp"
	"strings"
)

// The last element of a container's control group, as each engine names it, with
// either cgroup driver. What the user of an engine can choose (--cgroup-parent) is
// above it.
var runtimeNames = []struct {
	runtime string
	last    *regexp.Regexp
	parent  *regexp.Regexp // nil for any
}{
	{"podman", regexp.MustCompile(`^libpod-(payload-)?[0-9a-f]{64}(\.scope)?$`), nil}, // payload: --cgroups=split, as Quadlet's units have it
	{"docker", regexp.MustCompile(`^docker-[0-9a-f]{64}\.scope$`), nil},
	{"docker", regexp.MustCompile(`^[0-9a-f]{64}$`), regexp.MustCompile(`^/docker$`)},
	{"containerd", regexp.MustCompile(`^cri-containerd-[0-9a-f]{64}\.scope$`), nil},
	{"containerd", regexp.MustCompile(`^[0-9a-f]{64}$`), regexp.MustCompile(`^/(k8s\.io|kubepods(/.*)?)$`)},
	{"cri-o", regexp.MustCompile(`^crio-[0-9a-f]{64}(\.scope)?$`), nil},
}

// RuntimeOf is the engine that a container's control group belongs to, by the names
// that packages policy and config use; "other" for a form that is not known.
func RuntimeOf(cgroup string) string {
	// crun, and a container that makes groups of its own, go one group down.
	cgroup = strings.TrimSuffix(cgroup, "/container")
	i := strings.LastIndexByte(cgroup, '/')
	if i < 0 {
		return "other"
	}
	for _, n := range runtimeNames {
		if n.last.MatchString(cgroup[i+1:]) && (n.parent == nil || n.parent.MatchString(cgroup[:i])) {
			return n.runtime
		}
	}
	return "other"
}
