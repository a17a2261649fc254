package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secdesc"
)

// administrator runs gmsa as the domain's administrator.
type administrator struct {
	t    *testing.T
	args []string
	env  []string
}

func newAdministrator(t *testing.T, controller, password string) *administrator {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &administrator{t: t, args: []string{"--dc", controller, "-U", "Administrator@" + lab.DNSDomain, "--password-file", file}}
}

// run wants an exit code and gives what was printed.
func (a *administrator) run(code int, args ...string) result {
	a.t.Helper()
	r := gmsa(a.t, a.env, append(args, a.args...)...)
	if r.code != code {
		a.t.Errorf("gmsa %s: exit code %d, want %d", strings.Join(args, " "), r.code, code)
	}
	return r
}

// json runs a command that succeeds and decodes its answer.
func (a *administrator) json(v any, args ...string) {
	a.t.Helper()
	if r := a.run(0, append(args, "-o", "json")...); r.code == 0 {
		if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
			a.t.Fatalf("%v in\n%s", err, r.stdout)
		}
	}
}

// onEach runs a test on Samba and on our own controller, each with a domain of the test's
// own.
func onEach(t *testing.T, test func(t *testing.T, dc *lab.DC, own bool)) {
	t.Run("Samba", func(t *testing.T) { test(t, lab.Samba(t, lab.SambaConfig{Private: true}), false) })
	t.Run("gmsa", func(t *testing.T) { test(t, lab.Own(t, lab.OwnConfig{Private: true}), true) })
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

func TestFarm(t *testing.T) { onEach(t, testFarm) }

func testFarm(t *testing.T, dc *lab.DC, own bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	dir := t.TempDir()

	a.run(0, "group", "create", "WebApp01 Authorized Hosts", "--sam", "WebApp01Hosts", "--scope", "DomainLocal")
	hostKeytab := filepath.Join(dir, "host.keytab")
	contains(t, a.run(0, "computer", "join", "ContainerHost01", "--out", hostKeytab).stdout, "was made")
	contains(t, a.run(0, "computer", "join", "ContainerHost01", "--out", hostKeytab).stdout, "given new keys")
	dc.KinitKeytab(t, "ContainerHost01$", hostKeytab)

	var x serviceAccountView
	a.json(&x, "account", "create", "Farm01", "--dns", "farm01.contoso.com", "--hosts", "WebApp01Hosts",
		"--spn", "host/Farm01,host/farm01.contoso.com", "--description", "the farm")
	if x.Name != "Farm01$" || !x.Enabled || x.Control != 4096 || x.Interval != 30 || x.EncTypes != "AES128, AES256" || len(x.Readers) != 1 || x.Readers[0].Name != "WebApp01Hosts" {
		t.Errorf("%+v", x)
	}
	if r := gmsa(t, nil, "account", "test", "Farm01", "--keytab", hostKeytab, "--dc", dc.IP.String()); r.code != 6 || r.stdout != "False\n" {
		t.Errorf("a host without the right: %d, %s", r.code, r.stdout)
	} else {
		contains(t, r.stderr, "Test failed for Managed Service Account Farm01.")
	}
	a.run(0, "group", "add-member", "WebApp01Hosts", "ContainerHost01")
	if r := gmsa(t, nil, "account", "test", "Farm01", "--keytab", hostKeytab, "--dc", dc.IP.String()); r.code != 0 || r.stdout != "True\n" {
		t.Errorf("a host with the right: %d, %s", r.code, r.stdout)
	}
	a.json(&x, "account", "show", "Farm01$")
	if len(x.Readers) != 1 || len(x.Readers[0].Hosts) != 1 || x.Readers[0].Hosts[0].Name != "ContainerHost01$" || x.NextRollover == nil || x.RootKey == "" {
		t.Errorf("%+v", x)
	}
	// What was made here is what samba-tool takes.
	if !own {
		contains(t, dc.SambaTool(t, "service-account", "view", "--name=Farm01"), "farm01.contoso.com")
		contains(t, dc.SambaTool(t, "service-account", "group-msa-membership", "show", "--name=Farm01"), "WebApp01")
	}
	// And a spec of it.
	a.env = []string{"GMSA_CREDENTIALSPECS=" + dir}
	a.run(0, "credspec", "create", "Farm01", "--no-clobber")
	b, err := os.ReadFile(filepath.Join(dir, "contoso_farm01.json"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), domainSID(t, dc), `"MachineAccountName": "Farm01"`)
	a.run(1, "credspec", "create", "Farm01", "--no-clobber")
	a.run(0, "account", "remove", "Farm01")
	a.run(3, "account", "show", "Farm01")
}

// domainSID is that of the domain, without its label.
func domainSID(t *testing.T, dc *lab.DC) string {
	t.Helper()
	sid := dc.Attr(t, "web1$", "objectSid")
	return sid[:strings.LastIndexByte(sid, '-')]
}

func TestRefusals(t *testing.T) { onEach(t, testRefusals) }

func testRefusals(t *testing.T, dc *lab.DC, own bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	a.run(0, "group", "create", "Inner", "--scope", "Universal")
	a.run(0, "group", "create", "Middle", "--scope", "Universal", "--member", "Inner")
	a.run(0, "group", "create", "Outer", "--scope", "Universal", "--member", "Middle")
	for name, c := range map[string]struct {
		code int
		want string
		args []string
	}{
		"a long name":         {2, "15 characters", []string{"account", "create", "AnAccountWithALongName", "--outbound-only"}},
		"no DNS name":         {2, "DNS host name", []string{"account", "create", "nodns"}},
		"a name that exists":  {1, "is taken", []string{"account", "create", "webapp01", "--outbound-only"}},
		"a SPN that exists":   {1, "is taken", []string{"account", "create", "thief", "--dns", "x.contoso.com", "--spn", "HTTP/webapp01.contoso.com"}},
		"an alias of a SPN":   {1, "is taken", []string{"account", "create", "thief", "--dns", "x.contoso.com", "--spn", "host/webapp01.contoso.com"}},
		"unknown principals":  {3, "nobody2", []string{"account", "create", "lost", "--outbound-only", "--hosts", "nobody1,nobody2"}},
		"another interval":    {2, "cannot be changed", []string{"account", "set", "webapp01", "--interval", "7"}},
		"an interval of 0":    {1, "not possible", []string{"account", "create", "zero", "--outbound-only", "--interval", "-1"}},
		"a group in a circle": {2, "member of itself", []string{"group", "add-member", "Inner", "Outer"}},
		"a group in itself":   {2, "member of itself", []string{"group", "add-member", "WebHosts", "WebHosts"}},
		"a bad filter":        {2, "malformed filter", []string{"object", "find", `name -like`}},
		"a taken group":       {1, "is taken", []string{"group", "create", "WebHosts"}},
		"no such key":         {3, "no such KDS root key", []string{"kds", "show", "11111111-2222-3333-4444-555555555555"}},
	} {
		if own && name == "an alias of a SPN" {
			continue // who may write the names of both accounts may give an alias to the other one there
		}
		t.Run(name, func(t *testing.T) {
			a.t = t
			r := a.run(c.code, c.args...)
			contains(t, r.stderr, c.want)
		})
	}
	a.t = t
	for _, name := range []string{"thief$", "lost$", "nodns$", "zero$"} {
		if found := dc.Search(t, lab.BaseDN, "(sAMAccountName="+name+")", "dn"); len(found) > 0 {
			t.Errorf("%s is there", name)
		}
	}
}

func TestSambaRootKeys(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	var keys []rootKeyView
	a.json(&keys, "kds", "list")
	if len(keys) == 0 || !keys[0].Usable {
		t.Fatalf("%+v", keys)
	}
	var app serviceAccountView
	a.json(&app, "account", "show", "webapp01")
	old := app.RootKey
	var x rootKeyView
	log := filepath.Join(t.TempDir(), "events.jsonl")
	a.json(&x, "kds", "add", "--event-log", log)
	if x.Effective == nil || x.Created == nil || x.Effective.Sub(*x.Created).Hours() < 239 || x.Usable || x.Hash != "SHA512" || x.PrivateKeyBits != 512 {
		t.Errorf("%+v", x)
	}
	contains(t, dc.SambaTool(t, "domain", "kds", "root-key", "list"), x.ID)
	if b, err := os.ReadFile(log); err != nil || !strings.Contains(string(b), `"id":4004`) {
		t.Errorf("%s, %v", b, err)
	}
	contains(t, a.run(0, "kds", "test", x.ID).stdout, "True")
	contains(t, a.run(0, "kds", "reach", old).stdout, "webapp01$")
	contains(t, a.run(1, "kds", "remove", old).stderr, "webapp01$", "hint: ")
	a.run(0, "kds", "remove", x.ID)
	r := a.run(0, "kds", "add", "--effective-time", "-10h")
	contains(t, r.stderr, "single controller", "already")
	r = a.run(0, "kds", "add", "--effective-immediately", "--reason", "a test")
	contains(t, r.stderr, "can first be used at")
	if strings.Contains(r.stderr, "already") {
		t.Error("warned of a key that is wanted")
	}
	if r := a.run(0, "kds", "show", old); strings.Contains(r.stdout, "key  ") {
		t.Error("the secret is shown")
	}
}

// What samba-tool makes is shown with what it leaves out, and repaired.
func TestSambaToolsAccountsAreRepaired(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	dc.SambaTool(t, "service-account", "create", "--name=Farm02", "--dns-host-name=farm02.contoso.com", "--group-msa-membership=O:SYD:(A;;RP;;;AU)")
	contains(t, a.run(0, "account", "show", "Farm02").stdout, "! the account is disabled", "! no AES encryption type")
	var x serviceAccountView
	a.json(&x, "account", "set", "Farm02", "--repair")
	if !x.Enabled || x.Control != 4096 || x.EncTypes != "AES128, AES256" || len(x.Findings) > 0 {
		t.Errorf("%+v", x)
	}
	if r := gmsa(t, nil, "account", "test", "Farm02", "--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String()); r.code != 0 {
		t.Error("the repaired account cannot be used")
	}

	// A spec of it has the guides' keys, order and form.
	dir := t.TempDir()
	a.env = []string{"GMSA_CREDENTIALSPECS=" + dir}
	a.run(0, "credspec", "create", "Farm02")
	file := filepath.Join(dir, "contoso_farm02.json")
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/contoso_farm02.json")
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Replace(string(want), "GUID", lab.DomainGUID, 1); string(got) != w {
		t.Errorf("got\n%s\nwant\n%s", got, w)
	}
	a.run(0, "credspec", "check", file, "--online")
	bad := strings.Replace(string(got), lab.DomainSID, "S-1-5-21-1-2-3", 1)
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, a.run(6, "credspec", "check", file, "--online").stdout, "$.DomainJoinConfig.Sid", "write "+lab.DomainSID)
}

// Who may not is told which right is missing, and gets it by delegation; what others
// wrote into a descriptor stays.
func TestDelegation(t *testing.T) { onEach(t, testDelegation) }

func testDelegation(t *testing.T, dc *lab.DC, own bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	dc.AddUser(t, "alice", "Wonder-land-1!")
	alice := newAdministrator(t, dc.IP.String(), "Wonder-land-1!")
	alice.args[3] = "alice@" + lab.DNSDomain
	r := alice.run(4, "account", "create", "Farm03", "--outbound-only")
	contains(t, r.stderr, "create msDS-GroupManagedServiceAccount objects", "CN=Managed Service Accounts", "hint: an administrator grants it: gmsa account delegate --to alice")
	contains(t, alice.run(4, "group", "add-member", "WebHosts", "web2").stderr, "write the members of the group")
	a.run(0, "account", "delegate", "--to", "alice")
	contains(t, a.run(0, "account", "delegate", "--to", "alice").stdout, "nothing to do")
	alice.run(0, "account", "create", "Farm03", "--outbound-only", "--hosts", "web1")

	sd, err := secdesc.ParseSDDL("O:SYD:(D;;RP;;;BG)(A;;RP;;;"+dc.Attr(t, "web1$", "objectSid")+")(A;;WP;;;AU)", dtyp.SID{}, dtyp.SID{})
	if err != nil {
		t.Fatal(err)
	}
	descriptor, err := sd.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	dc.Replace(t, "Farm03$", "msDS-GroupMSAMembership", string(descriptor))
	r = a.run(0, "account", "hosts", "add", "Farm03", "web2", "WebHosts")
	contains(t, r.stdout, "may now be retrieved by")
	r = a.run(0, "account", "hosts", "remove", "Farm03", "web1$")
	contains(t, r.stderr, "can use it until")
	var readers []readerView
	a.json(&readers, "account", "hosts", "list", "Farm03")
	if len(readers) != 2 || readers[0].Name != "web2$" || readers[1].Name != "WebHosts" {
		t.Errorf("%+v", readers)
	}
	contains(t, a.run(0, "object", "find", "(sAMAccountName=Farm03$)", "--attributes", "msDS-GroupMSAMembership").stdout, "(D;;RP;;;BG)", "(A;;WP;;;AU)")
	if own {
		a.run(0, "account", "rotate", "Farm03")
	} else {
		contains(t, a.run(1, "account", "rotate", "Farm03").stderr, "cannot rotate", "hint: wait until then")
	}
}

func TestSPNsAndStandalone(t *testing.T) { onEach(t, testSPNsAndStandalone) }

func testSPNsAndStandalone(t *testing.T, dc *lab.DC, own bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	contains(t, a.run(0, "spn", "add", "webapp02", "http/shop.contoso.com:8080").stdout, "added")
	contains(t, a.run(0, "spn", "add", "webapp02", "HTTP/shop.contoso.com:8080").stdout, "nothing to do")
	contains(t, a.run(1, "spn", "add", "webapp01", "http/shop.contoso.com:8080").stderr, "CN=webapp02")
	contains(t, a.run(0, "spn", "list", "webapp02").stdout, "http/shop.contoso.com:8080\n")
	a.run(0, "spn", "duplicates")
	if !own { // which takes no second one, however it is spelled
		dc.Modify(t, "dn: "+dc.Entry(t, "webapp01$", "dn").DN+"\nchangetype: modify\nadd: servicePrincipalName\nservicePrincipalName: HTTP/shop.contoso.com.:8080\n-\n")
		contains(t, a.run(6, "spn", "duplicates").stdout, "CN=webapp01", "CN=webapp02")
	}

	a.run(0, "account", "create", "Solo", "--single-computer", "--computer", "web1")
	contains(t, a.run(1, "account", "link", "web2", "Solo").stderr, "belongs to CN=web1")
	a.run(3, "account", "create", "Lonely", "--single-computer", "--computer", "nobody")
	a.run(3, "account", "show", "Lonely")
	keytab := filepath.Join(t.TempDir(), "solo.keytab")
	a.run(0, "account", "keys", "Solo", "--out", keytab)
	dc.KinitKeytab(t, "Solo$", keytab)
	if r := gmsa(t, nil, "account", "test", "Solo", "--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String()); r.code != 0 {
		t.Error("its own computer cannot use it")
	}
	a.run(0, "account", "set", "Solo", "--enctypes", "RC4")
	if r := gmsa(t, nil, "account", "test", "Solo", "--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String()); r.code != 6 {
		t.Errorf("with RC4 alone: exit code %d", r.code)
	} else {
		contains(t, r.stderr, "does not support all the Kerberos encryption types", "--repair")
	}
}

// A shell completes what is in the domain, with what is known of it, and nothing of
// another kind.
func TestNamesOfTheDomainAreCompleted(t *testing.T) {
	for name, dc := range map[string]*lab.DC{"Samba": lab.Samba(t, lab.SambaConfig{}), "gmsa": lab.Own(t, lab.OwnConfig{})} {
		t.Run(name, func(t *testing.T) {
			a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
			complete := func(words ...string) []string {
				t.Helper()
				args := append([]string{cobra.ShellCompRequestCmd}, words[:len(words)-1]...)
				r := gmsa(t, nil, append(append(args, a.args...), words[len(words)-1])...)
				var names []string
				for line := range strings.Lines(r.stdout) {
					if name, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(name, ":") {
						names = append(names, name)
					}
				}
				return names
			}
			var keys []rootKeyView
			a.json(&keys, "kds", "list")
			for _, c := range []struct{ words, want []string }{
				{[]string{"account", "show", "weba"}, []string{"webapp01", "webapp02"}},
				{[]string{"account", "set", "WEBAPP01"}, []string{"WEBAPP01"}},
				{[]string{"account", "show", "webapp01", ""}, nil},
				{[]string{"account", "install", "smsa"}, []string{"smsa01"}},
				{[]string{"account", "hosts", "add", "webapp01", "web1", "webH"}, []string{"webHosts"}},
				{[]string{"account", "link", "web1"}, []string{"web1"}},
				{[]string{"account", "link", "web1", "smsa"}, []string{"smsa01"}},
				{[]string{"computer", "show", "evil"}, []string{"evil1"}},
				{[]string{"computer", "show", "webapp"}, nil},
				{[]string{"group", "show", "WebH"}, []string{"WebHosts"}},
				{[]string{"group", "show", "web1"}, nil},
				{[]string{"spn", "add", "webapp01", "ht"}, nil},
				{[]string{"kds", "show", keys[0].ID[:8]}, []string{keys[0].ID}},
			} {
				if got := complete(c.words...); !slices.Equal(got, c.want) {
					t.Errorf("%q: %q, want %q", c.words, got, c.want)
				}
			}
		})
	}
}
