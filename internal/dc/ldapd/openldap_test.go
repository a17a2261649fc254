package ldapd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// admin has every right.
const admin = "Administrator"

// Every protection that OpenLDAP's tools have, and who each makes of its client.
func TestOpenLDAPOverEveryProtection(t *testing.T) {
	lab.Need(t, "ldapwhoami", "ldapsearch")
	f := start(t)
	env := f.kerberosEnv(t, "alice", alicePassword)
	plain, ldaps, gc := url("ldap", f.plain), url("ldaps", f.tls), url("ldap", f.gc)
	simple := func(name string) []string { return []string{"-x", "-D", name, "-w", alicePassword} }
	for name, args := range map[string][]string{
		"GSSAPI, sealed":              {"-H", plain, "-Y", "GSSAPI"},
		"GSSAPI, signed":              {"-H", plain, "-Y", "GSSAPI", "-O", "maxssf=1"},
		"GSS-SPNEGO, sealed":          {"-H", plain, "-Y", "GSS-SPNEGO"},
		"what the tools choose":       {"-H", plain, "-Q"},
		"the global catalog":          {"-H", gc, "-Y", "GSS-SPNEGO"},
		"the global catalog in TLS":   {"-H", url("ldaps", f.gcTLS), "-Y", "GSS-SPNEGO", "-O", "maxssf=0"},
		"a UPN in the catalog's TLS":  append([]string{"-H", url("ldaps", f.gcTLS)}, simple("alice@contoso.com")...),
		"GSSAPI in TLS":               {"-H", ldaps, "-Y", "GSSAPI", "-O", "maxssf=0"},
		"GSSAPI in StartTLS":          {"-H", plain, "-ZZ", "-Y", "GSSAPI", "-O", "maxssf=0"},
		"GSS-SPNEGO in TLS":           {"-H", ldaps, "-Y", "GSS-SPNEGO", "-O", "maxssf=0"},
		"GSSAPI bound to the channel": {"-H", ldaps, "-Y", "GSSAPI", "-O", "maxssf=0", "-o", "SASL_CBINDING=tls-endpoint"},
		"a UPN in TLS":                append([]string{"-H", ldaps}, simple("alice@contoso.com")...),
		"an NT name in StartTLS":      append([]string{"-H", plain, "-ZZ"}, simple(`CONTOSO\alice`)...),
		"a DN in TLS":                 append([]string{"-H", ldaps}, simple("CN=alice,CN=Users,DC=contoso,DC=com")...),
	} {
		out, err := lab.Try(env, "", "ldapwhoami", args...)
		if err != nil || !strings.Contains(out, `u:CONTOSO\alice`) {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		// A whole answer of several frames passes too.
		out, err = lab.Try(env, "", "ldapsearch", append(args, "-LLL", "-b", "CN=Users,DC=contoso,DC=com", "(objectClass=*)")...)
		if err != nil || !strings.Contains(out, "sAMAccountName: Domain Admins") {
			t.Errorf("%s: search: %v\n%s", name, err, out)
		}
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"GSSAPI without a layer":   {[]string{"-H", plain, "-Y", "GSSAPI", "-O", "maxssf=0"}, "SASL:[GSSAPI]: Sign or Seal are required."},
		"a layer inside TLS":       {[]string{"-H", ldaps, "-Y", "GSSAPI"}, "Inappropriate authentication (48)\n\tadditional info: 00002029: LdapErr: DSID-0C0904E0, comment: Cannot start kerberos signing/sealing when using TLS/SSL"},
		"a wrong password":         {[]string{"-H", ldaps, "-x", "-D", "alice@contoso.com", "-w", "wrong"}, "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52e, v1db1"},
		"a password in the clear":  {append([]string{"-H", plain}, simple("alice@contoso.com")...), "The server requires binds to turn on integrity checking"},
		"nobody":                   {[]string{"-H", ldaps, "-x", "-D", "mallory@contoso.com", "-w", "x"}, "data 52e"},
		"EXTERNAL":                 {[]string{"-H", ldaps, "-Y", "EXTERNAL"}, ""},
		"a certificate of another": {[]string{"-H", "ldaps://localhost:" + f.tls[strings.LastIndex(f.tls, ":")+1:], "-x"}, ""},
	} {
		out, err := lab.Try(env, "", "ldapwhoami", c.args...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// security 22 in the policy "always": adcli and plain OpenLDAP are kept out.
func TestChannelBindingCanBeDemanded(t *testing.T) {
	lab.Need(t, "ldapwhoami")
	f := start(t, func(cfg *Config) { cfg.ChannelBinding = BindAlways })
	env := f.kerberosEnv(t, "alice", alicePassword)
	args := []string{"-H", url("ldaps", f.tls), "-Y", "GSSAPI", "-O", "maxssf=0"}
	out, err := lab.Try(env, "", "ldapwhoami", args...)
	if err == nil || !strings.Contains(out, "80090346: ") {
		t.Errorf("without a binding: %v\n%s", err, out)
	}
	lab.Run(t, env, "", "ldapwhoami", append(args, "-o", "SASL_CBINDING=tls-endpoint")...)
}

// Every operation that changes something, by the tools that there are for it.
func TestOpenLDAPOperations(t *testing.T) {
	lab.Need(t, "ldapadd", "ldapmodify", "ldapdelete", "ldapmodrdn", "ldapcompare", "ldapsearch")
	f := start(t)
	env := f.kerberosEnv(t, admin, dctest.AdminPassword)
	at := []string{"-Q", "-H", url("ldap", f.plain), "-Y", "GSSAPI"}
	run := func(stdin, name string, args ...string) string {
		t.Helper()
		return lab.Run(t, env, stdin, name, append(at, args...)...)
	}
	wantFailure := func(want, stdin, name string, args ...string) {
		t.Helper()
		if out, err := lab.Try(env, stdin, name, append(at, args...)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s %q: %v, want %q\n%s", name, args, err, want, out)
		}
	}
	run("dn: CN=box,CN=Computers,DC=contoso,DC=com\nobjectClass: computer\nsAMAccountName: box$\nuserAccountControl: 69632\n"+
		"servicePrincipalName: HOST/box.contoso.com\ndNSHostName: box.contoso.com\n", "ldapadd")
	wantFailure("Already exists (68)", "dn: CN=box,CN=Computers,DC=contoso,DC=com\nobjectClass: computer\nsAMAccountName: box2$\n", "ldapadd")
	run("dn: CN=box,CN=Computers,DC=contoso,DC=com\nchangetype: modify\nreplace: description\ndescription: a box\n", "ldapmodify")
	if out, _ := lab.Try(env, "", "ldapcompare", append(at, "CN=box,CN=Computers,DC=contoso,DC=com", "description:a box")...); !strings.Contains(out, "TRUE") {
		t.Errorf("compare: %s", out)
	}
	if out, _ := lab.Try(env, "", "ldapcompare", append(at, "CN=box,CN=Computers,DC=contoso,DC=com", "description:no box")...); !strings.Contains(out, "FALSE") {
		t.Errorf("compare: %s", out)
	}
	run("", "ldapmodrdn", "-r", "-s", "CN=Users,DC=contoso,DC=com", "CN=box,CN=Computers,DC=contoso,DC=com", "CN=crate")
	if out := run("", "ldapsearch", "-LLL", "-b", "DC=contoso,DC=com", "(sAMAccountName=box$)", "description"); !strings.Contains(out, "dn: CN=crate,CN=Users,DC=contoso,DC=com\ndescription: a box") {
		t.Errorf("after the move: %s", out)
	}
	run("", "ldapdelete", "CN=crate,CN=Users,DC=contoso,DC=com")
	wantFailure("No such object (32)", "", "ldapdelete", "CN=crate,CN=Users,DC=contoso,DC=com")
	wantFailure("Protocol error (2)", "", "ldappasswd", "CN=alice,CN=Users,DC=contoso,DC=com")

	catalog := append([]string{"-Q", "-Y", "GSSAPI", "-H"}, url("ldap", f.gc))
	out, err := lab.Try(env, "", "ldapdelete", append(catalog, "CN=alice,CN=Users,DC=contoso,DC=com")...)
	if err == nil || !strings.Contains(out, "read only") {
		t.Errorf("the global catalog: %v\n%s", err, out)
	}
}

// The SPNs of a machine follow its names, as they do in Samba (4.22), where the same
// requests leave the same values.
func TestOpenLDAPRenamesSPNs(t *testing.T) {
	lab.Need(t, "ldapmodify", "ldapsearch")
	f := start(t)
	f.Insert(t, dctest.Object{Class: "computer", Name: "spn1$"})
	f.Insert(t, dctest.Object{Class: "computer", Name: "spn2$", Values: map[string][]string{"servicePrincipalName": {"HOST/taken.contoso.com"}}})
	env := f.kerberosEnv(t, admin, dctest.AdminPassword)
	at := []string{"-Q", "-H", url("ldap", f.plain), "-Y", "GSSAPI"}
	given := []string{"HOST/spn1.contoso.com", "HOST/SPN1", "http/spn1.contoso.com:80", "http/other.contoso.com", "x/SPN1/contoso.com", "y/contoso.com/spn1.contoso.com"}
	for _, c := range []struct{ change, fails, want string }{
		{"replace: dNSHostName\ndNSHostName: spn1.contoso.com\n-\nreplace: servicePrincipalName\nservicePrincipalName: " + strings.Join(given, "\nservicePrincipalName: "), "",
			strings.Join(given, " ")},
		{"replace: dNSHostName\ndNSHostName: new1.contoso.com", "",
			"HOST/new1.contoso.com HOST/SPN1 http/spn1.contoso.com:80 http/other.contoso.com x/SPN1/contoso.com y/contoso.com/new1.contoso.com"},
		{"replace: sAMAccountName\nsAMAccountName: new1$", "",
			"HOST/new1.contoso.com HOST/new1 http/spn1.contoso.com:80 http/other.contoso.com x/new1/contoso.com y/contoso.com/new1.contoso.com"},
		{"replace: dNSHostName\ndNSHostName: taken.contoso.com", "000021C7: ",
			"HOST/new1.contoso.com HOST/new1 http/spn1.contoso.com:80 http/other.contoso.com x/new1/contoso.com y/contoso.com/new1.contoso.com"},
		{"replace: dNSHostName\ndNSHostName: newer1.contoso.com\n-\nreplace: servicePrincipalName\nservicePrincipalName: HOST/mine.contoso.com\nservicePrincipalName: HOST/new1.contoso.com", "",
			"HOST/mine.contoso.com HOST/newer1.contoso.com"},
		{"delete: dNSHostName", "", "HOST/mine.contoso.com HOST/newer1.contoso.com"},
		{"add: dNSHostName\ndNSHostName: back1.contoso.com", "", "HOST/mine.contoso.com HOST/newer1.contoso.com"},
	} {
		out, err := lab.Try(env, "dn: CN=spn1,CN=Users,DC=contoso,DC=com\nchangetype: modify\n"+c.change+"\n", "ldapmodify", at...)
		if (err == nil) != (c.fails == "") || !strings.Contains(out, c.fails) {
			t.Errorf("%s: %v\n%s", c.change, err, out)
		}
		out = lab.Run(t, env, "", "ldapsearch", append(at, "-LLL", "-b", "DC=contoso,DC=com", "(cn=spn1)", "servicePrincipalName")...)
		var got []string
		for line := range strings.Lines(out) {
			if spn, ok := strings.CutPrefix(line, "servicePrincipalName: "); ok {
				got = append(got, strings.TrimSpace(spn))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %s", c.change, got, c.want)
		}
	}
}

// Groups are as large as administrators make them: 2,000 members in one modify, a group
// that is made with 1,000, and both deleted.
func TestOpenLDAPLargeGroups(t *testing.T) {
	lab.Need(t, "ldapadd", "ldapmodify", "ldapdelete", "ldapsearch")
	f := start(t)
	env := f.kerberosEnv(t, admin, dctest.AdminPassword)
	at := []string{"-Q", "-H", url("ldap", f.plain), "-Y", "GSSAPI"}
	const users = "CN=Users,DC=contoso,DC=com"
	members := make([]string, 2000)
	for i := range members {
		name := fmt.Sprintf("u%d", i)
		f.Insert(t, dctest.Object{Class: "user", Name: name})
		members[i] = "member: CN=" + name + "," + users + "\n"
	}
	lab.Run(t, env, "dn: CN=born,"+users+"\nobjectClass: group\n"+strings.Join(members[:1000], ""), "ldapadd", at...)
	lab.Run(t, env, "dn: CN=Domain Guests,"+users+"\nchangetype: modify\nadd: member\n"+strings.Join(members, ""), "ldapmodify", at...)
	count := func() string {
		return lab.Run(t, env, "", "ldapsearch", append(at, "-LLL", "-o", "ldif_wrap=no", "-b", users, "(cn=u999)", "memberOf")...)
	}
	if out := count(); strings.Count(out, "memberOf: ") != 2 {
		t.Errorf("u999: %s", out)
	}
	// More than 1,500 values come in ranges.
	if out := lab.Run(t, env, "", "ldapsearch", append(at, "-LLL", "-b", users, "(cn=Domain Guests)", "member;range=1500-*")...); strings.Count(out, "member;range=1500-*: ") < 500 {
		t.Errorf("the last members: %s", out)
	}
	lab.Run(t, env, "", "ldapdelete", append(at, "CN=born,"+users)...)
	lab.Run(t, env, "dn: CN=Domain Guests,"+users+"\nchangetype: modify\ndelete: member\n", "ldapmodify", at...)
	if out := count(); strings.Contains(out, "memberOf: ") {
		t.Errorf("u999: %s", out)
	}
}

// Controls, as OpenLDAP's search tool sends and shows them.
func TestOpenLDAPControls(t *testing.T) {
	lab.Need(t, "ldapsearch", "ldapmodify", "ldapdelete")
	f := start(t)
	env := f.kerberosEnv(t, admin, dctest.AdminPassword)
	search := func(args ...string) string {
		t.Helper()
		return lab.Run(t, env, "", "ldapsearch", append([]string{"-Q", "-LLL", "-o", "ldif_wrap=no", "-H", url("ldap", f.plain), "-Y", "GSSAPI", "-b", "CN=Users,DC=contoso,DC=com"}, args...)...)
	}
	all := strings.Count(search("(cn=*)", "cn"), "\ndn: ")
	if paged := search("-E", "pr=3/noprompt", "(cn=*)", "cn"); strings.Count(paged, "\ndn: ") != all || all < 10 {
		t.Errorf("in pages %d of %d entries", strings.Count(paged, "\ndn: "), all)
	}
	out := search("-E", "!sss=-cn", "(objectClass=group)", "cn")
	if first, last := strings.Index(out, "cn: Schema Admins"), strings.Index(out, "cn: Domain Admins"); first < 0 || last < first {
		t.Errorf("sorted backwards: %s", out)
	}
	if out := search("-E", "1.2.840.113556.1.4.529=::MAMCAQE=", "(cn=Domain Guests)", "cn"); !strings.Contains(out, "dn:: PEdVSUQ9") {
		t.Errorf("extended names: %s", out)
	}
	if out := search("-E", "1.2.840.113556.1.4.801=::MAMCAQQ=", "(cn=Domain Guests)", "nTSecurityDescriptor"); !strings.Contains(out, "nTSecurityDescriptor:: ") {
		t.Errorf("descriptor: %s", out)
	}
	at := []string{"-Q", "-H", url("ldap", f.plain), "-Y", "GSSAPI", "-M"}
	lab.Run(t, env, "dn: CN=ann,CN=Users,DC=contoso,DC=com\nobjectClass: user\nsAMAccountName: ann\n", "ldapadd", at...)
	lab.Run(t, env, "", "ldapdelete", append(at, "CN=ann,CN=Users,DC=contoso,DC=com")...)
	for _, filter := range []string{"(isDeleted=TRUE)", "(&(isDeleted=TRUE)(sAMAccountName=ann))"} {
		if out := search("-b", "DC=contoso,DC=com", "-E", "!1.2.840.113556.1.4.417", filter); !strings.Contains(out, "isDeleted: TRUE") {
			t.Errorf("deleted, by %s: %s", filter, out)
		}
	}
	out, err := lab.Try(env, "", "ldapsearch", "-Q", "-H", url("ldap", f.plain), "-Y", "GSSAPI", "-b", "CN=Users,DC=contoso,DC=com", "-E", "!sss=nonsense", "(cn=*)", "cn")
	if err == nil || !strings.Contains(out, "sortResult: (16)") {
		t.Errorf("sorted by nothing: %v\n%s", err, out)
	}
}
