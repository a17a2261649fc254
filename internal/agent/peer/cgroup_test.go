package peer

import (
	"testing"
	"testing/fstest"
)

func TestPopulated(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		fsys   fstest.MapFS
		cgroup string
		want   bool
	}{
		"unified, busy":                {fstest.MapFS{"system.slice/a.service/cgroup.events": file("populated 1\nfrozen 0\n")}, "/system.slice/a.service", true},
		"unified, empty":               {fstest.MapFS{"system.slice/a.service/cgroup.events": file("populated 0\nfrozen 0\n")}, "/system.slice/a.service", false},
		"hybrid":                       {fstest.MapFS{"unified/a.service/cgroup.events": file("populated 1\n")}, "/a.service", true},
		"legacy, in a group below":     {fstest.MapFS{"systemd/a.service/cgroup.procs": file(""), "systemd/a.service/b/cgroup.procs": file("12\n")}, "/a.service", true},
		"legacy, empty":                {fstest.MapFS{"systemd/a.service/cgroup.procs": file("")}, "/a.service", false},
		"gone":                         {fstest.MapFS{"systemd/other/cgroup.procs": file("1\n")}, "/a.service", false},
		"a group of alike name is not": {fstest.MapFS{"a.service-2/cgroup.events": file("populated 1\n")}, "/a.service", false},
	} {
		got, err := Populated(c.fsys, c.cgroup)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
