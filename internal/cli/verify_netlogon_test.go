package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// TestVerifyNetlogon tells a host whose keytab has an RC4 key that is the one in force from
// one whose key is old, although both have the AES keys in force.
func TestVerifyNetlogon(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	aes, err := os.ReadFile(dc.Keytab(t, "web2"))
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]struct {
		code int
		text string
	}{
		lab.ComputerPassword("web2"): {0, "Secure Channel verified"},
		"the one before":             {6, "Trust Verification Status = 5 0x5 ERROR_ACCESS_DENIED\nSecure Channel refused: NetrServerAuthenticate3: NTSTATUS 0xc0000022"},
	} {
		kt, err := keytab.Parse(aes)
		if err != nil {
			t.Fatal(err)
		}
		e := kt.Entries[0]
		if e.Key, err = crypto.StringToKey(crypto.RC4HMAC, []byte(password), "", nil, crypto.AllowRC4); err != nil {
			t.Fatal(err)
		}
		kt.Entries = append(kt.Entries, e)
		b, err := kt.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "keytab")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := gmsa(t, nil, "verify", "contoso.com", "--keytab", file, "--dc", dc.IP.String())
		if r.code != want.code {
			t.Errorf("exit code %d, want %d", r.code, want.code)
		}
		contains(t, r.stdout, want.text)
	}
}

// Our own controller has no Netlogon, which is no failure.
func TestVerifyWithoutNetlogon(t *testing.T) {
	dc := lab.Own(t, lab.OwnConfig{})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(lab.ComputerPassword("web1")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := gmsa(t, nil, "verify", "contoso.com", "-U", "web1$@contoso.com", "--password-file", file, "--dc", dc.IP.String(), "-o", "json")
	if r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	contains(t, r.stdout, `"secureChannel": "not offered"`)
}
