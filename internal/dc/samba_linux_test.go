package dc

import (
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestSambaTool administers the domain with Samba's own tools, whose LDAP is GSS-SPNEGO,
// sealed. They make security descriptors, root keys and the password hashes of gMSAs
// themselves.
func TestSambaTool(t *testing.T) {
	lab.Need(t, "samba-tool", "samba-provision", "ldbsearch", "ldbedit", "net")
	o := newOffice(t)
	const tool = `h="-H ldap://dc1.contoso.com --use-krb5-ccache=/run/ccache"; `
	o.play(o, []script{
		{"log on", `echo "$ADMIN" | kinit Administrator`, ""},
		{"users", tool + `samba-tool user create bob B0b!Secret-1 $h; samba-tool user disable bob $h
			! echo B0b!Secret-1 | kinit -c MEMORY: bob; samba-tool user enable bob $h
			samba-tool user setpassword bob $h --newpassword=B0b!Secret-2; echo B0b!Secret-2 | kinit -c MEMORY: bob
			samba-tool user list $h; samba-tool user getpassword bob $h --attributes=sAMAccountName,unicodePwd`,
			"User 'bob' added\nClient's credentials have been revoked\nEnabled user 'bob'\nChanged password OK\nkrbtgt\nsAMAccountName: bob"},
		{"groups", tool + `samba-tool group add Web $h; samba-tool group addmembers Web alice,bob $h
			samba-tool group removemembers Web bob $h; samba-tool group listmembers Web $h`, "Added group Web\nalice"},
		{"names of services", tool + `samba-tool computer create web9 $h; samba-tool user setpassword 'web9$' $h --newpassword=W3b9!Secret
			samba-tool user enable 'web9$' $h; samba-tool spn add HTTP/web9.contoso.com 'web9$' $h
			samba-tool spn list 'web9$' $h; kvno HTTP/web9.contoso.com`, "HTTP/web9.contoso.com\nkvno = "},
		{"root keys", tool + `samba-tool domain kds root-key create $h; samba-tool domain kds root-key list $h`,
			"created root key\n2 root keys found."},
		{"service accounts", tool + `samba-tool service-account create $h --name=gm1 --dns-host-name=gm1.contoso.com --managed-password-interval=1
			samba-tool service-account modify $h --name=gm1 --dns-host-name=gm2.contoso.com
			samba-tool service-account group-msa-membership add $h --name=gm1 --principal=alice
			samba-tool service-account group-msa-membership show $h --name=gm1
			samba-tool service-account list $h; samba-tool service-account view $h --name=gm1`,
			"Created group managed service account: gm1\nCN=alice,CN=Users,DC=contoso,DC=com\ngm1$\n" + `"dNSHostName": "gm2.contoso.com"`},
		// Samba derives the hash from the managed password; the keys are those of the KDC.
		{"the password of a service account", tool + `echo "$ALICE" | kinit -c /run/alice alice
			samba-tool user getpassword 'gm1$' -H ldap://dc1.contoso.com --use-krb5-ccache=/run/alice --attributes=msDS-ManagedPassword,unicodePwd
			samba-tool service-account delete $h --name=gm1`, "msDS-ManagedPassword:: \nunicodePwd:: \nDeleted group managed service account: gm1"},
		{"any object", tool + `ldbsearch $h -b DC=contoso,DC=com '(sAMAccountName=alice)' objectSid memberOf
			EDITOR='sed -i /^cn:/adescription:edited' ldbedit $h -b DC=contoso,DC=com '(sAMAccountName=alice)' cn description
			ldbsearch $h -b DC=contoso,DC=com '(sAMAccountName=alice)' description`, "memberOf: CN=Web,CN=Users,DC=contoso,DC=com\n1 modifies\ndescription: edited"},
		{"a controller is looked for", `samba-tool domain info contoso.com; net ads lookup -S dc1.contoso.com; net ads info
			net ads user -U "Administrator%$ADMIN" | sort`,
			"DC name          : dc1.contoso.com\nClient Site Name: Default-First-Site-Name\nKDC server: 10.77.0.10\nalice"},
	})
}
