package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sambaScript provisions, seeds and runs a Samba domain.
//
//go:embed samba-dc.sh
var sambaScript string

// The domain that a [DC] of the lab serves unless its test asks for another realm.
const (
	Realm         = "CONTOSO.COM"
	DNSDomain     = "contoso.com"
	NetBIOSDomain = "CONTOSO"
	BaseDN        = "DC=contoso,DC=com"
	DCHost        = "dc1.contoso.com"
	Administrator = "Administrator"
	AdminPassword = "Passw0rd!Admin"
	DomainSID     = "S-1-5-21-702590844-1001920913-2680819671" // as in Microsoft's example credential spec
	DomainGUID    = "56d9b66c-d746-4f87-bd26-26760cfdca2e"
)

// snapshotAge is how long a seeded domain is taken from the cache. The accounts'
// first password interval starts when they are made, at most 10 h earlier by the key
// cycle, and lasts 20 h for webapp02: a domain of this age shows no rollover.
const snapshotAge = 2 * time.Hour

// SambaConfig says what kind of domain controller a test needs. The zero value is
// the shared one.
type SambaConfig struct {
	// Private gives the test a domain of its own, restored as it was seeded. Any
	// other field that is set implies it. Without, all tests of the process share
	// one controller; they add their own accounts and change nobody else's.
	Private bool
	// Realm, in capitals, is that of another domain, seeded alike; the default is
	// CONTOSO.COM.
	Realm string
	// Clock runs the controller under libfaketime, see [DC.SetClock].
	Clock bool
	// SMB serves the SYSVOL and NETLOGON shares too.
	SMB bool
	// IPv6 lets the controller answer on ::1 as well. Only one controller of the
	// machine can do so at a time: others wait.
	IPv6 bool
	// Conf holds more lines for the [global] section of smb.conf.
	Conf []string
	// Env holds more variables for samba-dc.sh, such as "DC_LDAP_STRONG=no".
	Env []string
	// LDIF is applied to the restored domain before the controller starts.
	LDIF string
	// Net is the network in which the controller listens, at [NetServer]; nil means this
	// machine's, at an address of its own.
	Net Network
}

// Network is a network of its own: a [Net].
type Network interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// join is the command that starts a program in it.
	join() []string
}

func (c SambaConfig) private() bool {
	return c.Private || c.Realm != "" || c.Clock || c.SMB || c.IPv6 || len(c.Conf) > 0 || len(c.Env) > 0 || c.LDIF != "" || c.Net != nil
}

// A DC is a running Samba domain controller, of the domain contoso.com by default.
//
// Its domain has, beside what Samba provisions, the computers web1$, web2$ and
// evil1$ (password "Comp-NAME-Pass!", see [ComputerPassword]), the group WebHosts
// with the member web1$, the gMSAs webapp01 (30 days; WebHosts and web2$ may read
// it), webapp02 (1 day; WebHosts) and aged01 (made one interval ago, so that its
// first use rolls it over), the sMSA smsa01, and a root key usable since 2001.
type DC struct {
	Realm      string     // CONTOSO.COM
	DNSDomain  string     // contoso.com
	BaseDN     string     // DC=contoso,DC=com
	Host       string     // dc1.contoso.com
	IP         netip.Addr // IPv4, of 127.77.0.0/16
	IP6        netip.Addr // only with SambaConfig.IPv6
	Dir        string     // everything of this controller
	CAFile     string     // PEM; signed the certificate for Host, DNSDomain and IP
	KRB5Config string     // krb5.conf for MIT programs

	cfg   SambaConfig
	own   string // our program, see [Own]; empty for Samba
	clock string // libfaketime's offset file
	addr  *address
	lock6 *os.File
	proc  *process // nil while stopped
}

// sharedDC is a controller that the tests of this process have in common.
type sharedDC struct {
	once sync.Once
	dc   *DC
	err  error
}

// shared is Samba's. With the one of [Own] it is the lab's only package-level state: tests
// of a package have no other place to meet.
var shared sharedDC

// Samba gives the test a running domain controller.
func Samba(t testing.TB, cfg SambaConfig) *DC {
	t.Helper()
	Need(t, "root", "samba", "samba-tool", "samba_spnupdate", "samba-provision", "ldbmodify", "kinit", "openssl")
	if cfg.Clock {
		Need(t, "libfaketime")
	}
	if cfg.SMB {
		Need(t, "smbd", "winbindd", "smbclient")
	}
	if !cfg.private() {
		shared.once.Do(func() { shared.dc, shared.err = openDC(cfg) })
		if shared.err != nil {
			t.Fatalf("lab: start the shared domain controller: %v", shared.err)
		}
		return shared.dc
	}
	dc, err := openDC(cfg)
	if err != nil {
		t.Fatalf("lab: start a domain controller: %v", err)
	}
	dc.closeAfter(t)
	return dc
}

// closeAfter ends the controller with the test.
func (d *DC) closeAfter(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", d.Host, tail(d.logFile(), 4000))
		}
		if err := d.close(); err != nil {
			t.Errorf("lab: end the domain controller: %v", err)
		}
	})
}

// openDC restores the snapshot on an address of its own and starts it.
func openDC(cfg SambaConfig) (*DC, error) {
	realm := cmp.Or(cfg.Realm, Realm)
	snapshot, err := sambaSnapshot(realm)
	if err != nil {
		return nil, err
	}
	dc, err := newDC(cfg, realm, "dc1")
	if err != nil {
		return nil, err
	}
	if err := dc.open(snapshot); err != nil {
		return nil, errors.Join(err, dc.close())
	}
	return dc, nil
}

// newDC makes a controller's directory and allots its address.
func newDC(cfg SambaConfig, realm, host string) (*DC, error) {
	dir, err := os.MkdirTemp("", "gmsa-lab-")
	if err != nil {
		return nil, err
	}
	domain := strings.ToLower(realm)
	d := &DC{
		Realm: realm, DNSDomain: domain, BaseDN: baseDN(domain), Host: host + "." + domain,
		Dir: dir, CAFile: dir + "/tls/ca.pem", KRB5Config: dir + "/krb5.conf", cfg: cfg,
	}
	// Other users' programs read krb5.conf and the CA.
	err = os.Chmod(dir, 0o755)
	if d.IP = NetServer; err == nil && cfg.Net == nil {
		if d.addr, err = allotAddress(); err == nil {
			d.IP = d.addr.ip
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// baseDN is the distinguished name of a domain.
func baseDN(domain string) string { return "DC=" + strings.ReplaceAll(domain, ".", ",DC=") }

func (d *DC) open(snapshot string) (err error) {
	if d.cfg.IPv6 {
		if d.lock6, err = lockFile(filepath.Join(os.TempDir(), "opengmsa-lab-ipv6.lock"), true); err != nil {
			return err
		}
		d.IP6 = netip.IPv6Loopback()
	}
	if _, err := run(nil, "", "tar", "-C", d.Dir, "-xf", snapshot); err != nil {
		return fmt.Errorf("restore the domain: %w", err)
	}
	if err := d.writeConf(); err != nil {
		return err
	}
	if err := d.moveDNS(); err != nil {
		return err
	}
	if d.cfg.Clock {
		if err := d.makeClock(); err != nil {
			return err
		}
	}
	if d.cfg.LDIF != "" {
		if err := d.modify(d.cfg.LDIF); err != nil {
			return err
		}
	}
	return d.start()
}

// writeConf writes the script and the configuration of this controller.
func (d *DC) writeConf() error {
	if err := os.WriteFile(d.Dir+"/samba-dc.sh", []byte(sambaScript), 0o755); err != nil {
		return err
	}
	_, err := run(d.env(), "", "bash", d.Dir+"/samba-dc.sh", "conf")
	return err
}

// domainEnv is what samba-dc.sh needs to know about a domain. Every domain but the
// usual one has identifiers that follow from its name.
func domainEnv(realm string) []string {
	netbios, _, _ := strings.Cut(realm, ".")
	env := []string{"DC_REALM=" + realm, "DC_DOMAIN=" + netbios, "DC_ADMIN_PASS=" + AdminPassword}
	if realm != Realm {
		sum := sha256.Sum256([]byte(realm))
		part := func(i int) uint32 { return binary.BigEndian.Uint32(sum[4*i:]) }
		env = append(env, fmt.Sprintf("DC_SID=S-1-5-21-%d-%d-%d", part(0), part(1), part(2)),
			fmt.Sprintf("DC_GUID=%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
	}
	return env
}

// env is what samba-dc.sh needs to know about this controller.
func (d *DC) env() []string {
	host, _, _ := strings.Cut(d.Host, ".")
	env := append(domainEnv(d.Realm), "DC_DIR="+d.Dir, "DC_IP="+d.IP.String(), "DC_HOST="+host)
	if d.IP6.IsValid() {
		env = append(env, "DC_IP6="+d.IP6.String())
	}
	conf := d.cfg.Conf
	if d.cfg.SMB {
		env = append(env, "DC_SERVICES=ldap cldap kdc rpc dns ntp_signd winbindd s3fs", "DC_RPC_SERVERS=-winreg")
		conf = append([]string{"winbind separator = +"}, conf...)
	}
	if len(conf) > 0 {
		env = append(env, "DC_CONF="+strings.Join(conf, "\n"))
	}
	if d.clock != "" {
		env = append(env, "DC_PRELOAD="+find("libfaketime"))
		env = append(env, d.fakeEnv()...)
	}
	return append(env, d.cfg.Env...)
}

func (d *DC) logFile() string { return d.Dir + "/samba.log" }

// database are the arguments with which ldb's tools reach the directory.
func (d *DC) database() []string {
	if d.own != "" {
		return d.ownDatabase()
	}
	return []string{"-H", d.Dir + "/private/sam.ldb"}
}

// smbConf is the configuration for ldb's tools.
func (d *DC) smbConf() string {
	if d.own != "" {
		return d.ownConf()
	}
	return d.Dir + "/etc/smb.conf"
}

func (d *DC) start() error {
	if d.proc != nil {
		return errors.New("the domain controller runs already")
	}
	server := spawn{dir: d.Dir, log: d.logFile(), env: d.env(), argv: []string{"/bin/bash", d.Dir + "/samba-dc.sh", "run"}}
	if d.own != "" {
		server.env, server.argv = d.ownEnv(), d.ownServe()
	}
	dial := new(net.Dialer).DialContext
	if d.cfg.Net != nil {
		dial, server.argv = d.cfg.Net.Dial, append(d.cfg.Net.join(), server.argv...)
	} else {
		server.lock = d.addr.lock
	}
	p, err := server.start()
	if err != nil {
		return err
	}
	d.proc = p
	ports := []string{"389", "88", "464", "636", "53"}
	if d.cfg.SMB {
		ports = append(ports, "445")
	}
	for _, port := range ports {
		if err := awaitBy(dial, net.JoinHostPort(d.IP.String(), port), p); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(d.logFile(), 4000))
		}
	}
	return nil
}

// await waits until the address accepts connections, at most 30 s, or the program ends.
func await(addr string, p *process) error { return awaitBy(new(net.Dialer).DialContext, addr, p) }

// awaitBy is await for an address of another network.
func awaitBy(dial func(ctx context.Context, network, address string) (net.Conn, error), addr string, p *process) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := dial(ctx, "tcp", addr)
		cancel()
		if err == nil {
			return c.Close()
		}
		if !p.alive() {
			return fmt.Errorf("process %d ended before %s answered", p.pid, addr)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer in 30 s: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// close ends the controller and removes everything of it.
func (d *DC) close() error {
	var err error
	if d.proc != nil {
		err = d.proc.stop()
		d.proc = nil
	}
	if d.addr != nil {
		d.addr.release()
	}
	if d.lock6 != nil {
		d.lock6.Close()
	}
	return errors.Join(err, os.RemoveAll(d.Dir))
}

// Stop ends the controller in order; Start starts it again with the same data.
func (d *DC) Stop(t testing.TB) { t.Helper(); d.must(t, d.halt((*process).stop)) }

// Kill ends it with SIGKILL.
func (d *DC) Kill(t testing.TB) { t.Helper(); d.must(t, d.halt((*process).kill)) }

// Start starts a stopped controller.
func (d *DC) Start(t testing.TB) { t.Helper(); d.must(t, d.start()) }

// Pause stops the controller with SIGSTOP: connections are accepted, nothing is
// answered.
func (d *DC) Pause(t testing.TB) { t.Helper(); d.must(t, d.proc.signal(sigStop)) }

// Resume lets a paused controller go on.
func (d *DC) Resume(t testing.TB) { t.Helper(); d.must(t, d.proc.signal(sigContinue)) }

func (d *DC) halt(how func(*process) error) error {
	if d == shared.dc || d == sharedOwn.dc {
		return errors.New("the shared domain controller may not be stopped; ask for a private one")
	}
	if d.proc == nil {
		return errors.New("the domain controller does not run")
	}
	p := d.proc
	d.proc = nil
	return how(p)
}

func (d *DC) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
}

// SetClock lets the controller's clock differ from the machine's by the offset, from
// now on; it may go back. Needs SambaConfig.Clock. [DC.Env] gives MIT programs the
// same clock. Go programs do not use libc's clock: give them [DC.Now].
func (d *DC) SetClock(t testing.TB, offset time.Duration) {
	t.Helper()
	if d.clock == "" {
		t.Fatal("lab: SetClock needs a controller with SambaConfig.Clock")
	}
	d.must(t, d.setClock(offset))
}

// FreezeClock lets the controller's clock stand still at a second, until it is moved
// again. Needs SambaConfig.Clock, as [DC.SetClock] does.
func (d *DC) FreezeClock(t testing.TB, at time.Time) {
	t.Helper()
	if d.clock == "" {
		t.Fatal("lab: FreezeClock needs a controller with SambaConfig.Clock")
	}
	d.must(t, d.writeClock(at.Local().Format(frozen)))
}

// frozen is how libfaketime reads a time at which the clock stands, in local time.
const frozen = time.DateTime

// makeClock makes the clock's file, in a directory of its own: containers have that, and
// nothing else of the controller's.
func (d *DC) makeClock() error {
	d.clock = d.Dir + "/clock/offset"
	if err := os.Mkdir(filepath.Dir(d.clock), 0o755); err != nil {
		return err
	}
	return d.setClock(0)
}

func (d *DC) setClock(offset time.Duration) error {
	return d.writeClock(fmt.Sprintf("%+.6f", offset.Seconds()))
}

func (d *DC) writeClock(spec string) error {
	tmp := d.clock + ".new"
	if err := os.WriteFile(tmp, []byte(spec+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, d.clock)
}

// ClockOffset is how far the controller's clock is ahead of the machine's.
func (d *DC) ClockOffset() time.Duration {
	if d.clock == "" {
		return 0
	}
	b, err := os.ReadFile(d.clock)
	if err != nil {
		return 0
	}
	spec := strings.TrimSpace(string(b))
	if at, err := time.ParseInLocation(frozen, spec, time.Local); err == nil {
		return time.Until(at)
	}
	offset, err := time.ParseDuration(spec + "s")
	if err != nil {
		return 0
	}
	return offset
}

// Now is the time by the controller's clock.
func (d *DC) Now() time.Time { return time.Now().Add(d.ClockOffset()) }

// fakeEnv configures libfaketime, which reads its offset at each call.
func (d *DC) fakeEnv() []string {
	return []string{"FAKETIME_TIMESTAMP_FILE=" + d.clock, "FAKETIME_NO_CACHE=1", "FAKETIME_DISABLE_SHM=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1"}
}

// DNS is the address of the domain's name server, host and port.
func (d *DC) DNS() string { return net.JoinHostPort(d.IP.String(), "53") }

// Resolver asks the domain's name server.
func (d *DC) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, d.DNS())
	}}
}

// moveDNS lets the domain's address records name this controller's address. The
// snapshot brought the records of the address at which it was provisioned.
func (d *DC) moveDNS() error {
	list, err := os.ReadFile(d.Dir + "/" + addressRecords)
	if err != nil {
		return err
	}
	var ldif strings.Builder
	ip := d.IP.As4()
	for line := range strings.Lines(string(list)) {
		dn, value, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue
		}
		record, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(record) < 4 {
			return fmt.Errorf("address record of %s: %q", dn, value)
		}
		moved := append(record[:len(record)-4:len(record)-4], ip[:]...)
		fmt.Fprintf(&ldif, "dn: %s\nchangetype: modify\ndelete: dnsRecord\ndnsRecord:: %s\n-\nadd: dnsRecord\ndnsRecord:: %s\n-\n\n",
			dn, value, base64.StdEncoding.EncodeToString(moved))
	}
	return d.modify(ldif.String())
}

// addressRecords is a file of the snapshot: the DN and dnsRecord, tab between, of
// each A record that holds the address at which the domain was provisioned.
const addressRecords = "address-records"

// sambaSnapshot gives the tar file of a seeded domain, making it where the cache has
// none that is young enough. Processes that need one at the same time wait for the first.
func sambaSnapshot(realm string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	version, err := run(nil, "", "samba", "--version")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(sambaScript + version + realm))
	path := filepath.Join(cache, "samba-"+hex.EncodeToString(sum[:6])+".tar")
	lock, err := lockFile(path+".lock", true)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if fi, err := os.Stat(path); err == nil && time.Since(fi.ModTime()).Abs() < snapshotAge {
		return path, nil
	}
	return path, makeSnapshot(path, realm)
}

func makeSnapshot(path, realm string) error {
	dir, err := os.MkdirTemp("", "gmsa-provision-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dc, script := dir+"/dc", dir+"/samba-dc.sh"
	if err := os.WriteFile(script, []byte(sambaScript), 0o755); err != nil {
		return err
	}
	addr, err := allotAddress()
	if err != nil {
		return err
	}
	defer addr.release()
	env := append(domainEnv(realm), "DC_DIR="+dc, "DC_IP="+addr.ip.String())
	for _, verb := range []string{"provision", "seed"} {
		if _, err := run(env, "", "bash", script, verb); err != nil {
			return fmt.Errorf("%s the domain: %w", verb, err)
		}
	}
	if err := listAddressRecords(dc, baseDN(strings.ToLower(realm)), addr.ip); err != nil {
		return err
	}
	if _, err := run(nil, "", "tar", "-C", dc, "--exclude=./run/*", "-cf", path+".new", "."); err != nil {
		return fmt.Errorf("save the domain: %w", err)
	}
	return os.Rename(path+".new", path)
}

// listAddressRecords writes the snapshot's addressRecords.
func listAddressRecords(dc, base string, ip netip.Addr) error {
	var list strings.Builder
	for _, zone := range []string{"DomainDnsZones", "ForestDnsZones"} {
		entries, err := ldbSearch([]string{"-H", dc + "/private/sam.ldb"}, dc+"/etc/smb.conf", "DC="+zone+","+base, "(dnsRecord=*)", "dnsRecord")
		if err != nil {
			return err
		}
		four := ip.As4()
		for _, e := range entries {
			for _, v := range e.Values("dnsRecord") {
				if strings.HasSuffix(v, string(four[:])) && strings.HasPrefix(v, "\x04\x00\x01\x00") { // 4 bytes of data, type A
					fmt.Fprintf(&list, "%s\t%s\n", e.DN, base64.StdEncoding.EncodeToString([]byte(v)))
				}
			}
		}
	}
	if list.Len() == 0 {
		return fmt.Errorf("the provisioned domain has no address record with %s", ip)
	}
	return os.WriteFile(filepath.Join(dc, addressRecords), []byte(list.String()), 0o644)
}

// tail gives at most the last n bytes of a file.
func tail(name string, n int) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}
