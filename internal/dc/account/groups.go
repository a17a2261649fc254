package account

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// maxGroups is how many groups an account may be in before its logon is refused: AD's
// limit for a token.
const maxGroups = 1015

// errTooManyGroups: the account is in more groups than a token holds.
var errTooManyGroups = fmt.Errorf("more than %d groups", maxGroups)

// group is a security group as membership counts it.
type group struct {
	guid dtyp.GUID
	sid  dtyp.SID
	kind adproto.GroupType
}

// expand finds the security groups that the objects from are in, in one step or more,
// of the kinds that want has a bit of. Only through such groups does membership go
// on: those of other kinds convey nothing to the ones above them here, and groups that
// are not for security convey nothing at all.
func (a *Accounts) expand(r *directory.Reader, from []dtyp.GUID, want adproto.GroupType) ([]group, error) {
	seen := map[dtyp.GUID]bool{}
	for _, g := range from {
		seen[g] = true
	}
	var found []group
	for next := slices.Clone(from); len(next) > 0; next = next[1:] {
		for l, err := range r.Links(a.known.memberOf, next[0]) {
			if err != nil {
				return nil, err
			}
			if seen[l.Source] {
				continue
			}
			seen[l.Source] = true
			g, err := a.group(r, l.Source)
			if err != nil {
				return nil, err
			}
			if g.kind&adproto.GroupSecurity == 0 || g.kind&want == 0 {
				continue
			}
			if found = append(found, g); len(found) > maxGroups {
				return nil, errTooManyGroups
			}
			next = append(next, l.Source)
		}
	}
	return found, nil
}

func (a *Accounts) group(r *directory.Reader, guid dtyp.GUID) (group, error) {
	e, err := r.Get(guid)
	if err != nil {
		return group{}, err
	}
	g := group{guid: guid, sid: sidOf(e, a.known.objectSID)}
	if n, ok := number(e, a.known.groupType); ok && !g.sid.IsZero() && text(e, a.known.isDeleted) != "TRUE" {
		g.kind = adproto.GroupType(uint32(n))
	}
	return g, nil
}

// accountGroups are the RIDs of the groups of a TGT: the primary group, and all global
// and universal groups that the account is in, also through others ([MS-KILE]
// 3.3.5.6.4.1, [MS-DRSR] 4.1.8.1.3 ACCOUNT groups).
func (a *Accounts) accountGroups(r *directory.Reader, acct *Account) ([]uint32, error) {
	from := []dtyp.GUID{acct.GUID}
	rids := []uint32{}
	if acct.PrimaryGroup != 0 {
		rids = append(rids, acct.PrimaryGroup)
		primary, err := r.Lookup(a.known.objectSID, a.domain.SID.Child(acct.PrimaryGroup).Bytes())
		switch {
		case err == nil:
			from = append(from, primary.GUID)
		case !errors.Is(err, rows.ErrNotFound):
			return nil, err
		}
	}
	groups, err := a.expand(r, from, adproto.GroupGlobal|adproto.GroupUniversal)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if g.sid.Domain() == a.domain.SID && !slices.Contains(rids, g.sid.RID()) {
			rids = append(rids, g.sid.RID())
		}
	}
	return rids, nil
}

// localGroups are the domain-local groups that any of the SIDs is in, also through
// other domain-local groups. Those of the domain go into a service ticket ([MS-KILE]
// 3.3.5.7.3), those of BUILTIN hold on the controller itself, which is the computer
// that they are local to.
func (a *Accounts) localGroups(r *directory.Reader, sids []dtyp.SID) ([]group, error) {
	var from []dtyp.GUID
	for _, sid := range sids {
		e, err := r.Lookup(a.known.objectSID, sid.Bytes())
		if errors.Is(err, rows.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		from = append(from, e.GUID)
	}
	return a.expand(r, from, adproto.GroupDomainLocal|adproto.GroupBuiltin)
}

// wellKnown are the SIDs that everybody has who proved a key or a password over the
// network.
func wellKnown() []dtyp.SID {
	return []dtyp.SID{dtyp.Everyone, dtyp.AuthenticatedUsers, dtyp.Network, dtyp.ThisOrganization}
}

// token is the SIDs for an access check on this controller: those given, the
// well-known ones, and the local groups of all of them.
func (a *Accounts) token(r *directory.Reader, sids []dtyp.SID) ([]dtyp.SID, error) {
	all := append(slices.Clone(sids), wellKnown()...)
	groups, err := a.localGroups(r, all)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if !slices.Contains(all, g.sid) {
			all = append(all, g.sid)
		}
	}
	return all, nil
}

// sids are the account's own SID and those of its groups.
func (a *Account) sids() []dtyp.SID {
	out := make([]dtyp.SID, 0, 2+len(a.Groups))
	out = append(out, a.SID)
	for _, rid := range a.Groups {
		out = append(out, a.domain.SID.Child(rid))
	}
	return append(out, dtyp.AuthenticationAuthorityAsserted)
}
