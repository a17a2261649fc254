package lease

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// security 8: 128 random bits, in one spelling.
func TestID(t *testing.T) {
	id := NewID()
	if back, err := ParseID(id.String()); err != nil || back != id {
		t.Errorf("round trip: %v, %v", back, err)
	}
	if id == NewID() {
		t.Error("two ids are equal")
	}
	for _, bad := range []string{"", "..", strings.Repeat("g", 32), strings.Repeat("A", 32), strings.Repeat("a", 31), strings.Repeat("a", 33), "../" + strings.Repeat("a", 29)} {
		if _, err := ParseID(bad); !errors.Is(err, ErrID) {
			t.Errorf("%q: %v, want ErrID", bad, err)
		}
	}
}

func TestOwnerValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		owner Owner
		ok    bool
	}{
		"owner reads":              {Owner{1000, 1000, 0o400}, true},
		"group reads too":          {Owner{0, 0, 0o440}, true},
		"everybody reads":          {Owner{1000, 1000, 0o444}, false},
		"owner writes":             {Owner{1000, 1000, 0o600}, false},
		"no mode":                  {Owner{1000, 1000, 0}, false},
		"uid that means unchanged": {Owner{noID, 1000, 0o400}, false},
		"gid that means unchanged": {Owner{1000, noID, 0o400}, false},
	} {
		if err := tt.owner.Validate(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The JSON form is the journal's: an agent of a later version reads it.
func TestLeaseJSONIsStable(t *testing.T) {
	full := Lease{
		ID: ID{1, 2, 15: 0xff}, Spec: "web", Accounts: []Account{{"webapp01", "contoso.com"}, {"webapp02", "contoso.com"}},
		Salts: []Salt{{3, "CONTOSO.COMhostwebapp01.contoso.com"}, {}},
		Owner: Owner{1000, 1001, 0o440}, Creator: 7, Workload: Process{42, 99}, Unit: Unit{"a.service", "0f"}, Created: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Options: Options{Keytab: true, Isolated: true, Forwardable: true, OnRotate: "reload", SPNs: []string{"HTTP/a"}},
	}
	got, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "lease.json")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
	var back Lease
	if err := json.Unmarshal(want, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestKrb5Conf(t *testing.T) {
	conf := Krb5Conf{
		Realms: []Realm{
			{Name: "CONTOSO.COM", Domain: "contoso.com", KDCs: []string{"dc1.contoso.com", "[2001:db8::1]:8888"}, Kpasswd: []string{"dc1.contoso.com:464"}},
			{Name: "FABRIKAM.COM", Domain: "fabrikam.com"},
		},
		Dir: MountPoint,
	}
	got, err := conf.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "krb5.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("testdata/krb5.conf (-want +got):\n%s", diff)
	}
	conf.ETypes = []crypto.EType{crypto.RC4HMAC}
	if got, err := conf.Append(nil); err != nil || !strings.Contains(string(got), "allow_rc4 = true") {
		t.Errorf("RC4 asked for: %v\n%s", err, got)
	}
	if strings.Contains(string(want), "rc4") || strings.Contains(string(want), "arcfour") {
		t.Error("RC4 without being asked for")
	}
}

func TestKrb5ConfRefusesInjection(t *testing.T) {
	good := func() Krb5Conf {
		return Krb5Conf{Realms: []Realm{{Name: "A.B", Domain: "a.b", KDCs: []string{"k"}}}, Dir: "/run/gmsa"}
	}
	if _, err := good().Append(nil); err != nil {
		t.Fatal(err)
	}
	const evil = "x\n[libdefaults]\n default_realm = EVIL"
	for name, spoil := range map[string]func(*Krb5Conf){
		"realm":         func(c *Krb5Conf) { c.Realms[0].Name = evil },
		"domain":        func(c *Krb5Conf) { c.Realms[0].Domain = "a b" },
		"kdc":           func(c *Krb5Conf) { c.Realms[0].KDCs = []string{"k }"} },
		"kpasswd":       func(c *Krb5Conf) { c.Realms[0].Kpasswd = []string{"#"} },
		"directory":     func(c *Krb5Conf) { c.Dir = "/run/%{euid}" },
		"empty realm":   func(c *Krb5Conf) { c.Realms[0].Name = "" },
		"no realm":      func(c *Krb5Conf) { c.Realms = nil },
		"unknown etype": func(c *Krb5Conf) { c.ETypes = []crypto.EType{3} },
	} {
		c := good()
		spoil(&c)
		if b, err := c.Append(nil); err == nil {
			t.Errorf("%s: accepted:\n%s", name, b)
		}
	}
}
