package provision_test

import (
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/secdesc"
)

// view calls fn with the objects of a new domain.
func view(t *testing.T, d *dctest.Domain, fn func(r reader)) {
	t.Helper()
	err := d.View(t.Context(), func(r *directory.Reader) error {
		fn(reader{t, r})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type reader struct {
	t *testing.T
	*directory.Reader
}

func (r reader) attribute(name string) *schema.Attribute {
	r.t.Helper()
	a, ok := r.Schema().Attribute(name)
	if !ok {
		r.t.Fatalf("no attribute %s", name)
	}
	return a
}

// object finds one by its name below the head of the domain.
func (r reader) object(name string) *rows.Entry {
	r.t.Helper()
	dn, err := adproto.ParseDN(strings.TrimPrefix(name+",", ",") + r.Domain().DN().String())
	if err != nil {
		r.t.Fatal(err)
	}
	g, err := r.Resolve(dn)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := r.Get(g)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r reader) values(e *rows.Entry, name string) (out []string) {
	r.t.Helper()
	for _, v := range e.Values[r.attribute(name)] {
		out = append(out, string(v))
	}
	return out
}

// each calls fn with every object.
func (r reader) each(fn func(dn adproto.DN, e *rows.Entry)) {
	r.t.Helper()
	var walk func(g dtyp.GUID)
	walk = func(g dtyp.GUID) {
		for child, err := range r.Children(g) {
			if err != nil {
				r.t.Fatal(err)
			}
			e, err := r.Get(child)
			if err != nil {
				r.t.Fatal(err)
			}
			dn, err := r.DN(e)
			if err != nil {
				r.t.Fatal(err)
			}
			fn(dn, e)
			walk(child)
		}
	}
	walk(dtyp.GUID{})
}

// TestObjectsFollowTheSchema: each object has the attributes that its class must have, no
// other than it may have, and values of their syntax; those that name objects name some.
func TestObjectsFollowTheSchema(t *testing.T) {
	d := dctest.New(t)
	view(t, d, func(r reader) {
		n := 0
		r.each(func(dn adproto.DN, e *rows.Entry) {
			n++
			class, err := r.Schema().Expand(r.values(e, "objectClass")...)
			if err != nil {
				t.Fatalf("%s: %v", dn, err)
			}
			present := []*schema.Attribute{r.attribute(class.RDN())}
			for a, stored := range e.Values {
				values := rows.AsWritten(a, stored)
				present = append(present, a)
				if a.SingleValued && len(values) != 1 {
					t.Errorf("%s: %d values of %s", dn, len(values), a.Name)
				}
				for _, v := range values {
					if err := a.Check(v); err != nil {
						t.Errorf("%s: %s: %v", dn, a.Name, err)
					}
					if a.Syntax.IsDN() && !exists(r, string(v)) {
						t.Errorf("%s: %s names %s, which does not exist", dn, a.Name, v)
					}
				}
			}
			if class.Structural().Name == "msKds-ProvRootKey" {
				present = append(present, r.attribute(directory.PrivateRootKey)) // a row of its own
			}
			if err := class.CheckPresent(present); err != nil {
				t.Errorf("%s: %v", dn, err)
			}
		})
		if n < 120 {
			t.Errorf("there are %d objects", n)
		}
	})
}

// exists reports whether a distinguished name, alone or with a GUID before it, names an
// object; those of the schema are the directory's own.
func exists(r reader, name string) bool {
	if i := strings.LastIndex(name, ":"); i >= 0 {
		name = name[i+1:]
	}
	dn, err := adproto.ParseDN(name)
	if err != nil {
		return false
	}
	_, err = r.Resolve(dn)
	return err == nil || dn.Within(r.Domain().SchemaDN())
}

// TestAccountsHaveTheirSIDs: those of [MS-DTYP] 2.4.2.4, the built-in groups in a domain of
// their own.
func TestAccountsHaveTheirSIDs(t *testing.T) {
	d := dctest.New(t)
	sids := map[string]dtyp.SID{}
	for name, rid := range map[string]uint32{"Administrator": 500, "Guest": 501, "krbtgt": 502, "DC1$": 1000,
		"Enterprise Read-only Domain Controllers": 498, "Domain Admins": 512, "Domain Users": 513, "Domain Guests": 514,
		"Domain Computers": 515, "Domain Controllers": 516, "Cert Publishers": 517, "Schema Admins": 518, "Enterprise Admins": 519,
		"Group Policy Creator Owners": 520, "Read-only Domain Controllers": 521, "Cloneable Domain Controllers": 522,
		"Protected Users": 525, "Key Admins": 526, "Enterprise Key Admins": 527, "RAS and IAS Servers": 553,
		"Allowed RODC Password Replication Group": 571, "Denied RODC Password Replication Group": 572} {
		sids[name] = d.Domain().SID.Child(rid)
	}
	for name, rid := range map[string]uint32{"Administrators": 544, "Users": 545, "Guests": 546, "Account Operators": 548,
		"Server Operators": 549, "Print Operators": 550, "Backup Operators": 551, "Replicator": 552,
		"Pre-Windows 2000 Compatible Access": 554, "Remote Desktop Users": 555, "Network Configuration Operators": 556,
		"Incoming Forest Trust Builders": 557, "Performance Monitor Users": 558, "Performance Log Users": 559,
		"Windows Authorization Access Group": 560, "Terminal Server License Servers": 561, "Distributed COM Users": 562,
		"IIS_IUSRS": 568, "Cryptographic Operators": 569, "Event Log Readers": 573, "Certificate Service DCOM Access": 574,
		"RDS Remote Access Servers": 575, "RDS Endpoint Servers": 576, "RDS Management Servers": 577, "Hyper-V Administrators": 578,
		"Access Control Assistance Operators": 579, "Remote Management Users": 580, "Storage Replica Administrators": 582} {
		sids[name] = dtyp.NewSID(dtyp.AuthorityNT, 32, rid)
	}
	view(t, d, func(r reader) {
		n := 0
		r.each(func(dn adproto.DN, e *rows.Entry) {
			v := e.Values[r.attribute("sAMAccountName")]
			if len(v) == 0 {
				return
			}
			n++
			sid, err := dtyp.SIDFromBytes(e.Values[r.attribute("objectSid")][0])
			if want, known := sids[string(v[0])]; err != nil || !known || sid != want {
				t.Errorf("%s: %s, %v, want %s", dn, sid, err, want)
			}
		})
		if n != len(sids) {
			t.Errorf("%d accounts, want %d", n, len(sids))
		}
		head := r.object("")
		if sid, err := dtyp.SIDFromBytes(head.Values[r.attribute("objectSid")][0]); err != nil || sid != d.Domain().SID || head.GUID != d.Domain().GUID {
			t.Errorf("the head of the domain is %s, %s, %v", sid, head.GUID, err)
		}
	})
	var next dtyp.SID
	err := d.Update(t.Context(), func(w *directory.Writer) (err error) { next, err = w.NextSID(); return err })
	if err != nil || next.RID() != 1001 {
		t.Errorf("the first account of a user gets %s, %v", next, err)
	}
}

// TestWellKnownObjects are found by their GUIDs, [MS-ADTS] 6.1.1.4, which clients know
// whatever the containers are called.
func TestWellKnownObjects(t *testing.T) {
	d := dctest.New(t)
	admin := d.Caller(t, "Administrator")
	domain, config := d.Domain().DN().String(), d.Domain().ConfigurationDN().String()
	filter, err := adproto.ParseFilter("(objectClass=*)")
	if err != nil {
		t.Fatal(err)
	}
	for base, objects := range map[string]map[string]string{
		domain: {
			"A9D1CA15768811D1ADED00C04FD8D5CD": "CN=Users",
			"AA312825768811D1ADED00C04FD8D5CD": "CN=Computers",
			"A361B2FFFFD211D1AA4B00C04FD7D83A": "OU=Domain Controllers",
			"AB1D30F3768811D1ADED00C04FD8D5CD": "CN=System",
			"AB8153B7768811D1ADED00C04FD8D5CD": "CN=LostAndFound",
			"2FBAC1870ADE11D297C400C04FD8D5CD": "CN=Infrastructure",
			"18E2EA80684F11D2B9AA00C04F79F805": "CN=Deleted Objects",
			"22B70C67D56E4EFB91E9300FCA3DC1AA": "CN=ForeignSecurityPrincipals",
			"09460C08AE1E4A4EA0F64AEE7DAA1E5A": "CN=Program Data",
			"F4BE92A4C777485E878E9421D53087DB": "CN=Microsoft,CN=Program Data",
			"6227F0AF1FC2410D8E3BB10615BB5B0F": "CN=NTDS Quotas",
			"1EB93889E40C45DF9F0C64D23BBB6237": "CN=Managed Service Accounts",
			"683A24E2E8164BD3AF86AC3C2CF3F981": "CN=Keys",
		},
		config: {
			"18E2EA80684F11D2B9AA00C04F79F805": "CN=Deleted Objects",
			"AB8153B7768811D1ADED00C04FD8D5CD": "CN=LostAndFoundConfig",
		},
	} {
		for guid, want := range objects {
			var found []string
			q := directory.SearchRequest{Base: "<WKGUID=" + guid + "," + base + ">", Scope: directory.ScopeBase, Filter: filter,
				Attributes: []string{"1.1"}, ShowDeleted: true}
			_, err := d.Search(t.Context(), admin, q, func(e directory.SearchEntry) error {
				found = append(found, e.DN)
				return nil
			})
			if err != nil || len(found) != 1 || found[0] != want+","+base {
				t.Errorf("%s of %s: %q, %v, want %s", guid, base, found, err, want)
			}
		}
	}
}

func TestTheControllerIsFoundByItsNames(t *testing.T) {
	view(t, dctest.New(t), func(r reader) {
		dsa := r.object("CN=NTDS Settings,CN=DC1,CN=Servers,CN=Default-First-Site-Name,CN=Sites,CN=Configuration").GUID.String()
		spns := []string{"host/dc1.contoso.com", "host/dc1", "HOST/dc1/CONTOSO", "HOST/dc1.contoso.com/CONTOSO", "HOST/dc1.contoso.com/contoso.com",
			"ldap/DC1", "ldap/dc1.contoso.com", "ldap/dc1/CONTOSO", "ldap/dc1.contoso.com/contoso.com", "ldap/dc1.contoso.com/CONTOSO",
			"ldap/" + dsa + "._msdcs.contoso.com", "E3514235-4B06-11D1-AB04-00C04FC2DCD2/" + dsa + "/contoso.com",
			"GC/dc1.contoso.com/contoso.com", "DNS/dc1.contoso.com", "RestrictedKrbHost/dc1", "RestrictedKrbHost/dc1.contoso.com"}
		if got := r.values(r.object("CN=DC1,OU=Domain Controllers"), "servicePrincipalName"); len(got) != len(spns) {
			t.Errorf("%d names, want %d: %q", len(got), len(spns), got)
		}
		for _, spn := range spns {
			if e, err := r.Lookup(r.attribute("servicePrincipalName"), []byte(spn)); err != nil || e.Name != "DC1" {
				t.Errorf("%s: %v", spn, err)
			}
		}
		if e, err := r.Lookup(r.attribute("servicePrincipalName"), []byte("kadmin/changepw")); err != nil || e.Name != "krbtgt" {
			t.Errorf("kadmin/changepw: %v", err)
		}
		server := r.object("CN=DC1,CN=Servers,CN=Default-First-Site-Name,CN=Sites,CN=Configuration")
		for l, err := range r.Links(r.attribute("serverReference"), server.GUID) {
			if err != nil || l.Target != r.object("CN=DC1,OU=Domain Controllers").GUID {
				t.Errorf("serverReference leads to %s, %v", l.Target, err)
			}
		}
	})
}

// TestNoGroupPolicyIsLinked: SSSD refuses logons where one is and SMB is not.
func TestNoGroupPolicyIsLinked(t *testing.T) {
	view(t, dctest.New(t), func(r reader) {
		r.each(func(dn adproto.DN, e *rows.Entry) {
			if v := r.values(e, "gPLink"); len(v) > 0 {
				t.Errorf("%s: gPLink %s", dn, v)
			}
		})
		if got := r.values(r.object(""), "ms-DS-MachineAccountQuota"); len(got) != 1 || got[0] != "0" {
			t.Errorf("ms-DS-MachineAccountQuota: %s", got)
		}
	})
}

// TestTheFirstRootKeyServesAtOnce: it derives passwords for the interval that the domain
// is made in.
func TestTheFirstRootKeyServesAtOnce(t *testing.T) {
	d := dctest.New(t)
	now := dtyp.FiletimeOf(d.Now())
	tl, err := kds.Create(d.Ring(), now, 30, "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := tl.At(now)
	if err != nil {
		t.Fatal(err)
	}
	password, err := d.Ring().Password(d.Domain().SID.Child(1001), p)
	if err != nil || password.Len() != gkdi.PasswordSize {
		t.Errorf("got %d bytes, %v", password.Len(), err)
	}
}

// TestWhoMayDoWhat: rights that follow from the descriptors of a new domain.
func TestWhoMayDoWhat(t *testing.T) {
	d := dctest.New(t)
	admin := d.Caller(t, "Administrator").Token
	controller := d.Caller(t, "DC1$").Token
	operator := secdesc.Token{SIDs: []dtyp.SID{d.Domain().SID.Child(9999), dtyp.Everyone, dtyp.AuthenticatedUsers, dtyp.BuiltinAccountOperators}}
	domainAdmin := secdesc.Token{SIDs: []dtyp.SID{d.Domain().SID.Child(9998), dtyp.Everyone, dtyp.AuthenticatedUsers,
		d.Domain().SID.Child(dtyp.RIDDomainAdmins)}}
	view(t, d, func(r reader) {
		object := func(name string) access.Object {
			e := r.object(name)
			sd, err := secdesc.Parse(e.Values[r.attribute("nTSecurityDescriptor")][0])
			if err != nil {
				t.Fatal(err)
			}
			class, err := r.Schema().Expand(r.values(e, "objectClass")...)
			if err != nil {
				t.Fatal(err)
			}
			o := access.Object{SD: &sd, Class: class.Structural().GUID}
			if v := e.Values[r.attribute("objectSid")]; len(v) == 1 {
				o.SID, _ = dtyp.SIDFromBytes(v[0])
			}
			return o
		}
		class := func(name string) dtyp.GUID {
			c, ok := r.Schema().Class(name)
			if !ok {
				t.Fatalf("no class %s", name)
			}
			return c.GUID
		}
		spn, ok := r.Schema().Attribute("servicePrincipalName")
		if !ok {
			t.Fatal("no servicePrincipalName")
		}
		validatedSPN, err := dtyp.ParseGUID("f3a64788-5306-11d1-a9c5-0000f80367c1")
		if err != nil {
			t.Fatal(err)
		}
		rootKey := "CN=" + d.Ring().Keys()[0].ID.String() + ",CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration"
		msa, keys := "CN=Managed Service Accounts", "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration"
		gmsa := class("msDS-GroupManagedServiceAccount")
		for what, c := range map[string]struct{ got, want bool }{
			"Administrator makes a gMSA":                          {object(msa).Creates(admin, gmsa), true},
			"Domain Admins make a gMSA":                           {object(msa).Creates(domainAdmin, gmsa), true},
			"Account Operators make no gMSA":                      {object(msa).Creates(operator, gmsa), false},
			"Account Operators make an sMSA":                      {object(msa).Creates(operator, class("msDS-ManagedServiceAccount")), true},
			"Account Operators make a user":                       {object("CN=Users").Creates(operator, class("user")), true},
			"a host makes no computer":                            {object("CN=Computers").Creates(controller, class("computer")), false},
			"Account Operators do not write Administrator":        {object("CN=Administrator,CN=Users").Writable(operator, spn), false},
			"Account Operators write Guest":                       {object("CN=Guest,CN=Users").Writable(operator, spn), true},
			"Account Operators do not write the controller":       {object("CN=DC1,OU=Domain Controllers").Writable(operator, spn), false},
			"Account Operators have no right to the controller's": {object("CN=DC1,OU=Domain Controllers").Validates(operator, validatedSPN), false},
			"the controller writes its own SPN":                   {object("CN=DC1,OU=Domain Controllers").Validates(controller, validatedSPN), true},
			"Administrator reads a root key":                      {object(rootKey).Readable(admin, r.attribute("msKds-RootKeyData")), true},
			"Domain Admins read no root key":                      {object(rootKey).Readable(domainAdmin, r.attribute("msKds-RootKeyData")), false},
			"Domain Admins remove a root key":                     {object(rootKey).Deletes(domainAdmin, object(keys)), true},
			"Domain Admins make no root key":                      {object(keys).Creates(domainAdmin, class("msKds-ProvRootKey")), false},
			"Administrator makes a root key":                      {object(keys).Creates(admin, class("msKds-ProvRootKey")), true},
			"everybody who has logged on reads the head":          {object("").Readable(controller, r.attribute("objectSid")), true},
			"Domain Admins write the configuration":               {object("CN=Sites,CN=Configuration").Writable(domainAdmin, r.attribute("description")), true},
			"a host reads the groups of Administrator's group":    {object("CN=Domain Users,CN=Users").Readable(controller, r.attribute("member")), true},
			"a host does not see what was deleted":                {object("CN=Deleted Objects").Lists(controller), false},
		} {
			if c.got != c.want {
				t.Errorf("%s: got %t", what, c.got)
			}
		}
	})
}

func BenchmarkObjects(b *testing.B) {
	for b.Loop() {
		dctest.New(b)
	}
}
