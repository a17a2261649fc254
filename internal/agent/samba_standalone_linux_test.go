package agent_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// A standalone account of this host: installed, leased, its password changed after 30
// days by nobody but the account itself, also across a restart, and uninstalled.
// security 16: the password that root hands over is not logged, journalled or echoed.
func TestStandaloneAccounts(t *testing.T) {
	t.Run("Samba", func(t *testing.T) { testStandalone(t, lab.Samba(t, lab.SambaConfig{Private: true, Clock: true})) })
	t.Run("gmsa", func(t *testing.T) { testStandalone(t, lab.Own(t, lab.OwnConfig{Clock: true})) })
}

const smsa = "keptsmsa"

func testStandalone(t *testing.T, dc *lab.DC) {
	admin := adminOf(t, dc)
	if _, _, err := admin.CreateServiceAccount(t.Context(), ad.NewServiceAccount{Name: smsa, Standalone: true}); err != nil {
		t.Fatal(err)
	}
	g := prepare(t, joined(t, dc), dc.Now)
	g.start(t)
	if err := g.install(t, nil); kind(err) != agentapi.Kind_KIND_DENIED || !strings.Contains(err.Error(), "not this host's") {
		t.Errorf("an account that is no host's: %v", err)
	}
	if _, err := admin.LinkServiceAccounts(t.Context(), "web1", smsa); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error {
		err := g.install(t, nil)
		if f, ok := errors.AsType[*agentapi.Failure](err); !ok || f.Code != agentapi.CodeNotInstalled {
			time.Sleep(200 * time.Millisecond)
			return fmt.Errorf("without a password: %w", err)
		}
		return nil
	})
	wrong := []byte(strings.Repeat("x\x00", 128))
	refusal := g.install(t, wrong)
	if refusal == nil {
		t.Error("a password that the domain does not accept is kept")
	}
	password, err := admin.GiveStandalonePassword(t.Context(), smsa)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.install(t, password.Reveal()); err != nil {
		t.Fatal(err)
	}
	// The one failure is the account that was no host's.
	if n := g.failures(t); n != 1 {
		t.Errorf("%d events 8 at the installation, want 1", n)
	}
	l, err := g.lease(t, smsa, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := newestVersion(t, l)
	checkFiles(t, g, 1)
	if err := g.stop(); err != nil { // and the password is in no memory
		t.Error(err)
	}

	dc.SetClock(t, dc.ClockOffset()+31*24*time.Hour)
	g.start(t)
	lab.Eventually(t, 60*time.Second, func() error {
		l, err := g.client.GetLease(t.Context(), &agentapi.GetLeaseRequest{Id: l.GetId()})
		if err != nil {
			return err
		}
		if now := newestVersion(t, l); now <= before {
			time.Sleep(200 * time.Millisecond)
			return fmt.Errorf("key version %d, then %d", before, now)
		}
		return nil
	})
	self, err := admin.ServiceAccount(t.Context(), smsa)
	if err != nil || dc.Now().Sub(self.PasswordSet) > time.Hour {
		t.Errorf("password set %v, %v", self.PasswordSet, err)
	}
	if _, err := g.lease(t, smsa, 0); err != nil {
		t.Errorf("a lease after the change: %v", err)
	}
	testInterruptedChange(t, g)
	if _, err := g.client.UninstallAccount(t.Context(), &agentapi.UninstallAccountRequest{Account: smsa}); err != nil {
		t.Error(err)
	}
	checkFiles(t, g, 0)
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	told := map[string][]byte{"the answer": []byte(fmt.Sprintf("%+v", refusal)), "the agent's log": g.log.Bytes()}
	for _, name := range []string{"ccg.jsonl", "run/leases/journal"} {
		if told[name], err = os.ReadFile(filepath.Join(g.base, name)); err != nil {
			t.Error(err)
		}
	}
	if !bytes.Contains(told["the agent's log"], []byte(smsa)) {
		t.Error("the agent's log is not what was looked at")
	}
	for where, text := range told {
		for what, p := range map[string][]byte{"password": password.Reveal(), "refused password": wrong} {
			if how := printedAs(text, p); how != "" {
				t.Errorf("%s has the %s, in %s", where, what, how)
			}
		}
	}
}

// printedAs says in which of the ways that programs print bytes a text has a part of a
// password in UTF-16; empty for in none.
func printedAs(text, password []byte) string {
	const part = 24 // bytes, of which no text has as many by chance
	p := password[:part]
	var units []uint16
	for i := 0; i < part; i += 2 {
		units = append(units, binary.LittleEndian.Uint16(p[i:]))
	}
	for how, b := range map[string][]byte{
		"bytes": p, "UTF-8": []byte(string(utf16.Decode(units))), "hexadecimal": []byte(hex.EncodeToString(p)),
		"numbers": bytes.Trim(fmt.Append(nil, p), "[]"), "base64": []byte(base64.StdEncoding.EncodeToString(p)), "quotes": []byte(strings.Trim(strconv.Quote(string(p)), `"`)),
	} {
		if bytes.Contains(bytes.ToLower(text), bytes.ToLower(b)) {
			return how
		}
	}
	return ""
}

// testInterruptedChange leaves the files as a host does that dies while it changes the
// password: after the domain has taken the next one, and before.
func testInterruptedChange(t *testing.T, g *sambaGuard) {
	files, err := filepath.Glob(g.base + "/state/standalone/*")
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	file, next := files[0], files[0]+".next"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	inForce, err := managedpassword.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	never := secret.Copy([]byte(strings.Repeat("x\x00", 128)))
	for name, left := range map[string][2]managedpassword.Blob{
		"the domain has the next password":     {{Current: inForce.Previous}, inForce},
		"the domain has not the next password": {inForce, {Current: never, Previous: inForce.Current}},
	} {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
		for i, to := range []string{file, next} {
			if err := os.WriteFile(to, left[i].Append(nil), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		g.start(t)
		if _, err := g.lease(t, smsa, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkFiles(t, g, 1)
		if kept, err := os.ReadFile(file); err != nil || !bytes.Equal(kept, content) {
			t.Errorf("%s: another password is kept, %v", name, err)
		}
	}
}

// failures counts the events 8.
func (g *sambaGuard) failures(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(g.base + "/ccg.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), `"id":8,`)
}

// adminOf is a session as the domain's Administrator.
func adminOf(t *testing.T, dc *lab.DC) *ad.Session {
	t.Helper()
	d, err := ad.NewDomain(ad.Config{Locate: locate.Config{Domain: dc.DNSDomain, Servers: []string{dc.IP.String()}, Now: dc.Now}})
	if err != nil {
		t.Fatal(err)
	}
	name, err := adproto.ParseAccountName(lab.Administrator)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ad.WithPassword(name, secret.Copy([]byte(lab.AdminPassword)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ad.Open(d, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), d.Close() })
	return s
}

// install installs the standalone account, with a password if there is one.
func (g *sambaGuard) install(t *testing.T, password []byte) error {
	_, err := g.client.InstallAccount(t.Context(), &agentapi.InstallAccountRequest{
		Subject: &agentapi.InstallAccountRequest_Account{Account: smsa}, StandalonePassword: password,
	})
	return err
}

// newestVersion is the highest key version in the keytab of a lease.
func newestVersion(t *testing.T, l *agentapi.Lease) uint32 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.GetDirectory(), "keytab"))
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	var newest uint32
	for _, e := range kt.Entries {
		newest = max(newest, e.KVNO)
	}
	return newest
}

// checkFiles looks at what is kept on the disk: as many files, for their owner alone.
func checkFiles(t *testing.T, g *sambaGuard, want int) {
	t.Helper()
	files, err := os.ReadDir(g.base + "/state/standalone")
	if err != nil || len(files) != want {
		t.Errorf("%d files of passwords, %v; want %d", len(files), err, want)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}
