package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// write makes a file and the directories above it, open to everybody so that
// programs of other users reach it.
func write(t *testing.T, path string, mode os.FileMode, text string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// specText is a credential spec of contoso.com whose password is read with what a
// plug-in yields; input is JSON.
func specText(account, guid, input string) string {
	return fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":%q,"MachineAccountName":%q,"Guid":%q,"DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":%[2]q,"Scope":"contoso.com"},{"Name":%[2]q,"Scope":"CONTOSO"}],
"HostAccountConfig":{"PortableCcgVersion":"1","PluginGUID":%[4]q,"PluginInput":%[5]s}}}`, lab.DomainSID, account, lab.DomainGUID, guid, input)
}

// vaultDouble answers as Vault's KV engine of version 2.
func vaultDouble(t *testing.T, token, path, user, password string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != token || r.URL.Path != "/v1/secret/data/"+path {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"errors":["permission denied"]}`)
			return
		}
		fmt.Fprintf(w, `{"data":{"data":{"username":%q,"password":%q,"domainName":"contoso.com"},"metadata":{"version":1}}}`, user, password)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// pluginFiles are what the stores of TestEveryPluginGivesALease contain.
func pluginFiles(t *testing.T, stores string) {
	t.Helper()
	write(t, stores+"/reader.cred", 0o600, "contoso.com\\plugone:Plug-Pass1!\n")
	write(t, stores+"/credentials/gmsa-reader", 0o600, `CONTOSO\plugone:Plug-Pass1!`)
	for name, value := range map[string]string{"username": "plugone", "password": "Plug-Pass1!", "domainName": "contoso.com"} {
		write(t, stores+"/secret/gmsa/reader/..2026_01/"+name, 0o600, value)
		if err := os.Symlink("..data/"+name, stores+"/secret/gmsa/reader/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..2026_01", stores+"/secret/gmsa/reader/..data"); err != nil {
		t.Fatal(err)
	}
	write(t, stores+"/token", 0o600, "s.token")
	write(t, stores+"/plugin", 0o755, `#!/bin/sh
grep -q '"pluginInput":"{\\"secret\\":\\"plugone\\"}"' || exit 1
echo '{"version":1,"username":"plugone","password":"Plug-Pass1!","domainName":"contoso.com"}'
`)
}

const pluginYAML = `
domains:
  contoso.com: {servers: [DC]}
plugins:
  sample: {guid: "{GDMA0342-266A-4D1P-831J-20990E82944F}", kind: inline, allow_input: "contoso[.]com:plug(one|two):.*"}
  file: {guid: "{00000000-0000-4000-8000-000000000001}", kind: file, path: STORES/reader.cred}
  systemd: {guid: "{00000000-0000-4000-8000-000000000002}", kind: systemd-credential, credential: gmsa-reader}
  kubernetes: {guid: "{00000000-0000-4000-8000-000000000003}", kind: kubernetes-secret, directory: STORES/secret, allow_input: "gmsa:reader"}
  vault: {guid: "{00000000-0000-4000-8000-000000000004}", kind: vault, address: "VAULT", token_file: STORES/token, allow_input: "contoso/[a-z]+"}
  exec: {guid: "{00000000-0000-4000-8000-000000000005}", kind: exec, command: [STORES/plugin], user: nobody, allow_input: '[{]"secret":"[a-z]+"[}]'}
  gone: {guid: "{00000000-0000-4000-8000-000000000006}", kind: exec, command: [STORES/nothing], user: nobody}
`

// A host that is not joined, with every kind of plug-in, each from the credential
// spec to a ticket of the real domain; two portable identities at once; and what
// the event log says when a plug-in is not there.
func TestEveryPluginGivesALease(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddUser(t, "plugone", "Plug-Pass1!")
	dc.AddUser(t, "plugtwo", "Plug-Pass2!")
	dc.AddGMSA(t, lab.GMSA{Name: "portable1", Readers: []string{"plugone"}})
	dc.AddGMSA(t, lab.GMSA{Name: "portable2", Readers: []string{"plugtwo"}})

	stores, err := os.MkdirTemp("", "gmsa-plugins-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(stores) })
	if err := os.Chmod(stores, 0o755); err != nil {
		t.Fatal(err)
	}
	pluginFiles(t, stores)
	t.Setenv("CREDENTIALS_DIRECTORY", stores+"/credentials")
	vault := vaultDouble(t, "s.token", "contoso/reader", "plugone", "Plug-Pass1!")
	g := startWith(t, strings.NewReplacer("[DC]", "["+dc.IP.String()+"]", "STORES", stores, "VAULT", vault).Replace(pluginYAML))

	const id = "{00000000-0000-4000-8000-00000000000%d}"
	specs := map[string]string{
		"inline":     specText("portable1", "{GDMA0342-266A-4D1P-831J-20990E82944F}", `"contoso.com:plugone:Plug-Pass1!"`),
		"second":     specText("portable2", "{GDMA0342-266A-4D1P-831J-20990E82944F}", `"contoso.com:plugtwo:Plug-Pass2!"`),
		"file":       specText("portable1", fmt.Sprintf(id, 1), `""`),
		"systemd":    specText("portable1", fmt.Sprintf(id, 2), `""`),
		"kubernetes": specText("portable1", fmt.Sprintf(id, 3), `"gmsa:reader"`),
		"vault":      specText("portable1", fmt.Sprintf(id, 4), `"contoso/reader"`),
		"exec":       specText("portable1", fmt.Sprintf(id, 5), `{"secret": "plugone"}`),
		// What must not work.
		"crossed":      specText("portable2", "{GDMA0342-266A-4D1P-831J-20990E82944F}", `"contoso.com:plugone:Plug-Pass1!"`),
		"notadmitted":  specText("portable1", fmt.Sprintf(id, 4), `"fabrikam/../reader"`),
		"unregistered": specText("portable1", fmt.Sprintf(id, 9), `""`),
		"unloadable":   specText("portable1", fmt.Sprintf(id, 6), `""`),
	}
	for name, text := range specs {
		write(t, g.base+"/specs/"+name+".json", 0o644, text)
	}
	lab.Eventually(t, 10*time.Second, func() error {
		s, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
		if err == nil && len(s.GetCredentialSpecs()) != len(specs) {
			err = fmt.Errorf("%d credential specs", len(s.GetCredentialSpecs()))
		}
		return err
	})
	lease := func(spec string) (*agentapi.CreateLeaseResponse, error) {
		return g.client.CreateLease(t.Context(), &agentapi.CreateLeaseRequest{
			Subject: &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: spec}, Keytab: true,
		})
	}
	for _, name := range []string{"inline", "second", "file", "systemd", "kubernetes", "vault", "exec"} {
		t.Run(name, func(t *testing.T) {
			reply, err := lease(name)
			if err != nil {
				t.Fatal(err)
			}
			want := "portable1$@CONTOSO.COM"
			if name == "second" {
				want = "portable2$@CONTOSO.COM"
			}
			out := asOwner(t, reply.GetLease(), "klist")
			if !strings.Contains(out, "Default principal: "+want) {
				t.Errorf("klist:\n%s", out)
			}
			warned := strings.Contains(strings.Join(reply.GetWarnings(), " "), "GUID of Microsoft's example")
			if sample := name == "inline" || name == "second"; warned != sample {
				t.Errorf("warnings %q; the sample GUID is used: %v", reply.GetWarnings(), sample)
			}
		})
	}
	for name, want := range map[string]struct {
		kind  agentapi.Kind
		event event.ID
	}{
		"crossed":      {agentapi.Kind_KIND_DENIED, event.IDFetchFailed},
		"notadmitted":  {agentapi.Kind_KIND_FAILED, event.IDStoreFailed},
		"unregistered": {agentapi.Kind_KIND_FAILED, event.IDPluginFailed},
		"unloadable":   {agentapi.Kind_KIND_FAILED, event.IDPluginFailed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lease(name)
			f, ok := errors.AsType[*agentapi.Failure](err)
			if !ok || f.Kind != want.kind || f.EventID != uint32(want.event) || len(f.Hints) == 0 {
				t.Errorf("%v: %+v", err, f)
			}
			if strings.Contains(fmt.Sprintf("%+v", f), "Plug-Pass") {
				t.Error("a password is in the failure")
			}
		})
	}
	checkPluginEvents(t, g)
}

// checkPluginEvents wants event 1 and 2 of each plug-in, in this order, 4 for those
// that are not there, and nowhere a password.
func checkPluginEvents(t *testing.T, g *sambaGuard) {
	t.Helper()
	got := map[string][]event.ID{}
	for e, err := range event.Read(filepath.Join(g.base, "ccg.jsonl"), event.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got[e.Plugin] = append(got[e.Plugin], e.ID)
		if strings.Contains(e.Message+e.Reason, "Plug-Pass") {
			t.Errorf("a password is in the event log: %+v", e)
		}
	}
	for _, name := range []string{"sample", "file", "systemd", "kubernetes", "vault", "exec"} {
		if ids := got[name]; len(ids) < 2 || ids[0] != event.IDPluginInstantiated || ids[1] != event.IDFetched {
			t.Errorf("events of plug-in %s: %v, want 1 and 2 first", name, ids)
		}
	}
	if fmt.Sprint(got["gone"], got["{00000000-0000-4000-8000-000000000009}"]) != "[4] [4]" {
		t.Errorf("events of plug-ins that are not there: %v", got)
	}
}

// One agent, two real domains that know nothing of each other, one credential spec:
// each account gets the ticket of its own domain, by the host's account there, and
// MIT's programs find either domain's KDC by the lease's krb5.conf.
func TestALeaseOfTwoRealDomains(t *testing.T) {
	lab.Need(t, "klist", "kvno", "kinit")
	here, there := lab.Samba(t, lab.SambaConfig{}), lab.Samba(t, lab.SambaConfig{Realm: "FABRIKAM.TEST"})
	there.AddGMSA(t, lab.GMSA{Name: "shop01", Readers: []string{"web1$"}})
	g := startWith(t, joined(t, here)+strings.TrimPrefix(joined(t, there), "\ndomains:\n"))
	write(t, g.base+"/specs/both.json", 0o644, fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":%q,"MachineAccountName":"webapp01","Guid":%q,"DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":"webapp01","Scope":"contoso.com"},
{"Name":"webapp01","Scope":"fabrikam.test"},{"Name":"shop01","Scope":"fabrikam.test"}]}}`, lab.DomainSID, lab.DomainGUID))
	var l *agentapi.Lease
	lab.Eventually(t, 10*time.Second, func() error { // the spec is noticed
		reply, err := g.client.CreateLease(t.Context(), &agentapi.CreateLeaseRequest{
			Subject: &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "both"}, Keytab: true,
		})
		l = reply.GetLease()
		return err
	})
	for directory, principal := range map[string]string{
		"accounts/webapp01@contoso.com": "webapp01$@CONTOSO.COM", "accounts/webapp01@fabrikam.test": "webapp01$@FABRIKAM.TEST",
		"accounts/shop01": "shop01$@FABRIKAM.TEST",
	} {
		dir := l.GetDirectory() + "/" + directory
		if out := asOwner(t, l, "klist", "-c", dir+"/ccache"); !strings.Contains(out, "Default principal: "+principal) {
			t.Errorf("%s: klist:\n%s", directory, out)
		}
		asOwner(t, l, "kinit", "-k", "-t", dir+"/client.keytab", "-c", "MEMORY:", principal)
		cc := filepath.Join(t.TempDir(), "cc")
		asOwner(t, l, "cp", dir+"/ccache", cc) // kvno writes to its cache
		if out := asOwner(t, l, "kvno", "-c", cc, "-k", dir+"/keytab", principal); !strings.Contains(out, "keytab entry valid") {
			t.Errorf("%s: kvno:\n%s", directory, out)
		}
	}
	for _, account := range []string{"shop01", "webapp01"} {
		if _, err := g.lease(t, account, 0); kind(err) != agentapi.Kind_KIND_USAGE {
			t.Errorf("%s without a domain, of which there are two: %v", account, err)
		}
	}
	for name, want := range map[string]string{`FABRIKAM\shop01$`: "shop01$@FABRIKAM.TEST", "webapp01@contoso.com": "webapp01$@CONTOSO.COM"} {
		reply, err := g.client.CreateLease(t.Context(), &agentapi.CreateLeaseRequest{Subject: &agentapi.CreateLeaseRequest_Account{Account: name}})
		if err != nil || reply.GetLease().GetAccounts()[0].GetPrincipal() != want {
			t.Errorf("%s: %v, %v, want %s", name, reply.GetLease().GetAccounts(), err, want)
		}
	}
}

// The host's groups count as they were when its ticket was issued: a host that is
// added to the group while the agent holds a ticket gets the next lease at once.
func TestAHostAddedToTheGroupWhileTheAgentRuns(t *testing.T) { onBoth(t, false, aHostIsAdded) }

func aHostIsAdded(t *testing.T, dc *lab.DC) {
	dc.AddGroup(t, "AgentHosts", lab.GlobalGroup)
	dc.AddGMSA(t, lab.GMSA{Name: "grouped1", Readers: []string{"AgentHosts"}})
	g := startOnSamba(t, dc)
	if _, err := g.lease(t, "webapp01", 0); err != nil { // the host has its ticket now
		t.Fatal(err)
	}
	dc.AddMembers(t, "AgentHosts", "web1$")
	if _, err := g.lease(t, "grouped1", 0); err != nil {
		t.Errorf("the first lease after the host was added: %v", err)
	}
}

// The host's clock is ten minutes off, either way: the agent takes the offset
// from the KDC, and tells it to MIT's programs by the cache.
func TestAHostWhoseClockIsWrong(t *testing.T) {
	lab.Need(t, "klist", "kvno")
	onBoth(t, true, clocksDiffer)
}

func clocksDiffer(t *testing.T, dc *lab.DC) {
	for _, offset := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(offset.String(), func(t *testing.T) {
			dc.SetClock(t, offset)
			g := startOnSamba(t, dc)
			l, err := g.lease(t, "webapp01", 1234)
			if err != nil {
				t.Fatal(err)
			}
			asOwner(t, l, "klist", "-s")
			asOwner(t, l, "kvno", "web2$@CONTOSO.COM") // asks the KDC for a ticket
		})
	}
}

// Everything over IPv6: the ping, LDAP, Kerberos, and MIT's programs with the
// lease's krb5.conf.
func TestALeaseOverIPv6(t *testing.T) {
	lab.Need(t, "kvno")
	dc := lab.Samba(t, lab.SambaConfig{IPv6: true})
	g := startWith(t, `
domains:
  contoso.com:
    servers: ["`+dc.IP6.String()+`"]
    host: {keytab: `+dc.Keytab(t, "web1")+`, rotate_password: never}
`)
	l, err := g.lease(t, "webapp01", 1234)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(l.GetDirectory() + "/krb5.conf")
	if err != nil || !strings.Contains(string(conf), "["+dc.IP6.String()+"]") {
		t.Errorf("krb5.conf, %v:\n%s", err, conf)
	}
	asOwner(t, l, "kvno", "web2$@CONTOSO.COM")
}
