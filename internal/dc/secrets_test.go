package dc

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/auditlog"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// A household is a controller with a data directory, all of whose secrets are noted.
type household struct {
	t       *testing.T
	data    Data
	c       *Controller
	s       *Sockets
	log     bytes.Buffer // complete once the controller has ended
	secrets map[string][]byte
}

// start serves until the returned function ends it.
func (h *household) start() (end func()) {
	h.t.Helper()
	var err error
	if h.c, err = h.data.Open(h.t.Context(), Config{Log: slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}); err != nil {
		h.t.Fatal(err)
	}
	if h.s, err = Listen(h.t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports{}); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- h.c.Run(ctx, h.s) }()
	return func() {
		cancel()
		if err := errors.Join(<-ended, h.c.Close()); err != nil {
			h.t.Error(err)
		}
	}
}

// text notes a password, which is also known by the name what, and gives it.
func (h *household) text(what, password string) string {
	h.secrets[what] = []byte(password)
	h.secrets[what+" in UTF-16"] = h.units(password)
	return password
}

func (h *household) units(text string) []byte {
	h.t.Helper()
	u, err := managedpassword.UTF16(secret.New([]byte(text)))
	if err != nil {
		h.t.Fatal(err)
	}
	return u.Reveal()
}

func (h *household) at(port uint16) string {
	return netip.AddrPortFrom(h.s.Addresses[0], port).String()
}

// dial binds over TLS.
func (h *household) dial(name, password string) (*ldap.Conn, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.c.CA())
	return dialLDAPS(h.at(h.s.Ports.LDAPS), &tls.Config{RootCAs: roots}, name, password)
}

func (h *household) check(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// forms are how a secret may turn up in a file.
func forms(secret []byte) [][]byte {
	upper := bytes.ToUpper([]byte(hex.EncodeToString(secret)))
	return [][]byte{secret, upper, bytes.ToLower(upper),
		[]byte(base64.RawStdEncoding.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret))}
}

// found are the secrets that b has in some form.
func (h *household) found(b []byte) (names []string) {
	for name, secret := range h.secrets {
		for _, form := range forms(secret) {
			if bytes.Contains(b, form) {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// TestNoLogAndNoFileHasASecret: after all that is audited, no password, key or root key lies
// in the audit log, in the log at its most talkative, or in the store or any other file of
// the data directory but that of the key-encryption key.
func TestNoLogAndNoFileHasASecret(t *testing.T) {
	h := &household{t: t, data: initialized(t), secrets: map[string][]byte{}}
	h.text("Administrator's first password", adminPassword)
	end := h.start()
	h.live()
	h.keep()
	end()

	places := map[string][]byte{"the log": h.log.Bytes()}
	err := filepath.WalkDir(h.data.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == keyFile {
			return err
		}
		places[e.Name()], err = os.ReadFile(path)
		return err
	})
	h.check("read the files", err)
	for place, b := range places {
		for _, name := range h.found(b) {
			t.Errorf("%s has %s", place, name)
		}
	}
	for _, place := range []string{storeFile, filepath.Base(h.data.AuditPath())} {
		if !bytes.Contains(places[place], []byte("canary")) {
			t.Errorf("%s does not even name the account of the test", place)
		}
	}
	told := map[audit.Kind]bool{}
	for e, err := range auditlog.Read(h.data.AuditPath()) {
		h.check("read the audit log", err)
		told[e.Kind] = true
	}
	for _, kind := range []audit.Kind{audit.KindLogon, audit.KindReadManagedPassword, audit.KindReadRootKey, audit.KindRootKeyCreated,
		audit.KindAdd, audit.KindModify, audit.KindDelete, audit.KindRename, audit.KindPassword, audit.KindRotate, audit.KindExport, audit.KindReaders} {
		if !told[kind] {
			t.Errorf("the audit log has no %q", kind)
		}
	}
}

// live does what is audited and has a secret in it, with success and in vain.
func (h *household) live() {
	h.t.Helper()
	const users, gmsa = "CN=Users,DC=contoso,DC=com", "CN=app,CN=Managed Service Accounts,DC=contoso,DC=com"
	_, err := h.dial("Administrator@contoso.com", h.text("the password of a bind that failed", "Wr0ng!-Bind-Passw0rd"))
	if err == nil {
		h.t.Fatal("a wrong password binds")
	}
	admin, err := h.dial("Administrator@contoso.com", adminPassword)
	h.check("bind", err)
	defer admin.Close()
	h.check("minPwdAge", setValue(admin, "DC=contoso,DC=com", "minPwdAge", "0"))

	add := ldap.NewAddRequest("CN=canary,"+users, nil)
	for name, value := range map[string]string{"objectClass": "user", "sAMAccountName": "canary", "userAccountControl": "512",
		"unicodePwd": string(h.units(`"` + h.text("the password of a new account", "N3w!-User-Passw0rd") + `"`))} {
		add.Attribute(name, []string{value})
	}
	h.check("add", admin.Add(add))
	if err := setValue(admin, "CN=canary,"+users, "unicodePwd", string(h.units(`"`+h.text("a password that the policy refuses", "secretsecretsecret")+`"`))); err == nil {
		h.t.Error("a password without variety is taken")
	}
	h.check("set", setValue(admin, "CN=canary,"+users, "unicodePwd", string(h.units(`"`+h.text("a password that was set", "S3t!-User-Passw0rd")+`"`))))
	h.check("rename", admin.ModifyDN(ldap.NewModifyDNRequest("CN=canary,"+users, "CN=canary 2", true, "")))
	h.kerberos()

	key, err := gkdi.NewRootKey(rand.Reader, dtyp.FiletimeOf(time.Now()), dtyp.FiletimeOf(time.Now()))
	h.check("root key", err)
	h.secrets["a client's root key"] = key.Key.Reveal()
	add = ldap.NewAddRequest(rootKeyDN(key.ID), nil)
	add.Attribute("objectClass", []string{"msKds-ProvRootKey"})
	for _, a := range gkdi.NewProvRootKey(key, "CN=DC1,OU=Domain Controllers,DC=contoso,DC=com").Attributes() {
		add.Attribute(a.Name, []string{string(a.Value)})
	}
	h.check("add root key", admin.Add(add))
	h.check("delete root key", admin.Del(ldap.NewDelRequest(rootKeyDN(key.ID), nil)))
	keys, err := admin.Search(&ldap.SearchRequest{BaseDN: rootKeysDN, Scope: ldap.ScopeSingleLevel, Filter: "(objectClass=*)", Attributes: []string{"msKds-RootKeyData"}})
	h.check("read root key", err)
	h.secrets["the root key"] = keys.Entries[0].GetRawAttributeValue("msKds-RootKeyData")

	readers, err := secdesc.GroupMSAMembership(h.c.Directory().Domain().SID.Child(500)).Append(nil)
	h.check("readers", err)
	add = ldap.NewAddRequest(gmsa, nil)
	for name, value := range map[string]string{"objectClass": "msDS-GroupManagedServiceAccount", "sAMAccountName": "app$",
		"dNSHostName": "app.contoso.com", "userAccountControl": "4096", "msDS-ManagedPasswordInterval": "30", "msDS-GroupMSAMembership": string(readers)} {
		add.Attribute(name, []string{value})
	}
	h.check("add gMSA", admin.Add(add))
	h.check("readers", setValue(admin, gmsa, "msDS-GroupMSAMembership", string(readers)))
	m, err := readManaged(admin, "app")
	h.check("read managed password", err)
	blob, err := managedpassword.Parse(m.raw)
	h.check("managed password", err)
	h.secrets["a managed password"] = blob.Current.Reveal()
	h.check("rotate", setValue(admin, gmsa, "pwdLastSet", "0"))
}

// kerberos changes a password by kpasswd, and fails to log on.
func (h *household) kerberos() {
	h.t.Helper()
	k, err := kclient.New(kclient.Config{Realm: "CONTOSO.COM",
		KDCs: kclient.Static{{Host: "dc1.contoso.com", Kerberos: h.at(h.s.Ports.Kerberos), Kpasswd: h.at(h.s.Ports.Kpasswd)}}})
	h.check("Kerberos client", err)
	defer k.Close()
	canary := krb5.NewName(krb5.NamePrincipal, "canary")
	password := func(text string) secret.Bytes { return secret.New([]byte(text)) }
	next := h.text("a password that was changed", "Ch4nged!-User-Passw0rd")
	h.check("change", k.ChangePassword(h.t.Context(), canary, kclient.Password(password("S3t!-User-Passw0rd")), password(next)))
	refused := h.text("a password that kpasswd refuses", "refusedrefused")
	if err := k.ChangePassword(h.t.Context(), canary, kclient.Password(password(next)), password(refused)); err == nil {
		h.t.Error("a password without variety is taken by kpasswd")
	}
	wrong := h.text("the password of a logon that failed", "Wr0ng!-Krb5-Passw0rd")
	if _, err := k.AS(h.t.Context(), kclient.ASRequest{Client: canary, Secret: kclient.Password(password(wrong))}); err == nil {
		h.t.Error("a wrong password logs on")
	}
}

// keep notes the keys of all accounts that have some.
func (h *household) keep() {
	h.t.Helper()
	b, err := h.data.ExportKeytab(h.t.Context(), config(h.t), []string{"Administrator", "krbtgt/CONTOSO.COM", "DC1$", "canary", "app$"})
	h.check("export", err)
	kt, err := keytab.Parse(b.Reveal())
	h.check("keytab", err)
	for _, e := range kt.Entries {
		h.secrets["a key of "+e.Principal.String()+" "+e.Key.EType().String()] = e.Key.Secret().Reveal()
	}
}

// setValue replaces an attribute by a value.
func setValue(conn *ldap.Conn, dn, attribute, value string) error {
	q := ldap.NewModifyRequest(dn, nil)
	q.Replace(attribute, []string{value})
	return conn.Modify(q)
}
