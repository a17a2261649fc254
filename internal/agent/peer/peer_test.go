package peer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// security 3: what the kernel and the service manager set counts, never what a process
// says of itself.
func TestUnitOfAControlGroup(t *testing.T) {
	for cgroup, want := range map[string]string{
		"/system.slice/nginx.service":                                         "nginx.service",
		"/system.slice/system-getty.slice/getty@tty1.service":                 "getty@tty1.service",
		"/system.slice/app.service/payload/evil.service":                      "app.service",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/web.service": "user@1000.service",
		"/user.slice/user-1000.slice/session-3.scope":                         "session-3.scope",
		"/system.slice/_memory.service":                                       "memory.service",
		"/docker/0123/system.slice/nginx.service":                             "",
		"/": "",
		"":  "",
	} {
		if got := UnitOf(cgroup); got != want {
			t.Errorf("UnitOf(%q) = %q, want %q", cgroup, got, want)
		}
	}
}

func TestCgroupOfUnifiedHybridAndLegacyHosts(t *testing.T) {
	const both = "5:memory:/x\n1:name=systemd:/system.slice/a.service\n0::/other\n"
	for name, c := range map[string]struct {
		file    string
		unified bool
		want    string
	}{
		"unified":                      {"0::/system.slice/a.service\n", true, "/system.slice/a.service"},
		"unified, others not mounted":  {both, true, "/other"},
		"hybrid":                       {both, false, "/system.slice/a.service"},
		"no hierarchy of systemd's":    {"5:memory:/x\n0::/other\n", false, "/other"},
		"legacy on a host that is not": {"1:name=systemd:/a.service\n", true, "/a.service"},
		"colon in a path":              {"0::/a:b/c\n", true, "/a:b/c"},
		"empty":                        {"", true, ""},
		"garbage":                      {"x\n::\n", true, ""},
	} {
		if got := parseCgroup(c.file, c.unified); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestStartTimeBehindAHostileCommandName(t *testing.T) {
	tail := strings.Repeat(" 0", 18) + " 4711 0 0"
	for _, comm := range []string{"(sh)", "(a) S 1 (b)", "()", "(x y z) 1 2 3)"} {
		got, err := parseStart("12 " + comm + " S" + tail)
		if err != nil || got != 4711 {
			t.Errorf("%s: %d, %v", comm, got, err)
		}
	}
	for _, bad := range []string{"", "12 (sh S 1", "12 (sh) S 1 2"} {
		if _, err := parseStart(bad); err == nil {
			t.Errorf("parseStart(%q) succeeded", bad)
		}
	}
}

func TestSubordinateRanges(t *testing.T) {
	file := "# comment\nalice:100000:65536\nbob:200000:65536\n1000:300000:10\nalice:4294967295:2\nalice:x:1\n:1:1\nalice:5:0\n"
	want := []IDRange{{100000, 65536}, {300000, 10}}
	if d := cmp.Diff(want, ParseSubordinate(file, "alice", 1000)); d != "" {
		t.Error(d)
	}
	if got := ParseSubordinate(file, "", 7); got != nil {
		t.Errorf("a nameless user got %v", got)
	}
	r := IDRange{100000, 65536}
	for id, want := range map[uint32]bool{99999: false, 100000: true, 165535: true, 165536: false, 0: false} {
		if r.Contains(id) != want {
			t.Errorf("Contains(%d) = %v", id, !want)
		}
	}
}

func TestIDMaps(t *testing.T) {
	maps, err := ParseIDMap("         0       1000          1\n         1     100000      65536\n")
	if err != nil {
		t.Fatal(err)
	}
	for inside, want := range map[uint32]uint32{0: 1000, 1: 100000, 65536: 165535} {
		if got, ok := ToHost(maps, inside); !ok || got != want {
			t.Errorf("ToHost(%d) = %d, %v; want %d", inside, got, ok, want)
		}
	}
	if got, ok := ToHost(maps, 65537); ok {
		t.Errorf("an unmapped id became %d", got)
	}
	for _, bad := range []string{"0 1\n", "a b c\n", "0 0 4294967296\n"} {
		if _, err := ParseIDMap(bad); err == nil {
			t.Errorf("ParseIDMap(%q) succeeded", bad)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("12 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711")
	f.Add("alice:100000:65536\n")
	f.Add("0 0 4294967295\n")
	f.Add("0::/system.slice/a.service\n")
	f.Fuzz(func(_ *testing.T, s string) {
		UnitOf(parseCgroup(s, len(s)%2 == 0))
		_, _ = parseStart(s)
		_, _ = ParseIDMap(s)
		ParseSubordinate(s, "alice", 1000)
	})
}
