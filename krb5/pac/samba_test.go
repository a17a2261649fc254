package pac_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/krb5/pac"
	"github.com/opengmsa/opengmsa/secret"
)

// domain is a running Samba with the keys of all its accounts.
type domain struct {
	client *kclient.Client
	keys   keytab.Keytab
}

func newDomain(t *testing.T) domain {
	dc := lab.Samba(t, lab.SambaConfig{})
	c := must[*kclient.Client](t)(kclient.New(kclient.Config{Realm: lab.Realm, KDCs: kclient.StaticKDCs(dc.IP.String())}))
	t.Cleanup(func() { _ = c.Close() })
	file := filepath.Join(t.TempDir(), "keytab")
	dc.SambaTool(t, "domain", "exportkeytab", file)
	return domain{client: c, keys: must[keytab.Keytab](t)(keytab.Parse(must[[]byte](t)(os.ReadFile(file)), crypto.AllowRC4))}
}

func (d domain) key(t *testing.T, name string) *crypto.Key {
	t.Helper()
	for _, e := range d.keys.Entries {
		if e.Key.EType() == crypto.AES256SHA1 && strings.EqualFold(strings.Join(e.Principal.Name.Components, "/"), name) {
			return e.Key
		}
	}
	t.Fatalf("no key of %s", name)
	return nil
}

func (d domain) tgt(t *testing.T, name, password string) krb5.Credential {
	t.Helper()
	return must[kclient.Result](t)(d.client.AS(t.Context(), kclient.ASRequest{
		Client: krb5.NewName(krb5.NamePrincipal, name), Secret: kclient.Password(secret.New([]byte(password))),
	})).Credential
}

func (d domain) service(t *testing.T, tgt krb5.Credential) (krb5.Credential, error) {
	res, err := d.client.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(krb5.NameSrvHst, "ldap", lab.DCHost)})
	return res.Credential, err
}

func decrypt(t *testing.T, ticket []byte, k *crypto.Key) krb5.EncTicketPart {
	t.Helper()
	tk := must[krb5.Ticket](t)(krb5.ParseTicket(ticket))
	return part(t, must[[]byte](t)(k.Decrypt(krb5.UsageTicket, tk.EncPart.Cipher)))
}

// encrypt puts another content into a ticket.
func encrypt(t *testing.T, ticket []byte, p krb5.EncTicketPart, k *crypto.Key) []byte {
	t.Helper()
	tk := must[krb5.Ticket](t)(krb5.ParseTicket(ticket))
	tk.EncPart.Cipher = must[[]byte](t)(k.Encrypt(nil, krb5.UsageTicket, p.Append(nil), rand.Reader))
	return tk.Append(nil)
}

func TestSambaLiveTicketsVerify(t *testing.T) {
	d := newDomain(t)
	krbtgt, server := d.key(t, "krbtgt"), d.key(t, "DC1$")
	for name, password := range map[string]string{
		"web1$": lab.ComputerPassword("web1"), lab.Administrator: lab.AdminPassword,
	} {
		tgt := d.tgt(t, name, password)
		p := must[pac.PAC](t)(pac.Open(decrypt(t, tgt.Ticket, krbtgt), pac.TGT, pac.Keys{Server: krbtgt, KDC: krbtgt}))
		if got, want := rebuild(t, p).Append(nil), p.Append(nil); string(got) != string(want) {
			t.Errorf("%s: TGT written as\n%x, want\n%x", name, got, want)
		}
		ticket := must[krb5.Credential](t)(d.service(t, tgt))
		q := must[pac.PAC](t)(pac.Open(decrypt(t, ticket.Ticket, server), pac.Service, pac.Keys{Server: server, KDC: krbtgt}))
		if got, want := rebuild(t, q).Append(nil), q.Append(nil); string(got) != string(want) {
			t.Errorf("%s: service ticket written as\n%x, want\n%x", name, got, want)
		}
	}
}

// Samba's KDC takes a TGT whose PAC was made here, hands its content on to the
// service ticket, and refuses it when the server's signature is another's. (Of a TGT's two signatures
// Samba looks at that one only: both are by the same key.)
func TestSambaTakesOurPAC(t *testing.T) {
	d := newDomain(t)
	krbtgt, server := d.key(t, "krbtgt"), d.key(t, "DC1$")
	tgt := d.tgt(t, "web1$", lab.ComputerPassword("web1"))
	part := decrypt(t, tgt.Ticket, krbtgt)
	p := rebuild(t, must[pac.PAC](t)(pac.Extract(part)))
	l := must[pac.LogonInfo](t)(p.LogonInfo())
	l.FullName = "Übersetzt 𐐷"
	l.Groups = append(l.Groups, pac.Group{RID: 4711, Attributes: pac.GroupDefault})
	p.Set(pac.TypeLogonInfo, l.Append(nil))
	part.AuthorizationData = nil
	own := must[krb5.EncTicketPart](t)(pac.Seal(part, p, pac.TGT, pac.Keys{Server: krbtgt, KDC: krbtgt}))
	forged := must[krb5.EncTicketPart](t)(pac.Seal(part, p, pac.TGT, pac.Keys{Server: server, KDC: krbtgt}))

	ours := tgt
	ours.Ticket = encrypt(t, tgt.Ticket, own, krbtgt)
	ticket := must[krb5.Credential](t)(d.service(t, ours))
	q := must[pac.PAC](t)(pac.Open(decrypt(t, ticket.Ticket, server), pac.Service, pac.Keys{Server: server, KDC: krbtgt}))
	got := must[pac.LogonInfo](t)(q.LogonInfo())
	if got.FullName != l.FullName || len(got.Groups) < len(l.Groups) {
		t.Errorf("in the service ticket: %+v", got)
	}
	ours.Ticket = encrypt(t, tgt.Ticket, forged, krbtgt)
	if _, err := d.service(t, ours); err == nil {
		t.Error("a PAC with a signature by another key was taken")
	}
}
