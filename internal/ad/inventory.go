package ad

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Inventory is what there is to say of who can use which managed service account: read
// at one controller, in pages, by a number of searches that does not grow with the
// number of accounts, computers and groups.
type Inventory struct {
	Domain string
	SID    dtyp.SID
	// Whole says that the forest has no other domain, whose accounts would be missing.
	Whole    bool
	RootKeys []RootKey
	// Services are the managed service accounts.
	Services []Principal
	// Others are the computers, groups and foreign principals of the domain, and of its
	// users those that can read a password, or could make themselves able to.
	Others []Principal
}

// Principal is an account or group with what an audit asks of it.
type Principal struct {
	Account
	// MemberOf are the distinguished names of the groups that have it as a member,
	// beside PrimaryGroup, which is the RID of one.
	MemberOf     []string
	PrimaryGroup uint32
	// LastLogon is lastLogonTimestamp, which lags by up to 14 days.
	LastLogon time.Time
	// AdminCount says that the account is or was in a protected group, [MS-ADTS] 3.1.1.6.1.
	AdminCount bool
	// Descriptor is the object's owner and permissions: of managed service accounts
	// alone, and nil where hidden.
	Descriptor *secdesc.SecurityDescriptor
}

// principalAttrs are the attributes of a Principal but its descriptor.
var principalAttrs = append([]string{"memberOf", "primaryGroupID", "lastLogonTimestamp", "adminCount"}, accountAttrs...)

const descriptorAttr = "nTSecurityDescriptor"

func parsePrincipal(e *ldap.Entry) (Principal, error) {
	a, err := parseAccount(e)
	if err != nil {
		return Principal{}, err
	}
	r := attrs{e: e}
	p := Principal{
		Account: a, MemberOf: r.strings("memberOf"), PrimaryGroup: r.number("primaryGroupID"), LastLogon: r.filetime("lastLogonTimestamp"),
		AdminCount: r.number("adminCount") > 0, Descriptor: r.securityDescriptor(descriptorAttr),
	}
	if r.err != nil {
		return Principal{}, fmt.Errorf("%s: %w", e.DN, r.err)
	}
	return p, nil
}

// Inventory reads the domain's managed service accounts and all that bears on who can
// use them.
func (s *Session) Inventory(ctx context.Context) (Inventory, error) {
	inv := Inventory{Domain: s.d.Name()}
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error { return d.inventory(ctx, &inv) })
	return inv, err
}

func (d *desk) inventory(ctx context.Context, inv *Inventory) (err error) {
	e, err := d.Read(ctx, d.names.Base.String(), objectAttrs...)
	if err != nil {
		return err
	}
	domain, err := parseObject(e)
	if err != nil {
		return err
	}
	inv.SID = domain.SID
	domains, err := d.domains(ctx)
	if err != nil {
		return err
	}
	inv.Whole = len(domains) <= 1
	if inv.RootKeys, err = d.rootKeys(ctx, false); err != nil {
		return err
	}
	flags := &ldap.ControlMicrosoftSDFlags{Criticality: true, ControlValue: adproto.SDOwner | adproto.SDDACL}
	if inv.Services, err = d.principals(ctx, serviceFilter(), append([]string{descriptorAttr}, principalAttrs...), flags); err != nil {
		return err
	}
	f := adproto.Or(computerFilter(), kindFilter(KindGroup), adproto.Equal("objectClass", "foreignSecurityPrincipal"))
	if inv.Others, err = d.principals(ctx, f, principalAttrs); err != nil {
		return err
	}
	return d.people(ctx, inv)
}

func (d *desk) principals(ctx context.Context, f adproto.Filter, attributes []string, controls ...ldap.Control) ([]Principal, error) {
	entries, err := d.Search(ctx, ldapc.Search{Base: d.names.Base.String(), Scope: ldapc.Subtree, Filter: f, Attrs: attributes, Controls: controls})
	if err != nil {
		return nil, err
	}
	list := make([]Principal, 0, len(entries))
	for _, e := range entries {
		p, err := parsePrincipal(e)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// peopleAtOnce is how many SIDs or groups one search asks for.
const peopleAtOnce = 100

// people adds the users that count: those that descriptors name, and the members of the
// groups that they name. A domain may have 100,000 others.
func (d *desk) people(ctx context.Context, inv *Inventory) error {
	var filters []adproto.Filter
	known := map[dtyp.SID]bool{}
	for _, p := range slices.Concat(inv.Services, inv.Others) {
		known[p.SID] = true
	}
	named := inv.trustees()
	for sid := range named {
		if !known[sid] && sid.Domain() == inv.SID {
			filters = append(filters, adproto.EqualBytes("objectSid", sid.Bytes()))
		}
	}
	members := inv.Members()
	groups := map[string]bool{}
	for sid := range named {
		for _, g := range members.Groups(sid) {
			groups[g.DN] = true
		}
	}
	for dn := range groups {
		filters = append(filters, adproto.Equal("memberOf", dn))
	}
	for chunk := range slices.Chunk(filters, peopleAtOnce) {
		found, err := d.principals(ctx, adproto.And(adproto.Equal("objectCategory", "person"), adproto.Or(chunk...)), principalAttrs)
		if err != nil {
			return err
		}
		for _, p := range found {
			if !known[p.SID] {
				known[p.SID] = true
				inv.Others = append(inv.Others, p)
			}
		}
	}
	return nil
}

// trustees are all that may read a password or could make themselves able to.
func (inv *Inventory) trustees() map[dtyp.SID]bool {
	named := map[dtyp.SID]bool{}
	for _, p := range inv.Services {
		for _, sid := range p.ReaderSIDs() {
			named[sid] = true
		}
		for _, m := range p.Masters() {
			named[m.SID] = true
		}
	}
	return named
}

// ReaderSIDs are those that may retrieve the password by an entry of their own.
func (p Principal) ReaderSIDs() []dtyp.SID {
	if p.MSA == nil || p.MSA.Readers == nil {
		return nil
	}
	return p.MSA.Readers.Trustees(secdesc.ReadManagedPassword)
}

// Master can make itself a reader of a gMSA's password.
type Master struct {
	SID dtyp.SID
	// Rights are those that let it, in words.
	Rights []string
}

// gmsaObject is the object type list by which a write of msDS-GroupMSAMembership is
// checked: the class and the attribute by their schemaIDGUIDs, which are the same in
// every forest. The attribute is in no property set.
var gmsaObject = []secdesc.Object{
	// 7b8b558a-93a5-4af7-adca-c017e67f1057
	{Level: 0, Type: dtyp.GUID{0x8a, 0x55, 0x8b, 0x7b, 0xa5, 0x93, 0xf7, 0x4a, 0xad, 0xca, 0xc0, 0x17, 0xe6, 0x7f, 0x10, 0x57}},
	// 888eedd6-ce04-df40-b462-b8a50e41ba38
	{Level: 1, Type: dtyp.GUID{0xd6, 0xed, 0x8e, 0x88, 0x04, 0xce, 0x40, 0xdf, 0xb4, 0x62, 0xb8, 0xa5, 0x0e, 0x41, 0xba, 0x38}},
}

// Masters are those whom the gMSA's permissions let change who may read its password, by
// entries of their own or as its owner.
func (p Principal) Masters() []Master {
	if p.Kind != KindGMSA || p.Descriptor == nil {
		return nil
	}
	sd := p.Descriptor
	sids := []dtyp.SID{sd.Owner}
	if sd.DACL == nil {
		sids = append(sids, dtyp.Everyone)
	} else {
		for _, a := range sd.DACL.ACEs {
			if a.Type.IsAllow() && a.Flags&secdesc.InheritOnly == 0 && !slices.Contains(sids, a.SID) {
				sids = append(sids, a.SID)
			}
		}
	}
	var list []Master
	for _, sid := range sids {
		if rights := masterRights(sd, sid); len(rights) > 0 {
			list = append(list, Master{sid, rights})
		}
	}
	return list
}

func masterRights(sd *secdesc.SecurityDescriptor, sid dtyp.SID) []string {
	if sid.IsZero() {
		return nil
	}
	granted, err := secdesc.CheckEach(sd, secdesc.Token{SIDs: []dtyp.SID{sid}}, secdesc.FullControl, gmsaObject...)
	if err != nil {
		return nil
	}
	if granted[0].Has(secdesc.FullControl) {
		return []string{"full control"}
	}
	var rights []string
	if sid == sd.Owner {
		rights = append(rights, "owner")
	}
	if granted[0].Has(secdesc.WriteDAC) {
		rights = append(rights, "WRITE_DAC")
	}
	if granted[0].Has(secdesc.WriteOwner) {
		rights = append(rights, "WRITE_OWNER")
	}
	if granted[1].Has(secdesc.WriteProperty) {
		rights = append(rights, "write "+readersAttr)
	}
	if len(rights) == 1 && sid == sd.Owner && !granted[0].Has(secdesc.WriteDAC) {
		return nil // entries for OWNER RIGHTS leave the owner nothing that counts
	}
	return rights
}

// Members is who is in what, as an inventory knows it.
type Members struct {
	bySID map[dtyp.SID]*Principal
	byDN  map[string]*Principal // by the distinguished name in lower case
	in    map[dtyp.SID][]*Principal
	sid   dtyp.SID
}

// Members indexes the inventory's memberships.
func (inv *Inventory) Members() *Members {
	m := &Members{bySID: map[dtyp.SID]*Principal{}, byDN: map[string]*Principal{}, in: map[dtyp.SID][]*Principal{}, sid: inv.SID}
	lists := [][]Principal{inv.Services, inv.Others}
	for _, list := range lists {
		for i := range list {
			p := &list[i]
			m.bySID[p.SID], m.byDN[strings.ToLower(p.DN)] = p, p
		}
	}
	for _, list := range lists {
		for i := range list {
			for _, g := range m.Of(&list[i]) {
				m.in[g.SID] = append(m.in[g.SID], &list[i])
			}
		}
	}
	return m
}

// Principal is the one with the SID; nil where the inventory has none.
func (m *Members) Principal(sid dtyp.SID) *Principal { return m.bySID[sid] }

// Of are the groups that p is in directly.
func (m *Members) Of(p *Principal) []*Principal {
	var groups []*Principal
	for _, dn := range p.MemberOf {
		if g := m.byDN[strings.ToLower(dn)]; g != nil {
			groups = append(groups, g)
		}
	}
	if p.PrimaryGroup != 0 {
		if g := m.bySID[m.sid.Child(p.PrimaryGroup)]; g != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// Above are the groups that p is in, directly or through others, the nearest first.
func (m *Members) Above(p *Principal) []*Principal { return walk(p, m.Of)[1:] }

// Below are the members of the group with the SID, and of the groups in it.
func (m *Members) Below(sid dtyp.SID) []*Principal {
	p := m.bySID[sid]
	if p == nil {
		return nil
	}
	return walk(p, func(p *Principal) []*Principal { return m.in[p.SID] })[1:]
}

// Groups are the group with the SID and all groups in it.
func (m *Members) Groups(sid dtyp.SID) []*Principal {
	p := m.bySID[sid]
	if p == nil || p.Kind != KindGroup {
		return nil
	}
	return slices.DeleteFunc(append([]*Principal{p}, m.Below(sid)...), func(p *Principal) bool { return p.Kind != KindGroup })
}

// walk is from and all that next leads to, each once.
func walk(from *Principal, next func(*Principal) []*Principal) []*Principal {
	seen := map[*Principal]bool{from: true}
	list := []*Principal{from}
	for i := 0; i < len(list); i++ {
		for _, p := range next(list[i]) {
			if !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
	}
	return list
}
