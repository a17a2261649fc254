package dc

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secdesc"
)

// What both domains of a comparison have.
const (
	domainDN  = "DC=contoso,DC=com"
	opsDN     = "OU=Ops," + domainDN
	closedDN  = "OU=Closed," + opsDN
	hiddenDN  = "CN=hidden," + closedDN
	helperDN  = "CN=helper," + opsDN
	victimDN  = "CN=victim," + opsDN
	host1DN   = "CN=host1," + opsDN
	opsGroup  = "CN=ops group," + opsDN
	stagePass = "Wonder1and!"
)

// A stage is a domain on which helper, who may write every attribute of victim and of a
// group and make objects in OU=Ops, and host1$ try what they should not.
type stage struct {
	t             *testing.T
	name          string
	dial          func(who, password string) (*ldap.Conn, error)
	adminPassword string
	conns         map[string]*ldap.Conn
}

// stages are the same domain twice: ours, and Samba's.
func stages(t *testing.T) (ours, samba *stage) {
	t.Helper()
	c := newClocked(t, time.Now())
	ours = &stage{t: t, name: "ours", adminPassword: dctest.AdminPassword, dial: func(who, password string) (*ldap.Conn, error) {
		return dialLDAPS(c.at(c.s.Ports.LDAPS), c.tls(), who, password)
	}}
	d := lab.Samba(t, lab.SambaConfig{})
	pem, err := os.ReadFile(d.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	samba = &stage{t: t, name: "Samba", adminPassword: lab.AdminPassword, dial: func(who, password string) (*ldap.Conn, error) {
		return dialLDAPS(net.JoinHostPort(d.IP.String(), "636"), &tls.Config{RootCAs: roots, ServerName: d.Host}, who, password)
	}}
	for _, s := range []*stage{ours, samba} {
		s.conns = map[string]*ldap.Conn{}
		t.Cleanup(s.clear)
		s.set()
	}
	return ours, samba
}

// as is a connection of somebody's. Samba ends one on which it was asked what it cannot read.
func (s *stage) as(who string) *ldap.Conn {
	s.t.Helper()
	if c := s.conns[who]; c != nil && !c.IsClosing() {
		return c
	}
	password := stagePass
	if who == "Administrator" {
		password = s.adminPassword
	}
	c, err := s.dial(who+"@contoso.com", password)
	if err != nil {
		s.t.Fatalf("%s: bind as %s: %v", s.name, who, err)
	}
	s.conns[who] = c
	return c
}

// set makes the objects.
func (s *stage) set() {
	s.t.Helper()
	password := []string{quotedPassword(stagePass)}
	for _, o := range []struct {
		dn, class  string
		attributes map[string][]string
	}{
		{opsDN, "organizationalUnit", nil},
		{helperDN, "user", map[string][]string{"sAMAccountName": {"helper"}, "unicodePwd": password, "userAccountControl": {"512"}}},
		{victimDN, "user", map[string][]string{"sAMAccountName": {"victim"}, "unicodePwd": password, "userAccountControl": {"512"}}},
		{host1DN, "computer", map[string][]string{"sAMAccountName": {"host1$"}, "unicodePwd": password, "userAccountControl": {"4096"}, "dNSHostName": {"host1.contoso.com"}}},
		{opsGroup, "group", map[string][]string{"sAMAccountName": {"ops group"}}},
		{closedDN, "organizationalUnit", nil},
		{hiddenDN, "user", map[string][]string{"sAMAccountName": {"hidden"}}},
	} {
		if err := add(o.dn, o.class, o.attributes)(s.as("Administrator")); err != nil {
			s.t.Fatalf("%s: add %s: %v", s.name, o.dn, err)
		}
	}
	helper := s.sid(helperDN).String()
	s.protect(opsDN, "D:(A;;GA;;;DA)(A;;GA;;;SY)(A;;CCRPLCLORC;;;"+helper+")(A;;RPLCLORC;;;AU)")
	for _, dn := range []string{victimDN, opsGroup} {
		s.protect(dn, "D:(A;;GA;;;DA)(A;;GA;;;SY)(A;;RPWPLCLORC;;;"+helper+")(A;;RPLCLORC;;;AU)")
	}
	s.protect(closedDN, "D:P(A;CI;GA;;;DA)(A;CI;GA;;;SY)")
	s.protect(hiddenDN, "D:P(A;;GA;;;DA)(A;;GA;;;SY)")
}

func (s *stage) sid(dn string) dtyp.SID {
	s.t.Helper()
	r, err := s.as("Administrator").Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"objectSid"}, nil))
	if err != nil {
		s.t.Fatal(err)
	}
	sid, err := dtyp.SIDFromBytes(r.Entries[0].GetRawAttributeValue("objectSid"))
	if err != nil {
		s.t.Fatal(err)
	}
	return sid
}

// protect gives an object a DACL in SDDL.
func (s *stage) protect(dn, dacl string) {
	s.t.Helper()
	domain := s.sid(domainDN)
	sd, err := secdesc.ParseSDDL(dacl, domain, domain)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := sd.Append(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	const onlyDACL = "\x30\x03\x02\x01\x04" // LDAP_SERVER_SD_FLAGS: DACL_SECURITY_INFORMATION
	q := ldap.NewModifyRequest(dn, []ldap.Control{ldap.NewControlString(adproto.ControlSDFlags, true, onlyDACL)})
	q.Replace("nTSecurityDescriptor", []string{string(b)})
	if err := s.as("Administrator").Modify(q); err != nil {
		s.t.Fatalf("%s: protect %s: %v", s.name, dn, err)
	}
}

func quotedPassword(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// treeDelete deletes what lies below an object with it.
var treeDelete = ldap.NewControlString(adproto.ControlTreeDelete, true, "")

// clear removes all that the test made: other tests use the same Samba. It comes before the
// connections are closed.
func (s *stage) clear() {
	if err := remove(opsDN, treeDelete)(s.as("Administrator")); err != nil {
		s.t.Errorf("%s: %v", s.name, err)
	}
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// request is something that a client does.
type request func(c *ldap.Conn) error

func add(dn, class string, attributes map[string][]string) request {
	q := ldap.NewAddRequest(dn, nil)
	if class != "" {
		q.Attribute("objectClass", []string{class})
	}
	for name, values := range attributes {
		q.Attribute(name, values)
	}
	return func(c *ldap.Conn) error { return c.Add(q) }
}

func modify(dn, op, attribute string, values ...string) request {
	q := ldap.NewModifyRequest(dn, nil)
	switch op {
	case "add":
		q.Add(attribute, values)
	case "delete":
		q.Delete(attribute, values)
	default:
		q.Replace(attribute, values)
	}
	return func(c *ldap.Conn) error { return c.Modify(q) }
}

func remove(dn string, controls ...ldap.Control) request {
	return func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(dn, controls)) }
}

func move(dn, rdn, superior string) request {
	return func(c *ldap.Conn) error { return c.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, superior)) }
}

// search fails with the number of entries where that is all there is to tell.
func search(base string, scope int, filter string, attributes ...string) request {
	return func(c *ldap.Conn) error {
		r, err := c.Search(ldap.NewSearchRequest(base, scope, 0, 0, 0, false, filter, attributes, nil))
		if err != nil {
			return err
		}
		return fmt.Errorf("%d entries", len(r.Entries))
	}
}

// outcome is the code of a result, or what is told besides.
func outcome(err error) string {
	if err == nil {
		return "0"
	}
	if e, ok := errors.AsType[*ldap.Error](err); ok {
		return fmt.Sprint(e.ResultCode)
	}
	return err.Error()
}

// values are the values of attributes, by name and value in turn.
func values(pairs ...string) map[string][]string {
	out := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = append(out[pairs[i]], pairs[i+1])
	}
	return out
}

// TestRefusalsAreSambas: what must not be done is refused here as it is by Samba, with the
// same code, or where it is not, for the reason beside it.
func TestRefusalsAreSambas(t *testing.T) {
	ours, samba := stages(t)
	const (
		admins = "CN=Domain Admins,CN=Users," + domainDN
		nobody = "CN=nobody," + opsDN
		schema = "CN=User,CN=Schema,CN=Configuration," + domainDN
	)
	for _, c := range []struct {
		who, what string
		do        request
		want      string
		samba     string // empty: the same
		why       string
	}{
		// What cannot be seen.
		{"helper", "read it", search(hiddenDN, 0, "(objectClass=*)"), "32", "", ""},
		{"helper", "compare it", func(c *ldap.Conn) error { _, err := c.Compare(hiddenDN, "cn", "hidden"); return err }, "32", "0", "Samba compares what cannot be read"},
		{"helper", "change it", modify(hiddenDN, "replace", "description", "x"), "32", "50", "nothing tells of what cannot be seen"},
		{"helper", "delete it", remove(hiddenDN), "32", "50", "nothing tells of what cannot be seen"},
		{"helper", "rename it", move(hiddenDN, "CN=y", ""), "32", "50", "nothing tells of what cannot be seen"},
		{"helper", "put something below it", add("CN=z,"+closedDN, "contact", nil), "32", "50", "nothing tells of what cannot be seen"},
		{"helper", "change what does not exist", modify(nobody, "replace", "description", "x"), "32", "", ""},
		{"helper", "a member that does not exist", modify(opsGroup, "add", "member", nobody), "32", "", ""},
		{"helper", "a manager that does not exist", modify(victimDN, "replace", "manager", nobody), "19", "", ""},

		// Who may write userAccountControl does not make somebody what they are not.
		{"helper", "disabled", modify(victimDN, "replace", "userAccountControl", "514"), "0", "", ""},
		{"helper", "a controller", modify(victimDN, "replace", "userAccountControl", "8192"), "53", "65", "one code for each kind that the class is not of"},
		{"helper", "a host", modify(victimDN, "replace", "userAccountControl", "4096"), "53", "65", "one code for each kind that the class is not of"},
		{"helper", "trusted for delegation", modify(victimDN, "replace", "userAccountControl", "524800"), "50", "", ""},
		{"helper", "trusted to authenticate for delegation", modify(victimDN, "replace", "userAccountControl", "16777728"), "50", "", ""},
		{"helper", "a read-only controller", modify(victimDN, "replace", "userAccountControl", "67109376"), "50", "80", "Samba's own code"},
		{"helper", "not a number", modify(victimDN, "replace", "userAccountControl", "x"), "21", "", ""},

		// Nor a member of what they are not, nor somebody else.
		{"helper", "primary group of the administrators", modify(victimDN, "replace", "primaryGroupID", "512"), "53", "", ""},
		{"helper", "a group by the back link", modify(victimDN, "replace", "memberOf", admins), "19", "53", "the schema's own reason: system only"},
		{"helper", "another SID", modify(victimDN, "replace", "objectSid", "x"), "19", "53", "the schema's own reason: system only"},
		{"helper", "a history of SIDs", modify(victimDN, "replace", "sIDHistory", "\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00"), "53", "", ""},
		{"helper", "another class", modify(victimDN, "replace", "objectClass", "computer"), "69", "65", "objectClassModsProhibited is what RFC 4511 has for it"},
		{"helper", "to act for others", modify(victimDN, "replace", "msDS-AllowedToDelegateTo", "ldap/dc1.contoso.com"), "50", "", ""},
		{"helper", "the name of Administrator", modify(victimDN, "replace", "sAMAccountName", "Administrator"), "68", "", ""},
		{"helper", "the name of the controller", modify(victimDN, "replace", "sAMAccountName", "dc1$"), "19", "68", "no user's name ends in $ (CVE-2021-42278)"},
		{"helper", "that name without $", modify(victimDN, "replace", "sAMAccountName", "dc1"), "68", "0", "CVE-2021-42278: Samba stops it where it is used"},
		{"helper", "the principal name of Administrator", modify(victimDN, "replace", "userPrincipalName", "Administrator@contoso.com"), "19", "68", "the code for other principal names"},
		{"helper", "that with the NetBIOS name", modify(victimDN, "replace", "userPrincipalName", "Administrator@CONTOSO"), "19", "0", "clients log on with it too"},
		{"helper", "an SPN of the controller", modify(victimDN, "replace", "servicePrincipalName", "ldap/dc1.contoso.com"), "19", "", ""},
		{"helper", "that with a dot", modify(victimDN, "replace", "servicePrincipalName", "LDAP/DC1.contoso.com."), "19", "0", "it is the same host"},
		{"helper", "one that host/ stands for", modify(victimDN, "replace", "servicePrincipalName", "cifs/dc1.contoso.com"), "19", "50", "the code for SPNs that are taken"},
		{"helper", "krbtgt's", modify(victimDN, "replace", "servicePrincipalName", "krbtgt/CONTOSO.COM"), "19", "0", "it is nobody's to take"},
		{"helper", "a password", modify(victimDN, "replace", "unicodePwd", quotedPassword("N3w-Passw0rd")), "50", "", ""},
		{"helper", "a hash of one", modify(victimDN, "replace", "supplementalCredentials", "x"), "53", "", ""},
		{"helper", "a time of its own", modify(victimDN, "replace", "whenCreated", "20200101000000.0Z"), "19", "", ""},
		{"helper", "a GUID of its own", modify(victimDN, "replace", "objectGUID", "0123456789abcdef"), "19", "", ""},
		{"helper", "a name by its attribute", modify(victimDN, "replace", "cn", "x"), "67", "", ""},
		{"helper", "an attribute that there is not", modify(victimDN, "replace", "nosuch", "x"), "16", "", ""},

		// A host writes its own names.
		{"host1$", "an SPN of its own", modify(host1DN, "replace", "servicePrincipalName", "http/HOST1.contoso.com"), "0", "", ""},
		{"host1$", "an SPN of another host", modify(host1DN, "replace", "servicePrincipalName", "http/other.contoso.com"), "19", "", ""},
		{"host1$", "an SPN of the domain", modify(host1DN, "replace", "servicePrincipalName", "host/contoso.com"), "19", "", ""},
		{"host1$", "an SPN of a controller's form", modify(host1DN, "replace", "servicePrincipalName", "ldap/host1.contoso.com/contoso.com"), "19", "", ""},
		{"host1$", "another's DNS name", modify(host1DN, "replace", "dNSHostName", "dc1.contoso.com"), "19", "", ""},
		{"host1$", "a name elsewhere", modify(host1DN, "replace", "dNSHostName", "host1.fabrikam.com"), "19", "", ""},
		{"host1$", "any name beside its own", modify(host1DN, "replace", "msDS-AdditionalDnsHostName", "www.contoso.com"), "50", "", ""},
		{"host1$", "another account name", modify(host1DN, "replace", "sAMAccountName", "dc9$"), "50", "", ""},
		{"host1$", "to be a controller", modify(host1DN, "replace", "userAccountControl", "8192"), "50", "", ""},

		// What is made.
		{"helper", "a computer that is no host by name", add("CN=m1,"+opsDN, "computer", values("sAMAccountName", "m1")), "19", "53", "as for a change of the name"},
		{"helper", "a controller", add("CN=m2,"+opsDN, "computer", values("sAMAccountName", "m2$", "userAccountControl", "8192")), "50", "", ""},
		{"helper", "a host trusted for delegation", add("CN=m3,"+opsDN, "computer", values("sAMAccountName", "m3$", "userAccountControl", "528384")), "50", "", ""},
		{"helper", "an enabled user without a password", add("CN=m4,"+opsDN, "user", values("sAMAccountName", "m4", "userAccountControl", "512")), "53", "0", "as Windows: 0000052D"},
		{"helper", "a user with userAccountControl missing", add("CN=m5,"+opsDN, "user", values("sAMAccountName", "m5")), "0", "", ""},
		{"helper", "a user with nothing", add("CN=m6,"+opsDN, "user", nil), "0", "", ""},
		{"helper", "an account name that is taken", add("CN=m7,"+opsDN, "user", values("sAMAccountName", "m5")), "68", "", ""},
		{"helper", "a name that is taken", add("CN=m5,"+opsDN, "user", values("sAMAccountName", "m8")), "68", "", ""},
		{"helper", "a SID", add("CN=m9,"+opsDN, "user", values("sAMAccountName", "m9", "objectSid", "x")), "19", "", ""},
		{"helper", "a tombstone", add("CN=m10,"+opsDN, "user", values("sAMAccountName", "m10", "isDeleted", "TRUE")), "19", "0", "the schema's own reason: system only"},
		{"helper", "a gMSA without a root key", add("CN=m11,"+opsDN, "msDS-GroupManagedServiceAccount", values("sAMAccountName", "m11$", "dNSHostName", "m11.contoso.com", "msDS-ManagedPasswordInterval", "0")), "19", "0", "an interval that is none"},
		{"helper", "a user whose name is no user's", add("OU=m12,"+opsDN, "user", nil), "64", "", ""},
		{"helper", "a domain", add("CN=m13,"+opsDN, "domainDNS", nil), "64", "", ""},
		{"helper", "no object at all", add("nonsense", "contact", nil), "34", "", ""},
		{"helper", "below what holds nothing", add("CN=m14,"+victimDN, "contact", nil), "64", "", ""},

		// What the domain cannot do without.
		{"Administrator", "krbtgt deleted", remove("CN=krbtgt,CN=Users," + domainDN), "53", "80", "Samba's own code"},
		{"Administrator", "a container of the domain deleted", remove("CN=Users," + domainDN), "53", "", ""},
		{"Administrator", "with all below it", remove("CN=Users,"+domainDN, treeDelete), "53", "", ""},
		{"Administrator", "the domain deleted", remove(domainDN), "53", "", ""},
		{"Administrator", "the schema changed", modify(schema, "replace", "description", "x"), "53", "", ""},
		{"Administrator", "the schema deleted", remove(schema), "53", "50", "nobody may, whatever their rights"},
		{"Administrator", "a container renamed", move("CN=Users,"+domainDN, "CN=People", ""), "53", "", ""},
		{"Administrator", "an object below itself", move(opsDN, "OU=Ops", closedDN), "53", "", ""},
		{"Administrator", "two names", func(c *ldap.Conn) error { return c.ModifyDN(ldap.NewModifyDNRequest(victimDN, "CN=v2", false, "")) }, "53", "", ""},
		{"helper", "a tree deleted", remove(opsDN, treeDelete), "50", "", ""},

		// Searches.
		{"helper", "another domain", search("DC=fabrikam,DC=com", 2, "(cn=x)"), "32", "", ""},
		{"helper", "a domain above", search("DC=com", 0, "(cn=x)"), "32", "", ""},
		{"helper", "no name", search("nonsense", 0, "(cn=x)"), "34", "", ""},
		{"helper", "an unknown attribute", search(opsDN, 2, "(nosuch=x)"), "0 entries", "", ""},
		{"helper", "not an unknown attribute", search(opsDN, 2, "(!(nosuch=x))"), "0 entries", "10 entries", "Undefined stays Undefined, RFC 4511, Section 4.5.1.7"},
		{"helper", "an unknown class", search(opsDN, 2, "(objectClass=nosuch)"), "0 entries", "", ""},
		{"helper", "a class by its OID", search(opsDN, 1, "(&(objectClass=1.2.840.113556.1.5.9)(cn=victim))"), "1 entries", "", ""},
		{"helper", "a category by the name of its class", search(opsDN, 1, "(&(objectCategory=person)(cn=victim))"), "1 entries", "", ""},
		{"helper", "a SID as text", search(domainDN, 2, "(objectSid="+ours.sid(admins).String()+")"), "1 entries", "", ""},
		{"helper", "a SID that is none", search(opsDN, 2, "(objectSid=nonsense)"), "0 entries", "", ""},
		{"helper", "a rule that there is not", search(opsDN, 2, "(userAccountControl:1.2.3.4:=2)"), "0 entries", "", ""},
		{"helper", "passwords", search(opsDN, 2, "(unicodePwd=*)"), "0 entries", "", ""},
		{"helper", "not a password", search(opsDN, 2, "(!(unicodePwd=x))"), "0 entries", "10 entries", "security 17: Undefined"},
		{"helper", "a value that is none", search(opsDN, 2, "(cn=)"), "0 entries", "", ""},
	} {
		if c.samba == "" {
			c.samba = c.want
		}
		if err := c.do(ours.as(c.who)); outcome(err) != c.want {
			t.Errorf("%s, %s: got %v, want %s", c.who, c.what, err, c.want)
		}
		if err := c.do(samba.as(c.who)); outcome(err) != c.samba {
			t.Errorf("%s, %s: Samba says %v, not %s: %q", c.who, c.what, err, c.samba, c.why)
		}
	}
}
