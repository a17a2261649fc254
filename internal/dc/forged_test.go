package dc

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/krb5/pac"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	administrator = krb5.NewName(krb5.NamePrincipal, "Administrator")
	ldapService   = krb5.NewName(krb5.NameSrvHst, "ldap", "dc1.contoso.com")
	changepw      = krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw")
)

// A forgery is a ticket that somebody made who knows what the test lets them know.
type forgery struct {
	part      krb5.EncTicketPart
	info      pac.LogonInfo
	kind      pac.Kind
	keys      pac.Keys
	encrypted *crypto.Key // what the ticket is encrypted in
	noPAC     bool
}

// serverKey is the AES256 key of a service of the controller.
func (c *clocked) serverKey(name krb5.PrincipalName) *crypto.Key {
	c.t.Helper()
	acct, err := c.accounts.Server(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	set, err := c.accounts.CurrentKeys(acct, dtyp.FiletimeOf(c.clock.Now()))
	if err != nil {
		c.t.Fatal(err)
	}
	return set.Find(crypto.AES256SHA1)
}

func (c *clocked) newKey() *crypto.Key {
	c.t.Helper()
	k, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	return k
}

// forge makes Administrator's ticket for a service, as the KDC would but for the change.
func (c *clocked) forge(service krb5.PrincipalName, change func(*forgery)) krb5.Credential {
	c.t.Helper()
	acct, err := c.accounts.Client(c.t.Context(), administrator)
	if err != nil {
		c.t.Fatal(err)
	}
	session, key := c.newKey(), c.serverKey(service)
	now := c.clock.Now().Truncate(time.Second)
	f := forgery{info: acct.LogonInfo(dtyp.FiletimeOf(now)), kind: pac.Service, encrypted: key,
		keys: pac.Keys{Server: key, KDC: c.serverKey(krb5.NewName(krb5.NameSrvInst, "krbtgt", "CONTOSO.COM"))},
		part: krb5.EncTicketPart{Flags: krb5.FlagInitial, Key: krb5.KeyOf(session), CRealm: "CONTOSO.COM", CName: administrator,
			AuthTime: now, StartTime: now, EndTime: now.Add(time.Hour)}}
	change(&f)
	p := pac.PAC{Buffers: []pac.Buffer{{Type: pac.TypeLogonInfo, Data: f.info.Append(nil)},
		{Type: pac.TypeClientInfo, Data: pac.ClientInfo{ID: dtyp.FiletimeOf(f.part.AuthTime), Name: f.part.CName.String()}.Append(nil)}}}
	if !f.noPAC {
		if f.part, err = pac.Seal(f.part, p, f.kind, f.keys); err != nil {
			c.t.Fatal(err)
		}
	}
	enc, err := krb5.Seal(f.encrypted, krb5.UsageTicket, f.part.Append(nil), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	principal := func(n krb5.PrincipalName) krb5.Principal { return krb5.Principal{Realm: "CONTOSO.COM", Name: n} }
	return krb5.Credential{Client: principal(f.part.CName), Server: principal(service), SessionKey: session,
		AuthTime: f.part.AuthTime, StartTime: f.part.StartTime, EndTime: f.part.EndTime,
		Ticket: krb5.Ticket{Realm: "CONTOSO.COM", SName: service, EncPart: enc}.Append(nil)}
}

// TestForgedServiceTickets: a thief of the controller's own key, who does not know
// krbtgt's, is nobody to ldap/; nor does kadmin/changepw, whose key is krbtgt's, believe
// more than the directory says (security 21).
func TestForgedServiceTickets(t *testing.T) {
	c := newClocked(t, time.Now())
	foreign := dtyp.NewSID(dtyp.AuthorityNT, 21, 9, 9, 9)
	stranger := c.newKey()
	for what, change := range map[string]func(*forgery){
		"genuine":                     func(*forgery) {},
		"signed by the service alone": func(f *forgery) { f.keys.KDC = stranger },
		"signed by nobody":            func(f *forgery) { f.keys = pac.Keys{Server: stranger, KDC: stranger} },
		"encrypted in another key":    func(f *forgery) { f.encrypted = stranger },
		"without a PAC":               func(f *forgery) { f.noPAC = true },
		"with a PAC of a TGT":         func(f *forgery) { f.kind = pac.TGT },
		"of another domain":           func(f *forgery) { f.info.LogonDomainID = foreign },
		"of an account that is not":   func(f *forgery) { f.info.UserID = 4711 },
		"with a group of elsewhere":   func(f *forgery) { f.info.ExtraSIDs[0].SID = foreign.Child(dtyp.RIDEnterpriseAdmins) },
		"that has ended":              func(f *forgery) { f.part.EndTime = c.clock.Now().Add(-6 * time.Minute) },
	} {
		err := c.sealed(c.forge(ldapService, change))
		if (err == nil) != (what == "genuine") || err != nil && !invalidCredentials(err) {
			t.Errorf("ldap/, %s: %v", what, err)
		}
		code := c.changeBy(c.forge(changepw, change))
		// Without krbtgt's key nobody makes such a ticket at all; what its owner makes up
		// is refused by the directory.
		if genuine := what == "genuine"; (code == kpasswd.ResultSuccess || code == kpasswd.ResultSoftError) != genuine {
			t.Errorf("kadmin/changepw, %s: %v", what, code)
		}
	}
}

// sealed binds to LDAP by a ticket and searches.
func (c *clocked) sealed(cred krb5.Credential) error {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.at(c.s.Ports.LDAP))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	l, err := ldapc.Open(c.t.Context(), conn, ldapc.Config{ServerName: "dc1.contoso.com", Protection: ldapc.Sealed, Kerberos: &cred,
		Now: c.clock.Now, Rand: rand.Reader})
	if err != nil {
		return err
	}
	return l.Close()
}

// invalidCredentials reports whether an error is LDAP's result 49.
func invalidCredentials(err error) bool {
	return err != nil && strings.Contains(err.Error(), "LDAP 49 ")
}

// changeBy asks for a change of one's own password, to one that is too short, and gives the
// result: 4 where the ticket is believed.
func (c *clocked) changeBy(cred krb5.Credential) kpasswd.ResultCode {
	c.t.Helper()
	request, _ := c.changeRequest(cred, "short")
	conn, err := net.Dial("udp", c.at(c.s.Ports.Kpasswd))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	return c.changeOver(conn, request, cred)
}

// changeRequest is a request to kadmin/changepw.
func (c *clocked) changeRequest(cred krb5.Credential, password string) (request []byte, subkey *crypto.Key) {
	c.t.Helper()
	subkey = c.newKey()
	auth := krb5.Authenticator{CRealm: "CONTOSO.COM", CName: cred.Client.Name, CTime: c.clock.Now().Truncate(time.Second), SeqNumber: 7,
		Subkey: krb5.KeyOf(subkey)}
	enc, err := krb5.Seal(cred.SessionKey, krb5.UsageAPReqAuthenticator, auth.Append(nil), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	body := krb5.MessageBody{UserData: []byte(password), SeqNumber: 7, SAddress: krb5.AddressOf(netip.MustParseAddr("127.0.0.1"))}
	priv, err := krb5.SealPriv(subkey, body, rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	ap := krb5.APReq{Options: krb5.APMutualRequired, Ticket: cred.Ticket, Authenticator: enc}
	return kpasswd.Request{Version: kpasswd.VersionChange, APReq: ap.Append(nil), Priv: priv.Append(nil)}.Append(nil), subkey
}

// changeOver sends the request and gives the result of the answer, which an error of the
// protocol has in its e-data.
func (c *clocked) changeOver(conn net.Conn, request []byte, cred krb5.Credential) kpasswd.ResultCode {
	c.t.Helper()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(request); err != nil {
		c.t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := conn.Read(b)
	if err != nil {
		c.t.Fatalf("kpasswd does not answer: %v", err)
	}
	reply, err := kpasswd.ParseReply(b[:n])
	if err != nil {
		c.t.Fatal(err)
	}
	if reply.Error == nil {
		return kpasswd.ResultSoftError // the ticket was accepted: an AP-REP comes with the result
	}
	e, err := krb5.ParseKRBError(reply.Error)
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := kpasswd.ParseResult(e.EData)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.Code
}

// TestReplays: what was accepted once is not accepted again by the service that it was for,
// nor by another (security 21).
func TestReplays(t *testing.T) {
	c := newClocked(t, time.Now())
	cred := c.forge(changepw, func(*forgery) {})
	request, _ := c.changeRequest(cred, "short")
	for n := range 3 {
		conn, err := net.Dial("udp", c.at(c.s.Ports.Kpasswd))
		if err != nil {
			t.Fatal(err)
		}
		code := c.changeOver(conn, request, cred)
		if accepted := code == kpasswd.ResultSoftError; accepted != (n == 0) {
			t.Errorf("time %d: %v", n+1, code)
		}
		conn.Close()
		// The clock jumps and is set right, and others are served meanwhile: nothing is
		// forgotten that is in time again.
		if n < 2 {
			jump := []time.Duration{-time.Hour, 24 * time.Hour}[n]
			c.clock.Advance(jump)
			for range 64 { // so that some come to the same place of the cache
				c.changeBy(c.forge(changepw, func(*forgery) {}))
			}
			c.clock.Advance(-jump)
		}
	}
	if err := c.sealed(krb5.Credential{Client: cred.Client, Server: krb5.Principal{Realm: "CONTOSO.COM", Name: ldapService},
		SessionKey: cred.SessionKey, EndTime: cred.EndTime, Ticket: cred.Ticket}); !invalidCredentials(err) {
		t.Errorf("a ticket for kadmin/changepw at ldap/: %v", err)
	}
}

// TestTheClockJumps forward a year and back an hour: tickets of before end or have not
// begun, passwords of gMSAs are those of the time, and whoever asks anew is served.
func TestTheClockJumps(t *testing.T) {
	c := newClocked(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	if err := c.addRootKey(newRootKey(t, c.clock.Now().Add(-24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	c.addComputer("web1", "Comp-web1-Pass!")
	web1 := krb5.NewName(krb5.NamePrincipal, "web1$")
	c.addGMSA("app01", 30, "web1$")
	logOn := func() krb5.Credential {
		t.Helper()
		res, err := c.kerberos().AS(t.Context(), kclient.ASRequest{Client: web1, Secret: kclient.Password(secret.New([]byte("Comp-web1-Pass!")))})
		if err != nil {
			t.Fatalf("at %v: %v", c.clock.Now(), err)
		}
		return res.Credential
	}
	service := func(tgt krb5.Credential) (krb5.Credential, error) {
		res, err := c.kerberos().TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: ldapService})
		return res.Credential, err
	}
	read := func() managed {
		t.Helper()
		m, err := readManaged(c.bind("web1$@contoso.com", "Comp-web1-Pass!"), "app01")
		if err != nil {
			t.Fatalf("at %v: %v", c.clock.Now(), err)
		}
		return m
	}
	tgt, first := logOn(), read()
	if _, err := service(tgt); err != nil {
		t.Fatal(err)
	}
	c.clock.Advance(365 * 24 * time.Hour)
	if _, err := service(tgt); !errors.Is(err, krb5.ErrTicketExpired) {
		t.Errorf("a ticket of a year ago: %v", err)
	}
	later := logOn()
	kept, err := service(later)
	if err != nil {
		t.Errorf("a year later: %v", err)
	}
	if m := read(); m.kvno != first.kvno+12 { // 365 days have 12 ends of periods of 30
		t.Errorf("a year later: kvno %d after %d", m.kvno, first.kvno)
	}
	c.clock.Advance(-time.Hour)
	if _, err := service(later); !errors.Is(err, krb5.ErrTicketNotYetValid) && !errors.Is(err, krb5.ErrSkew) {
		t.Errorf("a ticket of the future: %v", err)
	}
	if err := c.sealed(kept); !invalidCredentials(err) {
		t.Errorf("a service ticket of the future: %v", err)
	}
	cred, err := service(logOn())
	if err != nil {
		t.Errorf("an hour back: %v", err)
	}
	if err := c.sealed(cred); err != nil {
		t.Errorf("an hour back: %v", err)
	}
	c.clock.Set(time.Date(2026, 11, 28, 11, 0, 0, 0, time.UTC)) // before the account was made
	if m := read(); m.kvno != first.kvno {
		t.Errorf("before its first day: kvno %d, want %d", m.kvno, first.kvno)
	}
}
