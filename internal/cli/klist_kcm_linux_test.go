package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestKlistOfAManager reads from sssd-kcm what MIT's kinit put there.
func TestKlistOfAManager(t *testing.T) {
	lab.Need(t, "kinit", "kvno")
	dc := lab.Samba(t, lab.SambaConfig{})
	socket := lab.KCM(t)
	conf, err := os.ReadFile(dc.KRB5Config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "krb5.conf")
	text := strings.Replace(string(conf), "[libdefaults]", "[libdefaults]\n\tkcm_socket = "+socket, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(dc.Env(), "KRB5_CONFIG="+file, "KRB5CCNAME=KCM:")
	if r := gmsa(t, env, "klist"); r.code != 3 {
		t.Errorf("an empty manager: exit code %d", r.code)
	}
	dc.Run(t, env, "kinit", "-k", "-t", dc.Keytab(t, "web1"), "web1$")
	dc.Run(t, env, "kvno", "ldap/dc1.contoso.com")
	second := append(env, "KRB5CCNAME=KCM:0:second")
	dc.Run(t, second, "kinit", "-k", "-t", dc.Keytab(t, "web2"), "web2$")
	dc.Run(t, env, "kswitch", "-c", "KCM:0:second") // without it, sssd-kcm takes any for the default

	for cache, want := range map[string]ticketList{
		"KCM:0":        {Client: "web1$@CONTOSO.COM", Tickets: []ticketView{{Server: "krbtgt/CONTOSO.COM @ CONTOSO.COM"}, {Server: "ldap/dc1.contoso.com @ CONTOSO.COM"}}},
		"KCM:0:second": {Client: "web2$@CONTOSO.COM", Tickets: []ticketView{{Server: "krbtgt/CONTOSO.COM @ CONTOSO.COM"}}},
		"KCM:":         {Client: "web2$@CONTOSO.COM", Tickets: []ticketView{{Server: "krbtgt/CONTOSO.COM @ CONTOSO.COM"}}},
	} {
		var got ticketList
		r := gmsa(t, env, "klist", "--ccache", cache, "-o", "json")
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || got.Client != want.Client || len(got.Tickets) != len(want.Tickets) {
			t.Fatalf("%s: %v, %+v", cache, err, got)
		}
		for i, x := range want.Tickets {
			if got.Tickets[i].Server != x.Server || got.Tickets[i].Expired {
				t.Errorf("%s: %+v, want %s", cache, got.Tickets[i], x.Server)
			}
		}
	}
	r := gmsa(t, env, "klist", "--all")
	contains(t, r.stdout, "of web1$@CONTOSO.COM", "Credential cache: KCM:0:second, of web2$@CONTOSO.COM")
	if r := gmsa(t, env, "klist", "--ccache", "KCM:0:none"); r.code != 3 {
		t.Errorf("a cache that is not there: exit code %d", r.code)
	}
	if r := gmsa(t, append(env, "KRB5_CONFIG=/dev/null"), "klist", "--ccache", "KCM:x"); r.code != 3 || !strings.Contains(r.stderr, "no cache manager listens") {
		t.Errorf("no manager: exit code %d, %s", r.code, r.stderr)
	}
	// Tickets of a manager are an identity like others.
	contains(t, gmsa(t, env, "verify", "contoso.com", "--dc", dc.IP.String()).stdout, "Trust Verification Status = 0 0x0 NERR_Success")
	contains(t, gmsa(t, env, "klist", "get", "HOST/web1.contoso.com", "--dc", dc.IP.String()).stdout, "has been retrieved successfully")
}

// A directory of caches as MIT keeps one.
func TestKlistOfADirectory(t *testing.T) {
	lab.Need(t, "kinit")
	dc := lab.Samba(t, lab.SambaConfig{})
	env := append(dc.Env(), "KRB5CCNAME=DIR:"+t.TempDir())
	dc.Run(t, env, "kinit", "-k", "-t", dc.Keytab(t, "web1"), "web1$")
	dc.Run(t, env, "kinit", "-k", "-t", dc.Keytab(t, "web2"), "web2$")
	contains(t, gmsa(t, env, "klist", "--all").stdout, "of web1$@CONTOSO.COM", "of web2$@CONTOSO.COM")
}
