package ldapd

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/secret"
)

// ticket is one for the controller's directory, fetched by MIT's kvno.
func (f *fixture) ticket(t testing.TB, who, password string) *krb5.Credential {
	t.Helper()
	lab.Need(t, "kvno")
	env := f.kerberosEnv(t, who, password)
	spn := "ldap/" + hostName
	lab.Run(t, env, "", "kvno", "-q", spn)
	i := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "KRB5CCNAME=") })
	b, err := os.ReadFile(strings.TrimPrefix(env[i], "KRB5CCNAME=FILE:"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := ccache.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cache.Credentials {
		if c.Server.Name.String() == spn {
			return &c
		}
	}
	t.Fatalf("no ticket for %s", spn)
	return nil
}

// Our own client, which the guard and the commands use.
func TestOurClientOverEveryProtection(t *testing.T) {
	f := start(t)
	cred := f.ticket(t, "alice", alicePassword)
	for name, c := range map[string]struct {
		address string
		cfg     ldapc.Config
	}{
		"sealed, GSS-SPNEGO":   {f.plain, ldapc.Config{Kerberos: cred}},
		"sealed, GSSAPI":       {f.plain, ldapc.Config{Kerberos: cred, Mechanism: ldapc.GSSAPI}},
		"LDAPS, GSS-SPNEGO":    {f.tls, ldapc.Config{Protection: ldapc.LDAPS, Kerberos: cred}},
		"LDAPS, GSSAPI":        {f.tls, ldapc.Config{Protection: ldapc.LDAPS, Kerberos: cred, Mechanism: ldapc.GSSAPI}},
		"StartTLS, GSS-SPNEGO": {f.plain, ldapc.Config{Protection: ldapc.StartTLS, Kerberos: cred}},
		"StartTLS, password": {f.plain, ldapc.Config{Protection: ldapc.StartTLS,
			Simple: &ldapc.Simple{Name: "alice@contoso.com", Password: secret.Copy([]byte(alicePassword))}}},
	} {
		conn, err := f.open(t, c.address, c.cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		q := ldapc.Search{Base: "CN=Users,DC=contoso,DC=com", Scope: ldapc.Subtree, Filter: adproto.Equal("objectClass", "group"), Attrs: []string{"cn"}}
		entries, err := conn.Search(t.Context(), q)
		if err != nil || len(entries) < 10 {
			t.Errorf("%s: %v", name, err)
		}
		_ = conn.Close()
	}
	_, err := f.open(t, f.tls, ldapc.Config{Protection: ldapc.LDAPS, Simple: &ldapc.Simple{Name: "alice@contoso.com", Password: secret.Copy([]byte("wrong"))}})
	if e, ok := errors.AsType[*ldapc.Error](err); !ok || e.Data != 0x52e || !errors.Is(err, ldapc.ErrCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
}

func (f *fixture) open(t testing.TB, address string, cfg ldapc.Config) (*ldapc.Conn, error) {
	t.Helper()
	sock, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerName, cfg.RootCAs, cfg.Now, cfg.Rand = hostName, f.roots, time.Now, rand.Reader
	return ldapc.Open(t.Context(), sock, cfg)
}

// security 22: every Kerberos failure but a wrong channel looks the same. A ticket
// proves nothing twice, nor on another channel.
func TestTokensThatAreRefused(t *testing.T) {
	f := start(t)
	cred := f.ticket(t, "alice", alicePassword)
	good := initialToken(t, cred, nil)
	forged := slices.Clone(good)
	forged[len(forged)-1] ^= 1
	c := dial(t, f.plain)
	for name, b := range map[string][]byte{"a forged authenticator": forged, "no token": []byte("x"), "an empty frame": {0x60, 0}} {
		if a := c.bindGSSAPI(1, b); a.code != invalidCredentials || !strings.HasPrefix(a.text, "80090308: ") || !strings.Contains(a.text, "data 52e") {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := c.bindGSSAPI(2, good); a.code != saslBindInProgress {
		t.Errorf("a good token: %+v", a)
	}
	if a := dial(t, f.plain).bindGSSAPI(1, good); a.code != invalidCredentials || !strings.Contains(a.text, "data 52e") {
		t.Errorf("replayed: %+v", a)
	}
}

// initialToken is the first token of a client of the test's own.
func initialToken(t testing.TB, cred *krb5.Credential, bindings *gss.ChannelBindings) []byte {
	t.Helper()
	i, err := gss.NewInitiator(gss.InitiatorConfig{Credential: *cred, ChannelBindings: bindings, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := i.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *client) bindGSSAPI(id byte, token []byte) answer {
	c.send(request(id, ldapmsg.OpBindRequest, bindBody("", 0xa3, slices.Concat(octets(mechanismGSSAPI), octets(string(token))))))
	return c.next()
}

// reference/clients.md, trap 6: what each policy makes of no bindings and of wrong ones,
// from a client that says that it can do them. One that does not say so, and the right
// ones, are OpenLDAP's in TestOpenLDAPOverEveryProtection.
func TestChannelBindingPolicies(t *testing.T) {
	wrong := gss.TLSServerEndPoint([]byte("another certificate"))
	for policy, passes := range map[ChannelBinding]struct{ none, wrong bool }{
		BindNever: {true, true}, BindWhenSupported: {false, false}, BindAlways: {false, false},
	} {
		f := start(t, func(cfg *Config) { cfg.ChannelBinding = policy })
		cred := f.ticket(t, "alice", alicePassword)
		for bindings, pass := range map[*gss.ChannelBindings]bool{nil: passes.none, wrong: passes.wrong} {
			a := f.dialTLS(t).bindGSSAPI(1, initialToken(t, cred, bindings))
			refused := a.code == invalidCredentials && strings.HasPrefix(a.text, "80090346: ")
			if pass && a.code != saslBindInProgress || !pass && !refused {
				t.Errorf("policy %d, wrong bindings %t: %+v", policy, bindings != nil, a)
			}
		}
	}
}

func TestTheEndOfATicketEndsTheConnection(t *testing.T) {
	f := start(t)
	conn, err := f.open(t, f.plain, ldapc.Config{Kerberos: f.ticket(t, "alice", alicePassword)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	q := ldapc.Search{Attrs: []string{"currentTime"}}
	if _, err := conn.Search(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(11 * time.Hour)
	if _, err := conn.Search(t.Context(), q); !errors.Is(err, ldapc.ErrConnection) {
		t.Errorf("after the ticket's end: %v", err)
	}
}

// Samba's own tools over our LDAP: GSS-SPNEGO, sealed, with four attributes of the
// rootDSE at the beginning.
func TestLDB(t *testing.T) {
	lab.Need(t, "ldbsearch")
	f := start(t)
	env := f.kerberosEnv(t, admin, dctest.AdminPassword)
	for _, kerberos := range [][]string{{"--use-kerberos=required"}} {
		out, err := lab.Try(env, "", "ldbsearch", append([]string{"-H", url("ldap", f.plain), "-b", "DC=contoso,DC=com", "(sAMAccountName=Domain Admins)", "objectSid", "member"}, kerberos...)...)
		if err != nil || !strings.Contains(out, "-512") || !strings.Contains(out, "member: CN=Administrator,CN=Users,DC=contoso,DC=com") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// Controls that OpenLDAP's tools have no options for, sent by ldap3 as critical: lazy
// commit, permissive modify, show deleted and recycled, deactivated links, domain scope,
// tree delete.
func TestLDAP3Controls(t *testing.T) {
	lab.Need(t, "python3", "python3-ldap3", "python3-gssapi")
	f := start(t)
	env := append(f.kerberosEnv(t, admin, dctest.AdminPassword), "PORT="+f.tls[strings.LastIndex(f.tls, ":")+1:], "CA="+f.caFile, "PASSWORD="+dctest.AdminPassword)
	out := lab.Run(t, env, `
import os, ssl, ldap3
tls = ldap3.Tls(ca_certs_file=os.environ["CA"], validate=ssl.CERT_REQUIRED)
server = ldap3.Server("dc1.contoso.com", port=int(os.environ["PORT"]), use_ssl=True, tls=tls)
c = ldap3.Connection(server, user="Administrator@contoso.com", password=os.environ["PASSWORD"], auto_bind=True)
ms = "1.2.840.113556.1.4."
critical = lambda *oids: [(ms + oid, True, None) for oid in oids]
ou, user = "OU=tree,DC=contoso,DC=com", "CN=leaf,OU=tree,DC=contoso,DC=com"
print("lazy", c.add(ou, "organizationalUnit", controls=critical("619")))
print("leaf", c.add(user, "user", {"description": "x"}))
twice = {"description": [(ldap3.MODIFY_ADD, ["x"])], "info": [(ldap3.MODIFY_DELETE, ["y"])]}
print("strict", c.modify(user, twice), c.result["result"])
print("permissive", c.modify(user, twice, controls=critical("1413")))
print("on a search", c.search(user, "(cn=*)", controls=critical("1413")), c.result["result"])
print("scope", c.search("DC=contoso,DC=com", "(cn=leaf)", controls=critical("1339")) and len(c.entries))
print("not a leaf", c.delete(ou), c.result["result"])
print("tree", c.delete(ou, controls=critical("805")))
for oid in "417", "2064":
    c.search("DC=contoso,DC=com", "(&(isDeleted=TRUE)(msDS-LastKnownRDN=leaf))", controls=critical(oid, "2065"), attributes=["lastKnownParent"])
    print("deleted", oid, [e.lastKnownParent.value[:13] for e in c.entries])
`, "python3", "-")
	for _, want := range []string{"lazy True", "leaf True", "strict False 20", "permissive True", "on a search False 12", "scope 1", "not a leaf False 66", "tree True",
		"deleted 417 ['OU=tree\\\\0ADEL'", "deleted 2064 ['OU=tree\\\\0ADEL'"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// ldap3 of Python: everything about the server first, then a bind by each of its
// methods that we have.
func TestLDAP3(t *testing.T) {
	lab.Need(t, "python3", "python3-ldap3", "python3-gssapi")
	f := start(t)
	env := append(f.kerberosEnv(t, "alice", alicePassword), "PORT="+f.tls[strings.LastIndex(f.tls, ":")+1:], "CA="+f.caFile, "PASSWORD="+alicePassword)
	out := lab.Run(t, env, `
import os, ssl, ldap3
tls = ldap3.Tls(ca_certs_file=os.environ["CA"], validate=ssl.CERT_REQUIRED)
server = ldap3.Server("dc1.contoso.com", port=int(os.environ["PORT"]), use_ssl=True, tls=tls, get_info=ldap3.ALL)
c = ldap3.Connection(server, user="alice@contoso.com", password=os.environ["PASSWORD"], auto_bind=True)
print("simple", c.extend.standard.who_am_i())
print("schema", "sAMAccountName" in server.schema.attribute_types)
print("info", server.info.other["defaultNamingContext"])
n = sum(1 for e in c.extend.standard.paged_search("CN=Users,DC=contoso,DC=com", "(objectClass=group)", paged_size=3))
print("paged", n > 10)
k = ldap3.Connection(server, authentication=ldap3.SASL, sasl_mechanism=ldap3.KERBEROS, auto_bind=True)
print("gssapi", k.extend.standard.who_am_i())
`, "python3", "-")
	for _, want := range []string{`simple u:CONTOSO\alice`, "schema True", "info ['DC=contoso,DC=com']", "paged True", `gssapi u:CONTOSO\alice`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
