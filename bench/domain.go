//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// domain is the lab's domain controller, shared by the sections.
func domain(r *run) *lab.DC { return lab.Samba(r, lab.SambaConfig{}) }

// makeAccounts makes gMSAs that the group WebHosts may read, of which the host web1
// is a member. All of them are one transaction of the controller's database.
func makeAccounts(r *run, dc *lab.DC, prefix string, n int) []string {
	readers := "O:SYD:(A;;RP;;;" + dc.Attr(r, "WebHosts", "objectSid") + ")"
	names := make([]string, n)
	var ldif strings.Builder
	for i := range names {
		names[i] = fmt.Sprintf("%s%05d", prefix, i)
		fmt.Fprintf(&ldif, "dn: CN=%[1]s,CN=Managed Service Accounts,%[2]s\nchangetype: add\nobjectClass: msDS-GroupManagedServiceAccount\n"+
			"sAMAccountName: %[1]s$\ndNSHostName: %[1]s.%[3]s\nuserAccountControl: 4096\nmsDS-ManagedPasswordInterval: 30\n"+
			"msDS-SupportedEncryptionTypes: 24\nmsDS-GroupMSAMembership: %[4]s\n\n", names[i], lab.BaseDN, lab.DNSDomain, readers)
	}
	dc.Modify(r, ldif.String())
	return names
}
