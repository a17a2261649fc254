package lab

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// ComputerPassword is the password of a computer that the lab made.
func ComputerPassword(name string) string {
	return "Comp-" + strings.TrimSuffix(name, "$") + "-Pass!"
}

// Env lets MIT's and OpenLDAP's programs use this domain: its krb5.conf, its CA, its
// clock. It leaves KRB5CCNAME to the caller.
func (d *DC) Env() []string {
	env := []string{"KRB5_CONFIG=" + d.KRB5Config, "LDAPTLS_CACERT=" + d.CAFile}
	if d.clock != "" {
		env = append(env, "LD_PRELOAD="+find("libfaketime"))
		env = append(env, d.fakeEnv()...)
	}
	return env
}

// HostsEnv lets programs that resolve names with libc find the domain's controller,
// and each other name given as "name address". It needs libnss_wrapper, and it
// replaces LD_PRELOAD: with a clock it sets both libraries.
func (d *DC) HostsEnv(t testing.TB, names ...string) []string {
	t.Helper()
	Need(t, "libnss_wrapper")
	var hosts strings.Builder
	fmt.Fprintf(&hosts, "127.0.0.1 localhost\n%s %s dc1 %s\n", d.IP, d.Host, d.DNSDomain)
	for _, n := range names {
		name, addr, _ := strings.Cut(n, " ")
		hosts.WriteString(addr + " " + name + "\n")
	}
	file := filepath.Join(t.TempDir(), "hosts")
	d.must(t, os.WriteFile(file, []byte(hosts.String()), 0o644))
	preload := find("libnss_wrapper")
	if d.clock != "" {
		preload += ":" + find("libfaketime")
	}
	return []string{"NSS_WRAPPER_HOSTS=" + file, "LD_PRELOAD=" + preload}
}

// Run runs a program with [DC.Env] and more variables, and gives its output; it
// fails the test when the program fails.
func (d *DC) Run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	out, err := d.Try(env, name, args...)
	d.must(t, err)
	return out
}

// Try is Run for a program that may fail.
func (d *DC) Try(env []string, name string, args ...string) (string, error) {
	return run(append(d.Env(), env...), "", name, args...)
}

// Kinit gets a TGT with MIT's kinit and returns the credential cache's path.
func (d *DC) Kinit(t testing.TB, principal, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ccache")
	_, err := run(d.Env(), password+"\n", "kinit", "-c", "FILE:"+file, principal)
	d.must(t, err)
	return file
}

// KinitKeytab does so with a keytab.
func (d *DC) KinitKeytab(t testing.TB, principal, keytab string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ccache")
	d.Run(t, nil, "kinit", "-c", "FILE:"+file, "-k", "-t", keytab, principal)
	return file
}

// Keytab writes the keytab of a computer that the lab made, AES256 and AES128, with
// MIT's ktutil, and returns its path. The principal is NAME$@REALM.
func (d *DC) Keytab(t testing.TB, computer string) string {
	t.Helper()
	return d.KeytabWith(t, computer, ComputerPassword(computer))
}

// KeytabWith is Keytab for a computer with the password given.
func (d *DC) KeytabWith(t testing.TB, computer, password string) string {
	t.Helper()
	name := strings.TrimSuffix(computer, "$")
	return d.keytab(t, name, password, name+"$")
}

// Search searches the domain's database as its system, whether or not the controller runs.
func (d *DC) Search(t testing.TB, base, filter string, attrs ...string) []Entry {
	t.Helper()
	entries, err := ldbSearch(d.database(), d.smbConf(), base, filter, attrs...)
	d.must(t, err)
	return entries
}

// Entry is the account with that sAMAccountName; computers and gMSAs end in $.
func (d *DC) Entry(t testing.TB, account string, attrs ...string) Entry {
	t.Helper()
	found := d.Search(t, d.BaseDN, "(sAMAccountName="+account+")", attrs...)
	if len(found) != 1 {
		t.Fatalf("lab: %d accounts called %s", len(found), account)
	}
	return found[0]
}

// Attr is the first value of an account's attribute.
func (d *DC) Attr(t testing.TB, account, attr string) string {
	t.Helper()
	return d.Entry(t, account, attr).Value(attr)
}

// Modify applies LDIF change records (a record without changetype adds an object) to
// the domain's database as its system, whether or not the controller runs. Security
// descriptors may be written as SDDL, SIDs as strings.
func (d *DC) Modify(t testing.TB, ldif string) {
	t.Helper()
	d.must(t, d.modify(ldif))
}

// ModifyRaw applies LDIF change records to one partition of Samba's database past all of
// its modules: what no directory would take, but a directory can come to hold.
func (d *DC) ModifyRaw(t testing.TB, partition, ldif string) {
	t.Helper()
	_, err := run(nil, ldif, "ldbmodify", "-H", d.Dir+"/private/sam.ldb.d/"+strings.ToUpper(partition)+".ldb")
	d.must(t, err)
}

// modify gives the database tool the controller's clock, because it stamps what it
// writes, and its smb.conf, because the realm goes into the salt of Kerberos keys.
func (d *DC) modify(ldif string) error {
	_, err := run(append(d.clockEnv(), "SMB_CONF_PATH="+d.smbConf()), ldif, "ldbmodify", d.database()...)
	return err
}

// SambaTool runs samba-tool on this domain, without the network.
func (d *DC) SambaTool(t testing.TB, args ...string) string {
	t.Helper()
	return d.Run(t, nil, "samba-tool", append(args, "--configfile="+d.Dir+"/etc/smb.conf")...)
}

// Replace replaces one attribute of an account; without values it deletes it.
func (d *DC) Replace(t testing.TB, account, attr string, values ...string) {
	t.Helper()
	record := fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: %s\n", d.Entry(t, account, "dn").DN, attr)
	d.Modify(t, record+ldifLines(attr, values...)+"-\n")
}

// Delete deletes an account.
func (d *DC) Delete(t testing.TB, account string) {
	t.Helper()
	d.Modify(t, "dn: "+d.Entry(t, account, "dn").DN+"\nchangetype: delete\n")
}

// Group kinds, values of groupType ([MS-ADTS] 2.2.12): security groups.
const (
	GlobalGroup      = -2147483646
	DomainLocalGroup = -2147483644
	UniversalGroup   = -2147483640
)

// AddGroup makes a group in CN=Users with the accounts as members.
func (d *DC) AddGroup(t testing.TB, name string, kind int, members ...string) {
	t.Helper()
	d.Modify(t, d.groupRecord(name, kind)+d.memberLines(t, members))
}

func (d *DC) groupRecord(name string, kind int) string {
	return fmt.Sprintf("dn: CN=%s,CN=Users,%s\nobjectClass: group\nsAMAccountName: %s\ngroupType: %d\n", name, d.BaseDN, name, kind)
}

// AddMembers adds accounts to a group; RemoveMembers removes them.
func (d *DC) AddMembers(t testing.TB, group string, members ...string) {
	t.Helper()
	d.changeMembers(t, "add", group, members)
}

// RemoveMembers removes accounts from a group.
func (d *DC) RemoveMembers(t testing.TB, group string, members ...string) {
	t.Helper()
	d.changeMembers(t, "delete", group, members)
}

func (d *DC) changeMembers(t testing.TB, op, group string, members []string) {
	t.Helper()
	record := fmt.Sprintf("dn: %s\nchangetype: modify\n%s: member\n", d.Entry(t, group, "dn").DN, op)
	d.Modify(t, record+d.memberLines(t, members)+"-\n")
}

func (d *DC) memberLines(t testing.TB, members []string) string {
	t.Helper()
	dns := make([]string, len(members))
	for i, m := range members {
		dns[i] = d.Entry(t, m, "dn").DN
	}
	return ldifLines("member", dns...)
}

// AddUser makes a user in CN=Users whose password does not expire.
func (d *DC) AddUser(t testing.TB, name, password string) {
	t.Helper()
	d.Modify(t, fmt.Sprintf("dn: CN=%s,CN=Users,%s\nobjectClass: user\nsAMAccountName: %s\nuserPrincipalName: %s@%s\nuserAccountControl: 66048\n%s",
		name, d.BaseDN, name, name, d.DNSDomain, ldifLine("unicodePwd", quotedUTF16(password))))
}

// AddComputer makes a host account in CN=Computers with [ComputerPassword].
func (d *DC) AddComputer(t testing.TB, name string) {
	t.Helper()
	d.Modify(t, d.computerRecord(strings.TrimSuffix(name, "$")))
}

func (d *DC) computerRecord(name string) string {
	return fmt.Sprintf("dn: CN=%s,CN=Computers,%s\nobjectClass: computer\nsAMAccountName: %s$\ndNSHostName: %s.%s\n"+
		"servicePrincipalName: HOST/%s.%s\nservicePrincipalName: HOST/%s\nuserAccountControl: 4096\nmsDS-SupportedEncryptionTypes: 28\n%s",
		name, d.BaseDN, name, name, d.DNSDomain, name, d.DNSDomain, name, ldifLine("unicodePwd", quotedUTF16(ComputerPassword(name))))
}

// SetPassword sets the password of an account with a stored one.
func (d *DC) SetPassword(t testing.TB, account, password string) {
	t.Helper()
	d.Replace(t, account, "unicodePwd", quotedUTF16(password))
}

// GMSA describes a group Managed Service Account for [DC.AddGMSA].
type GMSA struct {
	Name     string   // without $
	Interval int      // days, 1 by default
	Readers  []string // accounts (sAMAccountName) that may retrieve the password
	SPNs     []string
	Attrs    map[string]string // further attributes
}

// AddGMSA makes a gMSA in CN=Managed Service Accounts. On a controller with a clock
// that is ahead, the account is made at that time.
func (d *DC) AddGMSA(t testing.TB, g GMSA) {
	t.Helper()
	if g.Interval == 0 {
		g.Interval = 1
	}
	d.Modify(t, d.gmsaRecord(g, d.sids(t, g.Readers)...))
}

// gmsaRecord makes the account, with the SIDs of its readers.
func (d *DC) gmsaRecord(g GMSA, readers ...string) string {
	var record strings.Builder
	fmt.Fprintf(&record, "dn: CN=%s,CN=Managed Service Accounts,%s\nobjectClass: msDS-GroupManagedServiceAccount\nsAMAccountName: %s$\n"+
		"dNSHostName: %s.%s\nuserAccountControl: 4096\nmsDS-ManagedPasswordInterval: %d\nmsDS-SupportedEncryptionTypes: 28\n",
		g.Name, d.BaseDN, g.Name, strings.ToLower(g.Name), d.DNSDomain, g.Interval)
	record.WriteString(ldifLine("msDS-GroupMSAMembership", readersDescriptor(readers)) + ldifLines("servicePrincipalName", g.SPNs...))
	for _, name := range slices.Sorted(maps.Keys(g.Attrs)) {
		record.WriteString(ldifLine(name, g.Attrs[name]))
	}
	return record.String()
}

// SetReaders replaces the accounts that may retrieve a gMSA's password.
func (d *DC) SetReaders(t testing.TB, gmsa string, readers ...string) {
	t.Helper()
	d.Replace(t, strings.TrimSuffix(gmsa, "$")+"$", "msDS-GroupMSAMembership", readersDescriptor(d.sids(t, readers)))
}

func (d *DC) sids(t testing.TB, accounts []string) []string {
	t.Helper()
	sids := make([]string, len(accounts))
	for i, a := range accounts {
		sids[i] = d.Attr(t, a, "objectSid")
	}
	return sids
}

// readersDescriptor is the descriptor O:SYD:(A;;RP;;;SID)… in its binary form, which ldb's
// tools leave as it is ([MS-DTYP] 2.4.6).
func readersDescriptor(sids []string) string {
	var aces []byte
	for _, text := range sids {
		sid := binarySID(text)
		aces = append(aces, 0, 0) // ACCESS_ALLOWED_ACE, no flags
		aces = binary.LittleEndian.AppendUint16(aces, uint16(8+len(sid)))
		aces = binary.LittleEndian.AppendUint32(aces, 0x10) // ADS_RIGHT_DS_READ_PROP
		aces = append(aces, sid...)
	}
	owner := binarySID("S-1-5-18")
	sd := []byte{1, 0, 0x04, 0x80} // revision 1; SE_DACL_PRESENT, SE_SELF_RELATIVE
	for _, offset := range []int{20, 0, 0, 20 + len(owner)} {
		sd = binary.LittleEndian.AppendUint32(sd, uint32(offset))
	}
	sd = append(append(sd, owner...), 2, 0) // the ACL's revision
	sd = binary.LittleEndian.AppendUint16(sd, uint16(8+len(aces)))
	sd = binary.LittleEndian.AppendUint32(sd, uint32(len(sids)))
	return string(append(sd, aces...))
}

// binarySID is a SID from its text, as a directory has given it ([MS-DTYP] 2.4.2).
func binarySID(text string) []byte {
	parts := strings.Split(text, "-")
	b := []byte{1, byte(len(parts) - 3), 0, 0}
	for i, part := range parts[2:] {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			panic(fmt.Sprintf("lab: %q is no SID: %v", text, err))
		}
		if i == 0 { // the authority, of 48 bits and big-endian
			b = binary.BigEndian.AppendUint32(b, uint32(n))
			continue
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// clockEnv gives the database tools the controller's clock.
func (d *DC) clockEnv() []string {
	if d.clock == "" {
		return nil
	}
	return append(d.fakeEnv(), "LD_PRELOAD="+find("libfaketime"))
}

// KVNO is the account's msDS-KeyVersionNumber.
func (d *DC) KVNO(t testing.TB, account string) int {
	t.Helper()
	n, err := strconv.Atoi(d.Attr(t, account, "msDS-KeyVersionNumber"))
	d.must(t, err)
	return n
}

// Eventually calls f every 20 ms until it gives nil, and fails the test with its last
// error when the time is up.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ldifLine is one value in LDIF, base64 where RFC 2849 demands it.
func ldifLine(attr, value string) string {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return attr + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
		}
	}
	if strings.HasPrefix(value, " ") || strings.HasPrefix(value, ":") || strings.HasPrefix(value, "<") {
		return attr + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
	}
	return attr + ": " + value + "\n"
}

// ldifLines are all values of an attribute.
func ldifLines(attr string, values ...string) string {
	var lines strings.Builder
	for _, v := range values {
		lines.WriteString(ldifLine(attr, v))
	}
	return lines.String()
}

// quotedUTF16 is how unicodePwd takes a password ([MS-ADTS] 3.1.1.3.1.5.1).
func quotedUTF16(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + s + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}
