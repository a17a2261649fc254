package ldapd

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

// boundOverTLS is a connection that a password opened.
func (f *fixture) boundOverTLS(t testing.TB, who, password string) (*ldap.Conn, error) {
	t.Helper()
	c, err := ldap.DialURL("ldaps://"+f.tls, ldap.DialWithTLSConfig(&tls.Config{ServerName: hostName, RootCAs: f.roots}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.Bind(who, password)
}

// inQuotes is a value of unicodePwd.
func inQuotes(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// changePassword is a change by the old password, of the attribute by that name.
func changePassword(c *ldap.Conn, dn, attribute, old, password string) (code uint16) {
	q := ldap.NewModifyRequest(dn, nil)
	q.Delete(attribute, []string{inQuotes(old)})
	q.Add(attribute, []string{inQuotes(password)})
	err := c.Modify(q)
	if e, ok := errors.AsType[*ldap.Error](err); ok {
		return e.ResultCode
	}
	return 0
}

// TestEveryGuessIsCounted: an old password is tried as a bind's and as Kerberos's is, and
// all three are one to the limiter and to lockout. It holds security 22.
func TestEveryGuessIsCounted(t *testing.T) {
	const aliceDN, unicodePwd = "CN=alice,CN=Users,DC=contoso,DC=com", "1.2.840.113556.1.4.90"
	begin := func(t *testing.T) (*fixture, *ldap.Conn, func(password string) error) {
		f := start(t)
		f.Insert(t, dctest.Object{Class: "user", Name: "mallory", Password: alicePassword})
		f.Clock.Advance(25 * time.Hour) // passwords can be changed
		mallory, err := f.boundOverTLS(t, "mallory@contoso.com", alicePassword)
		if err != nil {
			t.Fatal(err)
		}
		kdc, err := kclient.New(kclient.Config{Realm: "CONTOSO.COM", KDCs: kclient.Static{{Kerberos: f.kdc}}, Now: f.Clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = kdc.Close() })
		return f, mallory, func(password string) error {
			_, err := kdc.AS(t.Context(), kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, "alice"), Secret: kclient.Password(secret.Copy([]byte(password)))})
			return err
		}
	}
	t.Run("by the limiter", func(t *testing.T) {
		f, mallory, kinit := begin(t)
		for i := range 10 {
			if code := changePassword(mallory, aliceDN, unicodePwd, "Wrong-1", "N3w-Passw0rd"); code != ldap.LDAPResultConstraintViolation {
				t.Fatalf("change %d: code %d", i, code)
			}
			if _, err := f.boundOverTLS(t, aliceDN, "Wrong-1"); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
				t.Fatalf("bind %d: %v", i, err)
			}
			if err := kinit("Wrong-1"); !errors.Is(err, krb5.ErrPreauthFailed) {
				t.Fatalf("AS %d: %v", i, err)
			}
		}
		if code := changePassword(mallory, "<SID="+f.Caller(t, "alice").SID.String()+">", "unicodePwd", alicePassword, "N3w-Passw0rd"); code != ldap.LDAPResultBusy {
			t.Errorf("the 31st, a change with the right one: code %d", code)
		}
		if _, err := f.boundOverTLS(t, "alice@contoso.com", alicePassword); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
			t.Errorf("the 31st, a bind with the right one: %v", err)
		}
		if err := kinit(alicePassword); !errors.Is(err, krb5.ErrServiceUnavailable) {
			t.Errorf("the 31st, an AS request with the right one: %v", err)
		}
		f.Clock.Advance(3 * time.Minute)
		if code := changePassword(mallory, aliceDN, "unicodePwd;binary", alicePassword, "N3w-Passw0rd"); code != 0 {
			t.Errorf("by whoever knows the old one: code %d", code)
		}
		if err := kinit("N3w-Passw0rd"); err != nil {
			t.Errorf("with the new one: %v", err)
		}
	})
	t.Run("by lockout", func(t *testing.T) {
		f, mallory, kinit := begin(t)
		f.lockAfter(t, "3")
		f.Events.Take()
		for range 3 {
			if code := changePassword(mallory, aliceDN, "unicodePwd", "Wrong-1", "N3w-Passw0rd"); code != ldap.LDAPResultConstraintViolation {
				t.Fatalf("code %d", code)
			}
		}
		lockouts := 0
		for _, e := range f.Events.Take() {
			if e.Kind == audit.KindLockout {
				lockouts++
			}
		}
		if err := kinit(alicePassword); !errors.Is(err, krb5.ErrClientRevoked) || lockouts != 1 {
			t.Errorf("an AS request: %v; %d events", err, lockouts)
		}
		if code := changePassword(mallory, aliceDN, "unicodePwd", alicePassword, "N3w-Passw0rd"); code != ldap.LDAPResultConstraintViolation {
			t.Errorf("a change with the right one: code %d", code)
		}
		if code := changePassword(mallory, "CN=nobody,CN=Users,DC=contoso,DC=com", "unicodePwd", "Wrong-1", "N3w-Passw0rd"); code != ldap.LDAPResultNoSuchObject {
			t.Errorf("of nobody: code %d", code)
		}
	})
}

// lockAfter lets so many wrong passwords lock an account out.
func (f *fixture) lockAfter(t testing.TB, threshold string) {
	t.Helper()
	a, _ := f.Schema().Attribute("lockoutThreshold")
	err := f.Update(t.Context(), func(w *directory.Writer) error {
		head, err := w.Get(f.Domain.Domain().GUID)
		if err != nil {
			return err
		}
		head.Values[a] = [][]byte{[]byte(threshold)}
		return w.Replace(head)
	})
	if err != nil {
		t.Fatal(err)
	}
}
