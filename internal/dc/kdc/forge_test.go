package kdc

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/pac"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	peer  = netip.MustParseAddrPort("192.0.2.7:4711")
	ldap  = krb5.NewName(krb5.NameSrvHst, "ldap", "dc1.contoso.com")
	alice = krb5.NewName(krb5.NamePrincipal, "alice")
)

const password = "Wonder1and!"

// forger makes requests and tickets by hand, with the keys that the domain has.
type forger struct {
	*dctest.Domain
	t        testing.TB
	accounts *account.Accounts
	server   *Server
	// send hands a message to the KDC.
	send func(message []byte, by transport) []byte
	usec int // of the last authenticator
}

func newForger(t testing.TB, change func(*Config)) *forger {
	t.Helper()
	return newForgerIn(t, dctest.New(t), change)
}

func newForgerIn(t testing.TB, d *dctest.Domain, change func(*Config)) *forger {
	t.Helper()
	d.Insert(t, dctest.Object{Class: "user", Name: "alice", Password: password})
	d.Insert(t, dctest.Object{Class: "user", Name: "bob", Password: password})
	d.Insert(t, dctest.Object{Class: "computer", Name: "web1$", Password: password,
		Values: map[string][]string{"servicePrincipalName": {"HOST/web1.contoso.com"}}})
	d.Insert(t, dctest.Object{Class: "msDS-GroupManagedServiceAccount", Name: "webapp01$", ManagedDays: 30,
		Values: map[string][]string{"servicePrincipalName": {"http/app.contoso.com"}}})
	a := account.New(account.Config{Directory: d.Directory, Audit: d.Events})
	cfg := Config{Accounts: a}
	if change != nil {
		change(&cfg)
	}
	f := &forger{Domain: d, t: t, accounts: a, server: New(cfg)}
	f.send = func(message []byte, by transport) []byte {
		return f.server.handle(t.Context(), nil, message, peer, by)
	}
	return f
}

// key is the AES256 key of an account.
func (f *forger) key(name krb5.PrincipalName) *crypto.Key {
	f.t.Helper()
	acct, err := f.accounts.Server(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	set, err := f.accounts.CurrentKeys(acct, dtyp.FiletimeOf(f.Now()))
	if err != nil {
		f.t.Fatal(err)
	}
	return set.Find(crypto.AES256SHA1)
}

// ask sends a message and gives the reply, or the error's code.
func (f *forger) ask(message []byte) (krb5.KDCRep, *krb5.KRBError) {
	return f.askBy(message, stream)
}

func (f *forger) askBy(message []byte, by transport) (krb5.KDCRep, *krb5.KRBError) {
	f.t.Helper()
	out := f.send(message, by)
	if kind, _ := krb5.TypeOf(out); kind == krb5.MsgError {
		e, err := krb5.ParseKRBError(out)
		if err != nil {
			f.t.Fatal(err)
		}
		return krb5.KDCRep{}, &e
	}
	rep, err := krb5.ParseKDCRep(out)
	if err != nil {
		f.t.Fatal(err)
	}
	return rep, nil
}

// expect demands an error code, 0 for a reply.
func (f *forger) expect(what string, message []byte, want krb5.ErrorCode) *krb5.KRBError {
	f.t.Helper()
	_, e := f.ask(message)
	switch {
	case want == 0 && e != nil:
		f.t.Errorf("%s: got %v", what, e)
	case want != 0 && (e == nil || e.Code != want):
		f.t.Errorf("%s: got %v, want %v", what, e, want)
	}
	return e
}

// asRequest is an AS-REQ of a client for a TGT, changed by a test.
func (f *forger) asRequest(client krb5.PrincipalName, key *crypto.Key, change func(*krb5.KDCReq)) []byte {
	f.t.Helper()
	req := krb5.KDCReq{Type: krb5.MsgASReq, PAData: []krb5.PAData{{Type: krb5.PAReqEncPARep}},
		Body: krb5.KDCReqBody{Options: krb5.OptForwardable | krb5.OptProxiable | krb5.OptRenewable, CName: client, Realm: "CONTOSO.COM",
			SName: f.server.tgs, Till: f.Now().Add(10 * time.Hour), RTime: f.Now().Add(24 * time.Hour), Nonce: 7, ETypes: []crypto.EType{18, 17}}}
	if key != nil {
		req.PAData = append(req.PAData, f.timestamp(key, f.Now()))
	}
	if change != nil {
		change(&req)
	}
	return req.Append(nil)
}

func (f *forger) timestamp(key *crypto.Key, at time.Time) krb5.PAData {
	f.t.Helper()
	enc, err := krb5.Seal(key, krb5.UsageASReqTimestamp, krb5.PAEncTSEnc{Time: at}.Append(nil), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return krb5.PAData{Type: krb5.PAEncTimestamp, Value: enc.Append(nil)}
}

// A ticket is a ticket with what its owner knows of it.
type ticket struct {
	der     []byte
	session *crypto.Key
	client  krb5.PrincipalName
	part    krb5.EncKDCRepPart
}

// logOn gets a TGT.
func (f *forger) logOn(client krb5.PrincipalName, change func(*krb5.KDCReq)) ticket {
	f.t.Helper()
	key := f.key(client)
	rep, e := f.ask(f.asRequest(client, key, change))
	if e != nil {
		f.t.Fatal(e)
	}
	return f.open(rep, key, krb5.UsageASRepEncPart)
}

func (f *forger) open(rep krb5.KDCRep, key *crypto.Key, usage uint32) ticket {
	f.t.Helper()
	plain, err := rep.EncPart.Open(key, usage)
	if err != nil {
		f.t.Fatal(err)
	}
	part, err := krb5.ParseEncKDCRepPart(plain)
	if err != nil {
		f.t.Fatal(err)
	}
	session, err := part.Key.Key()
	if err != nil {
		f.t.Fatal(err)
	}
	return ticket{der: rep.Ticket, session: session, client: rep.CName, part: part}
}

// inside is what the server sees of a ticket.
func (f *forger) inside(t ticket, key *crypto.Key) krb5.EncTicketPart {
	f.t.Helper()
	parsed, err := krb5.ParseTicket(t.der)
	if err != nil {
		f.t.Fatal(err)
	}
	plain, err := parsed.EncPart.Open(key, krb5.UsageTicket)
	if err != nil {
		f.t.Fatal(err)
	}
	part, err := krb5.ParseEncTicketPart(plain)
	if err != nil {
		f.t.Fatal(err)
	}
	return part
}

// tgsRequest is a TGS-REQ for a service, its parts changed by a test.
func (f *forger) tgsRequest(t ticket, server krb5.PrincipalName, body func(*krb5.KDCReqBody), auth func(*krb5.Authenticator)) []byte {
	f.t.Helper()
	b := krb5.KDCReqBody{Realm: "CONTOSO.COM", SName: server, Till: f.Now().Add(10 * time.Hour), Nonce: 9, ETypes: []crypto.EType{18, 17}}
	if body != nil {
		body(&b)
	}
	raw := b.Append(nil)
	f.usec++
	a := krb5.Authenticator{CRealm: "CONTOSO.COM", CName: t.client, CTime: f.Now().Truncate(time.Second), CUsec: f.usec,
		Checksum: krb5.Checksum{Type: t.session.ChecksumType(), Sum: t.session.Checksum(krb5.UsageTGSReqChecksum, raw)}}
	if auth != nil {
		auth(&a)
	}
	enc, err := krb5.Seal(t.session, krb5.UsageTGSReqAuthenticator, a.Append(nil), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	ap := krb5.APReq{Ticket: t.der, Authenticator: enc}.Append(nil)
	return krb5.KDCReq{Type: krb5.MsgTGSReq, PAData: []krb5.PAData{{Type: krb5.PATGSReq, Value: ap}}, RawBody: raw}.Append(nil)
}

// get gets a service ticket.
func (f *forger) get(t ticket, server krb5.PrincipalName, body func(*krb5.KDCReqBody)) ticket {
	f.t.Helper()
	rep, e := f.ask(f.tgsRequest(t, server, body, nil))
	if e != nil {
		f.t.Fatal(e)
	}
	return f.open(rep, t.session, krb5.UsageTGSRepEncPart)
}

// forged is alice's TGT, taken apart and put together again with changes, signed and
// encrypted with the krbtgt's own key: what a thief of that key can make.
type forgery struct {
	part    krb5.EncTicketPart
	buffers pac.PAC
	info    pac.LogonInfo
	kvno    uint32
	kind    pac.Kind
	keys    pac.Keys
	noPAC   bool
	outside func(*krb5.Ticket)
}

func (f *forger) forge(genuine ticket, change func(*forgery)) ticket {
	f.t.Helper()
	krbtgt := f.key(f.server.tgs)
	g := forgery{part: f.inside(genuine, krbtgt), kvno: 1, keys: pac.Keys{Server: krbtgt, KDC: krbtgt}, outside: func(*krb5.Ticket) {}}
	var err error
	if g.buffers, err = pac.Extract(g.part); err != nil {
		f.t.Fatal(err)
	}
	if g.info, err = g.buffers.LogonInfo(); err != nil {
		f.t.Fatal(err)
	}
	g.part.AuthorizationData = nil
	change(&g)
	if _, ok := g.buffers.Find(pac.TypeLogonInfo); ok {
		g.buffers.Set(pac.TypeLogonInfo, g.info.Append(nil))
	}
	if !g.noPAC {
		if g.part, err = pac.Seal(g.part, g.buffers, g.kind, g.keys); err != nil {
			f.t.Fatal(err)
		}
	}
	enc, err := krb5.Seal(krbtgt, krb5.UsageTicket, g.part.Append(nil), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	enc.KVNO = g.kvno
	out := krb5.Ticket{Realm: "CONTOSO.COM", SName: f.server.tgs, EncPart: enc}
	g.outside(&out)
	genuine.der, genuine.client = out.Append(nil), g.part.CName
	return genuine
}

// TestForgedTGTsAreRefused holds security 20 and 21: whatever of a PAC or a ticket was changed.
func TestForgedTGTsAreRefused(t *testing.T) {
	f := newForger(t, nil)
	genuine := f.logOn(alice, nil)
	stranger, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign := dtyp.NewSID(dtyp.AuthorityNT, 21, 9, 9, 9)
	bob, err := f.accounts.Client(t.Context(), krb5.NewName(krb5.NamePrincipal, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*forgery)
		want   krb5.ErrorCode
	}{
		"nothing changed":                    {func(*forgery) {}, 0},
		"a group of another domain":          {func(g *forgery) { g.info.ExtraSIDs[0].SID = foreign.Child(519) }, krb5.ErrTGTRevoked},
		"Enterprise Admins by the SID alone": {func(g *forgery) { g.info.ExtraSIDs[0].SID = foreign.Child(dtyp.RIDEnterpriseAdmins) }, krb5.ErrTGTRevoked},
		"of another domain":                  {func(g *forgery) { g.info.LogonDomainID = foreign }, krb5.ErrTGTRevoked},
		"resource groups of another domain":  {func(g *forgery) { g.info.ResourceGroupDomain = foreign }, krb5.ErrTGTRevoked},
		"of a RID that nobody has": {func(g *forgery) {
			g.info.UserID = 4711
			g.buffers.Set(pac.TypeRequestor, f.Domain.Domain().SID.Child(4711).Bytes())
		}, krb5.ErrTGTRevoked},
		"without a PAC":            {func(g *forgery) { g.noPAC = true }, krb5.ErrTGTRevoked},
		"without a requestor":      {func(g *forgery) { g.buffers.Remove(pac.TypeRequestor) }, krb5.ErrTGTRevoked},
		"with another requestor":   {func(g *forgery) { g.buffers.Set(pac.TypeRequestor, bob.SID.Bytes()) }, krb5.ErrTGTRevoked},
		"with a requestor of junk": {func(g *forgery) { g.buffers.Set(pac.TypeRequestor, []byte{1, 2, 3}) }, krb5.ErrTGTRevoked},
		"alice's PAC in bob's ticket": {func(g *forgery) {
			g.part.CName = bob.Principal()
			g.buffers.Set(pac.TypeClientInfo, clientInfo(&g.part).Data)
		}, krb5.ErrTGTRevoked},
		"with a second requestor": {func(g *forgery) {
			g.buffers.Buffers = append(g.buffers.Buffers, pac.Buffer{Type: pac.TypeRequestor, Data: bob.SID.Bytes()})
		}, krb5.ErrModified},
		"with a second logon": {func(g *forgery) {
			g.buffers.Buffers = append(g.buffers.Buffers, pac.Buffer{Type: pac.TypeLogonInfo, Data: g.info.Append(nil)})
		}, krb5.ErrModified},
		"alice's groups in bob's ticket": {func(g *forgery) {
			g.part.CName = bob.Principal()
			g.buffers.Set(pac.TypeClientInfo, clientInfo(&g.part).Data)
			g.buffers.Set(pac.TypeRequestor, bob.SID.Bytes())
		}, krb5.ErrTGTRevoked},
		"signed by a stranger":     {func(g *forgery) { g.keys = pac.Keys{Server: stranger, KDC: stranger} }, krb5.ErrModified},
		"of another krbtgt":        {func(g *forgery) { g.kvno = 2 }, krb5.ErrBadKeyVersion},
		"without a version":        {func(g *forgery) { g.kvno = 0 }, 0},
		"of a read-only krbtgt":    {func(g *forgery) { g.kvno = 0x12340001 }, krb5.ErrBadKeyVersion},
		"as a service's":           {func(g *forgery) { g.kind = pac.Service }, 0},
		"that has ended":           {func(g *forgery) { g.part.EndTime = f.Now() }, krb5.ErrTicketExpired},
		"that has not begun":       {func(g *forgery) { g.part.StartTime = f.Now().Add(6 * time.Minute) }, krb5.ErrTicketNotYetValid},
		"that is invalid":          {func(g *forgery) { g.part.Flags |= krb5.FlagInvalid }, krb5.ErrTicketNotYetValid},
		"of a client of elsewhere": {func(g *forgery) { g.part.CRealm = "FABRIKAM.COM" }, krb5.ErrTGTRevoked},
		"for another realm":        {func(g *forgery) { g.outside = func(t *krb5.Ticket) { t.Realm = "FABRIKAM.COM" } }, krb5.ErrNotUs},
		"for nobody": {func(g *forgery) {
			g.outside = func(t *krb5.Ticket) { t.SName = krb5.NewName(2, "krbtgt", "FABRIKAM.COM") }
		}, krb5.ErrNotUs},
		"for a service, by its name":          {func(g *forgery) { g.outside = func(t *krb5.Ticket) { t.SName = ldap } }, krb5.ErrBadIntegrity},
		"in a type that krbtgt has no key of": {func(g *forgery) { g.outside = func(t *krb5.Ticket) { t.EncPart.EType = 20 } }, krb5.ErrBadKeyVersion},
		"with a bit turned over":              {func(g *forgery) { g.outside = func(t *krb5.Ticket) { t.EncPart.Cipher[40] ^= 1 } }, krb5.ErrBadIntegrity},
		"for other addresses": {func(g *forgery) {
			g.part.CAddr = []krb5.HostAddress{krb5.AddressOf(netip.MustParseAddr("192.0.2.8"))}
		}, krb5.ErrBadAddress},
		"for this address and a name": {func(g *forgery) {
			g.part.CAddr = []krb5.HostAddress{{Type: krb5.AddrNetBIOS, Address: []byte("WEB1            ")}, krb5.AddressOf(peer.Addr())}
		}, 0},
	} {
		for _, n := range []string{"", " again"} { // the second time, a genuine one is found as it was opened
			f.expect(what+n, f.tgsRequest(f.forge(genuine, c.change), ldap, nil, nil), c.want)
		}
	}
}

func TestAPACOfOurOwnIsDemanded(t *testing.T) {
	f := newForger(t, nil)
	changepw := krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw")
	genuine := f.logOn(alice, nil)
	t.Run("a ticket to change passwords is no TGT", func(t *testing.T) {
		pw := f.get(genuine, changepw, nil)
		if pw.part.Flags.Has(krb5.FlagInitial) {
			t.Error("it is initial")
		}
		f.expect("as it is", f.tgsRequest(pw, ldap, nil, nil), krb5.ErrTGTRevoked)
		parsed, err := krb5.ParseTicket(pw.der)
		if err != nil {
			t.Fatal(err)
		}
		parsed.SName = f.server.tgs
		pw.der = parsed.Append(nil)
		f.expect("by the name of krbtgt", f.tgsRequest(pw, ldap, nil, nil), krb5.ErrTGTRevoked)
		f.expect("an initial one", f.tgsRequest(f.logOn(alice, func(r *krb5.KDCReq) { r.Body.SName = changepw }), ldap, nil, nil), krb5.ErrTGTRevoked)
	})
	t.Run("a service ticket is no TGT", func(t *testing.T) {
		f.expect("ldap's", f.tgsRequest(f.get(genuine, ldap, nil), ldap, nil, nil), krb5.ErrNotUs)
	})
	t.Run("a PAC cannot be brought along", func(t *testing.T) {
		ad := krb5.AuthorizationData{{Type: krb5.ADWin2KPAC, Data: []byte("mine")}}
		for _, list := range []krb5.AuthorizationData{ad, ad.IfRelevant()} {
			f.expect("a PAC", f.tgsRequest(genuine, ldap, func(b *krb5.KDCReqBody) {
				b.EncAuthorizationData, _ = krb5.Seal(genuine.session, krb5.UsageTGSReqAuthDataSKey, list.Append(nil), rand.Reader)
			}, nil), krb5.ErrPolicy)
		}
		other := krb5.AuthorizationData{{Type: 143, Data: []byte{0, 0x40, 0, 0}}}.IfRelevant()
		got := f.get(genuine, ldap, func(b *krb5.KDCReqBody) {
			b.EncAuthorizationData, _ = krb5.Seal(genuine.session, krb5.UsageTGSReqAuthDataSKey, other.Append(nil), rand.Reader)
		})
		if data, ok := f.inside(got, f.key(ldap)).AuthorizationData.Find(143); !ok || len(data) != 4 {
			t.Error("what else the client brings is lost")
		}
	})
}

// TestPACsHaveTheBuffersOfAD: exactly those, signed, for each kind of ticket.
func TestPACsHaveTheBuffersOfAD(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	minimal := f.logOn(alice, func(r *krb5.KDCReq) {
		r.PAData = append(r.PAData, krb5.PAData{Type: krb5.PAPACRequest, Value: krb5.PACRequest{}.Append(nil)})
	})
	krbtgt := f.key(f.server.tgs)
	forwarded := func(b *krb5.KDCReqBody) { b.Options = krb5.OptForwarded | krb5.OptForwardable }
	for what, c := range map[string]struct {
		ticket ticket
		server krb5.PrincipalName
		kind   pac.Kind
		want   []pac.Type
	}{
		"a TGT":                       {tgt, f.server.tgs, pac.TGT, []pac.Type{1, 10, 12, 13, 17, 18, 6, 7}},
		"a TGT without authorization": {minimal, f.server.tgs, pac.TGT, []pac.Type{10, 17, 18, 6, 7}},
		"a forwarded TGT":             {f.get(tgt, f.server.tgs, forwarded), f.server.tgs, pac.TGT, []pac.Type{1, 10, 12, 13, 17, 18, 6, 7}},
		"a service's":                 {f.get(tgt, ldap, nil), ldap, pac.Service, []pac.Type{1, 10, 12, 13, 6, 7, 16, 19}},
		"a gMSA's":                    {f.get(tgt, krb5.NewName(3, "http", "app.contoso.com"), nil), krb5.NewName(3, "http", "app.contoso.com"), pac.Service, []pac.Type{1, 10, 12, 13, 6, 7, 16, 19}},
		"a service's, without":        {f.get(minimal, ldap, nil), ldap, pac.Service, nil},
		"to change passwords, without": {f.get(minimal, krb5.NewName(2, "kadmin", "changepw"), nil), krb5.NewName(2, "kadmin", "changepw"),
			pac.Service, []pac.Type{1, 10, 12, 13, 6, 7, 16, 19}},
	} {
		part := f.inside(c.ticket, f.key(c.server))
		p, err := pac.Open(part, c.kind, pac.Keys{Server: f.key(c.server), KDC: krbtgt})
		if len(c.want) == 0 && errors.Is(err, pac.ErrMissing) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var got []pac.Type
		for _, b := range p.Buffers {
			got = append(got, b.Type)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: buffers %v, want %v", what, got, c.want)
		}
		if upn, err := p.UPNInfo(); slices.Contains(c.want, pac.TypeUPNInfo) &&
			(err != nil || upn.UPN != "alice@contoso.com" || !upn.Constructed || upn.SAMName != "alice" || upn.SID.RID() < 1000) {
			t.Errorf("%s: %+v, %v", what, upn, err)
		}
	}
}

// TestWhoIsNotWhoTheyWere holds security 20 at the TGS.
func TestWhoIsNotWhoTheyWere(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	t.Run("renamed", func(t *testing.T) {
		f.Put(t, "alice", "sAMAccountName", "alicia")
		f.expect("a name that nobody has", f.tgsRequest(tgt, ldap, nil, nil), krb5.ErrTGTRevoked)
		f.Put(t, "bob", "sAMAccountName", "alice")
		f.expect("a name that another account has (CVE-2021-42287)", f.tgsRequest(tgt, ldap, nil, nil), krb5.ErrTGTRevoked)
		f.Put(t, "alice", "sAMAccountName", "bob")
		f.Put(t, "alicia", "sAMAccountName", "alice")
		f.expect("the old name again", f.tgsRequest(tgt, ldap, nil, nil), 0)
	})
	t.Run("disabled", func(t *testing.T) {
		f.Put(t, "alice", "userAccountControl", "514")
		e := f.expect("a TGS request", f.tgsRequest(tgt, ldap, nil, nil), krb5.ErrClientRevoked)
		if status, ok := e.NTStatus(); !ok || status != krb5.StatusAccountDisabled {
			t.Errorf("status %v, %v", status, ok)
		}
		f.Put(t, "alice", "userAccountControl", "512")
	})
	t.Run("deleted", func(t *testing.T) {
		f.Put(t, "alice", "isDeleted", "TRUE")
		f.expect("a TGS request", f.tgsRequest(tgt, ldap, nil, nil), krb5.ErrTGTRevoked)
		f.expect("an AS request", f.asRequest(alice, nil, nil), krb5.ErrClientUnknown)
	})
}

// TestTheRequestIsProtected holds security 21: every TGS request has a keyed checksum of its body.
func TestTheRequestIsProtected(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	stranger, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		auth func(*krb5.Authenticator)
		want krb5.ErrorCode
	}{
		"as it should be":       {func(*krb5.Authenticator) {}, 0},
		"no checksum":           {func(a *krb5.Authenticator) { a.Checksum = krb5.Checksum{} }, krb5.ErrInappropriateChecksum},
		"an unkeyed checksum":   {func(a *krb5.Authenticator) { a.Checksum = krb5.Checksum{Type: 7, Sum: make([]byte, 16)} }, krb5.ErrInappropriateChecksum},
		"a checksum of nothing": {func(a *krb5.Authenticator) { a.Checksum.Sum = nil }, krb5.ErrModified},
		"of something else":     {func(a *krb5.Authenticator) { a.Checksum.Sum[0] ^= 1 }, krb5.ErrModified},
		"early":                 {func(a *krb5.Authenticator) { a.CTime = a.CTime.Add(-6 * time.Minute) }, krb5.ErrSkew},
		"late":                  {func(a *krb5.Authenticator) { a.CTime = a.CTime.Add(6 * time.Minute) }, krb5.ErrSkew},
		"of another client":     {func(a *krb5.Authenticator) { a.CName = krb5.NewName(1, "bob") }, krb5.ErrBadMatch},
		"of another realm":      {func(a *krb5.Authenticator) { a.CRealm = "FABRIKAM.COM" }, krb5.ErrBadMatch},
		"with a subkey of DES": {func(a *krb5.Authenticator) {
			a.Subkey = krb5.EncryptionKey{EType: 3, Value: secret.New(make([]byte, 8))}
		}, krb5.ErrETypeNoSupport},
	} {
		f.expect(what, f.tgsRequest(tgt, ldap, nil, c.auth), c.want)
	}
	changed := f.tgsRequest(tgt, ldap, nil, nil)
	req, err := krb5.ParseKDCReq(changed)
	if err != nil {
		t.Fatal(err)
	}
	req.Body.SName, req.RawBody = krb5.NewName(krb5.NameSrvHst, "HOST", "web1.contoso.com"), nil
	f.expect("another service, by somebody in between", req.Append(nil), krb5.ErrModified)
	wrong := tgt
	wrong.session = stranger
	f.expect("with another session key", f.tgsRequest(wrong, ldap, nil, nil), krb5.ErrBadIntegrity)

	lax := newForger(t, func(c *Config) { c.AllowMissingChecksum = true })
	lax.expect("no checksum, where that is allowed", lax.tgsRequest(lax.logOn(alice, nil), ldap, nil,
		func(a *krb5.Authenticator) { a.Checksum = krb5.Checksum{} }), 0)
}

func TestReplays(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	request := f.tgsRequest(tgt, ldap, nil, nil)
	f.expect("once", request, 0)
	f.expect("twice", request, krb5.ErrRepeat)
	f.Clock.Advance(4 * time.Minute)
	f.expect("later", request, krb5.ErrRepeat)

	f.Put(t, "alice", "displayName", strings.Repeat("Alice Pleasance Liddell ", 20)) // no datagram holds that
	tgt = f.logOn(alice, nil)
	request = f.tgsRequest(tgt, ldap, nil, nil)
	if _, e := f.askBy(request, datagram); e == nil || e.Code != krb5.ErrResponseTooBig || e.EData != nil {
		t.Fatalf("by UDP: %v", e)
	}
	f.expect("the same request by TCP", request, 0)
	minimal := f.logOn(alice, func(r *krb5.KDCReq) {
		r.PAData = append(r.PAData, krb5.PAData{Type: krb5.PAPACRequest, Value: krb5.PACRequest{}.Append(nil)})
	})
	request = f.tgsRequest(minimal, ldap, nil, nil)
	first, e := f.askBy(request, datagram)
	again, e2 := f.askBy(request, datagram)
	if e != nil || e2 != nil || string(first.Ticket) != string(again.Ticket) {
		t.Errorf("a datagram that is sent once more: %v, %v", e, e2)
	}
	f.Clock.Advance(11 * time.Second)
	if _, e := f.askBy(request, datagram); e == nil || e.Code != krb5.ErrRepeat {
		t.Errorf("long after: %v", e)
	}
}

func TestASRequestsThatAreRefused(t *testing.T) {
	f := newForger(t, nil)
	key := f.key(alice)
	wrong := f.key(krb5.NewName(1, "web1$"))
	for what, c := range map[string]struct {
		change func(*krb5.KDCReq)
		want   krb5.ErrorCode
	}{
		"as it should be":  {func(*krb5.KDCReq) {}, 0},
		"without proof":    {func(r *krb5.KDCReq) { r.PAData = nil }, krb5.ErrPreauthRequired},
		"with a wrong key": {func(r *krb5.KDCReq) { r.PAData[1] = f.timestamp(wrong, f.Now()) }, krb5.ErrPreauthFailed},
		"early":            {func(r *krb5.KDCReq) { r.PAData[1] = f.timestamp(key, f.Now().Add(-6*time.Minute)) }, krb5.ErrSkew},
		"with a key and no timestamp": {func(r *krb5.KDCReq) {
			enc, _ := krb5.Seal(key, 1, []byte("no"), rand.Reader)
			r.PAData[1].Value = enc.Append(nil)
		}, krb5.ErrPreauthFailed},
		"with junk for a proof":            {func(r *krb5.KDCReq) { r.PAData[1].Value = []byte("junk") }, krb5.ErrGeneric},
		"in RC4":                           {func(r *krb5.KDCReq) { r.Body.ETypes = []crypto.EType{23} }, krb5.ErrETypeNoSupport},
		"in nothing":                       {func(r *krb5.KDCReq) { r.Body.ETypes = nil }, krb5.ErrETypeNoSupport},
		"in AES128 with a proof in AES256": {func(r *krb5.KDCReq) { r.Body.ETypes = []crypto.EType{17} }, krb5.ErrETypeNoSupport},
		"by nobody":                        {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "mallory") }, krb5.ErrClientUnknown},
		"without a name":                   {func(r *krb5.KDCReq) { r.Body.CName = krb5.PrincipalName{} }, krb5.ErrClientUnknown},
		"by a host without $":              {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "web1") }, krb5.ErrClientUnknown},
		"anonymously":                      {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(11, "WELLKNOWN", "ANONYMOUS") }, krb5.ErrClientUnknown},
		"of another realm":                 {func(r *krb5.KDCReq) { r.Body.Realm = "FABRIKAM.COM" }, krb5.ErrClientUnknown},
		"of the realm in small":            {func(r *krb5.KDCReq) { r.Body.Realm = "contoso.com" }, 0},
		"for nobody":                       {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(2, "krbtgt", "FABRIKAM.COM") }, krb5.ErrServerUnknown},
		"for no server":                    {func(r *krb5.KDCReq) { r.Body.SName = krb5.PrincipalName{} }, krb5.ErrServerUnknown},
		"for a user":                       {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(1, "bob") }, krb5.ErrServerUnknown},
		"to be renewed":                    {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptRenew }, krb5.ErrBadOption},
		"to be forwarded":                  {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptForwarded }, krb5.ErrBadOption},
		"user to user":                     {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptEncTktInSkey }, krb5.ErrBadOption},
		"postdated":                        {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptPostdated; r.Body.From = f.Now().Add(time.Hour) }, krb5.ErrCannotPostdate},
		"from now on":                      {func(r *krb5.KDCReq) { r.Body.From = f.Now() }, 0},
		"that has ended":                   {func(r *krb5.KDCReq) { r.Body.Till = f.Now().Add(-time.Hour) }, krb5.ErrNeverValid},
		"as krbtgt":                        {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "krbtgt") }, krb5.ErrClientRevoked},
	} {
		e := f.expect(what, f.asRequest(alice, key, c.change), c.want)
		if e == nil {
			continue
		}
		if e.Realm != "CONTOSO.COM" || e.EText != "" || e.ServerTime().Sub(f.Now()).Abs() > time.Second {
			t.Errorf("%s: the error says %+v", what, e)
		}
		info, has := e.MethodData().Find(krb5.PAETypeInfo2)
		if want := e.Code == krb5.ErrPreauthRequired || e.Code == krb5.ErrPreauthFailed; has != want {
			t.Errorf("%s: ETYPE-INFO2 %v", what, has)
		} else if has {
			list, err := krb5.ParseETypeInfo2(info)
			if err != nil || len(list) != 2 || list[0].EType != 18 || list[0].Salt != "CONTOSO.COMalice" {
				t.Errorf("%s: ETYPE-INFO2 %+v, %v", what, list, err)
			}
		}
		if _, fast := e.MethodData().Find(krb5.PAFXFast); fast {
			t.Errorf("%s: FAST is offered", what)
		}
	}
	if !strings.Contains(f.events(), "mallory") {
		t.Error("a name that nobody has is not in the audit log")
	}
}

func (f *forger) events() string {
	var s strings.Builder
	for _, e := range f.Events.Take() {
		s.WriteString(string(e.Kind) + " " + e.Name + " " + e.Error + "\n")
	}
	return s.String()
}

func TestWhatATicketSays(t *testing.T) {
	f := newForger(t, nil)
	now := f.Now()
	tgt := f.logOn(alice, nil)
	part := f.inside(tgt, f.key(f.server.tgs))
	if want := krb5.FlagForwardable | krb5.FlagProxiable | krb5.FlagRenewable | krb5.FlagInitial | krb5.FlagPreAuthent | krb5.FlagEncPARep; part.Flags != want || tgt.part.Flags != want {
		t.Errorf("flags %v, told %v", part.Flags, tgt.part.Flags)
	}
	if !part.StartTime.Equal(now) || !part.EndTime.Equal(now.Add(10*time.Hour)) || !part.RenewTill.Equal(now.Add(24*time.Hour)) || !part.AuthTime.Equal(now) {
		t.Errorf("times: %+v", part)
	}
	if !tgt.part.KeyExpiration.Equal(now.Add(42*24*time.Hour)) || len(tgt.part.LastReq) != 1 || tgt.part.LastReq[0].Type != 0 {
		t.Errorf("the password: %v, %v", tgt.part.KeyExpiration, tgt.part.LastReq)
	}
	f.Clock.Advance(30 * 24 * time.Hour)
	if soon := f.logOn(alice, nil); soon.part.LastReq[0].Type != krb5.LRPasswordExpires {
		t.Errorf("a password that expires in 12 days: %v", soon.part.LastReq)
	}
	f.Clock.Set(now)
	f.Clock.Advance(time.Hour)
	service := f.get(tgt, krb5.NewName(krb5.NameSrvHst, "HOST", "web1.contoso.com"), func(b *krb5.KDCReqBody) { b.Till = time.Time{} })
	if !service.part.EndTime.Equal(now.Add(10*time.Hour)) || !service.part.StartTime.Equal(now.Add(time.Hour)) || !service.part.AuthTime.Equal(now) {
		t.Errorf("a service ticket outlives its TGT: %+v", service.part)
	}
	if service.part.Flags.Has(krb5.FlagInitial) || service.part.Flags.Has(krb5.FlagOKAsDelegate) || !service.part.Flags.Has(krb5.FlagTransitedChecked|krb5.FlagPreAuthent) {
		t.Errorf("flags of a service ticket: %v", service.part.Flags)
	}
	if dc := f.get(tgt, ldap, nil); !dc.part.Flags.Has(krb5.FlagOKAsDelegate) {
		t.Errorf("flags of the controller's: %v", dc.part.Flags)
	}
	renewed := f.get(tgt, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptRenew })
	if !renewed.part.EndTime.Equal(now.Add(11*time.Hour)) || !renewed.part.RenewTill.Equal(now.Add(24*time.Hour)) || !renewed.part.Flags.Has(krb5.FlagInitial|krb5.FlagRenewable) {
		t.Errorf("renewed: %+v", renewed.part)
	}
	f.get(renewed, ldap, nil)
	kept := f.get(f.get(tgt, ldap, func(b *krb5.KDCReqBody) { b.Options = krb5.OptRenewable }), ldap, func(b *krb5.KDCReqBody) { b.Options = krb5.OptRenew })
	if _, err := f.accounts.FromTicket(t.Context(), f.inside(kept, f.key(ldap)), krb5.Principal{Realm: "CONTOSO.COM", Name: ldap}, peer); err != nil {
		t.Errorf("a service ticket that was renewed: %v", err)
	}
	forwarded := f.get(tgt, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptForwarded })
	if !forwarded.part.Flags.Has(krb5.FlagForwarded) || forwarded.part.Flags.Has(krb5.FlagForwardable) {
		t.Errorf("forwarded: %v", forwarded.part.Flags)
	}
	f.expect("forwarded once more", f.tgsRequest(forwarded, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptForwarded }, nil), krb5.ErrBadOption)
	f.expect("to be validated", f.tgsRequest(tgt, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptValidate }, nil), krb5.ErrBadOption)
	f.expect("S4U2Proxy", f.tgsRequest(tgt, ldap, func(b *krb5.KDCReqBody) { b.Options = krb5.OptCnameInAddlTkt }, nil), krb5.ErrBadOption)
	f.expect("user to user without a ticket", f.tgsRequest(tgt, krb5.NewName(1, "bob"), func(b *krb5.KDCReqBody) { b.Options = krb5.OptEncTktInSkey }, nil), krb5.ErrBadOption)
	f.Clock.Advance(10 * time.Hour)
	f.expect("when the TGT has ended", f.tgsRequest(tgt, ldap, nil, nil), krb5.ErrTicketExpired)
	f.expect("even to renew it", f.tgsRequest(tgt, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptRenew }, nil), krb5.ErrTicketExpired)
}

func TestSensitiveAccountsAreNotDelegated(t *testing.T) {
	f := newForger(t, nil)
	f.Put(t, "alice", "userAccountControl", "1049088") // NORMAL_ACCOUNT | NOT_DELEGATED
	if tgt := f.logOn(alice, nil); tgt.part.Flags&(krb5.FlagForwardable|krb5.FlagProxiable) != 0 {
		t.Errorf("flags %v", tgt.part.Flags)
	}
}

// TestAccountsWithoutPreauthentication holds the end of security 22: the domain must allow it.
func TestAccountsWithoutPreauthentication(t *testing.T) {
	const uac = "4194816" // NORMAL_ACCOUNT | DONT_REQ_PREAUTH
	strict := newForger(t, nil)
	strict.Put(t, "alice", "userAccountControl", uac)
	strict.expect("by default", strict.asRequest(alice, nil, nil), krb5.ErrPreauthRequired)
	lax := newForger(t, func(c *Config) { c.AllowNoPreauth = true })
	lax.Put(t, "alice", "userAccountControl", uac)
	rep, e := lax.ask(lax.asRequest(alice, nil, nil))
	if e != nil {
		t.Fatal(e)
	}
	if tgt := lax.open(rep, lax.key(alice), krb5.UsageASRepEncPart); tgt.part.Flags.Has(krb5.FlagPreAuthent) {
		t.Error("the ticket says that the client proved itself")
	}
	lax.expect("another account", lax.asRequest(krb5.NewName(1, "bob"), nil, nil), krb5.ErrPreauthRequired)
}

// TestLockoutAndLimits holds security 22: guesses are limited.
func TestLockoutAndLimits(t *testing.T) {
	f := newForger(t, nil)
	wrong := f.key(krb5.NewName(1, "web1$"))
	for range 30 {
		f.expect("a guess", f.asRequest(alice, wrong, nil), krb5.ErrPreauthFailed)
	}
	f.expect("the 31st in a minute", f.asRequest(alice, f.key(alice), nil), krb5.ErrServiceUnavailable)
	f.expect("another account", f.asRequest(krb5.NewName(1, "bob"), f.key(krb5.NewName(1, "bob")), nil), 0)
	f.Clock.Advance(3 * time.Minute)
	f.expect("later", f.asRequest(alice, f.key(alice), nil), 0)
	if !strings.Contains(f.events(), `CONTOSO\alice 24 KDC_ERR_PREAUTH_FAILED`) {
		t.Error("wrong passwords are not in the audit log")
	}
}

// TestAGMSAsPasswordWasSet, says its PAC, when it began ([MS-PAC] 2.5): with the account, and
// then with each period, which no row of the directory says.
func TestAGMSAsPasswordWasSet(t *testing.T) {
	f := newForger(t, nil)
	name := krb5.NewName(krb5.NamePrincipal, "webapp01$")
	created := f.Now()
	told := func() pac.LogonInfo {
		p, err := pac.Extract(f.inside(f.logOn(name, nil), f.key(f.server.tgs)))
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.LogonInfo()
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if got := told(); got.PasswordLastSet != dtyp.FiletimeOf(created) || got.PasswordMustChange != dtyp.Never {
		t.Errorf("of a new account: set at %v, to be changed by %v; it was made at %v", got.PasswordLastSet, got.PasswordMustChange, created)
	}
	f.Clock.Advance(31 * 24 * time.Hour)
	var period kds.Period
	err := f.View(t.Context(), func(r *directory.Reader) error {
		acct, err := f.accounts.Client(t.Context(), name)
		if err != nil {
			return err
		}
		timeline, err := r.Timeline(acct.GUID)
		if err == nil {
			period, err = timeline.At(dtyp.FiletimeOf(f.Now()))
		}
		return err
	})
	if err != nil || period.KVNO != 2 {
		t.Fatalf("%+v, %v", period, err)
	}
	if got := told(); got.PasswordLastSet != period.Start {
		t.Errorf("of the second password: %v, want %v", got.PasswordLastSet, period.Start)
	}
}

// TestAGMSALogsOnAroundARollover: with the key in force, with the next a little early,
// with the one before a little late.
func TestAGMSALogsOnAroundARollover(t *testing.T) {
	f := newForger(t, nil)
	name := krb5.NewName(krb5.NamePrincipal, "webapp01$")
	acct, err := f.accounts.Client(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	old := f.key(name)
	var end time.Time
	for end = f.Now(); ; end = end.Add(10 * time.Hour) { // the first that another key is in force at
		set, err := f.accounts.CurrentKeys(acct, dtyp.FiletimeOf(end))
		if err != nil {
			t.Fatal(err)
		}
		if set.KVNO == 2 {
			break
		}
	}
	end = end.Truncate(10 * time.Hour) // of a calendar that begins at a multiple of it
	for ; ; end = end.Add(-time.Hour) {
		if set, err := f.accounts.CurrentKeys(acct, dtyp.FiletimeOf(end.Add(-time.Second))); err != nil {
			t.Fatal(err)
		} else if set.KVNO == 1 {
			break
		}
	}
	next, err := f.accounts.CurrentKeys(acct, dtyp.FiletimeOf(end))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at        time.Duration
		old, next krb5.ErrorCode
	}{
		{-6 * time.Minute, 0, krb5.ErrPreauthFailed},
		{-4 * time.Minute, 0, 0},
		{4 * time.Minute, 0, 0},
		{6 * time.Minute, krb5.ErrPreauthFailed, 0},
	} {
		f.Clock.Set(end.Add(c.at))
		f.expect("old at "+c.at.String(), f.asRequest(name, old, nil), c.old)
		f.expect("next at "+c.at.String(), f.asRequest(name, next.Find(crypto.AES256SHA1), nil), c.next)
	}
}

// FuzzHandler: no message makes the KDC panic or answer with anything but a reply of the
// same exchange or an error.
func FuzzHandler(f *testing.F) {
	forger := newForger(f, nil)
	tgt := forger.logOn(alice, nil)
	f.Add(forger.asRequest(alice, forger.key(alice), nil))
	f.Add(forger.asRequest(alice, nil, nil))
	f.Add(forger.tgsRequest(tgt, ldap, nil, nil))
	f.Add(forger.tgsRequest(tgt, krb5.NewName(1, "bob"), func(b *krb5.KDCReqBody) {
		b.Options, b.AdditionalTickets = krb5.OptEncTktInSkey, [][]byte{tgt.der}
	}, nil))
	f.Add(krb5.KRBError{Realm: "CONTOSO.COM"}.Append(nil))
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, by := range []transport{stream, datagram} {
			out := forger.server.handle(t.Context(), nil, message, peer, by)
			checkAnswer(t, message, out)
		}
	})
}

func checkAnswer(t testing.TB, message, out []byte) {
	t.Helper()
	asked, _ := krb5.TypeOf(message)
	got, _ := krb5.TypeOf(out)
	switch {
	case len(out) == 0:
		if asked == krb5.MsgASReq || asked == krb5.MsgTGSReq {
			t.Fatal("no answer to a request")
		}
	case got == krb5.MsgError:
		if _, err := krb5.ParseKRBError(out); err != nil {
			t.Fatalf("error: %v", err)
		}
	case got == asked+1:
		if _, err := krb5.ParseKDCRep(out); err != nil {
			t.Fatalf("reply: %v", err)
		}
	default:
		t.Fatalf("%v answers %v", got, asked)
	}
}

// TestMutations turns over each byte of requests in turn.
func TestMutations(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	for what, request := range map[string][]byte{
		"AS":  f.asRequest(alice, f.key(alice), nil),
		"TGS": f.tgsRequest(tgt, ldap, nil, nil),
	} {
		t.Run(what, func(t *testing.T) {
			for i := range request {
				mutated := slices.Clone(request)
				mutated[i] ^= 0x41
				checkAnswer(t, mutated, f.server.handle(t.Context(), nil, mutated, peer, stream))
				checkAnswer(t, request[:i], f.server.handle(t.Context(), nil, request[:i], peer, datagram))
			}
		})
	}
}
