package deptest

import (
	"path"
	"strings"
)

const module = "github.com/opengmsa/opengmsa/"

// The layers, from the bottom to the top. A package imports packages of its own entry
// and of lower layers, and nothing beside or above itself. An entry that ends in "/..."
// takes in the packages below it; the longest entry counts.
var layers = []struct {
	name    string
	entries []string
}{
	{"ground", []string{"secret", "dtyp"}},
	{"codecs", []string{"secdesc", "gkdi", "managedpassword", "credspec", "krb5/..."}},
	{"what client and controller both speak", []string{"internal/adproto/..."}},
	{"which controller; leases and events as values and files; the process itself", []string{"internal/locate/...", "internal/lease/...", "internal/event/...", "internal/harden", "internal/kcm"}},
	{"what codes mean; what files say", []string{"internal/explain", "internal/lint"}},
	{"exchanges with a controller", []string{"internal/kclient/...", "internal/nrpc"}},
	{"protected LDAP", []string{"internal/ldapc/..."}},
	{"a domain as typed operations; the agent's protocol", []string{"internal/ad/...", "internal/agentapi/...", "internal/hookapi"}},
	{"services", []string{"internal/agent/...", "internal/dc/...", "internal/doctor/...", "internal/deliver/..."}},
	{"a domain inside a test", []string{"domaintest/..."}},
	{"commands", []string{"internal/cli/..."}},
	{"programs", []string{"cmd/..."}},
}

const layersReason = "imports run downwards only, so that each part can be read, tested and replaced without what uses it"

// codecs are the layers that must be pure.
const codecs = 3

// sideways are the packages of one layer that may import each other: values built of
// values. Services may not.
const sideways = 2

// unreachable are the packages that a codec must not reach, not even through others.
var unreachable = map[string]string{
	"net":      "a codec that can open a socket cannot be fuzzed or read as a function of its input",
	"net/http": "a codec that can open a socket cannot be fuzzed or read as a function of its input",
	"os/exec":  "a codec starts no program",
}

// unimportable are the packages that a codec must not import itself.
var unimportable = map[string]string{
	"os":           "a codec knows no file and no environment: bytes are arguments",
	"log":          "a codec returns errors; whoever calls it logs",
	"log/slog":     "a codec returns errors; whoever calls it logs",
	"crypto/rand":  "randomness is an argument, so that vectors can be reproduced",
	"math/rand":    "randomness is an argument, so that vectors can be reproduced",
	"math/rand/v2": "randomness is an argument, so that vectors can be reproduced",
}

// exceptions are imports of a codec that are allowed all the same.
var exceptions = map[[2]string]string{
	{"secret", "log/slog"}: "secret implements slog.LogValuer, which is how it never prints",
}

// uncallable are the functions of package time that a codec must not call.
var uncallable = map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true,
	"AfterFunc": true, "Tick": true, "NewTimer": true, "NewTicker": true}

const uncallableReason = "time is an argument, so that a wait of 30 days is tested in microseconds"

// forbidden pairs may not meet even in tests of the first.
var forbidden = []struct{ importer, imported, reason string }{
	{"internal/agent", "internal/dc", "the guard and the controller meet on the wire only, so that each is tested against peers that nobody here wrote"},
	{"internal/agent", "domaintest", "the guard and the controller meet on the wire only, so that each is tested against peers that nobody here wrote"},
}

// controllerServices are the services of the domain controller. They meet in the
// directory and in account, never in each other: forbidden forbids each pair.
var controllerServices = []string{"internal/dc/kdc", "internal/dc/ldapd", "internal/dc/cldapd", "internal/dc/dnsd", "internal/dc/kpasswdd"}

const controllerReason = "a service of the controller is read and tested without the others: what two need is the directory's or account's"

// testOnly packages may be imported by tests and by nothing that is shipped.
var testOnly = map[string]string{
	"internal/lab":       "test support starts programs and has no place in the product",
	"internal/deptest":   "it holds rules, no code",
	"internal/dc/dctest": "it makes domains for the tests of the controller's packages",
	"packaging":          "it holds tests that install the packages, no code",
	"bench":              "it measures the product beside its peers, and starts them with the lab",
}

// names that say nothing about what a package holds.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared"}

const (
	emptyNamesReason = "a package is named after its subject, so that a reader knows where to look"
	initReason       = "nothing happens on import: wiring is written where it is done"
	goReason         = "a codec starts no goroutine: its caller decides what runs beside what"
)

// layer gives the layer of a package of this module and the entry that put it there.
func layer(pkg string) (level int, entry string, ok bool) {
	for i, l := range layers {
		for _, e := range l.entries {
			prefix, below := strings.CutSuffix(e, "/...")
			if (pkg == prefix || below && strings.HasPrefix(pkg, prefix+"/")) && len(prefix) > len(entry) {
				level, entry, ok = i, prefix, true
			}
		}
	}
	return level, entry, ok
}

// isTestOnly gives the entry of testOnly that the package is or lies below.
func isTestOnly(pkg string) (entry string, ok bool) {
	for e := pkg; e != "."; e = path.Dir(e) {
		if _, ok := testOnly[e]; ok {
			return e, true
		}
	}
	return "", false
}
