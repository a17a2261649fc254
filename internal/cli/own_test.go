package cli

import (
	"path/filepath"
	"testing"
)

// What only our own controller does, and what both must do alike, over the wire.
func TestOwnAdministration(t *testing.T) {
	d := ownSeedDomain(t)
	a := newAdministrator(t, d.ip, d.password)
	contains(t, a.run(1, "account", "create", "Early", "--outbound-only").stderr, "no KDS root key", "hint: make one: gmsa kds add")
	var key rootKeyView
	a.json(&key, "kds", "add", "--effective-time", "-11h")
	a.run(0, "group", "create", "Hosts", "--scope", "DomainLocal", "--member", "ContainerHost01")
	a.run(0, "account", "create", "App", "--dns", "app.contoso.com", "--hosts", "Hosts", "--spn", "http/app.contoso.com")
	if r := gmsa(t, nil, "account", "test", "App", "--keytab", d.keytab, "--dc", d.ip); r.code != 0 || r.stdout != "True\n" {
		t.Errorf("a host with the right: %d, %s", r.code, r.stdout)
	}
	var before, after serviceAccountView
	a.json(&before, "account", "show", "App")
	if len(before.Readers) != 1 || len(before.Readers[0].Hosts) != 1 || before.RootKey != key.ID {
		t.Errorf("%+v", before)
	}
	a.json(&after, "account", "rotate", "App")
	if after.NextRollover == nil || !after.NextRollover.Before(*before.NextRollover) {
		t.Errorf("next rollover %v, then %v", before.NextRollover, after.NextRollover)
	}
	var shown serviceAccountView
	a.json(&shown, "account", "show", "App")
	if shown.NextRollover == nil || !shown.NextRollover.Equal(*after.NextRollover) || !shown.Rotating || shown.KVNO != before.KVNO || !shown.PasswordSet.Equal(*before.PasswordSet) {
		t.Errorf("shown after the rotation: %+v", shown)
	}
	contains(t, a.run(0, "account", "show", "App").stdout, "(rotated before its time)")
	contains(t, a.run(1, "kds", "remove", key.ID).stderr, "App$")
	contains(t, a.run(0, "kds", "test", key.ID).stdout, "True")
	contains(t, a.run(1, "account", "create", "app", "--outbound-only").stderr, "is taken")
	contains(t, a.run(1, "account", "create", "Thief", "--dns", "x.contoso.com", "--spn", "HTTP/app.contoso.com").stderr, "is taken")
	contains(t, a.run(2, "group", "add-member", "Hosts", "Hosts").stderr, "member of itself")
	contains(t, a.run(0, "account", "delegate", "--to", "Host1").stdout, "by Host1$")
	contains(t, a.run(0, "account", "delegate", "--to", "Host1").stdout, "nothing to do")
	host1 := filepath.Join(filepath.Dir(d.keytab), "Host1.keytab")
	if r := gmsa(t, nil, "account", "create", "ByHost1", "--outbound-only", "--keytab", host1, "--dc", d.ip); r.code != 0 {
		t.Errorf("delegated: exit code %d", r.code)
	}
	if r := gmsa(t, nil, "group", "create", "NotAllowed", "--keytab", host1, "--dc", d.ip); r.code != 4 {
		t.Errorf("not delegated: exit code %d", r.code)
	}
	a.run(0, "account", "hosts", "remove", "App", "Hosts")
	if r := gmsa(t, nil, "account", "test", "App", "--keytab", d.keytab, "--dc", d.ip); r.code != 6 {
		t.Errorf("a host whose right is gone: %d", r.code)
	}
	a.run(0, "computer", "remove", "Host3")
	a.run(3, "computer", "show", "Host3")
}
