package kdc

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
)

// besideSamba is two KDCs for one domain: ours and Samba's, which have alice and beside$ with
// the same passwords.
type besideSamba struct {
	ours, samba *forger
	dc          *lab.DC
}

func newBesideSamba(t *testing.T) *besideSamba {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddUser(t, "alice", password)
	dc.AddUser(t, "bob", password)
	dc.AddComputer(t, "beside")
	ours := newForgerIn(t, dctest.NewAt(t, time.Now()), nil)
	ours.Insert(t, dctest.Object{Class: "computer", Name: "beside$", Password: lab.ComputerPassword("beside"),
		Values: map[string][]string{"servicePrincipalName": {"HOST/beside.contoso.com", "HOST/beside"}}})
	samba := *ours
	samba.send = func(message []byte, _ transport) []byte {
		return overTCP(t, net.JoinHostPort(dc.IP.String(), "88"), message)
	}
	return &besideSamba{ours: ours, samba: &samba, dc: dc}
}

// both calls f for each KDC, at this machine's time.
func (b *besideSamba) both(f func(whose string, k *forger)) {
	b.ours.Clock.Set(time.Now())
	f("ours", b.ours)
	f("Samba's", b.samba)
}

// overTCP is the answer of a KDC to a message.
func overTCP(t testing.TB, addr string, message []byte) []byte {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)); err != nil {
		t.Fatal(err)
	}
	var size [lengthSize]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// codes is what our KDC and Samba's say; 0 is a ticket.
type codes struct{ ours, samba krb5.ErrorCode }

func same(c krb5.ErrorCode) codes { return codes{c, c} }

func (b *besideSamba) expect(t *testing.T, what string, want codes, message func(k *forger) []byte) {
	t.Helper()
	got := map[string]krb5.ErrorCode{}
	b.both(func(whose string, k *forger) {
		if _, e := k.ask(message(k)); e != nil {
			got[whose] = e.Code
		}
	})
	if got["ours"] != want.ours || got["Samba's"] != want.samba {
		t.Errorf("%s: ours says %d, Samba %d, want %d and %d", what, got["ours"], got["Samba's"], want.ours, want.samba)
	}
}

// TestBesideSamba sends the same requests to both KDCs. Where their answers differ the table
// has both. Ours are then those of RFC 4120: Section 3.1.3 for postdated tickets, 3.2.3 and
// 3.3.3 for tickets and checksums; and of a KDC that completes no names (security 20).
func TestBesideSamba(t *testing.T) {
	b := newBesideSamba(t)
	for name, test := range map[string]func(*besideSamba, *testing.T){
		"AS": (*besideSamba).as, "TGS": (*besideSamba).tgs, "accounts that may not log on": (*besideSamba).standing,
		"PA-PAC-OPTIONS": (*besideSamba).pacOptions, "gMSAs": (*besideSamba).managed,
	} {
		t.Run(name, func(t *testing.T) {
			b.ours.t, b.samba.t = t, t
			test(b, t)
		})
	}
}

func (b *besideSamba) as(t *testing.T) {
	key := b.ours.key(alice)
	wrong := b.ours.key(krb5.NewName(1, "bob"))
	for what, c := range map[string]struct {
		change func(*krb5.KDCReq)
		want   codes
	}{
		"as it should be":        {func(*krb5.KDCReq) {}, same(0)},
		"without proof":          {func(r *krb5.KDCReq) { r.PAData = nil }, same(krb5.ErrPreauthRequired)},
		"with a wrong key":       {func(r *krb5.KDCReq) { r.PAData[1] = b.ours.timestamp(wrong, b.ours.Now()) }, same(krb5.ErrPreauthFailed)},
		"early":                  {func(r *krb5.KDCReq) { r.PAData[1] = b.ours.timestamp(key, b.ours.Now().Add(-6*time.Minute)) }, same(krb5.ErrSkew)},
		"with junk for a proof":  {func(r *krb5.KDCReq) { r.PAData[1].Value = []byte("junk") }, codes{krb5.ErrGeneric, krb5.ErrBadIntegrity}},
		"in types that are none": {func(r *krb5.KDCReq) { r.Body.ETypes = []crypto.EType{3} }, same(krb5.ErrETypeNoSupport)},
		"by nobody":              {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "mallory") }, same(krb5.ErrClientUnknown)},
		"in capitals":            {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "ALICE") }, same(0)},
		"an enterprise name": {func(r *krb5.KDCReq) {
			r.Body.CName = krb5.NewName(10, "alice@contoso.com")
			r.Body.Options |= krb5.OptCanonicalize
		}, same(0)},
		"an enterprise name, NetBIOS": {func(r *krb5.KDCReq) {
			r.Body.CName = krb5.NewName(10, "alice@CONTOSO")
			r.Body.Options |= krb5.OptCanonicalize
		}, same(0)},
		"a host without $":                {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "beside"); r.PAData = nil }, codes{krb5.ErrClientUnknown, krb5.ErrPreauthRequired}},
		"a service principal as client":   {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "HOST", "beside"); r.PAData = nil }, same(krb5.ErrClientUnknown)},
		"anonymously":                     {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(11, "WELLKNOWN", "ANONYMOUS") }, codes{krb5.ErrClientUnknown, krb5.ErrBadOption}},
		"krbtgt as client":                {func(r *krb5.KDCReq) { r.Body.CName = krb5.NewName(1, "krbtgt") }, same(krb5.ErrClientRevoked)},
		"for nobody":                      {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(2, "http", "nowhere.contoso.com") }, same(krb5.ErrServerUnknown)},
		"for a user without SPN":          {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(1, "bob") }, same(krb5.ErrServerUnknown)},
		"for krbtgt of elsewhere":         {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(2, "krbtgt", "FABRIKAM.COM") }, same(krb5.ErrServerUnknown)},
		"to change the password":          {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(2, "kadmin", "changepw") }, same(0)},
		"for a host":                      {func(r *krb5.KDCReq) { r.Body.SName = krb5.NewName(3, "host", "beside.contoso.com") }, same(0)},
		"to be renewed":                   {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptRenew }, same(krb5.ErrBadOption)},
		"to be forwarded":                 {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptForwarded }, same(krb5.ErrBadOption)},
		"user to user":                    {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptEncTktInSkey }, same(krb5.ErrBadOption)},
		"postdated":                       {func(r *krb5.KDCReq) { r.Body.Options |= krb5.OptPostdated; r.Body.From = b.ours.Now().Add(time.Hour) }, codes{krb5.ErrCannotPostdate, 0}},
		"that has ended":                  {func(r *krb5.KDCReq) { r.Body.Till = b.ours.Now().Add(-time.Hour) }, same(krb5.ErrNeverValid)},
		"with a PAC-REQUEST that is junk": {with(krb5.PAPACRequest, []byte("junk")), same(0)},
		"of another realm":                {func(r *krb5.KDCReq) { r.Body.Realm = "FABRIKAM.COM" }, same(krb5.ErrClientUnknown)},
	} {
		b.expect(t, what, c.want, func(k *forger) []byte { return k.asRequest(alice, key, c.change) })
	}
}

func (b *besideSamba) tgs(t *testing.T) {
	tgts := map[*forger]ticket{}
	hosts := map[*forger]ticket{}
	b.both(func(_ string, k *forger) {
		tgts[k] = k.logOn(alice, nil)
		hosts[k] = k.logOn(krb5.NewName(1, "beside$"), nil)
	})
	host := krb5.NewName(krb5.NameSrvHst, "host", "beside.contoso.com")
	krbtgt := b.ours.server.tgs
	for what, c := range map[string]struct {
		server krb5.PrincipalName
		body   func(*krb5.KDCReqBody)
		auth   func(*krb5.Authenticator)
		want   codes
	}{
		"a host":                        {host, nil, nil, same(0)},
		"HTTP, for which host/ stands":  {krb5.NewName(1, "HTTP", "beside.contoso.com"), nil, nil, same(0)},
		"by account name":               {krb5.NewName(1, "BESIDE$"), nil, nil, same(0)},
		"a controller by three parts":   {krb5.NewName(2, "ldap", "dc1.contoso.com", "contoso.com"), nil, nil, same(0)},
		"kadmin/changepw":               {krb5.NewName(2, "kadmin", "changepw"), nil, nil, same(0)},
		"nobody":                        {krb5.NewName(2, "http", "nowhere.contoso.com"), nil, nil, same(krb5.ErrServerUnknown)},
		"a user without SPN":            {krb5.NewName(1, "bob"), nil, nil, same(krb5.ErrServerUnknown)},
		"krbtgt by the NetBIOS name":    {krb5.NewName(2, "krbtgt", "CONTOSO"), nil, nil, same(0)},
		"forwarded":                     {krbtgt, func(r *krb5.KDCReqBody) { r.Options = krb5.OptForwarded }, nil, same(0)},
		"proxy":                         {host, func(r *krb5.KDCReqBody) { r.Options = krb5.OptProxy }, nil, same(0)},
		"renewed":                       {krbtgt, func(r *krb5.KDCReqBody) { r.Options = krb5.OptRenew }, nil, same(0)},
		"validated":                     {krbtgt, func(r *krb5.KDCReqBody) { r.Options = krb5.OptValidate }, nil, same(krb5.ErrBadOption)},
		"postdated":                     {host, func(r *krb5.KDCReqBody) { r.Options = krb5.OptPostdated; r.From = b.ours.Now().Add(time.Hour) }, nil, codes{krb5.ErrCannotPostdate, krb5.ErrBadOption}},
		"that has ended":                {host, func(r *krb5.KDCReqBody) { r.Till = b.ours.Now().Add(-time.Hour) }, nil, same(krb5.ErrNeverValid)},
		"in DES":                        {host, func(r *krb5.KDCReqBody) { r.ETypes = []crypto.EType{3} }, nil, same(krb5.ErrETypeNoSupport)},
		"user to user without a ticket": {krb5.NewName(1, "bob"), func(r *krb5.KDCReqBody) { r.Options = krb5.OptEncTktInSkey }, nil, same(krb5.ErrBadOption)},
		"no checksum":                   {host, nil, func(a *krb5.Authenticator) { a.Checksum = krb5.Checksum{} }, same(krb5.ErrInappropriateChecksum)},
		"an unkeyed checksum":           {host, nil, func(a *krb5.Authenticator) { a.Checksum = krb5.Checksum{Type: 7, Sum: make([]byte, 16)} }, codes{krb5.ErrInappropriateChecksum, krb5.ErrBadIntegrity}},
		"a wrong checksum":              {host, nil, func(a *krb5.Authenticator) { a.Checksum.Sum[0] ^= 1 }, codes{krb5.ErrModified, krb5.ErrBadIntegrity}},
		"early":                         {host, nil, func(a *krb5.Authenticator) { a.CTime = a.CTime.Add(-6 * time.Minute) }, same(krb5.ErrSkew)},
		"of another client":             {host, nil, func(a *krb5.Authenticator) { a.CName = krb5.NewName(1, "bob") }, same(krb5.ErrBadMatch)},
		"of another realm":              {host, func(r *krb5.KDCReqBody) { r.Realm = "FABRIKAM.COM" }, nil, same(krb5.ErrServerUnknown)},
	} {
		b.expect(t, what, c.want, func(k *forger) []byte { return k.tgsRequest(tgts[k], c.server, c.body, c.auth) })
	}
	host1 := krb5.NewName(1, "beside$")
	b.expect(t, "user to user", same(0), func(k *forger) []byte {
		return k.tgsRequest(tgts[k], host1, func(r *krb5.KDCReqBody) {
			r.Options, r.AdditionalTickets = krb5.OptEncTktInSkey, [][]byte{hosts[k].der}
		}, nil)
	})
	b.expect(t, "user to user with the ticket of another", same(krb5.ErrBadMatch), func(k *forger) []byte {
		return k.tgsRequest(tgts[k], host1, func(r *krb5.KDCReqBody) { r.Options, r.AdditionalTickets = krb5.OptEncTktInSkey, [][]byte{tgts[k].der} }, nil)
	})
	b.expect(t, "a service ticket in place of a TGT", codes{krb5.ErrNotUs, krb5.ErrPolicy}, func(k *forger) []byte {
		return k.tgsRequest(k.get(tgts[k], host, nil), host, nil, nil)
	})
}

// standing is what is told of accounts that may not log on, before they have proved
// anything and after: the code, and the NTSTATUS in e-data. One thing comes to the other, and
// what is told first is the same too.
func (b *besideSamba) standing(t *testing.T) {
	b.dc.AddUser(t, "carol", password)
	b.dc.Replace(t, "carol", "userAccountControl", "512")
	b.ours.Insert(t, dctest.Object{Class: "user", Name: "carol", Password: password})
	carol := krb5.NewName(1, "carol")
	keys := map[string]*crypto.Key{"without proof": nil, "with the key": b.ours.key(carol), "with a wrong key": b.ours.key(krb5.NewName(1, "bob"))}
	hour := func(d time.Duration) string { return strconv.FormatInt(int64(dtyp.FiletimeOf(time.Now().Add(d))), 10) }
	for _, c := range []struct {
		what, attribute, value string
		code                   krb5.ErrorCode
		status                 krb5.NTStatus
	}{
		{"must change its password", "pwdLastSet", "0", krb5.ErrKeyExpired, krb5.StatusPasswordMustChange},
		{"for smart cards alone", "userAccountControl", "262656", krb5.ErrPolicy, 0xC00002FA},
		{"outside of its hours", "logonHours", string(make([]byte, 21)), krb5.ErrClientRevoked, krb5.StatusInvalidLogonHours},
		{"expired", "accountExpires", hour(-time.Hour), krb5.ErrClientRevoked, krb5.StatusAccountExpired},
		{"locked out", "lockoutTime", hour(-time.Minute), krb5.ErrClientRevoked, krb5.StatusAccountLockedOut},
		{"disabled", "userAccountControl", "514", krb5.ErrClientRevoked, krb5.StatusAccountDisabled},
	} {
		b.dc.Replace(t, "carol", c.attribute, c.value)
		b.ours.Put(t, "carol", c.attribute, c.value)
		for how, key := range keys {
			if key == nil && c.code == krb5.ErrPolicy {
				continue // Samba asks for proof first, which could be a certificate
			}
			b.both(func(whose string, k *forger) {
				_, e := k.ask(k.asRequest(carol, key, nil))
				if e == nil || e.Code != c.code {
					t.Errorf("%s, %s, %s: %v, want %v", c.what, how, whose, e, c.code)
				} else if data, err := krb5.ParseErrorData(e.EData); err != nil || data.Type != krb5.ErrorDataExtended {
					t.Errorf("%s, %s, %s: e-data %x: %v", c.what, how, whose, e.EData, err)
				} else if status, _ := e.NTStatus(); status != c.status {
					t.Errorf("%s, %s, %s: %v, want %v", c.what, how, whose, status, c.status)
				}
			})
		}
	}
}

// pacOptions: Samba reads PA-PAC-OPTIONS for S4U2Proxy alone and answers none. Ours reads
// it always, and answers what it honours, as Windows does.
func (b *besideSamba) pacOptions(t *testing.T) {
	sent := krb5.PAData{Type: krb5.PAPACOptions, Value: (krb5.PACOptClaims | krb5.PACOptBranchAware).Append(nil)}
	b.both(func(whose string, k *forger) {
		tgt := k.logOn(alice, with(sent.Type, sent.Value))
		rep, e := k.ask(k.tgsWith(tgt, ldap, nil, sent))
		if e != nil {
			t.Fatalf("%s: %v", whose, e)
		}
		for exchange, got := range map[string]ticket{"AS": tgt, "TGS": k.open(rep, tgt.session, krb5.UsageTGSRepEncPart)} {
			value, has := krb5.MethodData(got.part.PAData).Find(krb5.PAPACOptions)
			if has != (whose == "ours") || has && !bytes.Equal(value, krb5.PACOptBranchAware.Append(nil)) {
				t.Errorf("%s, %s: %x, %v", whose, exchange, value, has)
			}
		}
	})
	b.expect(t, "junk", codes{krb5.ErrGeneric, 0}, func(k *forger) []byte {
		return k.asRequest(alice, k.key(alice), with(krb5.PAPACOptions, []byte("junk")))
	})
}

// managed measures what "a gMSA cannot log on interactively" asks of a KDC: nothing. To log
// on to a host takes a TGT and a ticket for the host, as to log in to any service does, and
// Samba issues both as ours does; who refuses is the host.
func (b *besideSamba) managed(t *testing.T) {
	b.dc.AddGMSA(t, lab.GMSA{Name: "besideapp"})
	b.ours.Clock.Set(time.Now())
	b.ours.Insert(t, dctest.Object{Class: "msDS-GroupManagedServiceAccount", Name: "besideapp$", ManagedDays: 30})
	name := krb5.NewName(krb5.NamePrincipal, "besideapp$")
	blob, err := managedpassword.Parse(b.dc.GMSAAt(t, []lab.GMSAQuestion{{Name: "besideapp", Time: uint64(dtyp.FiletimeOf(time.Now()))}})[0])
	if err != nil {
		t.Fatal(err)
	}
	sambas, err := managedpassword.Key(crypto.AES256SHA1, blob.Current, managedpassword.Salt("CONTOSO.COM", "besideapp$"))
	if err != nil {
		t.Fatal(err)
	}
	b.both(func(whose string, k *forger) {
		key := sambas
		if whose == "ours" {
			key = k.key(name)
		}
		rep, e := k.ask(k.asRequest(name, key, nil))
		if e != nil {
			t.Fatalf("%s: %v", whose, e)
		}
		host := krb5.NewName(krb5.NameSrvHst, "host", "beside.contoso.com")
		k.expect(whose+", for a host", k.tgsRequest(k.open(rep, key, krb5.UsageASRepEncPart), host, nil, nil), 0)
	})
}
