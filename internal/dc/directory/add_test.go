package directory_test

import (
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
	"github.com/opengmsa/opengmsa/secdesc"
)

// TestAddAsClientsDo makes what real clients make, in their own words (reference:
// adcli, msktutil, samba-tool), and looks at what the directory completed.
func TestAddAsClientsDo(t *testing.T) {
	d := newDomain(t)
	for name, c := range map[string]struct {
		dn    string
		lines []string
		want  map[string]string
	}{
		"adcli join": {"CN=CLIENT1," + computers, []string{
			"objectClass: computer", "sAMAccountName: CLIENT1$", "userAccountControl: 69632", "msDS-supportedEncryptionTypes: 28",
			"dNSHostName: client1.contoso.com", "operatingSystem: redhat-linux-gnu", "servicePrincipalName: HTTP/CLIENT1",
			"servicePrincipalName: host/client1.contoso.com", "servicePrincipalName: RestrictedKrbHost/CLIENT1"}, map[string]string{
			"objectClass": "computer|organizationalPerson|person|top|user", "userAccountControl": "69632", "primaryGroupID": "515",
			"sAMAccountType": "805306369", "instanceType": "4", "accountExpires": "9223372036854775807", "isCriticalSystemObject": "FALSE",
			"objectCategory": "CN=Computer,CN=Schema,CN=Configuration,DC=contoso,DC=com"}},
		"adcli create-user": {"CN=alice," + users, []string{
			"cn: alice", "displayName: Alice", "mail: alice@contoso.com", "name: alice", "objectClass: user", "sAMAccountName: alice",
			"userAccountControl: 514", "userPrincipalName: alice@contoso.com"}, map[string]string{
			"userAccountControl": "514", "primaryGroupID": "513", "sAMAccountType": "805306368", "pwdLastSet": "0", "codePage": "0"}},
		"adcli create-group": {"CN=staff," + users, []string{
			"cn: staff", "description: all", "name: staff", "objectClass: group", "sAMAccountName: staff"}, map[string]string{
			"groupType": "-2147483646", "sAMAccountType": "268435456"}},
		"adcli create-msa": {"CN=CLIENT1!lF4," + managed, []string{
			"objectClass: msDS-ManagedServiceAccount", "sAMAccountName: CLIENT1!lF4$", "userAccountControl: 69632", "description: x"}, map[string]string{
			"userAccountControl": "69632", "primaryGroupID": "515", "sAMAccountType": "805306369"}},
		"msktutil": {"CN=svc," + users, []string{
			"objectClass: top", "objectClass: person", "objectClass: organizationalPerson", "objectClass: user", "cn: svc",
			"userAccountControl: 512", "sAMAccountName: svc", "unicodePwd: " + quoted("Pass-word1!")}, map[string]string{
			"userAccountControl": "512", "pwdLastSet": "134403408000000000", "unicodePwd": ""}},
		"samba-tool --must-change-at-next-login": {"CN=new," + users, []string{
			"objectClass: user", "userAccountControl: 512", "sAMAccountName: new", "pwdLastSet: 0", "unicodePwd: " + quoted("Pass-word1!")}, map[string]string{
			"userAccountControl": "512", "pwdLastSet": "0"}},
		"a password that is taken for new": {"CN=old," + users, []string{
			"objectClass: user", "sAMAccountName: old", "pwdLastSet: -1"}, map[string]string{"pwdLastSet": "134403408000000000"}},
		"samba-tool gMSA": {"CN=webapp01," + managed, []string{
			"dNSHostName: webapp01.contoso.com", "msDS-ManagedPasswordInterval: 7", "name: webapp01",
			"objectClass: msDS-GroupManagedServiceAccount", "sAMAccountName: webapp01$"}, map[string]string{
			"userAccountControl": "4096", "primaryGroupID": "515", "msDS-ManagedPasswordInterval": "7", "sAMAccountType": "805306369"}},
		"nothing but a class": {"cn=bare," + users, []string{"objectClass: user"}, map[string]string{
			"userAccountControl": "546", "objectClass": "organizationalPerson|person|top|user"}},
		"a computer called by its object": {"CN=web9," + computers, []string{"objectClass: computer"}, map[string]string{
			"sAMAccountName": "web9$", "userAccountControl": "4130"}},
		"a unit": {"OU=web,DC=contoso,DC=com", []string{"objectClass: organizationalUnit"}, map[string]string{
			"objectClass": "organizationalUnit|top", "instanceType": "4", "objectSid": ""}},
	} {
		if err := d.add(d.admin, c.dn, c.lines...); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for a, want := range c.want {
			if got := d.value(c.dn, a); got != want {
				t.Errorf("%s: %s is %q, want %q", name, a, got, want)
			}
		}
	}
	if got := sidOf(t, d, "CN=CLIENT1,"+computers).Domain(); got != contoso.SID {
		t.Errorf("a SID of the domain %s", got)
	}
	if bare := d.value("CN=bare,"+users, "sAMAccountName"); !strings.HasPrefix(bare, "$") || len(bare) != 20 {
		t.Errorf("a user without a name got %q", bare)
	}
}

// TestAddRefuses: the result is AD's.
//
// It holds security 20 for names.
func TestAddRefuses(t *testing.T) {
	d := newDomain(t)
	d.mustAdd("CN=web1,"+computers, "objectClass: computer", "sAMAccountName: web1$", "servicePrincipalName: host/web1.contoso.com", "userAccountControl: 4096")
	d.mustAdd("CN=alice,"+users, "objectClass: user", "sAMAccountName: alice", "userPrincipalName: boss@contoso.com")
	d.mustAdd("CN=staff,"+users, "objectClass: group", "sAMAccountName: staff")
	user := func(lines ...string) []string { return append([]string{"objectClass: user"}, lines...) }
	for name, c := range map[string]struct {
		dn    string
		lines []string
		want  string
	}{
		"a name that is none":                  {"alice", user(), "34 2032"},
		"no such parent":                       {"CN=x,OU=nowhere,DC=contoso,DC=com", user(), "32 208D"},
		"another forest":                       {"CN=x,DC=fabrikam,DC=com", user(), "32 208D"},
		"a name that is taken":                 {"CN=ALICE," + users, user(), "68 2071"},
		"a parent that holds no users":         {"CN=x,CN=staff," + users, user(), "64 2037"},
		"the wrong naming attribute":           {"OU=x," + users, user(), "64 2037"},
		"a class that is none":                 {"CN=x," + users, []string{"objectClass: wizard"}, "65 2014"},
		"no class":                             {"CN=x," + users, []string{"sn: x"}, "65 2014"},
		"an abstract class":                    {"CN=x," + users, []string{"objectClass: top"}, "65 2014"},
		"an attribute that is none":            {"CN=x," + users, user("shoeSize: 44"), "16 57"},
		"an attribute of another class":        {"CN=x," + users, user("groupType: 2"), "65 2014"},
		"an attribute twice":                   {"CN=x," + users, user("sn: x", "cn: x", "SN: y"), "20 200D"},
		"a value twice":                        {"CN=x," + users, user("otherTelephone: 1", "otherTelephone: 1"), "20 200D"},
		"two values of a single-valued one":    {"CN=x," + users, user("sn: x", "sn: y"), "19 2081"},
		"a number that is none":                {"CN=x," + users, user("codePage: many"), "21 200B"},
		"a value out of range":                 {"CN=x," + users, user("codePage: 70000"), "19 202F"},
		"what only the directory writes":       {"CN=x," + users, user("whenCreated: 20260101000000.0Z"), "19 20B1"},
		"a SID of one's own":                   {"CN=x," + users, user("objectSid: " + string(contoso.SID.Child(500).Bytes())), "19 20B1"},
		"a SID of another beside its own":      {"CN=x," + users, user("sIDHistory: " + string(contoso.SID.Child(512).Bytes())), "53 209A"},
		"a secret":                             {"CN=x," + users, user("dBCSPwd: x"), "53 2035"},
		"another name in cn":                   {"CN=x," + users, user("cn: y"), "64 2037"},
		"an account name that is taken":        {"CN=x," + users, user("sAMAccountName: Alice"), "68 524"},
		"a user like a machine":                {"CN=x," + users, user("sAMAccountName: web1"), "68 524"},
		"a machine like a user":                {"CN=x," + computers, []string{"objectClass: computer", "sAMAccountName: alice$"}, "68 524"},
		"a user like another's principal name": {"CN=x," + users, user("sAMAccountName: boss"), "68 524"},
		"a principal name like an account":     {"CN=x," + users, user("userPrincipalName: web1@contoso.com"), "19 21C8"},
		"such a name by the NetBIOS domain":    {"CN=x," + users, user("userPrincipalName: web1$@contoso"), "19 21C8"},
		"a principal name that is taken":       {"CN=x," + users, user("userPrincipalName: Boss@contoso.com"), "19 21C8"},
		"a user that ends in $":                {"CN=x," + users, user("sAMAccountName: x$"), "19 202F"},
		"a machine that does not":              {"CN=x," + computers, []string{"objectClass: computer", "sAMAccountName: x"}, "19 202F"},
		"a long name of a user":                {"CN=x," + users, user("sAMAccountName: " + strings.Repeat("x", 21)), "19 202F"},
		"a name with a slash":                  {"CN=x," + users, user("sAMAccountName: a/b"), "19 202F"},
		"an SPN that is taken":                 {"CN=x," + users, user("servicePrincipalName: HOST/WEB1.contoso.com"), "19 21C7"},
		"the same SPN with a dot":              {"CN=x," + users, user("servicePrincipalName: host/web1.contoso.com."), "19 21C7"},
		"an SPN that is none":                  {"CN=x," + users, user("servicePrincipalName: web1"), "19 202F"},
		"a user that is a machine":             {"CN=x," + users, user("userAccountControl: 4096"), "53 2035"},
		"a machine that is a user":             {"CN=x," + computers, []string{"objectClass: computer", "userAccountControl: 512"}, "53 2035"},
		"a user without a password, enabled":   {"CN=x," + users, user("userAccountControl: 512"), "53 52D"},
		"a password without quotes":            {"CN=x," + users, user("unicodePwd: Passw0rd!"), "53 1F"},
		"a password that is too short":         {"CN=x," + users, user("unicodePwd: " + quoted("abc")), "19 52D"},
		"a manager that does not exist":        {"CN=x," + users, user("manager: CN=nobody," + users), "19 20B5"},
		"a category that is none":              {"CN=x," + users, user("objectCategory: CN=nobody," + users), "19 20B5"},
		"a group of no kind":                   {"CN=x," + users, []string{"objectClass: group", "groupType: 14"}, "53 2141"},
		"a name of deleted objects":            {"CN=x\\0ADEL:1," + users, user(), "64 2037"},
		"an interval of 0":                     {"CN=x," + managed, []string{"objectClass: msDS-GroupManagedServiceAccount", "msDS-ManagedPasswordInterval: 0"}, "19 202F"},
		"an interval of 2,000 years":           {"CN=x," + managed, []string{"objectClass: msDS-GroupManagedServiceAccount", "msDS-ManagedPasswordInterval: 730000"}, "19 202F"},
		"a password of a gMSA":                 {"CN=x," + managed, []string{"objectClass: msDS-GroupManagedServiceAccount", "unicodePwd: " + quoted("Pass-word1!")}, "53 2035"},
		"readers that are no descriptor":       {"CN=x," + managed, []string{"objectClass: msDS-GroupManagedServiceAccount", "msDS-GroupMSAMembership: x"}, "21 200B"},
		"a root key that is none":              {"CN=x," + rootKeys, []string{"objectClass: msKds-ProvRootKey", "msKds-Version: 1"}, "19 202F"},
	} {
		if got := result(d.add(d.admin, c.dn, c.lines...)); got != c.want {
			t.Errorf("%s: got %s, want %s: %v", name, got, c.want, d.add(d.admin, c.dn, c.lines...))
		}
	}
	if got := result(d.add(directory.Caller{Encrypted: true}, "CN=x,"+users, user()...)); got != "1 4DC" {
		t.Errorf("anonymous: %s", got)
	}
	plain := d.admin
	plain.Encrypted = false
	if got := result(d.add(plain, "CN=x,"+users, user("unicodePwd: "+quoted("Pass-word1!"))...)); got != "53 1F" {
		t.Errorf("a password in the clear: %s", got)
	}
	if got := result(d.add(d.Caller(t, "alice"), "CN=x,"+users, user()...)); got != "50 2098" {
		t.Errorf("somebody without the right: %s", got)
	}
}

// TestAddWithoutARootKey fails as AD does, in the code that its tools look for.
func TestAddWithoutARootKey(t *testing.T) {
	d := newDomainWith(t, provision.Config{NoRootKey: true})
	err := d.add(d.admin, "CN=g,"+managed, "objectClass: msDS-GroupManagedServiceAccount")
	if result(err) != "32 8009000D" || !strings.Contains(directory.AsError(err).Diagnostic(), "8009000D") {
		t.Errorf("got %v", err)
	}
}

// TestDelegatedCreation: who may create gMSAs and nothing else makes one, owns it, and
// gets no right to those of others.
//
// It holds security 19: whoever may create gMSAs may not read those of others.
func TestDelegatedCreation(t *testing.T) {
	d := newDomain(t)
	d.mustAdd("CN=helper,"+users, "objectClass: user", "sAMAccountName: helper")
	d.mustAdd("CN=theirs,"+managed, "objectClass: msDS-GroupManagedServiceAccount")
	helper := d.Caller(t, "helper")
	gmsa := []string{"objectClass: msDS-GroupManagedServiceAccount"}
	if got := result(d.add(helper, "CN=mine,"+managed, gmsa...)); got != "50 2098" {
		t.Fatalf("before: %s", got)
	}
	class, _ := d.Schema().Class("msDS-GroupManagedServiceAccount")
	d.changeDescriptor(managed, func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Type: secdesc.AllowObject, Mask: secdesc.CreateChild, ObjectType: &class.GUID, SID: helper.SID})
	})
	if err := d.add(helper, "CN=mine,"+managed, gmsa...); err != nil {
		t.Fatal(err)
	}
	if got := result(d.add(helper, "CN=x,"+managed, "objectClass: user")); got != "50 2098" {
		t.Errorf("a user: %s", got)
	}
	if err := d.add(helper, "CN=more,"+managed, append(gmsa, "primaryGroupID: 512")...); err != nil || d.value("CN=more,"+managed, "primaryGroupID") != "515" {
		t.Errorf("a gMSA of Domain Admins: %v", err)
	}
	if sd := d.descriptor("CN=mine," + managed); sd.Owner != helper.SID {
		t.Errorf("owner %s, want the creator %s", sd.Owner, helper.SID)
	}
	if sd := d.descriptor("CN=theirs," + managed); sd.Owner != contoso.SID.Child(dtyp.RIDDomainAdmins) {
		t.Errorf("what an administrator made belongs to %s", sd.Owner)
	}
	readers, err := secdesc.GroupMSAMembership(helper.SID).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.log.take()
	if got := result(d.modify(helper, "CN=theirs,"+managed, "replace: msDS-GroupMSAMembership: "+string(readers))); got != "50 2098" {
		t.Errorf("readers of another's account: %s", got)
	}
	events := d.log.take()
	if len(events) != 1 || events[0].Error == "" || events[0].Name != `CONTOSO\helper` || events[0].Attributes[0] != "msDS-GroupMSAMembership" {
		t.Errorf("the audit was told %+v", events)
	}
	if err := d.modify(d.admin, "CN=theirs,"+managed, "replace: msDS-GroupMSAMembership: "+string(readers)); err != nil {
		t.Fatal(err)
	}
	if got := kinds(d.log.take()); len(got) != 2 || got[1] != audit.KindReaders {
		t.Errorf("the audit was told %v", got)
	}
}

// TestMachineAccountQuota: nobody makes computers by the quota unless somebody sets it,
// and then not more, not elsewhere, and under no names but the computer's own.
//
// It holds the end of security 19.
func TestMachineAccountQuota(t *testing.T) {
	d := newDomain(t)
	d.mustAdd("CN=alice,"+users, "objectClass: user", "sAMAccountName: alice")
	alice := d.Caller(t, "alice")
	host := func(name string, lines ...string) error {
		return d.add(alice, "CN="+name+","+computers, append([]string{"objectClass: computer", "sAMAccountName: " + name + "$", "userAccountControl: 4096"}, lines...)...)
	}
	if got := result(host("pc0")); got != "50 2098" {
		t.Fatalf("with a quota of 0: %s", got)
	}
	d.mustModify("DC=contoso,DC=com", "replace: ms-DS-MachineAccountQuota: 1")
	for name, lines := range map[string][]string{
		"another's SPN":    {"servicePrincipalName: host/dc1.contoso.com"},
		"another's name":   {"dNSHostName: dc9.contoso.com"},
		"delegation":       {"userAccountControl: 528384"},
		"a free hand":      {"msDS-AllowedToDelegateTo: host/dc1"},
		"what it is to be": {"adminCount: 1"},
	} {
		if got := result(d.add(alice, "CN=pc0,"+computers, append([]string{"objectClass: computer", "sAMAccountName: pc0$"}, lines...)...)); !strings.HasPrefix(got, "50 ") && got != "19 21C7" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if err := host("pc1", "dNSHostName: pc1.contoso.com", "servicePrincipalName: host/pc1.contoso.com"); err != nil {
		t.Fatal(err)
	}
	if sd := d.descriptor("CN=pc1," + computers); sd.Owner != contoso.SID.Child(dtyp.RIDDomainAdmins) {
		t.Errorf("owner %s", sd.Owner)
	}
	if got := result(host("pc2")); got != "50 2098" {
		t.Errorf("past the quota: %s", got)
	}
	if got := result(d.add(alice, "CN=g,"+managed, "objectClass: msDS-GroupManagedServiceAccount")); got != "50 2098" {
		t.Errorf("a gMSA by the quota: %s", got)
	}
}
