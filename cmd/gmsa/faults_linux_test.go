package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

func secretOf(s string) secret.Bytes { return secret.New([]byte(s)) }

// A fault is one row of the table: everything is well but for one thing.
type fault struct {
	// site changes the agent's surroundings before it starts.
	site func(t *testing.T, p *place)
	// inject breaks something once the lease beside it is made, mend undoes that
	// before that lease is looked at.
	inject, mend func(t *testing.T, p *place)
	// args of gmsa lease create; the account webapp02 where there are none.
	args []string

	// What the program must answer. No code wants success, an event none.
	code  int
	cause string // in words
	wire  string // the protocol's own code
	hint  string
	event int
	names string // in that event

	secret []byte // that must be nowhere, beside those of every row
}

// place is where a row happens.
type place struct {
	dc *lab.DC
	site
	relay *relay // between agent and controller, if the row has one
	g     *guard
	early map[string]string // files that are there when the agent starts
}

// relayed puts a relay before the controller.
func (p *place) relayed(t *testing.T) {
	p.relay = newRelay(t, p.dc.IP.String())
	p.server = p.relay.ip
}

// keytab is the host's identity.
func (p *place) keytab(path string) { p.host = "{keytab: " + path + ", rotate_password: never}" }

// hostile has the relay treat new connections to a port in a manner.
func hostile(port int, m manner) fault {
	return fault{
		site:   func(t *testing.T, p *place) { p.relayed(t) },
		inject: func(_ *testing.T, p *place) { p.relay.behave(port, m) },
		mend: func(t *testing.T, p *place) {
			if p.relay.hits.Load() == 0 {
				t.Error("the relay was not asked: nothing was tested")
			}
			p.relay.behave(port, nil)
		},
		code: 1, cause: "cannot be believed", hint: "tampering", event: 8, names: "webapp02@contoso.com",
	}
}

// but is f with other answers expected.
func (f fault) but(code int, cause, hint string) fault {
	f.code, f.cause, f.hint = code, cause, hint
	return f
}

// TestFaults breaks one thing at a time, between a real domain controller and a
// real agent, and asks for a lease with the real program. The answer must say
// what is wrong in words and in the protocol's own code, what to do, in the event
// log too, and with the right exit code; another lease of the same agent must go
// on to work; and no secret may be in anything that is printed or logged.
func TestFaults(t *testing.T) {
	t.Parallel()
	dc := lab.Samba(t, lab.SambaConfig{})
	lab.Need(t, "kinit", "klist", "kvno")
	prepare(t, dc)
	web1 := dc.Keytab(t, "web1")
	for name, f := range faults(t, dc) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, &place{dc: dc, site: site{server: dc.IP.String(), host: "{keytab: " + web1 + ", rotate_password: never}"}}, f)
		})
	}
}

// prepare makes the accounts of the rows.
func prepare(t *testing.T, dc *lab.DC) {
	t.Helper()
	dc.AddComputer(t, "hostoff")
	dc.Replace(t, "hostoff$", "userAccountControl", "4098")
	dc.AddUser(t, "expired1", "Expired.1234")
	dc.AddUser(t, "soon1", "Soon.1234")
	dc.AddGMSA(t, lab.GMSA{Name: "off01", Readers: []string{"web1$"}})
	dc.Replace(t, "off01$", "userAccountControl", "4098")
	dc.AddGMSA(t, lab.GMSA{Name: "users01", Readers: []string{"expired1", "soon1"}})
	// Passwords of users end in a day; those of computers never do.
	dc.SambaTool(t, "domain", "passwordsettings", "set", "--max-pwd-age=1", "--min-pwd-age=0")
	for _, user := range []string{"expired1", "soon1"} {
		dc.Replace(t, user, "userAccountControl", "512")
	}
	dc.Replace(t, "expired1", "pwdLastSet", "0")
}

// run is one row.
func run(t *testing.T, p *place, f fault) {
	if f.site != nil {
		f.site(t, p)
	}
	g := newGuard(t, p.site, p.early)
	p.g = g
	neighbour := g.good("--credspec", other, "--keytab")
	if f.inject != nil {
		f.inject(t, p)
	}
	args := f.args
	if args == nil {
		args = []string{"--account", "webapp02"}
	}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "DIR", g.dir)
	}
	r := g.lease(args...)
	f.judge(t, g, r)
	if f.mend != nil {
		f.mend(t, p)
	}
	if f.code == 0 && r.code == 0 {
		if err := g.works(strings.TrimSpace(r.stdout)); err != nil {
			t.Errorf("the lease does not work: %v", err)
		}
	}
	if err := g.works(neighbour); err != nil {
		t.Errorf("the other lease does not work: %v", err)
	}
	if !g.agent.Alive() {
		t.Error("the agent has ended")
	}
	if got := memory(t, g.agent.PID()); got > maxMemory {
		t.Errorf("the agent has used %d MiB, at most %d are right", got>>20, maxMemory>>20)
	}
	g.searchSecrets(t, neighbour, f.secret)
	if t.Failed() {
		t.Logf("exit code %d\n%s%s\nevents %+v", r.code, r.stdout, r.stderr, g.events())
	}
}

// maxMemory bounds an agent that is sent as much as it takes. Without any fault it
// has about 20 MiB.
const maxMemory = 64 << 20

// memory is the most that a process has had resident, in bytes.
func memory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// judge compares what the program said with what the row wants.
func (f fault) judge(t *testing.T, g *guard, r outcome) {
	t.Helper()
	if r.code != f.code {
		t.Errorf("exit code %d, want %d", r.code, f.code)
	}
	message, hints, _ := strings.Cut(r.stderr, "\nhint: ")
	for what, want := range map[string]string{"cause": f.cause, "protocol's code": f.wire} {
		if !strings.Contains(message, want) {
			t.Errorf("the message lacks the %s %q", what, want)
		}
	}
	if f.code != 0 && (hints == "" || !strings.Contains(hints, f.hint)) {
		t.Errorf("the hints lack %q", f.hint)
	}
	if f.event == 0 {
		return
	}
	lab.Eventually(t, 15*time.Second, func() error {
		for _, e := range g.events() {
			if e.ID == f.event && strings.Contains(e.Message, f.names) && strings.Contains(e.Message, f.wire) {
				return nil
			}
		}
		return fmt.Errorf("no event %d with %q and %q among %+v", f.event, f.names, f.wire, g.events())
	})
}

// searchSecrets looks for passwords and keys in all that was printed and logged.
func (g *guard) searchSecrets(t *testing.T, lease string, own []byte) {
	t.Helper()
	secrets := map[string][]byte{
		"the host's password": []byte(lab.ComputerPassword("web1")), "the plug-in's password": []byte(lab.ComputerPassword("web2")),
		"the spec's password": []byte(wrongPassword), "a user's password": []byte("Expired.1234"), "another user's password": []byte("Soon.1234"),
	}
	if own != nil {
		secrets["the gMSA's password"] = own
	}
	b, err := os.ReadFile(filepath.Join(lease, "keytab"))
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil || len(kt.Entries) == 0 {
		t.Fatalf("the lease's keytab: %v, %d entries", err, len(kt.Entries))
	}
	for i, e := range kt.Entries {
		secrets[fmt.Sprintf("key %d", i)] = e.Key.Secret().Reveal()
	}
	log, err := os.ReadFile(filepath.Join(g.agent.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	events, err := os.ReadFile(g.path("ccg.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"the output": g.seen.String(), "the agent's log": string(log), "the event log": string(events)} {
		if text == "" {
			t.Errorf("%s is empty: nothing was searched", where)
		}
		for what, b := range secrets {
			for how, s := range spellings(b) {
				if strings.Contains(text, s) {
					t.Errorf("%s is in %s (%s)", what, where, how)
				}
			}
		}
	}
}

const (
	wrongPassword = "Wrong-Pass.Word1"
	unknownGUID   = "{6f1d4a0e-3c1b-4e55-9b0a-0f5c1c2d7e99}"
)

// portable is a row with a credential spec that the agent finds at its start.
func portable(f fault, guid, input string) fault {
	f.site = func(_ *testing.T, p *place) {
		p.early = map[string]string{"specs/row.json": spec("webapp02", `{"PortableCcgVersion":"1","PluginGUID":"`+guid+`","PluginInput":"`+input+`"}`)}
	}
	f.args = []string{"--credspec", "row"}
	return f
}

// as is a row whose host is another one.
func as(f fault, keytab string) fault {
	f.site = func(_ *testing.T, p *place) { p.keytab(keytab) }
	return f
}

func faults(t *testing.T, dc *lab.DC) map[string]fault {
	all := map[string]fault{}
	for _, group := range []map[string]fault{specFaults(), identityFaults(t, dc), accountFaults(t, dc), connectionFaults(t, dc), storageFaults()} {
		maps.Copy(all, group)
	}
	return all
}

func specFaults() map[string]fault {
	return map[string]fault{
		"a malformed spec in the directory": {
			site: func(_ *testing.T, p *place) {
				p.early = map[string]string{"specs/row.json": `{"CmsPlugins":["ActiveDirectory"],`}
			},
			args: []string{"--credspec", "row"},
			code: 2, cause: "not JSON: line 1", hint: "gmsa credspec check", event: 3, names: "not JSON",
		},
		"a malformed spec in a file": {
			inject: func(_ *testing.T, p *place) { p.g.write("row.json", `{"CmsPlugins":["Other"]}`) },
			args:   []string{"--credspec", "DIR/row.json"},
			code:   2, cause: "$.CmsPlugins: ActiveDirectory is not among them", hint: "gmsa credspec check", event: 3, names: "$.DomainJoinConfig: missing",
		},
		"an unknown plug-in": portable(fault{
			code: 1, cause: "is not registered", hint: "plugins", event: 4, names: strings.Trim(unknownGUID, "{}"),
		}, unknownGUID, "x"),
		"a store that has nothing": portable(fault{
			code: 1, cause: "no such file", hint: "gmsa events --id 6", event: 6, names: "plug-in: lost",
		}, lostGUID, ""),
		"a portable identity with a wrong password": portable(fault{
			code: 4, cause: "the domain refuses the identity", wire: "24 KDC_ERR_PREAUTH_FAILED", hint: "password", event: 8, names: "webapp02@contoso.com using plugin sample",
		}, sampleGUID, "contoso.com:web1$:"+wrongPassword),
	}
}

func identityFaults(t *testing.T, dc *lab.DC) map[string]fault {
	user := func(f fault, name, password string) fault {
		f.site = func(_ *testing.T, p *place) {
			p.host = "{user: " + name + ", password_file: DIR/password}"
			p.early = map[string]string{"password": password + "\n"}
		}
		f.args = []string{"--account", "users01"}
		return f
	}
	soon := user(fault{event: 2, names: "users01@contoso.com"}, "soon1", "Soon.1234")
	soon.inject = func(t *testing.T, p *place) { notified(t, p.dc) }
	return map[string]fault{
		"a stale keytab": as(fault{
			code: 4, cause: "the domain refuses the identity", wire: "24 KDC_ERR_PREAUTH_FAILED", hint: "keytab is older", event: 8, names: "webapp02@contoso.com using plugin keytab",
		}, dc.KeytabWith(t, "web1", wrongPassword)),
		"no keytab": as(fault{
			code: 1, cause: "no such file", hint: "gmsa events --id 6", event: 6, names: "plug-in: keytab",
		}, "/nonexistent/krb5.keytab"),
		"a disabled host": as(fault{
			code: 4, cause: "STATUS_ACCOUNT_DISABLED", wire: "18 KDC_ERR_CLIENT_REVOKED", hint: "enable the account", event: 8, names: "using plugin keytab",
		}, dc.Keytab(t, "hostoff")),
		"a wrong password": user(fault{
			code: 4, cause: "the domain refuses the identity", wire: "24 KDC_ERR_PREAUTH_FAILED", hint: "password", event: 8, names: "users01@contoso.com using plugin password",
		}, "soon1", wrongPassword),
		"an expired password": user(fault{
			code: 4, cause: "expired", wire: "23 KDC_ERR_KEY_EXPIRED", hint: "change the account's password", event: 8, names: "users01@contoso.com using plugin password",
		}, "expired1", "Expired.1234"),
		"a password that expires soon": soon,
	}
}

// notified makes sure that the KDC says so.
func notified(t *testing.T, dc *lab.DC) {
	c, err := kclient.New(kclient.Config{Realm: lab.Realm, KDCs: kclient.StaticKDCs(dc.IP.String())})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	res, err := c.AS(t.Context(), kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, "soon1"), Secret: kclient.Password(secretOf("Soon.1234"))})
	if err != nil || res.PasswordExpires.IsZero() || time.Until(res.PasswordExpires) > 24*time.Hour {
		t.Errorf("the KDC gives no notice: %v, %v", res.PasswordExpires, err)
	}
}

func accountFaults(t *testing.T, dc *lab.DC) map[string]fault {
	rows := map[string]fault{
		"a disabled gMSA": {
			args: []string{"--account", "off01"},
			code: 4, cause: "STATUS_ACCOUNT_DISABLED", wire: "18 KDC_ERR_CLIENT_REVOKED", hint: "enable the account", event: 8, names: "off01@contoso.com",
		},
		"a gMSA that the host may not read": as(fault{
			code: 4, cause: "withholds the managed password", hint: "let evil1$ retrieve it", event: 8, names: "webapp02@contoso.com using plugin keytab",
		}, dc.Keytab(t, "evil1")),
		"a gMSA that does not exist": {
			args: []string{"--account", "nosuch"},
			code: 3, cause: "the domain has no gMSA nosuch", hint: "Get-ADServiceAccount", event: 8, names: "nosuch@contoso.com",
		},
		"an account that is no gMSA": {
			args: []string{"--account", "web2"},
			code: 3, cause: "not a group managed service account", hint: "Get-ADServiceAccount", event: 8, names: "web2@contoso.com",
		},
	}
	for name, want := range map[string]holds{"u000a": newline, "u0000": replaced, "lonely": lonely} {
		password := chosen(t, dc, name, want)
		rows["a password with "+name] = fault{
			args: []string{"--account", name, "--keytab"}, event: 2, names: name + "@contoso.com", secret: password,
		}
	}
	return rows
}

func connectionFaults(t *testing.T, dc *lab.DC) map[string]fault {
	unsealed := func(port int, m manner, protection, cause, wire string) fault {
		f := hostile(port, m).but(1, cause, "somebody may stand between")
		f.wire = wire
		f.site = func(t *testing.T, p *place) {
			p.relayed(t)
			p.protection, p.ca = protection, dc.CAFile
		}
		return f
	}
	nobody := hostile(kerberosPort, refused).but(5, "no domain controller answers", "gmsa verify")
	nobody.inject = func(_ *testing.T, p *place) {
		p.relay.behave(kerberosPort, refused)
		p.relay.behave(ldapPort, refused)
	}
	nobody.mend = func(_ *testing.T, p *place) {
		p.relay.behave(kerberosPort, nil)
		p.relay.behave(ldapPort, nil)
	}
	// The bit is one of the ticket, which the client cannot read and the KDC can.
	bit := hostile(kerberosPort, flipped).but(1, "does not take a ticket that it gave", "tampering")
	bit.wire = "31 KRB_AP_ERR_BAD_INTEGRITY"
	silence := func(f fault) fault { return f.but(5, "no domain controller answers", "gmsa verify") }
	return map[string]fault{
		"a controller without TLS":              unsealed(ldapPort, noTLS, "starttls", "would not be encrypted", "LDAP 2"),
		"a controller with a wrong certificate": unsealed(636, impostor(t), "ldaps", "certificate of the directory is not accepted", ""),
		"plain text behind the bind":            unsealed(ldapPort, repeated, "gss-spnego", "bytes follow the answer in plain text", ""),

		"no controller":          nobody,
		"a directory in silence": silence(hostile(ldapPort, silent)),
		"a KDC in silence":       silence(hostile(kerberosPort, silent)),

		"a directory that answers noise":        hostile(ldapPort, garbled),
		"a directory that changes a bit":        hostile(ldapPort, flipped),
		"a directory that changes a sealed bit": silence(hostile(ldapPort, flippedLater)).but(5, "message integrity check failed", "gmsa verify"),
		"a directory that breaks off":           silence(hostile(ldapPort, truncated)),
		"a directory that answers 100 MiB":      hostile(ldapPort, endlessLDAP),
		"a KDC that answers noise":              hostile(kerberosPort, garbled),
		"a KDC that changes a bit":              bit,
		"a KDC that breaks off":                 silence(hostile(kerberosPort, truncated)),
		"a KDC that says everything twice":      hostile(kerberosPort, repeated),
		"a KDC that answers 100 MiB":            hostile(kerberosPort, endlessKDC),
		"a process with all the connections":    {inject: occupy, event: 2, names: "webapp02@contoso.com"},
	}
}

// impostor is a controller with a certificate for the right name that nobody
// trusts.
func impostor(t *testing.T) manner {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: lab.DCHost}, DNSNames: []string{lab.DCHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(client, server net.Conn) { honest(tls.Server(client, cfg), server) }
}

func storageFaults() map[string]fault {
	return map[string]fault{
		"a full tmpfs": {
			inject: func(t *testing.T, p *place) { fill(t, filepath.Join(p.g.leases, "filler")) },
			mend:   func(_ *testing.T, p *place) { _ = os.Remove(filepath.Join(p.g.leases, "filler")) },
			code:   1, cause: "the lease directory is full", wire: "ENOSPC", hint: "leases.size",
		},
	}
}

// fill takes what room there is in a file system.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// occupyEnv names the socket for a second process that opens all the connections
// that it gets, and holds them until its input ends.
const occupyEnv = "GMSA_TEST_OCCUPY"

func occupy(t *testing.T, p *place) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), occupyEnv+"="+p.g.path("agent.sock"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if n, _ := strconv.Atoi(strings.TrimSpace(line)); err != nil || n < 16 {
		t.Fatalf("the second process got %q connections, want at least 16: %v", line, err)
	}
}

// occupied is that process.
func occupied(socket string) {
	var held []net.Conn
	for len(held) < 64 {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		c, err := d.DialContext(ctx, "unix", socket)
		cancel()
		if err != nil {
			break
		}
		_, _ = c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		held = append(held, c)
	}
	fmt.Println(len(held))
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// TestReadOnlyLeases makes the leases' file system read-only while no agent runs:
// while one does, its open journal keeps the kernel from it.
func TestReadOnlyLeases(t *testing.T) {
	t.Parallel()
	dc := lab.Samba(t, lab.SambaConfig{})
	lab.Need(t, "kinit", "klist", "kvno")
	g := newGuard(t, site{server: dc.IP.String()}, nil)
	lease := g.good("--credspec", other, "--keytab")
	if err := g.agent.Stop(); err != nil {
		t.Fatal(err)
	}
	remount(t, g.leases, unix.MS_RDONLY)
	r := g.run("agent", "serve", "--config", g.path("agent.yaml"))
	fault{code: 1, cause: "the lease directory is read-only", wire: "EROFS", hint: "remount,rw"}.judge(t, g, r)
	if err := g.works(lease); err != nil {
		t.Errorf("the lease of before does not work: %v", err)
	}
	remount(t, g.leases, 0)
	g.start()
	g.good("--credspec", other)
	if err := g.works(lease); err != nil {
		t.Errorf("the lease of before does not work: %v", err)
	}
	g.searchSecrets(t, lease, nil)
	if t.Failed() {
		t.Logf("exit code %d\n%s", r.code, r.stderr)
	}
}

// TestMissingRootKey removes the domain's only root key.
func TestMissingRootKey(t *testing.T) {
	t.Parallel()
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	lab.Need(t, "kinit", "klist", "kvno")
	run(t, &place{dc: dc, site: site{server: dc.IP.String(), host: "{keytab: " + dc.Keytab(t, "web1") + ", rotate_password: never}"}}, fault{
		inject: func(t *testing.T, p *place) {
			for _, e := range p.dc.Search(t, rootKeysDN, "(objectClass=msKds-ProvRootKey)", "cn") {
				p.dc.Modify(t, "dn: "+e.DN+"\nchangetype: delete\n")
			}
		},
		code: 1, cause: "the domain has no KDS root key", wire: "LDAP 1", hint: "Add-KdsRootKey", event: 8, names: "webapp02@contoso.com",
	})
}

// TestClockSkew moves the controller's clock away from the host's. What is
// proved by an encrypted answer is corrected up to a day; Kerberos' programs take
// the correction from the lease's cache.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	dc := lab.Samba(t, lab.SambaConfig{Clock: true})
	lab.Need(t, "kinit", "klist", "kvno")
	web1 := dc.Keytab(t, "web1")
	for _, c := range []struct {
		name string
		skew time.Duration
		want fault
	}{
		{"a small one", 3 * time.Minute, fault{event: 2, names: "webapp02@contoso.com"}},
		{"over five minutes", 20 * time.Minute, fault{event: 2, names: "webapp02@contoso.com"}},
		{"over a day", 25 * time.Hour, fault{
			code: 1, cause: "clocks", wire: "37 KRB_AP_ERR_SKEW", hint: "clock", event: 8, names: "webapp02@contoso.com",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dc.SetClock(t, 0)
			f := c.want
			f.inject = func(t *testing.T, p *place) { dc.SetClock(t, c.skew) }
			if f.code != 0 {
				f.mend = func(t *testing.T, p *place) { dc.SetClock(t, 0) }
			} else {
				// The other lease was made while the clocks agreed.
				f.site = func(t *testing.T, p *place) { dc.SetClock(t, c.skew) }
			}
			run(t, &place{dc: dc, site: site{server: dc.IP.String(), host: "{keytab: " + web1 + ", rotate_password: never}"}}, f)
		})
	}
}
