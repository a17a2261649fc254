package account_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

var peer = netip.MustParseAddrPort("192.0.2.7:4711")

const password = "Wonder1and!"

// domain is a domain with alice and the accounts over it.
func domain(t testing.TB) (*dctest.Domain, *account.Accounts) {
	t.Helper()
	d := dctest.New(t)
	d.Insert(t, dctest.Object{Class: "user", Name: "alice", Password: password,
		Values: map[string][]string{"userPrincipalName": {"liddell@wonder.example"}}})
	d.Insert(t, dctest.Object{Class: "computer", Name: "web1$", Password: "Comp-web1-Pass!",
		Values: map[string][]string{"servicePrincipalName": {"HOST/web1.contoso.com", "HOST/web1", "postgres/web1.contoso.com:5432"}}})
	d.Insert(t, dctest.Object{Class: "msDS-GroupManagedServiceAccount", Name: "webapp01$", ManagedDays: 30,
		Values: map[string][]string{"servicePrincipalName": {"http/app.contoso.com"}}})
	return d, account.New(account.Config{Directory: d.Directory, Audit: d.Events})
}

func name(components ...string) krb5.PrincipalName {
	return krb5.NewName(krb5.NamePrincipal, components...)
}

// TestAccountsAreFoundByTheNamesThatClientsUse, and no others: a computer not without its
// $ (security 20).
func TestAccountsAreFoundByTheNamesThatClientsUse(t *testing.T) {
	d, a := domain(t)
	d.Insert(t, dctest.Object{Class: "user", Name: "bob", Values: map[string][]string{"userPrincipalName": {"HTTP/bob@contoso.com"}}})
	type find func(context.Context, krb5.PrincipalName) (*account.Account, error)
	for what, c := range map[string]struct {
		find find
		name krb5.PrincipalName
		want string // sAMAccountName; empty: no such account
	}{
		"a user":                                   {a.Client, name("alice"), "alice"},
		"in capitals":                              {a.Client, name("ALICE"), "alice"},
		"a UPN":                                    {a.Client, name("liddell@wonder.example"), "alice"},
		"an enterprise name of the domain":         {a.Client, name("alice@contoso.com"), "alice"},
		"with the realm in capitals":               {a.Client, name("alice@CONTOSO.COM"), "alice"},
		"with the NetBIOS name":                    {a.Client, name("alice@CONTOSO"), "alice"},
		"of another domain":                        {a.Client, name("alice@fabrikam.com"), ""},
		"a computer":                               {a.Client, name("web1$"), "web1$"},
		"a computer without $ (CVE-2021-42278)":    {a.Client, name("web1"), ""},
		"a gMSA":                                   {a.Client, name("WebApp01$"), "webapp01$"},
		"an SPN that is nobody's UPN":              {a.Client, name("host", "web1"), ""},
		"an SPN that is somebody's UPN":            {a.Client, name("HTTP", "bob"), "bob"},
		"nobody":                                   {a.Client, name("mallory"), ""},
		"a group":                                  {a.Client, name("Domain Users"), ""},
		"nothing":                                  {a.Client, name(), ""},
		"a service":                                {a.Server, name("host", "web1.contoso.com"), "web1$"},
		"with a port":                              {a.Server, name("postgres", "web1.contoso.com:5432"), "web1$"},
		"a class that host stands for":             {a.Server, name("cifs", "web1"), "web1$"},
		"HTTP by host":                             {a.Server, name("HTTP", "web1.contoso.com"), "web1$"},
		"HTTP by itself":                           {a.Server, name("HTTP", "app.contoso.com"), "webapp01$"},
		"a class that host does not stand for":     {a.Server, name("MSSQLSvc", "web1"), ""},
		"ldap, which AD's mappings do not have":    {a.Server, name("ldap", "web1"), ""},
		"three parts":                              {a.Server, name("ldap", "dc1.contoso.com", "contoso.com"), "DC1$"},
		"the controller":                           {a.Server, name("ldap", "dc1.contoso.com"), "DC1$"},
		"by account name":                          {a.Server, name("WEB1$"), "web1$"},
		"krbtgt":                                   {a.Server, name("krbtgt", "CONTOSO.COM"), "krbtgt"},
		"krbtgt in small letters":                  {a.Server, name("krbtgt", "contoso.com"), "krbtgt"},
		"krbtgt by the NetBIOS name":               {a.Server, name("krbtgt", "CONTOSO"), "krbtgt"},
		"krbtgt of another realm":                  {a.Server, name("krbtgt", "FABRIKAM.COM"), ""},
		"kadmin/changepw":                          {a.Server, name("kadmin", "changepw"), "krbtgt"},
		"kadmin/admin, which is nobody's":          {a.Server, name("kadmin", "admin"), ""},
		"a name that holds the NUL of a cache key": {a.Server, name("host\x00web1"), ""},
	} {
		t.Run(what, func(t *testing.T) {
			for range 2 { // the second time from the cache
				got, err := c.find(t.Context(), c.name)
				switch {
				case c.want == "" && !errors.Is(err, account.ErrUnknown):
					t.Errorf("got %v, %v", got, err)
				case c.want != "" && (err != nil || got.Name != c.want):
					t.Errorf("got %v, %v, want %s", got, err, c.want)
				}
			}
		})
	}
}

func TestARenameIsSeenAtOnce(t *testing.T) {
	d, a := domain(t)
	if _, err := a.Client(t.Context(), name("alice")); err != nil {
		t.Fatal(err)
	}
	d.Put(t, "alice", "sAMAccountName", "alicia")
	if acct, err := a.Client(t.Context(), name("alice")); !errors.Is(err, account.ErrUnknown) {
		t.Errorf("the old name finds %v, %v", acct, err)
	}
	if _, err := a.Client(t.Context(), name("alicia")); err != nil {
		t.Error(err)
	}
	d.Put(t, "alicia", "isDeleted", "TRUE")
	if acct, err := a.Client(t.Context(), name("alicia")); !errors.Is(err, account.ErrUnknown) {
		t.Errorf("a deleted account is found: %v, %v", acct, err)
	}
}

func TestKeysOfAPassword(t *testing.T) {
	d, a := domain(t)
	now := dtyp.FiletimeOf(d.Now())
	for who, salt := range map[string]string{"alice": "CONTOSO.COMalice", "web1$": "CONTOSO.COMhostweb1.contoso.com"} {
		acct, err := a.Client(t.Context(), name(who))
		if err != nil {
			t.Fatal(err)
		}
		set, err := a.CurrentKeys(acct, now)
		if err != nil || set.KVNO != 1 || set.Salt != salt || len(set.Keys) != 2 {
			t.Errorf("%s: got %+v, %v", who, set, err)
		}
	}
	acct, _ := a.Client(t.Context(), name("alice"))
	set, _ := a.CurrentKeys(acct, now)
	want, err := crypto.StringToKey(crypto.AES256SHA1, []byte(password), "CONTOSO.COMalice", nil)
	if err != nil || !set.Find(crypto.AES256SHA1).Equal(want) {
		t.Errorf("not string-to-key's: %v", err)
	}
	d.Put(t, "web1$", "description", "a change elsewhere")
	acct, _ = a.Client(t.Context(), name("alice"))
	if again, _ := a.CurrentKeys(acct, now); again.Keys[0] != set.Keys[0] {
		t.Error("a change elsewhere costs what was derived from a key")
	}
}

// TestAPasswordIsChanged goes through the life of a password: kvno, history, age, the
// keys before.
func TestAPasswordIsChanged(t *testing.T) {
	d, a := domain(t)
	p := &account.Passwords{}
	set := func(n directory.NewPassword) error {
		return d.Update(t.Context(), func(w *directory.Writer) error {
			e, err := w.Lookup(attribute(t, d, "sAMAccountName"), []byte("alice"))
			if err != nil {
				return err
			}
			if err := p.Set(w, e, n); err != nil {
				return err
			}
			return w.Replace(e)
		})
	}
	change := func(old, next string) error {
		return set(directory.NewPassword{Old: dctest.Password(old), Password: dctest.Password(next), Change: true})
	}
	refusal := func(err error) string {
		if err == nil {
			return ""
		}
		return directory.AsError(err).Diagnostic()
	}
	for _, step := range []struct {
		what, old, next string
		after           time.Duration
		want            string
	}{
		{"at once", password, "Second-1", 0, "0000052D: Password is too young to change, it must be at least 1 day old."},
		{"with a wrong old one", "Wrong-1", "Second-1", 24 * time.Hour, "00000056: the old password is wrong"},
		{"too short", password, "Ab-1", 0, "0000052D: Password too short, password must be at least 7 characters long."},
		{"too simple", password, "simplesimple", 0, "0000052D: Password does not meet complexity requirements."},
		{"to itself", password, password, 0, "0000052D: Password is already in password history. New password must not match any of your 24 previous passwords."},
		{"well", password, "Second-1", 0, ""},
		{"back", "Second-1", password, 24 * time.Hour, "0000052D: Password is already in password history. New password must not match any of your 24 previous passwords."},
		{"on", "Second-1", "Third--1", 0, ""},
	} {
		d.Clock.Advance(step.after)
		if got := refusal(change(step.old, step.next)); got != step.want {
			t.Fatalf("%s: got %q, want %q", step.what, got, step.want)
		}
	}
	if err := set(directory.NewPassword{Password: dctest.Password(password)}); err != nil {
		t.Errorf("an administrator may set an old password: %v", err)
	}
	acct, err := a.Client(t.Context(), name("alice"))
	if err != nil {
		t.Fatal(err)
	}
	sets, err := a.TicketKeys(acct, dtyp.FiletimeOf(d.Now()))
	if err != nil || len(sets) != 2 || sets[0].KVNO != 4 || sets[1].KVNO != 3 {
		t.Errorf("keys for tickets: %+v, %v", sets, err)
	}
	if sets, err := a.LogonKeys(acct, dtyp.FiletimeOf(d.Now())); err != nil || len(sets) != 1 {
		t.Errorf("keys for logons: %+v, %v", sets, err)
	}
	if acct.PasswordSet != dtyp.FiletimeOf(d.Now()) {
		t.Errorf("pwdLastSet is %v", acct.PasswordSet)
	}
}

// TestNobodyChoosesTheKeysOfKrbtgt: to set its password is to ask for others, of which
// the last ones stay good for tickets; and nobody changes it by an old one, for it has none.
func TestNobodyChoosesTheKeysOfKrbtgt(t *testing.T) {
	d, a := domain(t)
	admin := d.Caller(t, "Administrator")
	keys := func() account.KeySet {
		t.Helper()
		krbtgt, err := a.Krbtgt(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sets, err := a.TicketKeys(krbtgt, dtyp.FiletimeOf(d.Now()))
		if err != nil {
			t.Fatal(err)
		}
		return sets[0]
	}
	krbtgt, err := a.Krbtgt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := keys()
	for range 2 {
		if err := d.SetPassword(t.Context(), admin, krbtgt.GUID, secret.Bytes{}, dctest.Password("Ch0sen-Passw0rd"), false); err != nil {
			t.Fatal(err)
		}
		after := keys()
		chosen, err := crypto.StringToKeys([]crypto.EType{crypto.AES256SHA1}, []byte("Ch0sen-Passw0rd"), after.Salt)
		if err != nil {
			t.Fatal(err)
		}
		if key := after.Find(crypto.AES256SHA1); after.KVNO != before.KVNO+1 || key.Equal(before.Find(crypto.AES256SHA1)) || key.Equal(chosen[0]) {
			t.Errorf("keys of version %d, after %d", after.KVNO, before.KVNO)
		}
		before = after
	}
	for _, old := range []string{"Ch0sen-Passw0rd", ""} {
		err := d.SetPassword(t.Context(), d.Caller(t, "alice"), krbtgt.GUID, dctest.Password(old), dctest.Password("Ch0sen-Passw0rd"), true)
		if err == nil || keys().KVNO != before.KVNO {
			t.Errorf("changed by whoever says that it is %q: %v", old, err)
		}
	}
}

func TestKeysOfATypeThatIsDemanded(t *testing.T) {
	d, a := domain(t)
	d.Insert(t, dctest.Object{Class: "user", Name: "old", Password: password, Values: map[string][]string{
		"msDS-SupportedEncryptionTypes": {strconv.Itoa(int(adproto.EncRC4 | adproto.EncAES256SHA384))}}})
	acct, err := a.Client(t.Context(), name("old"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := a.CurrentKeys(acct, 0)
	var types []crypto.EType
	for _, k := range set.Keys {
		types = append(types, k.EType())
	}
	if err != nil || len(types) != 4 || set.Find(crypto.RC4HMAC) == nil || set.Find(crypto.AES256SHA2) == nil {
		t.Errorf("got %v, %v", types, err)
	}
	if got := acct.ETypes(); !slices.Equal(got, []crypto.EType{crypto.AES256SHA2, crypto.RC4HMAC}) {
		t.Errorf("spoken to in %v", got)
	}
}

func TestAGMSAsKeysFollowFromItsTimeline(t *testing.T) {
	d, a := domain(t)
	acct, err := a.Client(t.Context(), name("webapp01$"))
	if err != nil {
		t.Fatal(err)
	}
	var end dtyp.Filetime
	var managed secret.Bytes
	err = d.View(t.Context(), func(r *directory.Reader) error {
		tl, err := r.Timeline(acct.GUID)
		if err != nil {
			return err
		}
		p, err := tl.At(dtyp.FiletimeOf(d.Now()))
		if err != nil {
			return err
		}
		end = p.End
		managed, err = r.Ring().Password(acct.SID, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	set, err := a.CurrentKeys(acct, dtyp.FiletimeOf(d.Now()))
	if err != nil {
		t.Fatal(err)
	}
	want, err := managedpassword.Keys(managed, "CONTOSO.COMhostwebapp01.contoso.com", crypto.AES256SHA1)
	if err != nil || !set.Find(crypto.AES256SHA1).Equal(want[0]) || set.KVNO != 1 {
		t.Errorf("got %+v, %v", set, err)
	}
	again, _ := a.CurrentKeys(acct, dtyp.FiletimeOf(d.Now()))
	if again.Keys[0] != set.Keys[0] {
		t.Error("keys are derived twice")
	}
	for at, kvnos := range map[dtyp.Filetime][]uint32{
		end.Add(-6 * time.Minute): {1}, end.Add(-4 * time.Minute): {1, 2}, end: {2, 1}, end.Add(6 * time.Minute): {2},
	} {
		sets, err := a.LogonKeys(acct, at)
		var got []uint32
		for _, s := range sets {
			got = append(got, s.KVNO)
		}
		if err != nil || !slices.Equal(got, kvnos) {
			t.Errorf("%v to the rollover: accepted %v, %v, want %v", end.Sub(at), got, err, kvnos)
		}
	}
	text, err := managedpassword.UTF8(managed)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.Bind(t.Context(), `CONTOSO\webapp01$`, text, peer); err != nil || c.SID != acct.SID {
		t.Errorf("bind with the managed password: %v, %v", c, err)
	}
}

func attribute(t testing.TB, d *dctest.Domain, name string) *schema.Attribute {
	t.Helper()
	a, ok := d.Schema().Attribute(name)
	if !ok {
		t.Fatalf("no attribute %s", name)
	}
	return a
}

// TestWhatAClientIsToldAgreesWithTheKeys: without proof no keys are made, so that what is
// told of them must follow by itself.
func TestWhatAClientIsToldAgreesWithTheKeys(t *testing.T) {
	d, a := domain(t)
	now := dtyp.FiletimeOf(d.Now())
	for _, who := range []string{"alice", "web1$", "webapp01$"} {
		acct, err := a.Client(t.Context(), name(who))
		if err != nil {
			t.Fatal(err)
		}
		info, err := a.LogonInfo(acct, now)
		if err != nil {
			t.Fatal(err)
		}
		sets, err := a.LogonKeys(acct, now)
		if err != nil || len(sets) == 0 {
			t.Fatalf("%s: %d passwords, %v", who, len(sets), err)
		}
		var types []crypto.EType
		for _, k := range sets[0].Keys {
			types = append(types, k.EType())
		}
		if info.Salt != sets[0].Salt || !slices.Equal(info.ETypes, types) {
			t.Errorf("%s: told %+v, keys of salt %q and types %v", who, info, sets[0].Salt, types)
		}
	}
}

func TestGroups(t *testing.T) {
	d, a := domain(t)
	group := func(name string, kind adproto.GroupType) dtyp.SID {
		return d.Insert(t, dctest.Object{Class: "group", Name: name, Values: map[string][]string{
			"groupType": {strconv.Itoa(int(int32(kind)))}}})
	}
	global := group("global", adproto.GroupGlobal|adproto.GroupSecurity)
	universal := group("universal", adproto.GroupUniversal|adproto.GroupSecurity)
	local := group("local", adproto.GroupDomainLocal|adproto.GroupSecurity)
	mail := group("mail", adproto.GroupUniversal)
	beyond := group("beyond", adproto.GroupUniversal|adproto.GroupSecurity)
	d.Join(t, "global", "alice")
	d.Join(t, "universal", "global")
	d.Join(t, "global", "universal") // a loop
	d.Join(t, "local", "universal")
	d.Join(t, "mail", "alice")
	d.Join(t, "beyond", "mail")
	d.Join(t, "Administrators", "local")
	acct, err := a.Client(t.Context(), name("alice"))
	if err != nil {
		t.Fatal(err)
	}
	want := []uint32{dtyp.RIDDomainUsers, global.RID(), universal.RID()}
	if !slices.Equal(acct.Groups, want) {
		t.Errorf("groups of the TGT: %v, want %v", acct.Groups, want)
	}
	c, err := a.Bind(t.Context(), "alice@contoso.com", secret.Copy([]byte(password)), peer)
	if err != nil {
		t.Fatal(err)
	}
	for sid, member := range map[dtyp.SID]bool{
		acct.SID: true, global: true, universal: true, local: true, mail: false, beyond: false,
		dtyp.BuiltinAdministrators: true, dtyp.BuiltinUsers: true, dtyp.Everyone: true, dtyp.AuthenticatedUsers: true,
		dtyp.AuthenticationAuthorityAsserted: true, dtyp.BuiltinPreWindows2000: true, dtyp.BuiltinAccountOperators: false,
	} {
		if slices.Contains(c.Token.SIDs, sid) != member {
			t.Errorf("%v in the token: want %v", sid, member)
		}
	}
}

func TestBind(t *testing.T) {
	d, a := domain(t)
	must := func(change func()) func() { return change }
	wrong := func(name, password string, data uint32) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			_, err := a.Bind(t.Context(), name, secret.Copy([]byte(password)), peer)
			e, ok := errors.AsType[*account.LogonError](err)
			switch {
			case data == 0 && err != nil:
				t.Errorf("%s: %v", name, err)
			case data != 0 && (!ok || e.LDAPData() != data):
				t.Errorf("%s: got %v, want data %x", name, err, data)
			}
		}
	}
	long := strconv.FormatInt(int64(dtyp.FiletimeOf(d.Now().Add(-50*24*time.Hour))), 10)
	past := strconv.FormatInt(int64(dtyp.FiletimeOf(d.Now().Add(-time.Hour))), 10)
	fresh := strconv.FormatInt(int64(dtyp.FiletimeOf(d.Now())), 10)
	uac := func(flags ...adproto.UserAccountControl) string {
		all := adproto.UACNormalAccount
		for _, f := range flags {
			all |= f
		}
		return strconv.Itoa(int(all))
	}
	put := func(attribute string, values ...string) func() {
		return must(func() { d.Put(t, "alice", attribute, values...) })
	}
	for _, step := range []struct {
		what   string
		change func()
		test   func(*testing.T)
	}{
		{"a DN", nil, wrong("cn=alice,cn=users,dc=contoso,dc=com", password, 0)},
		{"an NT name", nil, wrong(`contoso\ALICE`, password, 0)},
		{"a UPN", nil, wrong("liddell@wonder.example", password, 0)},
		{"an NT name of another domain", nil, wrong(`FABRIKAM\alice`, password, 0x52e)},
		{"no such name", nil, wrong("mallory@contoso.com", password, 0x52e)},
		{"no such DN", nil, wrong("cn=mallory,dc=contoso,dc=com", password, 0x52e)},
		{"a DN that is no account's", nil, wrong("cn=users,dc=contoso,dc=com", password, 0x52e)},
		{"a wrong password", nil, wrong("alice@contoso.com", "Wrong-1", 0x52e)},
		{"no password", nil, wrong("alice@contoso.com", "", 0x52e)},
		{"random keys", nil, wrong("krbtgt@contoso.com", "", 0x52e)},
		{"disabled", put("userAccountControl", uac(adproto.UACAccountDisable)), wrong("alice@contoso.com", password, 0x533)},
		{"disabled, and the password is wrong", nil, wrong("alice@contoso.com", "Wrong-1", 0x52e)},
		{"a smart card is required", put("userAccountControl", uac(adproto.UACSmartcardRequired)), wrong("alice@contoso.com", password, 0x52e)},
		{"enabled again", put("userAccountControl", uac()), wrong("alice@contoso.com", password, 0)},
		{"expired", put("accountExpires", past), wrong("alice@contoso.com", password, 0x701)},
		{"never expires", put("accountExpires", "9223372036854775807"), wrong("alice@contoso.com", password, 0)},
		{"an old password", put("pwdLastSet", long), wrong("alice@contoso.com", password, 0x532)},
		{"an old password that does not expire", put("userAccountControl", uac(adproto.UACDontExpirePassword)), wrong("alice@contoso.com", password, 0)},
		{"a password to change", must(func() { put("userAccountControl", uac())(); put("pwdLastSet", "0")() }), wrong("alice@contoso.com", password, 0x773)},
		{"no hour", must(func() { put("pwdLastSet", fresh)(); put("logonHours", string(make([]byte, 21)))() }), wrong("alice@contoso.com", password, 0x530)},
		{"Saturday noon", put("logonHours", string(append(make([]byte, 19), 0x10, 0))), wrong("alice@contoso.com", password, 0)},
	} {
		if step.change != nil {
			step.change()
		}
		t.Run(step.what, step.test)
	}
}

func TestLockout(t *testing.T) {
	d, a := domain(t)
	policy(t, d, map[string]string{"lockoutThreshold": "3", "lockoutDuration": "-18000000000", "lockOutObservationWindow": "-6000000000"})
	bind := func(who, password string) uint32 {
		_, err := a.Bind(t.Context(), who+"@contoso.com", secret.Copy([]byte(password)), peer)
		if e, ok := errors.AsType[*account.LogonError](err); ok {
			return e.LDAPData()
		}
		return 0
	}
	expect := func(what string, got, want uint32) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: got data %x, want %x", what, got, want)
		}
	}
	expect("the first", bind("alice", "Wrong-1"), 0x52e)
	expect("the second", bind("alice", "Wrong-1"), 0x52e)
	d.Clock.Advance(11 * time.Minute)
	expect("the third, when the window is over", bind("alice", "Wrong-1"), 0x52e)
	expect("right", bind("alice", password), 0)
	for range 3 {
		expect("wrong", bind("alice", "Wrong-1"), 0x52e)
	}
	d.Events.Take()
	expect("locked", bind("alice", password), 0x775)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("locked in the directory too", bind("alice", password), 0x775)
	acct, err := a.Client(t.Context(), name("alice"))
	if err != nil || acct.LockoutTime != dtyp.FiletimeOf(d.Now()) {
		t.Errorf("lockoutTime is %v, %v", acct.LockoutTime, err)
	}
	other := account.New(account.Config{Directory: d.Directory})
	if _, err := other.Bind(t.Context(), "alice@contoso.com", secret.Copy([]byte(password)), peer); err == nil {
		t.Error("a restart unlocks")
	}
	d.Put(t, "alice", "lockoutTime", "0")
	expect("one wrong after an administrator has unlocked it", bind("alice", "Wrong-1"), 0x52e)
	expect("right then", bind("alice", password), 0)
	for range 3 {
		expect("wrong again", bind("alice", "Wrong-1"), 0x52e)
	}
	expect("locked again", bind("alice", password), 0x775)
	d.Clock.Advance(31 * time.Minute)
	expect("when the time is over", bind("alice", password), 0)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if acct, _ := a.Client(t.Context(), name("alice")); acct.LockoutTime != 0 {
		t.Errorf("a logon leaves lockoutTime at %v", acct.LockoutTime)
	}
	for range 5 {
		expect("a gMSA", bind("webapp01$", "Wrong-1"), 0x52e)
		expect("a computer", bind("web1$", "Wrong-1"), 0x52e)
		expect("Administrator", bind("Administrator", "Wrong-1"), 0x52e)
	}
	expect("a computer is not locked", bind("web1$", "Comp-web1-Pass!"), 0)
	expect("Administrator is not locked", bind("Administrator", dctest.AdminPassword), 0)
}

// TestLockoutWhileTheClockJumps: a jump ahead unlocks as the passing of that time does; once
// the clock is set right, an account that was locked is so again, and one that was locked
// in the jump stays so until somebody unlocks it. Guesses count on across jumps.
func TestLockoutWhileTheClockJumps(t *testing.T) {
	d, a := domain(t)
	policy(t, d, map[string]string{"lockoutThreshold": "3", "lockoutDuration": "-18000000000", "lockOutObservationWindow": "-18000000000"})
	d.Insert(t, dctest.Object{Class: "user", Name: "bob", Password: password})
	bind := func(what, who, password string, want uint32) {
		t.Helper()
		_, err := a.Bind(t.Context(), who+"@contoso.com", secret.Copy([]byte(password)), peer)
		if e, ok := errors.AsType[*account.LogonError](err); ok != (want != 0) || ok && e.LDAPData() != want {
			t.Fatalf("%s: %v, want data %x", what, err, want)
		}
	}
	const day = 24 * time.Hour
	wrong := func(who string, times int) {
		t.Helper()
		for range times {
			bind("a guess", who, "Wrong-1", 0x52e)
		}
	}
	wrong("alice", 3)
	bind("locked", "alice", password, 0x775)
	d.Clock.Advance(-day)
	bind("a day back", "alice", password, 0x775)
	d.Clock.Advance(2 * day)
	wrong("bob", 2)
	d.Clock.Advance(-day)
	bind("ahead and back, nothing asked", "alice", password, 0x775)
	wrong("bob", 1)
	bind("two guesses ahead and one of now", "bob", password, 0x775)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Put(t, "bob", "lockoutTime", "0")
	bind("unlocked", "bob", password, 0)

	d.Clock.Advance(day)
	wrong("bob", 3)
	bind("locked ahead", "bob", password, 0x775)
	bind("a day later", "alice", password, 0)
	d.Clock.Advance(-day)
	bind("locked ahead, and back", "bob", password, 0x775)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Clock.Advance(time.Hour)
	bind("an hour after that", "bob", password, 0x775)
	d.Put(t, "bob", "lockoutTime", "0")
	bind("unlocked again", "bob", password, 0)
	bind("who logged on ahead", "alice", password, 0)
}

func policy(t *testing.T, d *dctest.Domain, values map[string]string) {
	t.Helper()
	err := d.Update(t.Context(), func(w *directory.Writer) error {
		head, err := w.Get(d.Domain().GUID)
		if err != nil {
			return err
		}
		for name, v := range values {
			head.Values[attribute(t, d, name)] = [][]byte{[]byte(v)}
		}
		return w.Replace(head)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCountersAreFlushed(t *testing.T) {
	d, a := domain(t)
	for range 2 {
		_, _ = a.Bind(t.Context(), "alice@contoso.com", secret.Copy([]byte("Wrong-1")), peer)
	}
	d.Clock.Advance(time.Second)
	if _, err := a.Bind(t.Context(), "alice@contoso.com", secret.Copy([]byte(password)), peer); err != nil {
		t.Fatal(err)
	}
	events := d.Events.Take()
	if len(events) != 3 || events[0].Error == "" || events[2].Error != "" || events[2].Kind != audit.KindLogon ||
		events[2].Name != `CONTOSO\alice` || events[2].From != peer {
		t.Errorf("events: %+v", events)
	}
	// Of the first logon the object itself learns: lastLogonTimestamp.
	d.Put(t, "alice", "lastLogonTimestamp", strconv.FormatUint(uint64(dtyp.FiletimeOf(d.Now())), 10))
	changes := d.Changes()
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.Changes() != changes {
		t.Error("counters make the cache void")
	}
	acct, _ := a.Client(t.Context(), name("alice"))
	err := d.View(t.Context(), func(r *directory.Reader) error {
		got, err := r.Logons(acct.GUID)
		want := directory.Logons{LastLogon: dtyp.FiletimeOf(d.Now()), LogonCount: 1, BadPasswordTime: dtyp.FiletimeOf(d.Now().Add(-time.Second))}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// stored is the first value of an attribute of an account, as the directory stores it.
func stored(t testing.TB, d *dctest.Domain, account, attribute string) (value string) {
	t.Helper()
	sam, _ := d.Schema().Attribute("sAMAccountName")
	a, _ := d.Schema().Attribute(attribute)
	err := d.View(t.Context(), func(r *directory.Reader) error {
		e, err := r.Lookup(sam, []byte(account))
		if err == nil && len(e.Values[a]) > 0 {
			value = string(e.Values[a][0])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestLastLogonTimestamp: it is as old as the domain says, less some days by chance.
func TestLastLogonTimestamp(t *testing.T) {
	d, a := domain(t)
	stamp := func() string {
		t.Helper()
		_, err := a.Bind(t.Context(), "alice@contoso.com", secret.Copy([]byte(password)), peer)
		if err = errors.Join(err, a.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		return stored(t, d, "alice", "lastLogonTimestamp")
	}
	first := stamp()
	if want := strconv.FormatUint(uint64(dtyp.FiletimeOf(d.Now())), 10); first != want {
		t.Errorf("the first logon leaves %q, want %s", first, want)
	}
	d.Clock.Advance(9*24*time.Hour - time.Second)
	if got := stamp(); got != first {
		t.Errorf("it is %s after less than 9 days, was %s", got, first)
	}
	d.Clock.Advance(5*24*time.Hour + time.Second)
	second := stamp()
	if second == first {
		t.Error("it is the same after 14 days")
	}
	policy(t, d, map[string]string{"msDS-LogonTimeSyncInterval": "0"})
	d.Clock.Advance(15 * 24 * time.Hour)
	if got := stamp(); got != second {
		t.Errorf("it is %s, was %s, and the domain wants none", got, second)
	}
}

// TestALockoutIsWrittenAtOnce: administrators look for it in the directory.
func TestALockoutIsWrittenAtOnce(t *testing.T) {
	d := dctest.New(t)
	a := account.New(account.Config{Directory: d.Directory, FlushInterval: time.Hour})
	d.Insert(t, dctest.Object{Class: "user", Name: "alice", Password: password})
	policy(t, d, map[string]string{"lockoutThreshold": "3", "lockoutDuration": "-18000000000", "lockOutObservationWindow": "-6000000000"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	for range 3 {
		_, _ = a.Bind(t.Context(), "alice@contoso.com", secret.Copy([]byte("Wrong-1")), peer)
	}
	for end := time.Now().Add(10 * time.Second); stored(t, d, "alice", "lockoutTime") == "" && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if stored(t, d, "alice", "lockoutTime") == "" {
		t.Error("the object does not say that it is locked out")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestGuessingIsLimited holds security 22: there is one limiter for every service.
func TestGuessingIsLimited(t *testing.T) {
	d, a := domain(t)
	try := func(from, who, password string) error {
		_, err := a.Bind(t.Context(), who+"@contoso.com", secret.Copy([]byte(password)), netip.MustParseAddrPort(from))
		return err
	}
	for range 30 {
		if err := try("192.0.2.1:1", "alice", "Wrong-1"); errors.Is(err, krb5.ErrServiceUnavailable) {
			t.Fatal("too early")
		}
	}
	if err := try("192.0.2.1:2", "alice", password); !errors.Is(err, krb5.ErrServiceUnavailable) {
		t.Errorf("the 31st: %v", err)
	}
	if err := try("192.0.2.1:2", "ALICE", password); !errors.Is(err, krb5.ErrServiceUnavailable) {
		t.Errorf("in capitals: %v", err)
	}
	_, err := a.Bind(t.Context(), "liddell@wonder.example", secret.Copy([]byte(password)), netip.MustParseAddrPort("192.0.2.1:3"))
	if !errors.Is(err, krb5.ErrServiceUnavailable) {
		t.Errorf("by another name: %v", err)
	}
	if err := try("192.0.2.2:1", "alice", password); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	if err := try("192.0.2.1:2", "web1$", "Comp-web1-Pass!"); err != nil {
		t.Errorf("another account: %v", err)
	}
	d.Clock.Advance(2 * time.Minute)
	if err := try("192.0.2.1:2", "alice", password); err != nil {
		t.Errorf("two minutes later: %v", err)
	}
	for i := range 600 {
		_ = try("[2001:db8::"+strconv.FormatInt(int64(i), 16)+"]:1", "nobody"+strconv.Itoa(i), "x")
	}
	if err := try("[2001:db8::ffff]:1", "alice", password); !errors.Is(err, krb5.ErrServiceUnavailable) {
		t.Errorf("a network that has tried 600 names: %v", err)
	}
}

func BenchmarkBind(b *testing.B) {
	_, a := domain(b)
	secret := secret.Copy([]byte(password))
	for b.Loop() {
		if _, err := a.Bind(b.Context(), "liddell@wonder.example", secret, peer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	d, a := domain(b)
	for b.Loop() {
		if err := d.Update(b.Context(), func(w *directory.Writer) error { return touch(w) }); err != nil {
			b.Fatal(err)
		}
		if _, err := a.Client(b.Context(), name("alice")); err != nil {
			b.Fatal(err)
		}
	}
}

func touch(w *directory.Writer) error {
	head, err := w.Get(w.Domain().GUID)
	if err != nil {
		return err
	}
	return w.Replace(head)
}
