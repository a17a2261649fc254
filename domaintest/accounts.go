package domaintest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Account is a user, a computer, a gMSA or a group.
type Account struct {
	// Name is the sAMAccountName; that of a computer or gMSA ends in $.
	Name string
	// DN is the distinguished name and SID the security identifier.
	DN, SID string
	// Password is that of a user or computer; empty for a gMSA and a group.
	Password string

	realm string
}

// Principal is NAME@REALM.
func (a Account) Principal() string { return a.Name + "@" + a.realm }

// Administrator is the administrator of the domain.
func (d *Domain) Administrator() Account {
	d.t.Helper()
	return d.account("CN=Administrator,CN=Users,"+d.domainDN(), "Administrator", Password)
}

// User makes a user below CN=Users.
func (d *Domain) User(name string) Account {
	d.t.Helper()
	return d.add("CN=Users", name, name, Password, "user", attributes{
		"userAccountControl": {strconv.Itoa(int(adproto.UACNormalAccount))},
		"userPrincipalName":  {name + "@" + d.Name},
	})
}

// Computer makes the account of a host below CN=Computers, with HOST/ names for it. The $
// of name may be left out.
func (d *Domain) Computer(name string) Account {
	d.t.Helper()
	name = strings.TrimSuffix(name, "$")
	host := strings.ToLower(name) + "." + d.Name
	return d.add("CN=Computers", name, name+"$", Password, "computer", attributes{
		"userAccountControl":            {strconv.Itoa(int(adproto.UACWorkstationTrust))},
		"dNSHostName":                   {host},
		"servicePrincipalName":          {"HOST/" + host, "HOST/" + strings.ToUpper(name)},
		"msDS-SupportedEncryptionTypes": {strconv.Itoa(int(adproto.EncDefaultAccounts))},
	})
}

// Group makes a global security group below CN=Users with its members.
func (d *Domain) Group(name string, members ...Account) Account {
	d.t.Helper()
	kind := adproto.GroupSecurity | adproto.GroupGlobal
	g := d.add("CN=Users", name, name, "", "group", attributes{"groupType": {strconv.Itoa(int(int32(kind)))}})
	d.AddMember(g, members...)
	return g
}

// AddMember adds members to a group. Tickets that they have already do not say so.
func (d *Domain) AddMember(group Account, members ...Account) {
	d.t.Helper()
	for _, m := range members {
		d.modify(group.DN, directory.ChangeAdd, "member", m.DN)
	}
}

// RemoveMember takes members out of a group.
func (d *Domain) RemoveMember(group Account, members ...Account) {
	d.t.Helper()
	for _, m := range members {
		d.modify(group.DN, directory.ChangeDelete, "member", m.DN)
	}
}

// GMSA makes a group Managed Service Account with a password of 30 days, which the readers
// may retrieve: computers, or a group of them. The $ of name may be left out.
func (d *Domain) GMSA(name string, readers ...Account) Account {
	d.t.Helper()
	name = strings.TrimSuffix(name, "$")
	var sids []dtyp.SID
	for _, r := range readers {
		sid, err := dtyp.ParseSID(r.SID)
		d.check("reader "+r.Name, err)
		sids = append(sids, sid)
	}
	membership, err := secdesc.GroupMSAMembership(sids...).Append(nil)
	d.check("readers", err)
	return d.add("CN=Managed Service Accounts", name, name+"$", "", "msDS-GroupManagedServiceAccount", attributes{
		"dNSHostName":                   {strings.ToLower(name) + "." + d.Name},
		"msDS-ManagedPasswordInterval":  {"30"},
		"msDS-GroupMSAMembership":       {string(membership)},
		"msDS-SupportedEncryptionTypes": {strconv.Itoa(int(adproto.EncDefaultAccounts))},
	})
}

// AddSPN gives an account service principal names, such as HTTP/web1.contoso.com.
func (d *Domain) AddSPN(a Account, spns ...string) {
	d.t.Helper()
	d.modify(a.DN, directory.ChangeAdd, "servicePrincipalName", spns...)
}

// SetPassword gives a user or computer another password, as an administrator does.
func (d *Domain) SetPassword(a Account, password string) {
	d.t.Helper()
	d.modify(a.DN, directory.ChangeReplace, "unicodePwd", quoted(d, password))
}

// Set replaces the values of an attribute of an account, as a change by LDAP would:
// d.Set(alice, "userAccountControl", "514") disables her. No values remove it.
func (d *Domain) Set(a Account, attribute string, values ...string) {
	d.t.Helper()
	d.modify(a.DN, directory.ChangeReplace, attribute, values...)
}

// Keytab writes a keytab with the present and the previous keys of an account, by its own
// name and by the SPNs given, and returns its path. After a change of password write it
// again.
func (d *Domain) Keytab(a Account, spns ...string) string {
	d.t.Helper()
	b, err := d.controller.ExportKeytab(d.t.Context(), append([]string{a.Name}, spns...))
	d.check("keytab of "+a.Name, err)
	path := filepath.Join(d.t.TempDir(), strings.TrimSuffix(a.Name, "$")+".keytab")
	d.check("keytab of "+a.Name, os.WriteFile(path, b.Reveal(), 0o600))
	return path
}

type attributes map[string][]string

// add makes an account in a container of the domain.
func (d *Domain) add(container, cn, name, password, class string, a attributes) Account {
	d.t.Helper()
	q := directory.AddRequest{DN: adproto.RDN{{Type: "CN", Value: cn}}.String() + "," + container + "," + d.domainDN()}
	a["objectClass"], a["sAMAccountName"] = []string{class}, []string{name}
	if password != "" {
		a["unicodePwd"] = []string{quoted(d, password)}
	}
	for attribute, values := range a {
		at := directory.Attribute{Name: attribute}
		for _, v := range values {
			at.Values = append(at.Values, []byte(v))
		}
		q.Attributes = append(q.Attributes, at)
	}
	d.check("make "+name, d.controller.Directory().Add(d.t.Context(), self(), q))
	return d.account(q.DN, name, password)
}

// quoted is a password as unicodePwd takes it: [MS-ADTS] 3.1.1.3.1.5.1.
func quoted(d *Domain, password string) string {
	d.t.Helper()
	return string(d.utf16(`"` + password + `"`).Reveal())
}

// account describes an account that is there.
func (d *Domain) account(dn, name, password string) Account {
	d.t.Helper()
	a := Account{Name: name, DN: dn, Password: password, realm: d.Realm}
	err := d.controller.Directory().View(d.t.Context(), func(r *directory.Reader) error {
		sam, ok := r.Schema().Attribute("sAMAccountName")
		sid, known := r.Schema().Attribute("objectSid")
		if !ok || !known {
			panic("domaintest: the schema has no sAMAccountName or no objectSid")
		}
		e, err := r.Lookup(sam, []byte(name))
		if err != nil {
			return err
		}
		s, err := dtyp.SIDFromBytes(e.Values[sid][0])
		a.SID = s.String()
		return err
	})
	d.check("find "+name, err)
	return a
}
