package dc

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// A clocked is a whole controller on loopback whose clock stands until the test moves it.
// Its domain is dctest's, of the SID that the lab's Samba has, but without a root key.
type clocked struct {
	*Controller
	t     testing.TB
	s     *Sockets
	clock *dctest.Clock
	audit *dctest.Events
	admin *ldap.Conn // over TLS, as Administrator
}

func newClocked(t testing.TB, now time.Time) *clocked {
	t.Helper()
	c := &clocked{t: t, clock: dctest.NewClock(now), audit: &dctest.Events{}}
	store, key := memory.New(), secret.New(make([]byte, atrest.KeySize))
	made := dctest.NewWithoutRootKey(t, store, now)
	_, err := createAuthority(t.Context(), made.Directory, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	if c.Controller, err = Open(t.Context(), Config{Store: store, Key: key, Log: log, Now: c.clock.Now, Audit: c.audit}); err != nil {
		t.Fatal(err)
	}
	if c.s, err = Listen(t.Context(), []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, Ports{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, c.s) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, c.Close()); err != nil {
			t.Error(err)
		}
	})
	c.admin = c.bind("Administrator@contoso.com", dctest.AdminPassword)
	return c
}

func (c *clocked) at(port uint16) string { return netip.AddrPortFrom(c.s.Addresses[0], port).String() }

func (c *clocked) tls() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA())
	return &tls.Config{RootCAs: roots, Time: c.clock.Now}
}

// bind is a connection over TLS, bound by a password.
func (c *clocked) bind(name, password string) *ldap.Conn {
	c.t.Helper()
	conn, err := dialLDAPS(c.at(c.s.Ports.LDAPS), c.tls(), name, password)
	if err != nil {
		c.t.Fatalf("bind as %s: %v", name, err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

func dialLDAPS(address string, cfg *tls.Config, name, password string) (*ldap.Conn, error) {
	conn, err := ldap.DialURL("ldaps://"+address, ldap.DialWithTLSConfig(cfg))
	if err != nil {
		return nil, err
	}
	conn.SetTimeout(30 * time.Second)
	if err := conn.Bind(name, password); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// kerberos is a client with the clock of the controller.
func (c *clocked) kerberos() *kclient.Client {
	c.t.Helper()
	k, err := kclient.New(kclient.Config{Realm: "CONTOSO.COM", Now: c.clock.Now,
		KDCs: kclient.Static{{Host: "dc1.contoso.com", Kerberos: c.at(c.s.Ports.Kerberos), Kpasswd: c.at(c.s.Ports.Kpasswd)}}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { k.Close() })
	return k
}

// rootKeysDN is where root keys lie.
const rootKeysDN = "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,DC=contoso,DC=com"

func rootKeyDN(id dtyp.GUID) string { return "CN=" + id.String() + "," + rootKeysDN }

// addRootKey adds a root key over LDAP, as a client that made it does.
func (c *clocked) addRootKey(key gkdi.RootKey) error {
	q := ldap.NewAddRequest(rootKeyDN(key.ID), nil)
	q.Attribute("objectClass", []string{"msKds-ProvRootKey"})
	for _, a := range gkdi.NewProvRootKey(key, "CN=DC1,OU=Domain Controllers,DC=contoso,DC=com").Attributes() {
		q.Attribute(a.Name, []string{string(a.Value)})
	}
	return c.admin.Add(q)
}

// live lets the controller do what it would have done until then: timelines are looked
// through once in each key cycle at least.
func (c *clocked) live(until time.Time) {
	c.t.Helper()
	for now := c.clock.Now(); now.Before(until); now = c.clock.Now() {
		c.clock.Set(now.Add(min(until.Sub(now), cycle-time.Hour)))
		if err := c.Directory().RefreshTimelines(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// cycle is the key cycle, 10 h.
const cycle = 10 * time.Hour

// add adds an account over LDAP.
func (c *clocked) add(container, cn, class string, attributes map[string][]string) {
	c.t.Helper()
	q := ldap.NewAddRequest("CN="+cn+",CN="+container+",DC=contoso,DC=com", nil)
	q.Attribute("objectClass", []string{class})
	for name, values := range attributes {
		q.Attribute(name, values)
	}
	if err := c.admin.Add(q); err != nil {
		c.t.Fatalf("add %s: %v", cn, err)
	}
}

func (c *clocked) addComputer(name, password string) {
	c.t.Helper()
	quoted, err := managedpassword.UTF16(secret.New([]byte(`"` + password + `"`)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.add("Computers", name, "computer", map[string][]string{"sAMAccountName": {name + "$"}, "userAccountControl": {"4096"},
		"unicodePwd": {string(quoted.Reveal())}, "servicePrincipalName": {"HOST/" + name + ".contoso.com"}})
}

// addGMSA makes a gMSA whose password one account may retrieve.
func (c *clocked) addGMSA(name string, days int64, reader string) {
	c.t.Helper()
	readers, err := secdesc.GroupMSAMembership(c.sid(reader)).Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.add("Managed Service Accounts", name, "msDS-GroupManagedServiceAccount", map[string][]string{
		"sAMAccountName": {name + "$"}, "dNSHostName": {name + ".contoso.com"}, "userAccountControl": {"4096"},
		"msDS-ManagedPasswordInterval": {strconv.FormatInt(days, 10)}, "msDS-GroupMSAMembership": {string(readers)}})
}

// newRootKey makes a root key that claims to be of a time and to be usable since.
func newRootKey(t testing.TB, made time.Time) gkdi.RootKey {
	t.Helper()
	key, err := gkdi.NewRootKey(rand.Reader, dtyp.FiletimeOf(made), dtyp.FiletimeOf(made))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sid is that of an account.
func (c *clocked) sid(account string) dtyp.SID {
	c.t.Helper()
	var sid dtyp.SID
	err := c.Directory().View(c.t.Context(), func(r *directory.Reader) error {
		sam, _ := r.Schema().Attribute("sAMAccountName")
		objectSID, _ := r.Schema().Attribute("objectSid")
		e, err := r.Lookup(sam, []byte(account))
		if err != nil {
			return err
		}
		sid, err = dtyp.SIDFromBytes(e.Values[objectSID][0])
		return err
	})
	if err != nil {
		c.t.Fatalf("SID of %s: %v", account, err)
	}
	return sid
}

// setSID gives an account the SID that another controller chose, which no client can.
func (c *clocked) setSID(account string, sid dtyp.SID) {
	c.t.Helper()
	err := c.Directory().Update(c.t.Context(), func(w *directory.Writer) error {
		sam, _ := w.Schema().Attribute("sAMAccountName")
		objectSID, _ := w.Schema().Attribute("objectSid")
		e, err := w.Lookup(sam, []byte(account))
		if err != nil {
			return err
		}
		e.Values[objectSID] = [][]byte{sid.Bytes()}
		return w.Replace(e)
	})
	if err != nil {
		c.t.Fatalf("SID of %s: %v", account, err)
	}
}

// managed is what LDAP says of a gMSA's password.
type managed struct {
	raw  []byte
	kvno int
}

// readManaged reads a gMSA's password, and then its kvno: in one search Samba gives the
// next password with the kvno of before.
func readManaged(conn *ldap.Conn, account string) (m managed, err error) {
	dn := "CN=" + account + ",CN=Managed Service Accounts,DC=contoso,DC=com"
	for _, attribute := range []string{"msDS-ManagedPassword", "msDS-KeyVersionNumber"} {
		res, err := conn.Search(&ldap.SearchRequest{BaseDN: dn, Filter: "(objectClass=*)", Attributes: []string{attribute}})
		if err != nil {
			return m, err
		}
		if len(res.Entries) != 1 || len(res.Entries[0].GetRawAttributeValue(attribute)) == 0 {
			return m, errors.New("no " + attribute + " of " + account)
		}
		if value := res.Entries[0].GetRawAttributeValue(attribute); attribute == "msDS-ManagedPassword" {
			m.raw = value
		} else {
			m.kvno = atoi(value)
		}
	}
	return m, nil
}

func atoi(digits []byte) (n int) {
	for _, c := range digits {
		n = 10*n + int(c-'0')
	}
	return n
}

// logsOn reports whether a KDC takes a managed password for an account.
func logsOn(t testing.TB, k *kclient.Client, account string, password secret.Bytes) bool {
	t.Helper()
	key, err := managedpassword.Keys(password, managedpassword.Salt("CONTOSO.COM", account), 18)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.AS(t.Context(), kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, account), Secret: kclient.Keys(key...)})
	if err != nil && !errors.Is(err, krb5.ErrPreauthFailed) {
		t.Fatalf("%s: %v", account, err)
	}
	return err == nil
}
