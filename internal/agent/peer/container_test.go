package peer

import (
	"errors"
	"strings"
	"testing"
)

func TestRuntimeOfAControlGroup(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for cgroup, want := range map[string]string{
		"/machine.slice/libpod-" + id + ".scope":                              "podman",
		"/machine.slice/libpod-" + id + ".scope/container":                    "podman",
		"/system.slice/web.service/libpod-payload-" + id:                      "podman",
		"/libpod_parent/libpod-" + id:                                         "podman",
		"/system.slice/docker-" + id + ".scope":                               "docker",
		"/docker/" + id:                                                       "docker",
		"/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope": "containerd",
		"/k8s.io/" + id:                         "containerd",
		"/kubepods/burstable/pod1/" + id:        "containerd",
		"/kubepods.slice/crio-" + id + ".scope": "cri-o",
		// A user of Docker's API chooses the parent, not the last element.
		"/libpod-" + id + "/" + id:           "other",
		"/machine.slice/libpod-" + id + "/x": "other",
		"/docker/x/" + id:                    "other",
		"/docker/" + id[:63]:                 "other",
		"/gmsa-lab":                          "other",
		"/":                                  "other",
		"":                                   "other",
	} {
		if got := RuntimeOf(cgroup); got != want {
			t.Errorf("RuntimeOf(%q) = %q, want %q", cgroup, got, want)
		}
	}
}

func TestPidOfAPidfd(t *testing.T) {
	if pid, err := pidOf("pos:\t0\nflags:\t02000002\nPid:\t4711\nNSpid:\t4711\n"); err != nil || pid != 4711 {
		t.Errorf("%d, %v", pid, err)
	}
	for info, want := range map[string]error{
		"Pid:\t-1\n": ErrGone,
		"Pid:\t0\n":  ErrForeign,
	} {
		if _, err := pidOf(info); !errors.Is(err, want) {
			t.Errorf("pidOf(%q) = %v, want %v", info, err, want)
		}
	}
	for _, info := range []string{"", "pos:\t0\n", "Pid:\tx\n"} {
		if _, err := pidOf(info); err == nil {
			t.Errorf("pidOf(%q) succeeded", info)
		}
	}
}
