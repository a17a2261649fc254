package doctor_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// testHosts has the doctor ask hosts by ssh: a healthy one, one without a keytab, one
// whose key is not the known one, and one that is not there.
func testHosts(t *testing.T, s *site) {
	lab.Need(t, "ssh", "mmdebstrap")
	r := s.net.Root()
	r.WriteFile("/usr/bin/gmsa", read(t, s.gmsa), 0o755)
	for _, f := range []string{keytabFile, caFile, specFile, agentFile} {
		r.WriteFile(s.path(f), read(t, s.net.Path(s.path(f))), 0o600)
	}
	r.WriteFile("/etc/resolv.conf", read(t, s.net.Path("/etc/resolv.conf")), 0o644)
	r.WriteFile("/run/bad.yaml", []byte(strings.Replace(s.agentYAML(), s.path(keytabFile), "/run/no.keytab", 1)), 0o644)
	r.Start("/var/log/agent", "/usr/bin/gmsa", "agent", "serve", "--config", s.path(agentFile))
	dir := t.TempDir()
	lab.Run(t, nil, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/id")
	lab.Run(t, nil, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/other")
	r.WriteFile("/root/.ssh/authorized_keys", read(t, dir+"/id.pub"), 0o600)
	r.Run("install", "-d", "/run/sshd")
	r.Run("ssh-keygen", "-A")
	// The second address is a host whose agent looks for its keytab elsewhere.
	r.WriteFile("/run/sshd_config", []byte(`UsePAM no
PermitRootLogin prohibit-password
ListenAddress 10.77.0.31
ListenAddress 10.77.0.32
ListenAddress 10.77.0.33
Match LocalAddress 10.77.0.32
	ForceCommand exec $(echo "$SSH_ORIGINAL_COMMAND" | sed "s,`+s.path(agentFile)+`,/run/bad.yaml,;s,',,g")
`), 0o644)
	r.Start("/var/log/sshd", "/usr/sbin/sshd", "-D", "-e", "-f", "/run/sshd_config")
	s.net.Await(netip.MustParseAddrPort("10.77.0.31:22"))
	lab.Eventually(t, 10*time.Second, func() error {
		_, err := r.Try(nil, "", "/usr/bin/gmsa", "agent", "status")
		return err
	})
	key := strings.Fields(r.Run("cat", "/etc/ssh/ssh_host_ed25519_key.pub"))
	other := strings.Fields(string(read(t, dir+"/other.pub")))
	known := "10.77.0.31 " + key[0] + " " + key[1] + "\n10.77.0.32 " + key[0] + " " + key[1] + "\n10.77.0.33 " + other[0] + " " + other[1] + "\n10.77.0.34 " + key[0] + " " + key[1] + "\n"
	s.net.WriteFile("/run/hosts/known", []byte(known), 0o600)
	s.net.WriteFile("/run/hosts/id", read(t, dir+"/id"), 0o600)
	s.net.WriteFile("/run/hosts/list", []byte("root@10.77.0.31 # healthy\nroot@10.77.0.32:22\n\nroot@10.77.0.33\nroot@10.77.0.34\n"), 0o644)

	out, err := s.net.TryRun(s.gmsa, "doctor", "--hosts", "/run/hosts/list", "--config", s.path(agentFile), "--parallel", "3",
		"--ssh-option", "IdentityFile=/run/hosts/id", "--ssh-option", "UserKnownHostsFile=/run/hosts/known", "--ssh-option", "HostKeyAlgorithms=ssh-ed25519", "--spec", "contoso_webapp01")
	t.Log(out)
	if err == nil || !strings.Contains(err.Error(), "exit status 6") {
		t.Errorf("it exits with %v", err)
	}
	for _, want := range []string{
		`(?m)^HOST +JOINED +PASSWORDS +CREDENTIAL SPECS +NETWORK +CAUSE`,
		`(?m)^root@10\.77\.0\.31 +yes +yes +yes +yes`,
		`(?m)^root@10\.77\.0\.32:22 +NO +\? +\? +(yes|\?) +host-keytab: this host is not joined`,
		`(?m)^root@10\.77\.0\.33 +\? +\? +\? +\? +Host key verification failed`,
		`(?m)^root@10\.77\.0\.34 +\? +\? +\? +\? +ssh: connect to host 10\.77\.0\.34 port 22: Connection refused`,
		`3 of 4 hosts are not in order`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in the table", want)
		}
	}
}
