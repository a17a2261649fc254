package lab

import (
	"testing"
)

const replicaProgram = "github.com/opengmsa/opengmsa/internal/lab/replica"

// What AddDomain makes.
const (
	ChildDomain  = "child.contoso.com"
	ChildNetBIOS = "CHILD"
	ChildBaseDN  = "DC=child," + BaseDN
	ChildSID     = "S-1-5-21-11-22-33"
)

// AddDomain makes child.contoso.com another domain of the forest: the global catalog of the
// controller has it, with its containers Computers and Users and the objects given, LDIF
// records of below [ChildBaseDN]. Nothing else of it exists; it has no controller. d is
// started anew, and must be a private one.
//
// samba-tool makes no second domain (Samba 4.22 has no SUBDOMAIN join any more), but its
// database takes one more naming context, which its global catalog then serves like any
// other.
func (d *DC) AddDomain(t testing.TB, objects string) {
	t.Helper()
	d.Stop(t)
	if d.own != "" {
		program, err := built(replicaProgram)
		d.must(t, err)
		_, err = run(d.ownEnv(), childRecords("", "", objects), program, d.ownData())
		d.must(t, err)
	} else {
		// The KDC looks for the forest's trusts in the cross-references.
		records := childRecords("instanceType: 5\nnTMixedDomain: 0\n",
			"trustParent: CN="+NetBIOSDomain+",CN=Partitions,CN=Configuration,"+d.BaseDN+"\nmsDS-Behavior-Version: 7\n", objects)
		_, err := run(nil, records, "ldbadd", append(d.database(), "--relax")...)
		d.must(t, err)
	}
	d.Start(t)
}

func childRecords(head, reference, objects string) string {
	return "dn: " + ChildBaseDN + "\nobjectClass: domainDNS\nobjectSid: " + ChildSID + "\n" + head +
		"\ndn: CN=" + ChildNetBIOS + ",CN=Partitions,CN=Configuration," + BaseDN +
		"\nobjectClass: crossRef\nnCName: " + ChildBaseDN + "\ndnsRoot: " + ChildDomain + "\nnETBIOSName: " + ChildNetBIOS + "\nsystemFlags: 3\n" + reference +
		"\ndn: CN=Computers," + ChildBaseDN + "\nobjectClass: container\n" +
		"\ndn: CN=Users," + ChildBaseDN + "\nobjectClass: container\n\n" + objects
}
