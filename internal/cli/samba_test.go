package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// result is what one run of the program gave.
type result struct {
	code           int
	stdout, stderr string
}

// gmsa runs the program in this process, with no terminal and no environment
// but env.
func gmsa(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), args, Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Environ: env, Now: time.Now})
	t.Logf("gmsa %s: exit code %d\n%s%s", strings.Join(args, " "), code, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// wantMatch wants got to match the pattern as a whole.
func wantMatch(t *testing.T, pattern, got string) {
	t.Helper()
	if !regexp.MustCompile(`^(?s:` + pattern + `)$`).MatchString(got) {
		t.Errorf("got\n%s\nwant a match of\n%s", got, pattern)
	}
}

const verified = `
Flags: [0-9a-f]+ HAS_IP(  HAS_TIMESERV)?
Trusted DC Name \\\\dc1.contoso.com
Trusted DC Connection Status Status = 0 0x0 NERR_Success
Trust Verification Status = 0 0x0 NERR_Success
(Secure Channel verified
)?The command completed successfully
`

func TestSambaVerify(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	ip := dc.IP.String()
	keytab := dc.Keytab(t, "web1")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(lab.ComputerPassword("web1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"keytab":                {"verify", "contoso.com", "--keytab", keytab},
		"its domain":            {"verify", "--keytab", keytab},
		"a principal of it":     {"verify", "contoso.com", "--keytab", keytab, "-U", `CONTOSO\web1`},
		"under nltest's name":   {"nltest", "/sc_verify:contoso.com", "--keytab", keytab},
		"password":              {"verify", "contoso.com", "-U", "web1$", "--password-file", password},
		"password, with domain": {"verify", "-U", "web1$@contoso.com", "--password-file", password},
	} {
		t.Run(name, func(t *testing.T) {
			r := gmsa(t, nil, append(args, "--dc", ip)...)
			wantMatch(t, verified, r.stdout)
			if r.code != 0 || r.stderr != "" {
				t.Errorf("exit code %d, standard error %q", r.code, r.stderr)
			}
			if asked := strings.Contains(r.stdout, "Secure Channel verified"); asked != strings.HasPrefix(name, "password") {
				t.Errorf("Netlogon was asked: %t", asked)
			}
		})
	}
	r := gmsa(t, nil, "verify", "--keytab", keytab, "--dc", ip, "-o", "json")
	for _, want := range []string{`"controller": "dc1.contoso.com"`, `"client": "web1$@CONTOSO.COM"`, `"whoAmI": "u:CONTOSO\\web1$"`, `"name": "NERR_Success"`, `"secureChannel": "not tried: it takes`} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("JSON lacks %s", want)
		}
	}
}

func TestSambaVerifyNegative(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddComputer(t, "disabled1")
	dc.AddComputer(t, "gone1")
	keytab := map[string]string{"web1": dc.Keytab(t, "web1"), "disabled1": dc.Keytab(t, "disabled1"), "gone1": dc.Keytab(t, "gone1")}
	dc.Delete(t, "gone1$")
	dc.Replace(t, "disabled1$", "userAccountControl", "4098")
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("not it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args   []string
		code   int
		status string
		stderr string
	}{
		"wrong password":   {[]string{"-U", "web1$", "--password-file", wrong}, 6, "5 0x5 ERROR_ACCESS_DENIED", "hint: "},
		"disabled account": {[]string{"--keytab", keytab["disabled1"]}, 6, "1331 0x533 ERROR_ACCOUNT_DISABLED", "hint: enable the account"},
		"deleted account":  {[]string{"--keytab", keytab["gone1"]}, 6, "1787 0x6fb ERROR_NO_TRUST_SAM_ACCOUNT", "hint: "},
	} {
		t.Run(name, func(t *testing.T) {
			r := gmsa(t, nil, append([]string{"verify", "contoso.com", "--dc", dc.IP.String()}, c.args...)...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d", r.code, c.code)
			}
			for _, line := range []string{"Trusted DC Name \\\\dc1.contoso.com\n", "Trusted DC Connection Status Status = " + c.status + "\n", "Trust Verification Status = " + c.status + "\n"} {
				if !strings.Contains(r.stdout, line) {
					t.Errorf("no line %q", line)
				}
			}
			if !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("standard error lacks %q", c.stderr)
			}
		})
	}
	t.Run("no controller", func(t *testing.T) {
		r := gmsa(t, nil, "verify", "contoso.com", "--dc", "127.0.0.1:1", "--keytab", keytab["web1"])
		wantMatch(t, "I_NetLogonControl failed: Status = 1311 0x51f ERROR_NO_LOGON_SERVERS\n", r.stdout)
		if r.code != 5 || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("exit code %d, want 5, and a hint", r.code)
		}
	})
}

func TestSambaKlistGet(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	lab.Need(t, "kinit", "klist")
	cache := filepath.Join(t.TempDir(), "krb5cc")
	env := append(dc.Env(), "KRB5CCNAME=FILE:"+cache)
	mit := func(args ...string) string {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	mit("kinit", "-f", "-r", "7d", "-k", "-t", dc.Keytab(t, "web1"), "web1$")

	r := gmsa(t, env, "klist", "get", "krbtgt")
	const moment = `\d+/\d+/\d{4} \d+:\d\d:\d\d \(local\)`
	wantMatch(t, `
Current LogonId is 0:0x[0-9a-f]+
A ticket to krbtgt has been retrieved successfully.

Cached Tickets: \(2\)

#0>     Client: web1\$ @ CONTOSO.COM
        Server: krbtgt/CONTOSO.COM @ CONTOSO.COM
        KerbTicket Encryption Type: AES-256-CTS-HMAC-SHA1-96
        Ticket Flags 0x40[0-9a-f]{6} -> forwardable renewable pre_authent [a-z_ ]+
        Start Time: `+moment+`
        End Time:   `+moment+`
        Renew Time: `+moment+`
        Session Key Type: AES-256-CTS-HMAC-SHA1-96
        Cache Flags: 0
        Kdc Called: dc1.contoso.com

#1>     Client: web1\$ @ CONTOSO.COM
        Server: krbtgt/CONTOSO.COM @ CONTOSO.COM
.* initial pre_authent .*`, r.stdout)

	r = gmsa(t, env, "klist", "get", "ldap/dc1.contoso.com")
	wantMatch(t, `.*A ticket to \S+ has been retrieved successfully\..*Cached Tickets: \(3\).*`, r.stdout)
	if out := mit("klist"); strings.Count(out, "@CONTOSO.COM") < 4 {
		t.Errorf("MIT's klist does not see the tickets that were added:\n%s", out)
	}
	if r = gmsa(t, env, "klist"); strings.Count(r.stdout, "Kdc Called: dc1.contoso.com\n") < 2 {
		t.Error("klist does not say which controller issued the tickets that were added")
	}
	if r = gmsa(t, env, "klist", "get", "http/nowhere.contoso.com"); r.code != 3 || !strings.Contains(r.stderr, "no account has the service principal name") {
		t.Errorf("an unknown service: exit code %d, want 3 and the reason", r.code)
	}
	if r = gmsa(t, env, "klist", "get", "krbtgt@FABRIKAM.COM"); r.code != 2 {
		t.Errorf("another realm: exit code %d, want 2", r.code)
	}

	// A cache that must not be written, as a lease's, is not; keys need none.
	if err := os.Chmod(cache, 0o400); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(cache)
	r = gmsa(t, env, "klist", "get", "web2$")
	after, _ := os.ReadFile(cache)
	if r.code != 0 || !bytes.Equal(before, after) {
		t.Errorf("exit code %d; the read-only cache changed: %v", r.code, !bytes.Equal(before, after))
	}
	r = gmsa(t, nil, "klist", "get", "krbtgt", "--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String())
	wantMatch(t, `.*Cached Tickets: \(2\).*`, r.stdout)
}
