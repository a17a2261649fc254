package dc

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// alicePassword is the password of the user of these tests.
const alicePassword = "0ld!Passw0rd"

// office is a host of a domain that its programs know by their name server alone. What
// MIT's, OpenLDAP's and Python's clients ask of one service at a time is tested in that
// service's package; here are those that need several at once, and each other's answers.
type office struct {
	*lab.Net
	t         *testing.T
	c         *Controller
	addresses map[string][]netip.Addr // of hosts, by name
}

// newOffice serves a domain with the user alice. The host is client1, and has the other
// names too, each with an address of its own: clients ask what an address is called.
func newOffice(t *testing.T, names ...string) *office {
	t.Helper()
	lab.Need(t, "kinit", "sh")
	n := lab.Netns(t, "client1.contoso.com")
	hosts := map[string][]netip.Addr{"client1": {lab.NetClient}}
	ip := lab.NetClient
	for _, name := range names {
		ip = ip.Next()
		n.AddAddress(ip)
		hosts[name] = []netip.Addr{ip}
	}
	o := &office{n, t, serveIn(t, n, initialized(t), hosts), hosts}
	replace(t, o.c, o.c.Directory().Domain().DN().String(), "minPwdAge", "0")
	addUser(t, o.c, "alice", alicePassword)
	o.configure(n)
	n.WriteFile("/etc/samba/smb.conf", []byte("[global]\nrealm = CONTOSO.COM\nworkgroup = CONTOSO\nsecurity = ads\n"), 0o644)
	return o
}

// host is a file system that can be configured for the domain: the Net's, or its Root's.
type host interface {
	WriteFile(path string, content []byte, mode os.FileMode)
}

// configure writes what an administrator of a new host writes, and nothing that says
// where the controller is.
func (o *office) configure(h host) {
	h.WriteFile("/etc/krb5.conf", []byte("[libdefaults]\ndefault_realm = CONTOSO.COM\ndns_lookup_kdc = true\n"), 0o644)
	h.WriteFile("/etc/ldap/ldap.conf", []byte("TLS_CACERT /etc/ldap/contoso.pem\n"), 0o644)
	h.WriteFile("/etc/ldap/contoso.pem", o.c.CA(), 0o644)
}

// environment is that of the scripts: the passwords, and a credential cache.
func environment() []string {
	return []string{"ADMIN=" + adminPassword, "ALICE=" + alicePassword, "KRB5CCNAME=FILE:/run/ccache", "LC_ALL=C.UTF-8"}
}

// script is run by sh with -e, in which "!" turns a command's failure into success, and
// prints what is wanted, each line of it.
type script struct{ what, run, want string }

// tryer runs programs: the Net, or its Root.
type tryer interface {
	Try(env []string, stdin, name string, args ...string) (string, error)
}

// play runs the scripts, each of which finds what those before it left.
func (o *office) play(on tryer, scripts []script) {
	o.t.Helper()
	for _, s := range scripts {
		o.t.Run(s.what, func(t *testing.T) {
			out, err := on.Try(environment(), "", "sh", "-ec", s.run)
			if err != nil {
				t.Fatal(err)
			}
			for want := range strings.Lines(s.want) {
				if want = strings.TrimSpace(want); !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// keytab exports the keys of principals.
func (o *office) keytab(principals ...string) []byte {
	o.t.Helper()
	kt, err := o.c.ExportKeytab(o.t.Context(), principals)
	if err != nil {
		o.t.Fatal(err)
	}
	return kt.Reveal()
}

// addGMSA makes a gMSA with service principal names.
func (o *office) addGMSA(name string, spns ...string) {
	o.t.Helper()
	q := directory.AddRequest{DN: "CN=" + name + ",CN=Managed Service Accounts," + o.c.Directory().Domain().DN().String()}
	for attribute, values := range map[string][]string{"objectClass": {"msDS-GroupManagedServiceAccount"}, "sAMAccountName": {name + "$"},
		"dNSHostName": {name + ".contoso.com"}, "msDS-ManagedPasswordInterval": {"30"}, "servicePrincipalName": spns} {
		a := directory.Attribute{Name: attribute}
		for _, v := range values {
			a.Values = append(a.Values, []byte(v))
		}
		q.Attributes = append(q.Attributes, a)
	}
	if err := o.c.Directory().Add(o.t.Context(), directory.Caller{Controller: true}, q); err != nil {
		o.t.Fatalf("add %s: %v", name, err)
	}
}
