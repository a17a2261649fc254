package directory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// people is a domain with some objects in it.
func people(t testing.TB) *domain {
	d := newDomain(t)
	d.mustAdd("CN=web1,"+computers, "objectClass: computer", "sAMAccountName: web1$", "userAccountControl: 4096", "dNSHostName: web1.contoso.com",
		"servicePrincipalName: host/web1.contoso.com", "unicodePwd: "+quoted("Host-Passw0rd"))
	d.mustAdd("CN=alice,"+users, "objectClass: user", "sAMAccountName: alice", "userAccountControl: 512", "unicodePwd: "+quoted("Wonder-Passw0rd"), "sn: Adams")
	d.mustAdd("CN=bob,"+users, "objectClass: user", "sAMAccountName: bob", "userAccountControl: 512", "unicodePwd: "+quoted("Builder-Passw0rd"))
	d.mustAdd("CN=webapp01,"+managed, "objectClass: msDS-GroupManagedServiceAccount", "dNSHostName: webapp01.contoso.com")
	for name, typ := range map[string]string{"global": "-2147483646", "local": "-2147483644", "universal": "-2147483640"} {
		d.mustAdd("CN="+name+","+users, "objectClass: group", "sAMAccountName: "+name, "groupType: "+typ)
	}
	d.Clock.Advance(25 * time.Hour) // passwords can be changed a day after they were set
	d.log.take()
	return d
}

const (
	alice  = "CN=alice," + users
	bob    = "CN=bob," + users
	web1   = "CN=web1," + computers
	webapp = "CN=webapp01," + managed
)

func group(name string) string { return "CN=" + name + "," + users }

// TestModify: lists of changes of a new domain, and what is there afterwards. A change
// that is refused leaves everything as it was.
func TestModify(t *testing.T) {
	type check struct{ dn, attribute, want string }
	parent, d := t, people(t)
	for name, c := range map[string]struct {
		dn     string
		lines  []string
		want   string // the result; "" for success
		checks []check
	}{
		"adds a value":                  {alice, []string{"add: description: x"}, "", []check{{alice, "description", "x"}}},
		"adds to others":                {alice, []string{"add: otherTelephone: 1", "add: otherTelephone: 2"}, "", []check{{alice, "otherTelephone", "1|2"}}},
		"adds a value that is there":    {alice, []string{"add: sn: ADAMS"}, "20 200D", []check{{alice, "sn", "Adams"}}},
		"adds a second to a single one": {alice, []string{"add: sn: Baker"}, "20 200D", nil},
		"replaces":                      {alice, []string{"replace: sn: Baker"}, "", []check{{alice, "sn", "Baker"}}},
		"replaces by two":               {alice, []string{"replace: sn: a", "replace: sn: b"}, "19 2081", nil},
		"replaces by nothing":           {alice, []string{"replace: sn", "replace: info"}, "", []check{{alice, "sn", ""}}},
		"deletes a value":               {alice, []string{"delete: sn: adams"}, "", []check{{alice, "sn", ""}}},
		"deletes what is not there":     {alice, []string{"delete: sn: Baker"}, "16 200A", nil},
		"deletes all of nothing":        {alice, []string{"delete: info"}, "16 200A", nil},
		"deletes and adds in one":       {alice, []string{"delete: sn: Adams", "add: sn: Baker"}, "", []check{{alice, "sn", "Baker"}}},
		"all or nothing":                {alice, []string{"replace: sn: Baker", "delete: info"}, "16 200A", []check{{alice, "sn", "Adams"}}},
		"an attribute that is none":     {alice, []string{"replace: shoeSize: 1"}, "16 57", nil},
		"of another class":              {alice, []string{"replace: groupType: 2"}, "65 2014", nil},
		"what must be there":            {alice, []string{"delete: sAMAccountName"}, "65 2014", nil},
		"the name":                      {alice, []string{"replace: cn: x"}, "67 2016", nil},
		"name":                          {alice, []string{"replace: name: x"}, "67 2016", nil},
		"what the directory writes":     {alice, []string{"replace: objectSid: x"}, "19 20B1", nil},
		"a constructed one":             {alice, []string{"replace: tokenGroups: x"}, "19 20B1", nil},
		"a back link":                   {alice, []string{"add: memberOf: " + group("global")}, "19 20B1", nil},
		"the class":                     {alice, []string{"replace: objectClass: group"}, "69 2017", nil},
		"another class":                 {alice, []string{"add: objectClass: computer"}, "69 2017", nil},
		"an auxiliary class":            {alice, []string{"add: objectClass: bootableDevice", "add: bootFile: x"}, "", []check{{alice, "objectClass", "bootableDevice|organizationalPerson|person|top|user"}}},
		"nobody":                        {"CN=nobody," + users, []string{"replace: sn: x"}, "32 208D", nil},

		"a member":                             {group("global"), []string{"add: member: " + alice}, "", []check{{group("global"), "member", "alice"}, {alice, "memberOf", "global"}}},
		"a member twice":                       {group("global"), []string{"add: member: " + alice, "add: member: " + strings.ToUpper(alice)}, "68 562", []check{{alice, "memberOf", ""}}},
		"nobody as a member":                   {group("global"), []string{"add: member: CN=nobody," + users}, "32 208D", nil},
		"no member deleted":                    {group("global"), []string{"delete: member: " + alice}, "53 561", nil},
		"itself":                               {group("global"), []string{"add: member: " + group("global")}, "53 2035", nil},
		"members replaced":                     {group("global"), []string{"add: member: " + alice, "replace: member: " + bob}, "", []check{{group("global"), "member", "bob"}, {alice, "memberOf", ""}}},
		"local in global":                      {group("global"), []string{"add: member: " + group("local")}, "53 2144", nil},
		"universal in global":                  {group("global"), []string{"add: member: " + group("universal")}, "53 2145", nil},
		"local in universal":                   {group("universal"), []string{"add: member: " + group("local")}, "53 2146", nil},
		"global in universal":                  {group("universal"), []string{"add: member: " + group("global")}, "", nil},
		"universal in local":                   {group("local"), []string{"add: member: " + group("universal")}, "", nil},
		"in the primary group":                 {"CN=Domain Users," + users, []string{"add: member: " + alice}, "68 562", nil},
		"a manager":                            {alice, []string{"add: manager: " + bob}, "", []check{{alice, "manager", "bob"}, {bob, "directReports", "alice"}}},
		"two managers":                         {alice, []string{"add: manager: " + bob, "add: manager: " + web1}, "19 2081", nil},
		"a manager replaced":                   {alice, []string{"add: manager: " + bob, "replace: manager: " + web1}, "", []check{{alice, "manager", "web1"}}},
		"global to universal":                  {group("global"), []string{"replace: groupType: -2147483640"}, "", []check{{group("global"), "sAMAccountType", "268435456"}}},
		"global to local":                      {group("global"), []string{"replace: groupType: -2147483644"}, "53 2141", nil},
		"universal to local":                   {group("universal"), []string{"replace: groupType: -2147483644"}, "", []check{{group("universal"), "sAMAccountType", "536870912"}}},
		"to a distribution group":              {group("local"), []string{"replace: groupType: 4"}, "", []check{{group("local"), "sAMAccountType", "536870913"}}},
		"the primary group's security":         {"CN=Domain Users," + users, []string{"replace: groupType: 2"}, "53 2035", nil},
		"a primary group of others":            {alice, []string{"replace: primaryGroupID: 512"}, "53 561", nil},
		"a primary group that is none":         {alice, []string{"replace: primaryGroupID: 999999"}, "53 561", nil},
		"disable":                              {alice, []string{"delete: userAccountControl: 512", "add: userAccountControl: 514"}, "", []check{{alice, "userAccountControl", "514"}}},
		"disable what changed meanwhile":       {alice, []string{"delete: userAccountControl: 544", "add: userAccountControl: 546"}, "16 200A", nil},
		"bits that are computed":               {alice, []string{"replace: userAccountControl: 8389136"}, "", []check{{alice, "userAccountControl", "512"}}},
		"a user into a machine":                {alice, []string{"replace: userAccountControl: 4096"}, "53 2035", nil},
		"a domain controller":                  {web1, []string{"replace: userAccountControl: 8192"}, "", []check{{web1, "primaryGroupID", "516"}}},
		"must change":                          {alice, []string{"replace: pwdLastSet: 0"}, "", []check{{alice, "pwdLastSet", "0"}}},
		"need not change":                      {alice, []string{"replace: pwdLastSet: -1"}, "", []check{{alice, "pwdLastSet", "134404308000000000"}}},
		"another time":                         {alice, []string{"replace: pwdLastSet: 5"}, "53 2035", nil},
		"unlock":                               {alice, []string{"replace: lockoutTime: 0"}, "", []check{{alice, "lockoutTime", "0"}, {alice, "badPwdCount", "0"}}},
		"lock":                                 {alice, []string{"replace: lockoutTime: 5"}, "53 2035", nil},
		"a name that is taken":                 {alice, []string{"replace: sAMAccountName: bob"}, "68 524", nil},
		"a name like a machine's":              {alice, []string{"replace: sAMAccountName: web1"}, "68 524", nil},
		"a name with $":                        {alice, []string{"replace: sAMAccountName: alice$"}, "19 202F", nil},
		"a machine's without":                  {web1, []string{"replace: sAMAccountName: web1"}, "19 202F", nil},
		"an SPN that is taken":                 {alice, []string{"add: servicePrincipalName: host/WEB1.contoso.com"}, "19 21C7", nil},
		"an alias, by an administrator":        {webapp, []string{"add: servicePrincipalName: http/web1.contoso.com"}, "", nil},
		"the name of the KDC":                  {alice, []string{"add: servicePrincipalName: krbtgt/CONTOSO.COM"}, "19 202F", nil},
		"another's SID in the history":         {alice, []string{"add: sIDHistory: " + string(contoso.SID.Child(512).Bytes())}, "53 209A", nil},
		"the kind of an account":               {alice, []string{"replace: sAMAccountType: 805306369"}, "53 209A", nil},
		"that it is critical":                  {"CN=krbtgt," + users, []string{"replace: isCriticalSystemObject: FALSE"}, "53 209A", nil},
		"whom it acts to, by an administrator": {webapp, []string{"add: msDS-AllowedToDelegateTo: http/x"}, "", nil},
		"an interval later":                    {webapp, []string{"replace: msDS-ManagedPasswordInterval: 7"}, "19 20B1", nil},
		"a password's reset":                   {alice, []string{"replace: unicodePwd: " + quoted("New-Passw0rd")}, "", nil},
		"a password's change":                  {alice, []string{"delete: unicodePwd: " + quoted("Wonder-Passw0rd"), "add: unicodePwd: " + quoted("New-Passw0rd")}, "", nil},
		"a change without the old one":         {alice, []string{"delete: unicodePwd: " + quoted("wrong-Passw0rd"), "add: unicodePwd: " + quoted("New-Passw0rd")}, "19 56", nil},
		"half a change":                        {alice, []string{"add: unicodePwd: " + quoted("New-Passw0rd")}, "53 2035", nil},
		"a password of a gMSA":                 {webapp, []string{"replace: unicodePwd: " + quoted("New-Passw0rd")}, "53 2035", nil},
		"userPassword":                         {alice, []string{"replace: userPassword: x"}, "53 2035", nil},
		"a descriptor that is none":            {alice, []string{"replace: nTSecurityDescriptor: x"}, "21 200B", nil},
		"no descriptor":                        {alice, []string{"delete: nTSecurityDescriptor"}, "53 2035", nil},
	} {
		t.Run(name, func(t *testing.T) {
			before := d.rows()
			err := d.modify(d.admin, c.dn, c.lines...)
			if got := strings.TrimPrefix(result(err), "0"); got != c.want {
				t.Fatalf("got %s, want %s: %v", got, c.want, err)
			}
			for _, k := range c.checks {
				if got := d.value(k.dn, k.attribute); got != k.want {
					t.Errorf("%s of %s is %q, want %q", k.attribute, k.dn, got, k.want)
				}
			}
			if err != nil && !slices.Equal(before, d.rows()) {
				t.Error("what was refused changed something")
			}
			events := d.log.take()
			if err == nil {
				d = people(parent)
			}
			if len(events) == 0 || events[0].Kind != audit.KindModify || (events[0].Error == "") != (err == nil) {
				t.Errorf("the audit was told %+v", events)
			}
		})
	}
}

// TestWhatAChangeMayCost: everybody else waits for it.
func TestWhatAChangeMayCost(t *testing.T) {
	d := people(t)
	one := func(n int, op directory.ChangeOp) (out []directory.Change) {
		for i := range n {
			out = append(out, directory.Change{Op: op, Attribute: directory.Attribute{Name: "otherTelephone", Values: [][]byte{fmt.Append(nil, i)}}})
		}
		return out
	}
	all := func(n int, op directory.ChangeOp) []directory.Change {
		c := directory.Change{Op: op, Attribute: directory.Attribute{Name: "otherTelephone"}}
		for _, each := range one(n, op) {
			c.Values = append(c.Values, each.Values...)
		}
		return []directory.Change{c}
	}
	for what, c := range map[string]struct {
		changes []directory.Change
		want    string
	}{
		"1,000 values, one after the other": {one(1000, directory.ChangeAdd), "0"},
		"2,000 values, one after the other": {one(2000, directory.ChangeAdd), "11 2024"},
		"10,001 changes that cost little":   {one(10_001, directory.ChangeReplace), "11 2024"},
		"5,000 values":                      {all(5000, directory.ChangeReplace), "0"},
		"5,001 values":                      {all(5001, directory.ChangeReplace), "11 2024"},
		"5,000 values and one":              {append(all(5000, directory.ChangeReplace), directory.Change{Attribute: directory.Attribute{Name: "otherTelephone", Values: [][]byte{[]byte("x")}}}), "11 2024"},
	} {
		if got := result(d.Modify(t.Context(), d.admin, directory.ModifyRequest{DN: alice, Changes: c.changes})); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
		d.mustModify(alice, "replace: otherTelephone")
	}
}

// TestPermissiveModify lets what is there already, and what is not, pass.
func TestPermissiveModify(t *testing.T) {
	d := people(t)
	for _, lines := range [][]string{
		{"add: sn: Adams"}, {"delete: sn: Baker"}, {"delete: info"},
		{"add: member: " + alice, "add: member: " + bob}, {"add: member: " + alice}, {"delete: member: " + web1},
	} {
		dn := alice
		if strings.Contains(lines[0], "member") {
			dn = group("global")
		}
		err := d.Modify(t.Context(), d.admin, directory.ModifyRequest{DN: dn, Permissive: true, Changes: changes(lines...)})
		if err != nil {
			t.Errorf("%v: %v", lines, err)
		}
	}
	if got := d.value(group("global"), "member"); got != "alice|bob" {
		t.Errorf("members %s", got)
	}
}

// TestValidatedWrites: a machine writes its own names, and no others.
func TestValidatedWrites(t *testing.T) {
	d := people(t)
	machine := d.Caller(t, "web1$")
	const may, not, other = "0", "50 2098", "19 202F"
	for _, c := range []struct{ dn, line, want string }{
		{web1, "replace: servicePrincipalName: HTTP/web1", may},
		{web1, "add: servicePrincipalName: HTTP/WEB1.contoso.com", may},
		{web1, "add: servicePrincipalName: MSSQLSvc/web1.contoso.com:1433", may},
		{web1, "add: servicePrincipalName: host/web2", other},
		{web1, "add: servicePrincipalName: ldap/web1.contoso.com/contoso.com", other},
		{web1, "replace: dNSHostName: WEB1.contoso.com", may},
		{web1, "replace: dNSHostName: dc1.contoso.com", other},
		{web1, "replace: dNSHostName: web1.fabrikam.com", other},
		// It would have any name's SPNs by way of such a name.
		{web1, "add: msDS-AdditionalDnsHostName: www.contoso.com", not},
		{web1, "add: servicePrincipalName: HTTP/www.contoso.com", other},
		{web1, "delete: servicePrincipalName", may},
		{web1, "replace: sAMAccountName: web9$", not},
		{web1, "replace: userAccountControl: 8192", not},
		{web1, "replace: msDS-AllowedToDelegateTo: host/dc1", not},
		{webapp, "replace: servicePrincipalName: HTTP/webapp01.contoso.com", not},
		{alice, "replace: servicePrincipalName: HTTP/web1", not},
	} {
		if got := result(d.modify(machine, c.dn, c.line)); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.line, c.dn, got, c.want)
		}
	}
	// By a right of its own, and with suffixes that the domain allows.
	d.grant(web1, machine.SID, "80863791-dbe9-4eb8-837e-7f0ab55d9ac7", true)
	d.mustModify("DC=contoso,DC=com", "replace: msDS-AllowedDNSSuffixes: web.contoso.com")
	for _, c := range []struct{ line, want string }{
		{"add: msDS-AdditionalDnsHostName: www.contoso.com", other},
		{"add: msDS-AdditionalDnsHostName: a.www.web.contoso.com", other},
		{"add: msDS-AdditionalDnsHostName: www.web.contoso.com", may},
		{"add: servicePrincipalName: HTTP/www.web.contoso.com", may},
		{"replace: dNSHostName: web1.web.contoso.com", may},
	} {
		if got := result(d.modify(machine, web1, c.line)); got != c.want {
			t.Errorf("%s by the right to: %s, want %s", c.line, got, c.want)
		}
	}
}

// TestUserAccountControlIsTheAdministrators: who may write the attribute cannot let an
// account act for others.
func TestUserAccountControlIsTheAdministrators(t *testing.T) {
	d := people(t)
	helper := d.delegate(alice, bob, "userAccountControl", "msDS-AllowedToDelegateTo", "primaryGroupID", "servicePrincipalName")
	for line, want := range map[string]string{
		"replace: userAccountControl: 514":       "0",
		"replace: userAccountControl: 66048":     "0",       // DONT_EXPIRE_PASSWORD: a right of all users
		"replace: userAccountControl: 524800":    "50 2098", // TRUSTED_FOR_DELEGATION
		"replace: userAccountControl: 16777728":  "50 2098", // TRUSTED_TO_AUTH_FOR_DELEGATION
		"replace: msDS-AllowedToDelegateTo: x/y": "50 2098",
		"replace: primaryGroupID: 512":           "53 561",
		// Whoever may write its SPNs does not take those that another has by an alias.
		"replace: servicePrincipalName: http/web1.contoso.com": "19 21C7",
	} {
		if got := result(d.modify(helper, alice, line)); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	if got := result(d.modify(d.admin, alice, "replace: userAccountControl: 524800")); got != "0" {
		t.Errorf("an administrator: %s", got)
	}
}

// TestSelfMembership: by that right an account adds and removes itself alone.
func TestSelfMembership(t *testing.T) {
	d := people(t)
	caller := d.Caller(t, "alice")
	d.grant(group("global"), caller.SID, "bf9679c0-0de6-11d0-a285-00aa003049e2", true)
	for _, c := range []struct{ line, want string }{
		{"add: member: " + bob, "50 2098"},
		{"replace: member: " + alice, "50 2098"},
		{"add: member: " + alice, "0"},
		{"delete: member", "50 2098"},
		{"delete: member: " + alice, "0"},
	} {
		if got := result(d.modify(caller, group("global"), c.line)); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
	}
}
