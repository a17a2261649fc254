package dc

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// A twin is a gMSA that a Samba domain and one of ours have: of one SID, made at one time,
// with the same root keys.
type twin struct {
	name string // without $
	days int64
	sid  dtyp.SID
}

// twins are the two domains. The clocks of both stand at a whole second.
type twins struct {
	t        *testing.T
	samba    *lab.DC
	ours     *clocked
	born     time.Time // of the accounts
	accounts []twin
	reader   *ldap.Conn // of ours, as web1$
}

// years is how long the differential tests look ahead.
const years = 10 * 365 * 24 * time.Hour

// often is the interval, in days, of the account that a running Samba rolls over most, and
// between its changes lies oftenInterval. Each costs Samba 50 ms.
const (
	often         = 14
	oftenInterval = 33 * cycle
)

// newTwins makes both domains. The first root key, of SHA-512, serves from the beginning;
// the second, of SHA-256, is there from the beginning too, and comes into use half-way.
func newTwins(t *testing.T) *twins {
	t.Helper()
	d := &twins{t: t, samba: lab.Samba(t, lab.SambaConfig{Clock: true}), born: time.Now().Add(25 * time.Hour).Truncate(time.Second).UTC()}
	d.ours = newClocked(t, d.born)
	d.samba.FreezeClock(t, d.born)
	for _, e := range d.samba.Search(t, rootKeysDN, "(objectClass=msKds-ProvRootKey)", "cn") {
		d.samba.Modify(t, "dn: "+e.DN+"\nchangetype: delete\n")
	}
	// Years pass while a connection is used.
	d.samba.Modify(t, "dn: CN=Default Query Policy,CN=Query-Policies,CN=Directory Service,CN=Windows NT,CN=Services,CN=Configuration,"+
		d.samba.BaseDN+"\nchangetype: modify\nreplace: lDAPAdminLimits\nlDAPAdminLimits: MaxConnIdleTime=1000000000\n")
	random := rand.NewChaCha8([32]byte{'t', 'w', 'i', 'n'})
	for i, hash := range []gkdi.Hash{gkdi.SHA512, gkdi.SHA256} {
		made := dtyp.FiletimeOf(d.born.Add(time.Duration(i-2) * cycle))
		key, err := gkdi.NewRootKey(random, made, made.Add(time.Duration(i)*years/2))
		if err != nil {
			t.Fatal(err)
		}
		key.Hash = hash
		d.addRootKey(key)
	}
	d.ours.addComputer("web1", lab.ComputerPassword("web1"))
	d.reader = d.ours.bind("web1$@contoso.com", lab.ComputerPassword("web1"))
	for _, days := range []int64{1, often, 30} {
		d.addAccount(fmt.Sprintf("twin%d", days), days)
	}
	return d
}

func (d *twins) addRootKey(key gkdi.RootKey) {
	d.t.Helper()
	ldif := "dn: " + rootKeyDN(key.ID) + "\nobjectClass: msKds-ProvRootKey\n"
	for _, a := range gkdi.NewProvRootKey(key, "CN=DC1,OU=Domain Controllers,DC=contoso,DC=com").Attributes() {
		ldif += a.Name + ":: " + base64.StdEncoding.EncodeToString(a.Value) + "\n"
	}
	d.samba.Modify(d.t, ldif)
	if err := d.ours.addRootKey(key); err != nil {
		d.t.Fatal(err)
	}
}

func (d *twins) addAccount(name string, days int64) {
	d.t.Helper()
	d.samba.AddGMSA(d.t, lab.GMSA{Name: name, Interval: int(days), Readers: []string{"web1$"}})
	sid, err := dtyp.ParseSID(d.samba.Attr(d.t, name+"$", "objectSid"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.ours.addGMSA(name, days, "web1$")
	d.ours.setSID(name+"$", sid)
	d.accounts = append(d.accounts, twin{name, days, sid})
}

// sambaConn is a connection to Samba over TLS as web1$, which is made anew when Samba, for
// which years pass, has closed it.
type sambaConn struct {
	*twins
	conn  *ldap.Conn
	dials int
}

func (c *sambaConn) read(account string) managed {
	c.t.Helper()
	for try := 0; ; try++ {
		if c.conn == nil {
			c.dials++
			c.conn = c.dial()
		}
		m, err := readManaged(c.conn, account)
		if err == nil {
			return m
		}
		if try == 2 {
			c.t.Fatalf("Samba: %s: %v", account, err)
		}
		c.conn.Close()
		c.conn = nil
	}
}

func (c *sambaConn) dial() *ldap.Conn {
	c.t.Helper()
	pem, err := os.ReadFile(c.samba.CAFile)
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tcp, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.samba.IP, 636)))
	if err != nil {
		c.t.Fatal(err)
	}
	conn := ldap.NewConn(tls.Client(lab.QuickAck(tcp), &tls.Config{RootCAs: roots, ServerName: c.samba.Host}), true)
	conn.Start()
	conn.SetTimeout(30 * time.Second)
	if err := conn.Bind("web1$@contoso.com", lab.ComputerPassword("web1")); err != nil {
		c.t.Fatalf("bind to Samba: %v", err)
	}
	return conn
}

// instant draws a time of a span in whole ticks; one in three lies within 10 min of the end
// of some password.
func (d *twins) instant(r *rand.Rand, span time.Duration) time.Time {
	at := d.born.Add(time.Duration(r.Int64N(int64(span)))).Truncate(100 * time.Nanosecond)
	if r.IntN(3) > 0 {
		return at
	}
	end, err := gkdi.KeyIDAt(dtyp.FiletimeOf(at)).Start()
	if err != nil {
		d.t.Fatal(err)
	}
	at = end.Time().Add(time.Duration(r.Int64N(int64(20*time.Minute))) - 10*time.Minute).Truncate(100 * time.Nanosecond)
	return slices.MaxFunc([]time.Time{at, d.born}, time.Time.Compare)
}

// TestPasswordsAreSambas is the differential test of the whole controller, over LDAP and
// Kerberos, against Samba: the same root keys, SIDs and clocks give the same passwords,
// keys and intervals. One thing is meant to differ, see [twins.window].
func TestPasswordsAreSambas(t *testing.T) {
	d := newTwins(t)
	d.ours.live(d.born.Add(years)) // a timeline says of every time what it said then
	t.Run("at instants in no order", func(t *testing.T) { d.in(t).jumps() })
	t.Run("interval after interval", func(t *testing.T) { d.in(t).ascending() })
}

// in is d for a subtest.
func (d *twins) in(t *testing.T) *twins {
	sub := *d
	sub.t = t
	return &sub
}

// jumps goes about in ten years: at 1,000 instants, in no order, the blob of each account
// is what Samba computes in a domain where nobody asked before.
func (d *twins) jumps() {
	r := rand.New(rand.NewPCG(1, 2))
	var at []time.Time
	for range 1000 {
		at = append(at, d.instant(r, years))
	}
	answers := d.sambaAt(at)
	for i, now := range at {
		d.ours.clock.Set(now)
		for j, a := range d.accounts {
			if got, want := d.read(a), answers[i][j]; !bytes.Equal(got.raw, want) {
				d.t.Fatalf("%s at %v: blob\n%x, want\n%x", a.name, now, got.raw, want)
			}
		}
	}
}

// sambaAt is what Samba's own modules say of every account at times.
func (d *twins) sambaAt(at []time.Time) [][][]byte {
	d.t.Helper()
	var questions []lab.GMSAQuestion
	for _, now := range at {
		for _, a := range d.accounts {
			questions = append(questions, lab.GMSAQuestion{Name: a.name, Time: uint64(dtyp.FiletimeOf(now))})
		}
	}
	return slices.Collect(slices.Chunk(d.samba.GMSAAt(d.t, questions), len(d.accounts)))
}

// read reads an account of ours over LDAP.
func (d *twins) read(a twin) managed {
	d.t.Helper()
	m, err := readManaged(d.reader, a.name)
	if err != nil {
		d.t.Fatalf("%s: %v", a.name, err)
	}
	return m
}

func (d *twins) parse(m managed) managedpassword.Blob {
	d.t.Helper()
	blob, err := managedpassword.Parse(m.raw)
	if err != nil {
		d.t.Fatal(err)
	}
	return blob
}

// ascending asks a running Samba over LDAPS, whose clock goes forward through 1,000
// instants of ten years, so that none of the accounts of 14 and 30 days misses an interval:
// then kvno, which counts the changes in Samba and the intervals in ours, is the same too.
// What a server says is also what its modules said in [twins.jumps]' way of asking.
func (d *twins) ascending() {
	at, around := d.schedule(years, 1000)
	local := d.sambaAt(at)
	samba := &sambaConn{twins: d}
	defer func() { samba.conn.Close() }()
	seen := map[string]int{}
	for i, now := range at {
		d.samba.FreezeClock(d.t, now)
		d.ours.clock.Set(now)
		for j, a := range d.accounts {
			if a.days < often {
				continue
			}
			want, got := samba.read(a.name), d.read(a)
			if !bytes.Equal(got.raw, want.raw) {
				d.t.Fatalf("%s at %v: blob\n%x, want\n%x", a.name, now, got.raw, want.raw)
			}
			if got.kvno != want.kvno {
				d.t.Fatalf("%s at %v: kvno %d, want %d", a.name, now, got.kvno, want.kvno)
			}
			if !bytes.Equal(local[i][j], want.raw) {
				d.t.Fatalf("%s at %v: Samba's server and its modules differ:\n%x\n%x", a.name, now, want.raw, local[i][j])
			}
			seen[a.name] = got.kvno
			if around[now] && a.days == often {
				d.window(a, d.parse(got))
			}
		}
	}
	d.t.Logf("%d instants, %d of them around a rollover; kvno at the end: %v; %d dials", len(at), len(around), seen, samba.dials)
}

// window asks both KDCs, near the end of a password, to take each password of a blob. They
// agree, but for one thing that is meant: in the last five minutes, when readers are told
// the next password first, Samba refuses it and ours does not, see kds.Timeline.Accepted.
func (d *twins) window(a twin, blob managedpassword.Blob) {
	d.t.Helper()
	ours, samba := d.ours.kerberos(), d.sambaKerberos()
	announced := blob.QueryInterval <= 5*time.Minute
	for what, password := range map[string]secret.Bytes{"current": blob.Current, "previous": blob.Previous} {
		if password.IsZero() {
			continue
		}
		got, want := logsOn(d.t, ours, a.name+"$", password), logsOn(d.t, samba, a.name+"$", password)
		if what == "current" && announced {
			if !got || want {
				d.t.Errorf("%s, %v before the rollover: the next password: ours takes it: %t, Samba: %t", a.name, blob.QueryInterval, got, want)
			}
			continue
		}
		if got != want {
			d.t.Errorf("%s, %v before the rollover: the %s password: ours takes it: %t, Samba: %t", a.name, blob.QueryInterval, what, got, want)
		}
	}
}

// sambaKerberos is a client of Samba's KDC with its clock.
func (d *twins) sambaKerberos() *kclient.Client {
	d.t.Helper()
	k, err := kclient.New(kclient.Config{Realm: d.samba.Realm, Now: d.ours.clock.Now,
		KDCs: kclient.Static{{Host: d.samba.Host, Kerberos: net.JoinHostPort(d.samba.IP.String(), "88")}}})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { k.Close() })
	return k
}

// schedule is instants of a span in their order, at whole seconds: one in each interval of
// the account of 14 days, and others at random; and beside them six around each of some ends
// of its passwords.
func (d *twins) schedule(span time.Duration, instants int) (at []time.Time, around map[time.Time]bool) {
	r := rand.New(rand.NewPCG(3, 4))
	first, err := gkdi.KeyIDAt(dtyp.FiletimeOf(d.born)).Start()
	if err != nil {
		d.t.Fatal(err)
	}
	for start := first.Time(); start.Before(d.born.Add(span)); start = start.Add(oftenInterval) {
		in := start.Add(time.Duration(r.Int64N(int64(oftenInterval)))).Truncate(time.Second)
		at = append(at, slices.MaxFunc([]time.Time{in, d.born}, time.Time.Compare))
	}
	for len(at) < instants {
		at = append(at, d.instant(r, span).Truncate(time.Second))
	}
	around = map[time.Time]bool{}
	for n := 1; time.Duration(n)*oftenInterval < span; n += 24 {
		end := first.Time().Add(time.Duration(n) * oftenInterval)
		// At the very second of the end Samba counts the change twice.
		for _, from := range []time.Duration{-6 * time.Minute, -4 * time.Minute, -time.Second, time.Second, 4 * time.Minute, 6 * time.Minute} {
			at = append(at, end.Add(from))
			around[end.Add(from)] = true
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at, around
}
