package account_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

var ldap = krb5.Principal{Realm: "CONTOSO.COM", Name: name("ldap", "dc1.contoso.com")}

// forge is a ticket of alice for the controller with whatever keys and logon
// information a test wants.
func forge(t *testing.T, d *dctest.Domain, a *account.Accounts, kind pac.Kind, change func(*pac.LogonInfo, *pac.Keys)) krb5.EncTicketPart {
	t.Helper()
	alice, err := a.Client(t.Context(), name("alice"))
	if err != nil {
		t.Fatal(err)
	}
	session, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := d.Now()
	part := krb5.EncTicketPart{Key: krb5.KeyOf(session), CRealm: "CONTOSO.COM", CName: name("alice"),
		AuthTime: now, StartTime: now, EndTime: now.Add(time.Hour)}
	keys := pac.Keys{Server: keyOf(t, d, a, ldap.Name), KDC: keyOf(t, d, a, name("krbtgt", "CONTOSO.COM"))}
	info := alice.LogonInfo(dtyp.FiletimeOf(d.Now()))
	change(&info, &keys)
	p := pac.PAC{Buffers: []pac.Buffer{
		{Type: pac.TypeLogonInfo, Data: info.Append(nil)},
		{Type: pac.TypeClientInfo, Data: pac.ClientInfo{ID: dtyp.FiletimeOf(now), Name: "alice"}.Append(nil)},
	}}
	part, err = pac.Seal(part, p, kind, keys)
	if err != nil {
		t.Fatal(err)
	}
	return part
}

func keyOf(t *testing.T, d *dctest.Domain, a *account.Accounts, n krb5.PrincipalName) *crypto.Key {
	t.Helper()
	acct, err := a.Server(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	set, err := a.CurrentKeys(acct, dtyp.FiletimeOf(d.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return set.Find(crypto.AES256SHA1)
}

// TestATicketIsBelievedOnlyIfThisKDCMadeIt holds security 21 at ldap/ and kadmin/changepw.
func TestATicketIsBelievedOnlyIfThisKDCMadeIt(t *testing.T) {
	d, a := domain(t)
	stranger, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign := dtyp.NewSID(dtyp.AuthorityNT, 21, 9, 9, 9)
	for what, c := range map[string]struct {
		kind   pac.Kind
		change func(*pac.LogonInfo, *pac.Keys)
		want   error
	}{
		"ours":                         {pac.Service, func(*pac.LogonInfo, *pac.Keys) {}, nil},
		"a TGT":                        {pac.TGT, func(*pac.LogonInfo, *pac.Keys) {}, krb5.ErrModified},
		"signed with the service's":    {pac.Service, func(_ *pac.LogonInfo, k *pac.Keys) { k.KDC = k.Server }, krb5.ErrModified},
		"signed by a stranger":         {pac.Service, func(_ *pac.LogonInfo, k *pac.Keys) { k.Server = stranger }, krb5.ErrModified},
		"of another domain":            {pac.Service, func(l *pac.LogonInfo, _ *pac.Keys) { l.LogonDomainID = foreign }, account.ErrTicket},
		"with a group of another one":  {pac.Service, func(l *pac.LogonInfo, _ *pac.Keys) { l.ExtraSIDs[0].SID = foreign.Child(519) }, account.ErrTicket},
		"with a builtin group":         {pac.Service, func(l *pac.LogonInfo, _ *pac.Keys) { l.ExtraSIDs[0].SID = dtyp.BuiltinAdministrators }, account.ErrTicket},
		"with resources of another":    {pac.Service, func(l *pac.LogonInfo, _ *pac.Keys) { l.ResourceGroupDomain = foreign }, account.ErrTicket},
		"of nobody":                    {pac.Service, func(l *pac.LogonInfo, _ *pac.Keys) { l.UserID = 4711 }, krb5.ErrTGTRevoked},
		"of an account without a name": {pac.Service, func(l *pac.LogonInfo, _ *pac.Keys) { l.UserID = 0 }, account.ErrTicket},
	} {
		t.Run(what, func(t *testing.T) {
			caller, err := a.FromTicket(t.Context(), forge(t, d, a, c.kind, c.change), ldap, peer)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (caller.Name != `CONTOSO\alice` || caller.From != peer || caller.Encrypted ||
				!slices.Contains(caller.Token.SIDs, dtyp.BuiltinUsers)) {
				t.Errorf("got %+v", caller)
			}
		})
	}
	plain := forge(t, d, a, pac.Service, func(*pac.LogonInfo, *pac.Keys) {})
	d.Put(t, "alice", "userAccountControl", "514")
	if _, err := a.FromTicket(t.Context(), plain, ldap, peer); !errors.Is(err, krb5.ErrClientRevoked) {
		t.Errorf("a disabled account: %v", err)
	}
	plain.AuthorizationData = nil
	if _, err := a.FromTicket(t.Context(), plain, ldap, peer); !errors.Is(err, pac.ErrMissing) {
		t.Errorf("without a PAC: %v", err)
	}
}

// TestServiceKeysAreTheControllersOwn; those of kadmin/changepw, which clients get a ticket
// for whose password has expired, are apart from all others.
func TestServiceKeysAreTheControllersOwn(t *testing.T) {
	d, a := domain(t)
	changepw := krb5.Principal{Realm: "CONTOSO.COM", Name: name("kadmin", "changepw")}
	for server, want := range map[*krb5.Principal]int{&changepw: 1, &ldap: 0, {Realm: "CONTOSO.COM", Name: name("krbtgt", "CONTOSO.COM")}: 0} {
		if got := a.ChangePasswordKeys()(*server, 1, crypto.AES256SHA1); len(got) != want {
			t.Errorf("to change passwords, %s: %d keys, want %d", server, len(got), want)
		}
	}
	keys := a.ServiceKeys()
	for what, c := range map[string]struct {
		server krb5.Principal
		want   int
	}{
		"ldap":                 {ldap, 1},
		"by the realm's case":  {krb5.Principal{Realm: "contoso.com", Name: ldap.Name}, 1},
		"kadmin/changepw":      {changepw, 0},
		"krbtgt":               {krb5.Principal{Realm: "CONTOSO.COM", Name: name("krbtgt", "CONTOSO.COM")}, 0},
		"krbtgt, by its name":  {krb5.Principal{Realm: "CONTOSO.COM", Name: name("krbtgt")}, 0},
		"somebody else's":      {krb5.Principal{Realm: "CONTOSO.COM", Name: name("host", "web1.contoso.com")}, 0},
		"of another realm":     {krb5.Principal{Realm: "FABRIKAM.COM", Name: ldap.Name}, 0},
		"a name that is not":   {krb5.Principal{Realm: "CONTOSO.COM", Name: name("ldap", "nowhere")}, 0},
		"the account's itself": {krb5.Principal{Realm: "CONTOSO.COM", Name: name("DC1$")}, 1},
	} {
		if got := keys(c.server, 1, crypto.AES256SHA1); len(got) != c.want {
			t.Errorf("%s: %d keys, want %d", what, len(got), c.want)
		}
	}
	if got := keys(ldap, 1, crypto.AES256SHA1); !got[0].Equal(keyOf(t, d, a, ldap.Name)) {
		t.Error("another key")
	}
	if got := keys(ldap, 1, crypto.RC4HMAC); len(got) != 0 {
		t.Error("a key of a type that the controller does not have")
	}
}

// TestDomainLocalGroupsEnterAServiceTicket and no TGT; those of BUILTIN enter neither.
func TestDomainLocalGroupsEnterAServiceTicket(t *testing.T) {
	d, a := domain(t)
	local := d.Insert(t, dctest.Object{Class: "group", Name: "WebApp01 Hosts", Values: map[string][]string{"groupType": {"-2147483644"}}})
	d.Join(t, "WebApp01 Hosts", "Domain Users")
	alice, err := a.Client(t.Context(), name("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(alice.LogonInfo(dtyp.FiletimeOf(d.Now())).SIDs(), local) {
		t.Error("a domain-local group is in the TGT")
	}
	for _, uncompressed := range []bool{false, true, false} {
		b, err := a.ServiceLogonInfo(t.Context(), alice.Buffers(dtyp.FiletimeOf(d.Now())).LogonInfo, uncompressed)
		if err != nil {
			t.Fatal(err)
		}
		info, err := pac.ParseLogonInfo(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.SIDs(); !slices.Contains(got, local) || slices.Contains(got, dtyp.BuiltinUsers) {
			t.Errorf("uncompressed %v: %v", uncompressed, got)
		}
		if compressed := len(info.ResourceGroups) == 1; compressed == uncompressed {
			t.Errorf("uncompressed %v: resource groups %v, extra SIDs %v", uncompressed, info.ResourceGroups, info.ExtraSIDs)
		}
		if err := account.CheckSIDs(a.Domain(), info); err != nil {
			t.Error(err)
		}
	}
	foreign := alice.LogonInfo(dtyp.FiletimeOf(d.Now()))
	foreign.LogonDomainID = dtyp.NewSID(dtyp.AuthorityNT, 21, 9, 9, 9)
	if _, err := a.ServiceLogonInfo(t.Context(), foreign.Append(nil), false); !errors.Is(err, account.ErrTicket) {
		t.Errorf("of another domain: %v", err)
	}
}
