package cli

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/secret"
)

// TestAControllerThatDiesUnderACommand lets commands of several steps meet the death of
// their controller at each message: a credential spec is there as a whole or not at all,
// and of an account that stands the command says so.
func TestAControllerThatDiesUnderACommand(t *testing.T) {
	for name, dc := range map[string]*lab.DC{"Samba": lab.Samba(t, lab.SambaConfig{}), "gmsa": lab.Own(t, lab.OwnConfig{})} {
		session := func(t *testing.T, left int) *ad.Session { return mortalSession(t, dc, lab.NewMortal(left, false)) }
		t.Run("credspec create, "+name, func(t *testing.T) { testSpecDeaths(t, session) })
		t.Run("account create, "+name, func(t *testing.T) { testAccountDeaths(t, session) })
	}
}

// immortal is a number of messages that no command gets to.
const immortal = 1 << 20

// testSpecDeaths makes a spec in the place of another, with a controller that lives ever
// longer, until it is done.
func testSpecDeaths(t *testing.T, session func(*testing.T, int) *ad.Session) {
	const before = "{}"
	spec := newSpec{account: "webapp01", additional: []credspec.Account{{Name: "webapp02"}, {Name: "far", Domain: "child.contoso.com"}}}
	for n := 0; ; n++ {
		dir := t.TempDir()
		spec.path = filepath.Join(dir, "webapp01.json")
		if err := os.WriteFile(spec.path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := unheard(t).saveSpec(t.Context(), session(t, n), spec)
		b, readErr := os.ReadFile(spec.path)
		files, dirErr := os.ReadDir(dir)
		if readErr != nil || dirErr != nil || len(files) != 1 {
			t.Fatal(readErr, dirErr, files)
		}
		if err == nil {
			if parsed, _, err := credspec.Parse(b); err != nil || path != spec.path || len(parsed.ActiveDirectoryConfig.GroupManagedServiceAccounts) < 4 || n < 8 {
				t.Errorf("after %d messages: %v\n%s", n, err, b)
			}
			return
		}
		if string(b) != before {
			t.Errorf("after %d messages: %v, and the file is\n%s", n, err, b)
		}
	}
}

// testAccountDeaths makes accounts of a computer likewise. What becomes of them in the
// directory is for the tests of package ad: this is about the steps around it.
func testAccountDeaths(t *testing.T, session func(*testing.T, int) *ad.Session) {
	root, stood := session(t, immortal), 0
	for n := 0; ; n++ {
		name := fmt.Sprintf("under%d", n)
		o := newAccountOptions{NewServiceAccount: ad.NewServiceAccount{Name: name, Standalone: true, Computer: "web1"}}
		err := unheard(t).createAccount(t.Context(), session(t, n), o)
		left, findErr := root.Objects(t.Context(), ad.Query{Scope: ldapc.Subtree, Filter: adproto.Equal("sAMAccountName", name+"$")})
		if findErr != nil {
			t.Fatal(findErr)
		}
		for _, x := range left {
			if err != nil && !strings.Contains(err.Error(), x.DN) {
				t.Errorf("%s stands, and the error is: %v", x.DN, err)
			}
			if _, err := root.RemoveServiceAccount(t.Context(), x.DN); err != nil {
				t.Error(err)
			}
			stood++
		}
		if err == nil {
			if len(left) != 1 || stood < 3 {
				t.Errorf("after %d messages: %d accounts, %d before", n, len(left), stood)
			}
			return
		}
	}
}

// unheard is a command whose answer nobody reads.
func unheard(t *testing.T) *app {
	return &app{env: Env{Stdout: io.Discard, Stderr: t.Output()}, output: outputText}
}

// mortalSession is the administrator's, by way of a mortal controller.
func mortalSession(t *testing.T, dc *lab.DC, m *lab.Mortal) *ad.Session {
	t.Helper()
	pem, err := os.ReadFile(dc.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	d, err := ad.NewDomain(ad.Config{
		Locate:  locate.Config{Domain: lab.DNSDomain, Servers: []string{dc.IP.String()}, Dial: m.Dial, Now: dc.Now},
		RootCAs: pool,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	name, err := adproto.ParseAccountName("Administrator")
	if err != nil {
		t.Fatal(err)
	}
	id, err := ad.WithPassword(name, secret.New([]byte(lab.AdminPassword)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ad.Open(d, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
