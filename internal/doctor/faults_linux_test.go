package doctor_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// fault is one thing that is wrong in an otherwise healthy site.
type fault struct {
	// args are the doctor's; nil for what an administrator asks on the host about the
	// credential spec.
	args []string
	// inject breaks something and has it mended when the test ends. Where it concerns
	// files of the host alone, they are copies of the fault's own, in s.dir.
	inject func(t *testing.T, s *site)
	// check and problem are the root cause that the doctor must name.
	check, problem string
}

var (
	asAdmin = []string{"--ccache", adminCache, "--spec", "contoso_webapp01"}
	asHost  = []string{"--spec", "contoso_webapp01"}
)

// networkFaults are between the host and the controller.
var networkFaults = map[string]fault{
	"TCP 53 is dropped":  {nil, block("tcp", 53, "DROP"), "dns-tcp", "does not answer over TCP"},
	"UDP 53 is dropped":  {nil, block("udp", 53, "DROP"), "dns-udp", "does not answer over UDP"},
	"TCP 88 is dropped":  {nil, block("tcp", 88, "DROP"), "port-kerberos-tcp", "TCP 88"},
	"UDP 88 is dropped":  {nil, block("udp", 88, "DROP"), "port-kerberos-udp", "UDP 88"},
	"TCP 88 is rejected": {nil, block("tcp", 88, "REJECT"), "port-kerberos-tcp", "TCP 88"},
	"TCP 389 is dropped": {nil, block("tcp", 389, "DROP"), "port-ldap-tcp", "TCP 389"},
	"UDP 389 is dropped": {nil, block("udp", 389, "DROP"), "port-ldap-udp", "UDP 389"},
	"TCP 636 is dropped": {nil, block("tcp", 636, "DROP"), "port-ldaps", "TCP 636"},
	"TCP 464 is dropped": {nil, block("tcp", 464, "DROP"), "port-kpasswd-tcp", "TCP 464"},
	"UDP 464 is dropped": {nil, block("udp", 464, "DROP"), "port-kpasswd-udp", "UDP 464"},

	"no resolver configuration": {nil, resolvConf(""), "resolver", "names no name server"},
	"a resolver that is none":   {nil, resolvConf("nameserver 10.77.0.99\n"), "dns-udp", "10.77.0.99:53 does not answer"},
	"a resolver of others":      {nil, both(foreignResolver, resolvConf("nameserver 10.77.0.53\n")), "dns-domain", "10.77.0.53:53 does not know the domain contoso.com"},
	"a resolver of others beside the right one": {
		nil, both(foreignResolver, resolvConf("nameserver 10.77.0.10\nnameserver 10.77.0.53\n")), "dns-domain", "10.77.0.53:53 does not know",
	},
	"no SRV record for LDAP": {
		nil, renamed("DC=_ldap._tcp.dc,DC=_msdcs.contoso.com,CN=MicrosoftDNS,DC=ForestDnsZones,"+lab.BaseDN, "DC=gone"),
		"dns-srv", "_ldap._tcp.dc._msdcs.contoso.com",
	},
	"no SRV record for Kerberos": {
		nil, renamed("DC=_kerberos._tcp,DC=contoso.com,CN=MicrosoftDNS,DC=DomainDnsZones,"+lab.BaseDN, "DC=gone"),
		"dns-srv", "_kerberos._tcp.contoso.com",
	},
	"no address of the controller": {
		nil, renamed("DC=dc1,DC=contoso.com,CN=MicrosoftDNS,DC=DomainDnsZones,"+lab.BaseDN, "DC=gone"),
		"dns-forward", "dc1.contoso.com has no address",
	},
	"an old line in the hosts file":   {nil, hostsLine("10.77.0.77 dc1.contoso.com"), "dns-hosts", "dc1.contoso.com is 10.77.0.77"},
	"an address that leads elsewhere": {nil, hostsLine("10.77.0.10 oldserver.contoso.com"), "dns-reverse", "leads back to oldserver.contoso.com"},

	"the host's clock is behind": {asHost, skewed(10 * time.Minute), "clock", "the clock here is 10m0s behind"},
	"the host's clock is ahead":  {asHost, skewed(-10 * time.Minute), "clock", "the clock here is 10m0s ahead"},

	"a frozen controller":  {[]string{"--ccache", adminCache, "--dc", "10.77.0.10", "webapp01"}, frozen, "reach", "answers at no port"},
	"frozen, with its DNS": {nil, frozen, "dns-udp", "does not answer over UDP"},
}

// hostFaults are on the host.
var hostFaults = map[string]fault{
	"no keytab":             {asHost, inFiles("rm krb5.keytab"), "host-keytab", "not joined to contoso.com: there is no keytab"},
	"another user's keytab": {nil, inFiles("chown 33 krb5.keytab"), "host-keytab", "belongs to the user 33"},
	"a readable keytab":     {nil, inFiles("chmod 644 krb5.keytab"), "host-keytab", "can be read by others"},
	"a broken keytab":       {nil, written(keytabFile, "not a keytab", 0o600), "host-keytab", "is no keytab"},
	"a keytab of another version": {nil, keytabOf(func(t *testing.T, s *site) []byte {
		kt := parseKeytab(t, s.dc.Keytab(t, "web1"))
		for i := range kt.Entries {
			kt.Entries[i].KVNO += 3
		}
		return appendKeytab(t, kt)
	}), "host-kvno", "the keytab has version 5"},
	"keys that are not in force": {asHost, keytabOf(func(t *testing.T, s *site) []byte {
		return read(t, s.dc.KeytabWith(t, "web1", "Not-the-Pass!1"))
	}), "host-logon", "are not those in force"},
	"an account that is gone": {asHost, keytabOf(func(t *testing.T, s *site) []byte {
		kt := parseKeytab(t, s.dc.Keytab(t, "web1"))
		for i := range kt.Entries {
			kt.Entries[i].Principal.Name.Components[0] = "ghost$"
		}
		return appendKeytab(t, kt)
	}), "host-logon", "has no account ghost$"},

	"a broken configuration":     {nil, written(agentFile, "domains: [", 0o644), "agent-config", "is not in order"},
	"an agent that is not there": {nil, inFiles("echo socket: /run/gmsa/nobody.sock >>agent.yaml"), "agent", "does not answer"},
	"an unknown authority":       {nil, foreignCA, "certificate", "is not accepted here"},
}

// specFaults are in the credential spec.
var specFaults = map[string]fault{
	"another Sid":          {nil, edited(lab.DomainSID, "S-1-5-21-1-2-3"), "spec-fields", `Sid of the credential spec is "S-1-5-21-1-2-3"`},
	"another Guid":         {nil, edited(lab.DomainGUID, "11111111-2222-3333-4444-555555555555"), "spec-fields", "Guid of the credential spec"},
	"another tree":         {nil, edited(`"DnsTreeName": "contoso.com"`, `"DnsTreeName": "fabrikam.com"`), "spec-fields", "DnsTreeName"},
	"another DNS name":     {nil, edited(`"DnsName": "contoso.com"`, `"DnsName": "corp.contoso.com"`, `"Scope": "contoso.com"`, `"Scope": "corp.contoso.com"`), "spec-fields", "DnsName of the"},
	"another NetBIOS name": {nil, edited(`"NetBiosName": "CONTOSO"`, `"NetBiosName": "CORP"`, `"Scope": "CONTOSO"`, `"Scope": "CORP"`), "spec-fields", "NetBiosName"},
	"no JSON":              {nil, edited("{\n    \"CmsPlugins\"", "{{\n    \"CmsPlugins\""), "spec-file", ""},
	"no Sid":               {nil, edited(`"Sid": "`+lab.DomainSID+`",`, ""), "spec-file", "Sid"},
	"no accounts":          {nil, edited(`{"Name": "webapp01", "Scope": "contoso.com"},`, "", `{"Name": "webapp01", "Scope": "CONTOSO"}`, ""), "spec-file", ""},
	"no file":              {nil, inFiles("rm " + specFile), "spec-file", "cannot be read"},
	"the wrong directory": {
		[]string{"--ccache", adminCache, "--spec", "/run/site/elsewhere.json"},
		func(_ *testing.T, s *site) { s.net.WriteFile("/run/site/elsewhere.json", []byte(goodSpec), 0o644) }, "spec-place", "in none of the directories",
	},
	"a misspelt account":   {nil, edited(`"webapp01"`, `"webap01"`), "account", "has no managed service account webap01"},
	"a standalone account": {nil, edited(`"webapp01"`, `"smsa01"`), "account", "smsa01$ is a standalone account"},
}

// accountFaults are of the account, in the directory.
var accountFaults = map[string]fault{
	"it is disabled":      {nil, attribute("webapp01$", "userAccountControl", "4098", "4096"), "account-enabled", "webapp01$ is disabled"},
	"the flag is cleared": {nil, rawAttribute("webapp01", "userAccountControl", "524288", "4096"), "account-flags", "lacks the flag WORKSTATION_TRUST_ACCOUNT"},
	"RC4 alone":           {nil, attribute("webapp01$", "msDS-SupportedEncryptionTypes", "4", "28"), "account-types", "allows no AES"},
	"the host is in no group": {nil, func(t *testing.T, s *site) {
		s.dc.RemoveMembers(t, "WebHosts", "web1$")
		t.Cleanup(func() { s.dc.AddMembers(t, "WebHosts", "web1$") })
	}, "account-access", "web1$ may not retrieve the password of webapp01$"},
	"nobody may read it": {nil, func(t *testing.T, s *site) {
		s.dc.Replace(t, "webapp01$", "msDS-GroupMSAMembership")
		t.Cleanup(func() { s.dc.SetReaders(t, "webapp01", "WebHosts", "web2$") })
	}, "account-readers", "cannot be read, or nobody may"},
	"the list of readers is empty": {nil, func(t *testing.T, s *site) {
		s.dc.SetReaders(t, "webapp01")
		t.Cleanup(func() { s.dc.SetReaders(t, "webapp01", "WebHosts", "web2$") })
	}, "account-readers", "nobody may retrieve"},
	"who may read it is not shown": {asHost, func(t *testing.T, s *site) {
		const entry = "(OD;;RP;888eedd6-ce04-df40-b462-b8a50e41ba38;;AU)" // msDS-GroupMSAMembership, for everybody who logs on
		change := func(verb string) {
			s.dc.SambaTool(t, "dsacl", verb, "--objectdn", webapp01, "--sddl", entry, "-H", s.dc.Dir+"/private/sam.ldb")
		}
		change("set")
		t.Cleanup(func() { change("delete") })
	}, "account-readers", "cannot be read, or nobody may"},
	"an interval of 0 days": {nil, rawAttribute("webapp01", "msDS-ManagedPasswordInterval", "0", "30"), "account-age", "is 0 days, for which no password exists"},
	"a user of the same name": {nil, func(t *testing.T, s *site) {
		s.dc.AddUser(t, "webapp01", "Some-Pass!1")
		t.Cleanup(func() { s.dc.Delete(t, "webapp01") })
	}, "account-name", "the user webapp01 has the name of the account"},
	"it was deleted": {[]string{"--ccache", adminCache, "gone01"}, func(t *testing.T, s *site) {
		s.dc.AddGMSA(t, lab.GMSA{Name: "gone01", Readers: []string{"WebHosts"}})
		s.dc.Delete(t, "gone01$")
	}, "account", "has no managed service account gone01"},
	"no name for the URL": {append([]string{"--url", "https://shop.contoso.com/start"}, asAdmin...), nothing, "account-spn", "http/shop.contoso.com"},
	"a name twice":        {nil, duplicateName, "account-spn-unique", "has a service principal name of webapp01$ too"},
}

// portableFaults are of a host that is not joined: its credential spec has a plug-in,
// whose store has the account portable1.
var portableFaults = map[string]fault{
	"a plug-in that nobody registered": {asHost, portable(strings.NewReplacer("7a1a6b6e", "8b2b7c7f")), "spec-host", "is not registered on this host"},
	"a GUID that is none":              {asHost, portable(strings.NewReplacer("7a1a6b6e", "no")), "spec-file", "PluginGUID"},
	"another version":                  {asHost, portable(strings.NewReplacer(`"PortableCcgVersion": "1"`, `"PortableCcgVersion": "2"`)), "spec-file", "PortableCcgVersion"},
	"a store that is not there":        {asHost, both(portable(none), inFiles("rm portable")), "plugin-store", "yields no credentials"},
	"a store of another password":      {asHost, both(portable(none), stored(`contoso.com\portable1:Wrong-Pass!1`)), "plugin-logon", "is not the one in force"},
	"a store of nobody":                {asHost, both(portable(none), stored(`contoso.com\ghost1:Wrong-Pass!1`)), "plugin-logon", "no portable account ghost1"},
	"a store of another domain":        {asHost, both(portable(none), stored(`fabrikam.com\portable1:`+portablePass)), "plugin-store", "of the domain fabrikam.com"},
	"an expired password":              {asHost, both(portable(none), stored(`contoso.com\expired1:`+portablePass)), "plugin-logon", "the password of the portable account expired1 has expired"},
	"an account that may not read":     {asHost, both(portable(none), stored(`contoso.com\stranger1:`+portablePass)), "account-access", "stranger1 may not retrieve"},
}

const portablePass = "Portable-Pass!1"

var none = strings.NewReplacer()

// stored puts another identity into the store.
func stored(line string) func(*testing.T, *site) { return written(storeFile, line+"\n", 0o600) }

// portableSpec is the credential spec of a host that is not joined.
var portableSpec = strings.Replace(goodSpec, `"Scope": "CONTOSO"}
        ]`, `"Scope": "CONTOSO"}
        ],
        "HostAccountConfig": {
            "PortableCcgVersion": "1",
            "PluginGUID": "{7a1a6b6e-6f0e-4d7c-9d0f-5d9a3c6d2b11}",
            "PluginInput": "reader"
        }`, 1)

// portable takes the host's keytab away and has the spec bring a plug-in.
func portable(edit *strings.Replacer) func(*testing.T, *site) {
	return func(_ *testing.T, s *site) {
		s.write(specFile, []byte(edit.Replace(portableSpec)), 0o644)
		s.net.Run("rm", s.path(keytabFile))
	}
}

// portableAccounts makes the accounts that stores have.
func portableAccounts(t *testing.T, s *site) {
	for _, name := range []string{"portable1", "expired1", "stranger1"} {
		s.dc.AddUser(t, name, portablePass)
	}
	s.dc.AddMembers(t, "WebHosts", "portable1", "expired1")
	s.dc.Replace(t, "expired1", "userAccountControl", "512") // without the flag that passwords do not expire
	s.dc.Replace(t, "expired1", "pwdLastSet", "0")
	s.write(storeFile, []byte(`contoso.com\portable1:`+portablePass+"\n"), 0o600)
}

// windowsFaults are rules of Windows that a container breaks.
var windowsFaults = map[string]fault{
	"another host name on 1803": {[]string{"--windows", "1803", "--hostname", "web", "webapp01"}, nothing, "windows", "must be that of the account, webapp01"},
	"two containers on 2016":    {[]string{"--windows", "2016", "--hostname", "webapp01", "--hostname", "webapp01", "webapp01"}, nothing, "windows", "disturb each other"},
	"one host name twice on 2022": {
		[]string{"--windows", "2022", "--hostname", "a", "--hostname", "A", "webapp01"}, nothing, "windows", "two containers have the host name a",
	},
	"Hyper-V on 1709":         {[]string{"--windows", "1709", "--hostname", "webapp01", "--isolation", "hyperv", "webapp01"}, nothing, "windows", "hangs or fails"},
	"Network Service on 2016": {[]string{"--windows", "2016", "--container-user", `NT AUTHORITY\NETWORK SERVICE`, "webapp01"}, nothing, "windows", "since Windows Server 1709"},
	"ContainerUser":           {[]string{"--windows", "2022", "--container-user", "ContainerUser", "webapp01"}, nothing, "windows", "only the system and Network Service"},
}

// warnings are what works for now, or for some: the doctor names it, and the host is
// healthy.
var warnings = map[string]fault{
	"one scope": {nil, edited(`,
            {"Name": "webapp01", "Scope": "CONTOSO"}`, ""), "spec-file", "no entry with the NetBIOS name as scope"},
	"an authority that is not needed": {nil, both(foreignCA, inFiles("sed -i /protection:/d agent.yaml")), "certificate", "is not accepted here"},
	"one of two name servers is dead": {
		nil, resolvConf("nameserver 10.77.0.10\nnameserver 10.77.0.99\n"), "dns-udp", "10.77.0.99:53 does not answer",
	},
	"the clock is two minutes behind": {asHost, skewed(2 * time.Minute), "clock", "2m0s behind"},
	"unconstrained delegation":        {nil, attribute("webapp01$", "userAccountControl", "528384", "4096"), "account-flags", "trusted for unconstrained delegation"},
}

// leaseFaults are of a workload with a lease.
var leaseFaults = map[string]fault{
	"a workload without a network":  {nil, leased("unshare --net sleep 60", inEnvironment), "dns-udp", "does not answer over UDP"},
	"a workload without KRB5CCNAME": {nil, leased("sleep 60", ""), "lease-identity", "has no KRB5CCNAME"},
	"a workload of another user":    {nil, leased("setpriv --reuid=1000 --regid=1000 --clear-groups sleep 60", inEnvironment), "lease-identity", "runs as the user 1000"},
	"a lease without its tickets": {nil, func(t *testing.T, s *site) {
		leased("sleep 60", inEnvironment)(t, s)
		s.net.Run("rm", "/run/gmsa/leases/"+s.args[1]+"/ccache")
	}, "lease-files", "the lease has no ccache"},
}

// inEnvironment is what a workload with a lease has in its environment.
const inEnvironment = "KRB5CCNAME=/run/gmsa/ccache"

// leased starts a workload and gives it a lease.
func leased(command, environment string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		pid := strings.TrimSpace(s.net.Run("sh", "-c", environment+" setsid "+command+" >/dev/null 2>&1 </dev/null & echo $!"))
		dir := strings.TrimSpace(s.net.Run(s.gmsa, "lease", "create", "--account", "webapp01", "--pid", pid))
		s.args = []string{"--lease", filepath.Base(dir)}
		t.Cleanup(func() { s.net.Run("kill", pid) })
	}
}

// rootKeyFaults come last and in this order: nothing brings a root key back.
var rootKeyFaults = []struct {
	name string
	fault
}{
	{"the account's root key is gone", fault{nil, func(t *testing.T, s *site) {
		for _, k := range s.rootKeys(t) {
			if k.Value("msKds-UseStartTime") == "126227808000000000" { // 2001, of the seeds
				s.dc.Modify(t, "dn: "+k.DN+"\nchangetype: delete\n")
			}
		}
	}, "account-root-key", "the root key that makes the password of webapp01$ is gone"}},
	{"no root key is in effect yet", fault{nil, func(t *testing.T, s *site) {
		for _, k := range s.rootKeys(t) {
			s.dc.ModifyRaw(t, "CN=Configuration,"+lab.BaseDN, "dn: "+k.DN+"\nchangetype: modify\nreplace: msKds-UseStartTime\nmsKds-UseStartTime: 150000000000000000\n-\n")
		}
	}, "root-key", "no KDS root key is in effect yet"}},
	{"no root key", fault{nil, func(t *testing.T, s *site) {
		for _, k := range s.rootKeys(t) {
			s.dc.Modify(t, "dn: "+k.DN+"\nchangetype: delete\n")
		}
	}, "root-key", "the forest has no KDS root key"}},
}

func (s *site) rootKeys(t *testing.T) []lab.Entry {
	return s.dc.Search(t, "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,"+lab.BaseDN,
		"(objectClass=msKds-ProvRootKey)", "msKds-UseStartTime")
}

// What injects faults.

func nothing(*testing.T, *site) {}

func both(first, then func(*testing.T, *site)) func(*testing.T, *site) {
	return func(t *testing.T, s *site) { first(t, s); then(t, s) }
}

func block(network string, port int, how string) func(*testing.T, *site) {
	rule := []string{"INPUT", "-d", lab.NetServer.String(), "-p", network, "--dport", strconv.Itoa(port), "-j", how}
	return func(t *testing.T, s *site) {
		s.net.Run("iptables", append([]string{"-A"}, rule...)...)
		t.Cleanup(func() { s.net.Run("iptables", append([]string{"-D"}, rule...)...) })
	}
}

// inFiles runs a command in the directory of the host's files.
func inFiles(command string) func(*testing.T, *site) {
	return func(_ *testing.T, s *site) { s.net.Run("sh", "-c", "cd "+s.dir+" && "+command) }
}

// written gives a file of the host another content.
func written(name, content string, mode os.FileMode) func(*testing.T, *site) {
	return func(_ *testing.T, s *site) { s.write(name, []byte(content), mode) }
}

// system gives a file of the system another content for a while.
func system(path string, edit func(before string) string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		before := read(t, s.net.Path(path))
		s.net.WriteFile(path, []byte(edit(string(before))), 0o644)
		t.Cleanup(func() { s.net.WriteFile(path, before, 0o644) })
	}
}

func resolvConf(content string) func(*testing.T, *site) {
	return system("/etc/resolv.conf", func(string) string { return content })
}

func hostsLine(line string) func(*testing.T, *site) {
	return system("/etc/hosts", func(before string) string { return before + line + "\n" })
}

// edited changes texts of the credential spec.
func edited(pairs ...string) func(*testing.T, *site) {
	return written(specFile, strings.NewReplacer(pairs...).Replace(goodSpec), 0o644)
}

func keytabOf(content func(*testing.T, *site) []byte) func(*testing.T, *site) {
	return func(t *testing.T, s *site) { written(keytabFile, string(content(t, s)), 0o600)(t, s) }
}

// foreignResolver is a name server that refuses what is not its own, as a provider's.
func foreignResolver(t *testing.T, s *site) {
	conn, err := s.net.ListenPacket("udp", "10.77.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.net.Listen("tcp", "10.77.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	refuse := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused))
	})
	for _, server := range []*dns.Server{{PacketConn: conn, Handler: refuse}, {Listener: l, Handler: refuse}} {
		done := make(chan error, 1)
		go func() { done <- server.ActivateAndServe() }()
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-done
		})
	}
}

// renamed moves an entry of the directory aside.
func renamed(dn, rdn string) func(*testing.T, *site) {
	_, parent, _ := strings.Cut(dn, ",")
	first, _, _ := strings.Cut(dn, ",")
	record := func(dn, rdn string) string {
		return "dn: " + dn + "\nchangetype: modrdn\nnewrdn: " + rdn + "\ndeleteoldrdn: 1\n"
	}
	return func(t *testing.T, s *site) {
		s.dc.Modify(t, record(dn, rdn))
		t.Cleanup(func() { s.dc.Modify(t, record(rdn+","+parent, first)) })
	}
}

func attribute(account, name, value, before string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		s.dc.Replace(t, account, name, value)
		t.Cleanup(func() { s.dc.Replace(t, account, name, before) })
	}
}

func skewed(by time.Duration) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		s.dc.SetClock(t, by)
		t.Cleanup(func() { s.dc.SetClock(t, 0) })
	}
}

func frozen(t *testing.T, s *site) {
	s.dc.Pause(t)
	t.Cleanup(func() { s.dc.Resume(t) })
}

// foreignCA trusts another authority than the one that signed the controller's
// certificate.
func foreignCA(t *testing.T, s *site) {
	dir := t.TempDir()
	lab.Run(t, nil, "", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
		"-subj", "/CN=somebody else", "-keyout", dir+"/key", "-out", dir+"/ca.pem")
	s.write(caFile, read(t, dir+"/ca.pem"), 0o644)
}

// webapp01 is the account's distinguished name.
const webapp01 = "CN=webapp01,CN=Managed Service Accounts," + lab.BaseDN

// rawAttribute changes an attribute of an account as no directory would let anybody.
func rawAttribute(account, name, value, before string) func(*testing.T, *site) {
	record := func(value string) string {
		return "dn: CN=" + account + ",CN=Managed Service Accounts," + lab.BaseDN + "\nchangetype: modify\nreplace: " + name + "\n" + name + ": " + value + "\n-\n"
	}
	return func(t *testing.T, s *site) {
		s.dc.ModifyRaw(t, lab.BaseDN, record(value))
		t.Cleanup(func() { s.dc.ModifyRaw(t, lab.BaseDN, record(before)) })
	}
}

// duplicateName gives a service principal name of the account to a computer too, as two
// controllers do that hear of it at once.
func duplicateName(t *testing.T, s *site) {
	record := func(op string) string {
		return "dn: CN=evil1,CN=Computers," + lab.BaseDN + "\nchangetype: modify\n" + op + ": servicePrincipalName\nservicePrincipalName: http/webapp01.contoso.com\n-\n"
	}
	s.dc.ModifyRaw(t, lab.BaseDN, record("add"))
	t.Cleanup(func() { s.dc.ModifyRaw(t, lab.BaseDN, record("delete")) })
}

func parseKeytab(t *testing.T, path string) keytab.Keytab {
	t.Helper()
	kt, err := keytab.Parse(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return kt
}

func appendKeytab(t *testing.T, kt keytab.Keytab) []byte {
	t.Helper()
	b, err := kt.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
