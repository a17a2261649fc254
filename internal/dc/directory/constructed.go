package directory

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// maxTransitive bounds how many objects an attribute such as tokenGroups may pass
// through.
const maxTransitive = 10_000

// operationalNames are the attributes that "+" gives: those that are computed at little
// cost from the object itself.
func operationalNames() []string {
	return []string{"canonicalName", "createTimeStamp", "modifyTimeStamp", "structuralObjectClass", "subSchemaSubEntry",
		"fromEntry", "parentGUID", "primaryGroupToken", "sDRightsEffective", "msDS-KeyVersionNumber", "msDS-PrincipalName",
		"msDS-User-Account-Control-Computed", "msDS-UserPasswordExpiryTimeComputed",
		"attributeTypes", "objectClasses", "dITContentRules", "extendedAttributeInfo", "extendedClassInfo"}
}

// constructed computes an attribute that is not stored: [MS-ADTS] 3.1.1.4.5. What this
// directory does not compute, an object does not have.
func (s *search) constructed(v *view, a *schema.Attribute) ([][]byte, error) {
	o := v.o
	switch a.Name {
	case "canonicalName":
		name, err := s.canonicalName(o)
		return one([]byte(name)), err
	case "createTimeStamp":
		return one(generalizedTime(o.WhenCreated)), nil
	case "modifyTimeStamp":
		return one(generalizedTime(o.WhenChanged)), nil
	case "structuralObjectClass":
		return s.structuralClasses(o), nil
	case "subSchemaSubEntry":
		return one([]byte(adproto.NewDN("CN", aggregateName, s.schemaDN).String())), nil
	case "fromEntry":
		return one([]byte("TRUE")), nil
	case "parentGUID":
		if o.Parent.IsZero() {
			return nil, nil
		}
		return one(o.Parent[:]), nil
	case "msDS-parentdistname":
		return s.parentDN(o)
	case "primaryGroupToken":
		if !o.is(s.Directory, classGroup) || o.sid.IsZero() {
			return nil, nil
		}
		return decimal(int64(o.sid.RID())), nil
	case "msDS-PrincipalName":
		return s.principalName(o), nil
	case "msDS-KeyVersionNumber":
		return s.keyVersion(o)
	case "msDS-User-Account-Control-Computed", "msDS-UserPasswordExpiryTimeComputed":
		return s.accountState(o, a)
	case "tokenGroups", "tokenGroupsNoGCAcceptable":
		return s.tokenGroups(o, adproto.GroupGlobal|adproto.GroupUniversal|adproto.GroupDomainLocal|adproto.GroupBuiltin)
	case "tokenGroupsGlobalAndUniversal":
		return s.tokenGroups(o, adproto.GroupGlobal|adproto.GroupUniversal)
	case "msds-memberOfTransitive":
		return s.transitive(o, s.known.memberOf)
	case "msds-memberTransitive":
		return s.transitive(o, s.known.member)
	case "msDS-Approx-Immed-Subordinates":
		return s.subordinates(o)
	case "sDRightsEffective":
		return s.effectiveParts(v), nil
	case "allowedAttributes", "allowedAttributesEffective", "allowedChildClasses", "allowedChildClassesEffective":
		return s.rightsList(v, a.Name)
	}
	return o.Values[a], nil
}

func decimal(n int64) [][]byte { return one(strconv.AppendInt(nil, n, 10)) }

// canonicalName is contoso.com/Users/alice: [MS-ADTS] 3.1.1.4.5.7.
func (s *session) canonicalName(o *object) (string, error) {
	var parts []string
	for range maxDepth {
		if o.Parent.IsZero() {
			slices.Reverse(parts)
			return s.domain.DNSName + "/" + strings.Join(parts, "/"), nil
		}
		parts = append(parts, strings.NewReplacer(`\`, `\\`, `/`, `\/`).Replace(o.Name))
		var err error
		if o, err = s.object(o.Parent); err != nil {
			return "", err
		}
	}
	return "", rows.ErrCorrupt
}

// structuralClasses are the object's classes without auxiliary ones.
func (s *session) structuralClasses(o *object) (names [][]byte) {
	for _, name := range o.Values[s.known.objectClass] {
		if c, ok := s.cfg.Schema.Class(string(name)); ok && c.Category != schema.Auxiliary {
			names = append(names, name)
		}
	}
	return names
}

func (s *session) parentDN(o *object) ([][]byte, error) {
	if o.Parent.IsZero() {
		return nil, nil
	}
	parent, err := s.object(o.Parent)
	if err != nil {
		return nil, err
	}
	dn, err := s.name(parent)
	return one([]byte(dn)), err
}

// principalName is CONTOSO\alice, or the SID of what has no such name: [MS-ADTS]
// 3.1.1.4.5.28.
func (s *session) principalName(o *object) [][]byte {
	sam := o.one(s.known.samAccountName)
	switch {
	case o.sid.IsZero():
		return nil
	case len(sam) == 0:
		return one([]byte(o.sid.String()))
	case o.sid.Domain() == dtyp.Builtin:
		return one([]byte(`BUILTIN\` + string(sam)))
	}
	return one([]byte(s.domain.NetBIOS + `\` + string(sam)))
}

// keyVersion is msDS-KeyVersionNumber ([MS-ADTS] 3.1.1.4.5.16): of a gMSA that of the
// period in force, of others what their keys say.
func (s *session) keyVersion(o *object) ([][]byte, error) {
	p, _, err := s.period(o)
	switch {
	case err != nil:
		return nil, err
	case p != nil:
		return decimal(int64(p.KVNO)), nil
	case o.virtual || len(o.Values[s.known.userAccountControl]) == 0:
		return nil, nil
	}
	kvno, ok, err := s.cfg.Passwords.KVNO(s.Reader, o.Entry)
	if err != nil || !ok {
		return nil, err
	}
	return decimal(int64(kvno)), nil
}

// accountState is whether the account is locked out or its password has expired
// ([MS-ADTS] 3.1.1.4.5.17), or when it does (3.1.1.4.5.36).
func (s *session) accountState(o *object, a *schema.Attribute) ([][]byte, error) {
	k := &s.known
	if len(o.Values[k.userAccountControl]) == 0 {
		return nil, nil
	}
	head, err := s.object(s.domain.GUID)
	if err != nil {
		return nil, err
	}
	now := dtyp.FiletimeOf(s.Now())
	expiry := s.passwordExpiry(o, head)
	p, _, err := s.period(o)
	if err != nil {
		return nil, err
	}
	if p != nil {
		// Deviation: 3.1.1.4.5.36 has never for all machines. The end of a gMSA's
		// password follows from its interval, but not where it was rotated before its
		// time, and no other attribute tells an administrator.
		expiry = p.End
	}
	if a.Name == "msDS-UserPasswordExpiryTimeComputed" {
		return decimal(int64(expiry)), nil
	}
	var state adproto.UserAccountControl
	if locked := o.number(k.lockoutTime); locked > 0 && lockedUntil(dtyp.Filetime(locked), head.number(k.lockoutDuration)) > now {
		state |= adproto.UACLockout
	}
	if expiry <= now {
		state |= adproto.UACPasswordExpired
	}
	return decimal(int64(state)), nil
}

// lockedUntil is the end of a lockout. Durations are negative and count 100 ns; 0 and
// the least number mean until an administrator ends it ([MS-SAMR] 3.1.1.5).
func lockedUntil(since dtyp.Filetime, duration int64) dtyp.Filetime {
	if duration == 0 || duration == math.MinInt64 {
		return dtyp.Never
	}
	return since + dtyp.Filetime(-duration)
}

// passwordExpiry is when the password of an account expires: at once where it must be
// changed, never for machines and whoever was exempted.
func (s *session) passwordExpiry(o, head *object) dtyp.Filetime {
	const exempt = adproto.UACDontExpirePassword | adproto.UACSmartcardRequired | adproto.UACWorkstationTrust |
		adproto.UACServerTrust | adproto.UACInterdomainTrust
	set, age := o.number(s.known.pwdLastSet), head.number(s.known.maxPwdAge)
	switch {
	case adproto.UserAccountControl(o.number(s.known.userAccountControl))&exempt != 0:
		return dtyp.Never
	case set <= 0:
		return 0
	case age == 0 || age == math.MinInt64:
		return dtyp.Never
	}
	return dtyp.Filetime(set) + dtyp.Filetime(-age)
}

// tokenGroups are the SIDs of the security groups of those types that the object is in,
// over any number of groups and by its primary group ([MS-ADTS] 3.1.1.4.5.19 to
// 3.1.1.4.5.21). They are computed for the base of a search only.
func (s *search) tokenGroups(o *object, types adproto.GroupType) ([][]byte, error) {
	if s.q.Scope != ScopeBase || o.sid.IsZero() {
		return nil, nil
	}
	groups, err := s.groupsOf(o)
	if err != nil {
		return nil, err
	}
	var sids [][]byte
	for _, g := range groups {
		t := adproto.GroupType(g.number(s.known.groupType))
		if t&adproto.GroupSecurity != 0 && t&types != 0 && !g.sid.IsZero() {
			sids = append(sids, g.sid.Bytes())
		}
	}
	return sids, nil
}

// groupsOf are the groups that an object is in, each once, those it is in itself first.
func (s *session) groupsOf(o *object) ([]*object, error) {
	reached, err := s.Reachable(s.known.memberOf, o.GUID, maxTransitive)
	if err != nil {
		return nil, err
	}
	if rid := o.number(s.known.primaryGroupID); rid > 0 {
		primary, err := s.bySID(s.domain.SID.Child(uint32(rid)))
		if err != nil && !errors.Is(err, rows.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			above, err := s.Reachable(s.known.memberOf, primary, maxTransitive)
			if err != nil {
				return nil, err
			}
			reached = append(append(reached, primary), above...)
		}
	}
	seen := map[dtyp.GUID]bool{o.GUID: true}
	groups := make([]*object, 0, len(reached))
	for _, g := range reached {
		if seen[g] {
			continue
		}
		seen[g] = true
		group, err := s.object(g)
		if err != nil {
			return nil, err
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// transitive are the names of all objects that the links of an attribute lead to.
func (s *search) transitive(o *object, a *schema.Attribute) ([][]byte, error) {
	if s.q.Scope != ScopeBase || o.virtual {
		return nil, nil
	}
	reached, err := s.Reachable(a, o.GUID, maxTransitive)
	if err != nil {
		return nil, err
	}
	var names [][]byte
	for _, g := range reached {
		other, err := s.object(g)
		if err != nil {
			return nil, err
		}
		dn, err := s.shownName(other)
		if err != nil {
			return nil, err
		}
		names = append(names, []byte(dn))
	}
	return names, nil
}

// subordinates is about how many objects lie directly below: who asks wants to know
// whether there are many.
func (s *session) subordinates(o *object) ([][]byte, error) {
	n := int64(0)
	for _, err := range s.Children(o.GUID) {
		if err != nil {
			return nil, err
		}
		if n++; n == maxTransitive {
			break
		}
	}
	return decimal(n), nil
}

// effectiveParts is sDRightsEffective: [MS-ADTS] 3.1.1.4.5.4.
func (s *search) effectiveParts(v *view) [][]byte {
	parts := allParts
	if !v.rights.all {
		parts = v.rights.object.WritableParts(v.rights.token, parts)
	}
	return decimal(int64(parts))
}

// rightsLists are the values of those attributes for the objects that were looked at last,
// which mostly are of one class and one descriptor.
type rightsLists struct {
	rights  *rights
	classes string
	values  map[string][][]byte
}

// rightsList is an attribute that says what may be written in an object or made below it:
// [MS-ADTS] 3.1.1.4.5.2 to 3.1.1.4.5.6.
func (s *search) rightsList(v *view, name string) ([][]byte, error) {
	classes := string(bytes.Join(v.o.Values[s.known.objectClass], []byte{0}))
	if l := &s.lists; l.rights != v.rights || l.classes != classes {
		*l = rightsLists{v.rights, classes, map[string][][]byte{}}
	}
	if values, ok := s.lists.values[name]; ok {
		return values, nil
	}
	if err := s.spend(listWork); err != nil {
		return nil, err
	}
	values := s.listRights(v, name)
	s.lists.values[name] = values
	return values, nil
}

func (s *search) listRights(v *view, name string) [][]byte {
	all := v.rights.all
	switch name {
	case "allowedAttributes":
		return names(s.allowed(v.o), func(*schema.Attribute) bool { return true })
	case "allowedAttributesEffective":
		return names(s.allowed(v.o), func(a *schema.Attribute) bool {
			written := !a.SystemOnly && !a.Constructed() && !a.BackLink()
			return written && (all || v.rights.object.Writable(v.rights.token, a))
		})
	case "allowedChildClasses":
		return s.childClasses(v.o, func(*schema.Class) bool { return true })
	}
	return s.childClasses(v.o, func(c *schema.Class) bool {
		return !c.SystemOnly && (all || v.rights.object.Creates(v.rights.token, c.GUID))
	})
}

func names(all []*schema.Attribute, keep func(*schema.Attribute) bool) (values [][]byte) {
	for _, a := range all {
		if keep(a) {
			values = append(values, []byte(a.Name))
		}
	}
	return values
}

// classes are those of the object; ok is false for one whose classes are none.
func (s *session) classes(o *object) (c schema.ObjectClass, ok bool) {
	var named []string
	for _, v := range o.Values[s.known.objectClass] {
		named = append(named, string(v))
	}
	c, err := s.cfg.Schema.Expand(named...)
	return c, err == nil
}

// allowed are the attributes that an object may have, by name.
func (s *session) allowed(o *object) (all []*schema.Attribute) {
	c, ok := s.classes(o)
	if !ok {
		return nil
	}
	for _, name := range slices.Concat(c.Must(), c.May()) {
		if a, ok := s.cfg.Schema.Attribute(name); ok {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *schema.Attribute) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// childClasses are the names of the classes whose objects may lie below an object.
func (s *session) childClasses(o *object, keep func(*schema.Class) bool) (values [][]byte) {
	parent, ok := s.classes(o)
	if !ok {
		return nil
	}
	for _, c := range s.cfg.Schema.Classes() {
		if c.Category != schema.Abstract && c.Category != schema.Auxiliary && s.cfg.Schema.MayLieBelow(c, parent) && keep(c) {
			values = append(values, []byte(c.Name))
		}
	}
	return values
}
