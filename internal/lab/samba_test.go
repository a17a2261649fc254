package lab_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

func TestSambaServesTheSeededDomain(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	if again := lab.Samba(t, lab.SambaConfig{}); again != dc {
		t.Error("two tests that change nothing got two controllers")
	}

	domain := dc.Search(t, lab.BaseDN, "(objectClass=domainDNS)", "objectSid", "objectGUID")
	if len(domain) != 1 || domain[0].Value("objectSid") != lab.DomainSID || domain[0].Value("objectGUID") != lab.DomainGUID {
		t.Errorf("the domain is %v", domain)
	}

	cc := dc.KinitKeytab(t, "web1$", dc.Keytab(t, "web1"))
	out := dc.Run(t, []string{"KRB5CCNAME=FILE:" + cc}, "klist")
	if !strings.Contains(out, "krbtgt/CONTOSO.COM@CONTOSO.COM") {
		t.Errorf("klist:\n%s", out)
	}
	dc.Kinit(t, lab.Administrator, lab.AdminPassword)

	addrs, err := dc.Resolver().LookupHost(t.Context(), lab.DCHost)
	if err != nil || len(addrs) != 1 || addrs[0] != dc.IP.String() {
		t.Errorf("%s = %v, %v; want %s", lab.DCHost, addrs, err, dc.IP)
	}
	_, srv, err := dc.Resolver().LookupSRV(t.Context(), "ldap", "tcp", "dc._msdcs.contoso.com")
	if err != nil || len(srv) != 1 || srv[0].Target != lab.DCHost+"." {
		t.Errorf("SRV = %v, %v", srv, err)
	}
}

func TestDomainHelpersMakeAccountsThatLogOn(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddUser(t, "alice", "User-alice-Pass!")
	dc.Kinit(t, "alice", "User-alice-Pass!")
	dc.AddComputer(t, "host9")
	dc.AddGroup(t, "Local Hosts", lab.DomainLocalGroup, "host9$")
	dc.AddMembers(t, "Local Hosts", "web2$")
	dc.RemoveMembers(t, "Local Hosts", "host9$")
	if got := dc.Entry(t, "Local Hosts", "member").Values("member"); len(got) != 1 || !strings.HasPrefix(got[0], "CN=web2,") {
		t.Errorf("members = %q", got)
	}
	dc.KinitKeytab(t, "host9$", dc.Keytab(t, "host9"))
	dc.SetPassword(t, "host9$", "Another-Pass-9!")
	if _, err := dc.Try(nil, "kinit", "-c", filepath.Join(t.TempDir(), "cc"), "-k", "-t", dc.Keytab(t, "host9"), "host9$"); err == nil {
		t.Error("the old password still serves")
	}
	dc.KinitKeytab(t, "host9$", dc.KeytabWith(t, "host9", "Another-Pass-9!"))

	dc.AddGMSA(t, lab.GMSA{Name: "made01", Interval: 7, Readers: []string{"web1$"}, SPNs: []string{"http/made01"}})
	e := dc.Entry(t, "made01$", "msDS-ManagedPasswordId", "msDS-ManagedPasswordInterval")
	if e.Value("msDS-ManagedPasswordId") == "" || e.Value("msDS-ManagedPasswordInterval") != "7" {
		t.Errorf("made01 = %v", e)
	}
	if blob := readBlob(t, dc, "web1", "made01"); blob == "" {
		t.Error("web1 reads no password of made01")
	}
	dc.SetReaders(t, "made01", "web2$")
	if blob := readBlob(t, dc, "web1", "made01"); blob != "" {
		t.Error("web1 still reads the password of made01")
	}
}

// readBlob asks as the host, over LDAPS, for the gMSA's password; base64.
func readBlob(t *testing.T, dc *lab.DC, host, gmsa string) string {
	t.Helper()
	lab.Need(t, "ldapsearch")
	out := dc.Run(t, nil, "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-x", "-H", "ldaps://"+dc.IP.String(),
		"-D", host+"$@"+lab.DNSDomain, "-w", lab.ComputerPassword(host),
		"-s", "base", "-b", "CN="+gmsa+",CN=Managed Service Accounts,"+lab.BaseDN, "msDS-ManagedPassword")
	_, blob, _ := strings.Cut(out, "msDS-ManagedPassword:: ")
	return strings.TrimSpace(blob)
}

func TestAClockedControllerTravelsInTime(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Clock: true})
	before := readBlob(t, dc, "web1", "webapp02")
	if before == "" {
		t.Fatal("no password")
	}
	kvno := dc.KVNO(t, "webapp02$")
	dc.SetClock(t, 21*time.Hour)
	cc := dc.Kinit(t, "web1$", lab.ComputerPassword("web1"))
	out := dc.Run(t, []string{"KRB5CCNAME=FILE:" + cc, "LC_ALL=C"}, "klist")
	if day := dc.Now().Format("01/02/06"); !strings.Contains(out, day) {
		t.Errorf("no ticket of %s:\n%s", day, out)
	}
	if after := readBlob(t, dc, "web1", "webapp02"); after == before {
		t.Error("the 1-day password did not change in 21 hours")
	}
	if got := dc.KVNO(t, "webapp02$"); got != kvno+1 {
		t.Errorf("kvno %d after %d", got, kvno)
	}
}

func TestAPrivateControllerStopsAndStarts(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true, LDIF: "dn: CN=early,CN=Users," + lab.BaseDN + "\nobjectClass: group\nsAMAccountName: early\n"})
	dc.Entry(t, "early")
	dial := func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(dc.IP.String(), "88"), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}
	for name, halt := range map[string]func(testing.TB){"stop": dc.Stop, "kill": dc.Kill} {
		halt(t)
		if dial() == nil {
			t.Errorf("%s: the KDC still answers", name)
		}
		dc.Start(t)
		if err := dial(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	dc.Pause(t)
	if _, err := dc.Try(nil, "timeout", "1", "ldapsearch", "-x", "-H", "ldap://"+dc.IP.String(), "-s", "base", "-b", ""); err == nil {
		t.Error("a paused controller answers")
	}
	dc.Resume(t)
	dc.Kinit(t, lab.Administrator, lab.AdminPassword)
}

func TestAnIPv6ControllerAnswersThere(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{IPv6: true})
	c, err := net.DialTimeout("tcp", net.JoinHostPort(dc.IP6.String(), "88"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestSMBListsSYSVOL(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{SMB: true})
	cc := dc.Kinit(t, "web1$", lab.ComputerPassword("web1"))
	out := dc.ListSYSVOL(t, cc)
	if !strings.Contains(out, "Policies") || !strings.Contains(out, "scripts") {
		t.Errorf("SYSVOL:\n%s", out)
	}
	if out, err := dc.SMB(t, filepath.Join(t.TempDir(), "none"), "ls"); err == nil {
		t.Errorf("SYSVOL without a ticket:\n%s", out)
	}
}

func TestAnotherRealm(t *testing.T) {
	here, other := lab.Samba(t, lab.SambaConfig{}), lab.Samba(t, lab.SambaConfig{Realm: "FABRIKAM.TEST"})
	sid := func(dc *lab.DC) string {
		found := dc.Search(t, dc.BaseDN, "(objectClass=domainDNS)", "objectSid")
		if len(found) != 1 {
			t.Fatalf("%d domains in %s", len(found), dc.BaseDN)
		}
		return found[0].Value("objectSid")
	}
	if a, b := sid(here), sid(other); a == b || b == "" {
		t.Errorf("two domains with the SIDs %s and %s", a, b)
	}
	cc := other.KinitKeytab(t, "web1$", other.Keytab(t, "web1"))
	if out := other.Run(t, []string{"KRB5CCNAME=FILE:" + cc}, "klist"); !strings.Contains(out, "krbtgt/FABRIKAM.TEST@FABRIKAM.TEST") {
		t.Errorf("klist:\n%s", out)
	}
}

func TestAJoinedControllerServesTheDomainAlone(t *testing.T) {
	dc1 := lab.Samba(t, lab.SambaConfig{Private: true})
	dc1.AddGMSA(t, lab.GMSA{Name: "both01", Readers: []string{"web1$"}})
	dc2 := dc1.Join(t, "dc2")
	blob := readBlob(t, dc1, "web1", "both01")
	if len(blob) < 360 { // 270 bytes and more in base64
		t.Fatalf("blob %q", blob)
	}
	dc1.Kill(t)
	if got := readBlob(t, dc2, "web1", "both01"); len(got) != len(blob) || got[:360] != blob[:360] { // the intervals are at the end
		t.Errorf("the second controller gives the password %q, the first %q", got, blob)
	}
	dc2.KinitKeytab(t, "web1$", dc2.Keytab(t, "web1"))
}
