package account

import (
	"context"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// ServiceLogonInfo makes the LOGON_INFO of a service ticket of that of a TGT: it adds
// the domain-local groups that the SIDs of the TGT are in now ([MS-KILE] 3.3.5.7.3).
// Those of BUILTIN stay out, because each computer has its own. uncompressed writes
// them as SIDs, for a service with the flag Resource-SID-compression-disabled of
// msDS-SupportedEncryptionTypes. It fails with ErrTicket for SIDs of another domain. The
// result is shared: nobody may change it.
func (a *Accounts) ServiceLogonInfo(ctx context.Context, tgt []byte, uncompressed bool) ([]byte, error) {
	c := a.current()
	key := string(tgt)
	if uncompressed {
		key += "u"
	}
	if made, ok := cached(c, c.service, key); ok {
		return made, nil
	}
	info, err := pac.ParseLogonInfo(tgt)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTicket, err)
	}
	if err := CheckSIDs(a.domain, info); err != nil {
		return nil, err
	}
	var groups []group
	err = a.cfg.Directory.View(ctx, func(r *directory.Reader) (err error) {
		groups, err = a.localGroups(r, info.SIDs())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("domain-local groups: %w", err)
	}
	made := tgt
	if a.addResources(&info, groups, uncompressed) {
		made = info.Append(nil)
	}
	keep(c, c.service, key, made)
	return made, nil
}

// addResources adds the groups that are the domain's and reports whether there were
// any.
func (a *Accounts) addResources(info *pac.LogonInfo, groups []group, uncompressed bool) bool {
	const attributes = pac.GroupDefault | pac.GroupResource
	added := false
	for _, g := range groups {
		switch {
		case g.sid.Domain() != a.domain.SID:
			continue
		case uncompressed:
			info.ExtraSIDs = append(info.ExtraSIDs, pac.SIDAttributes{SID: g.sid, Attributes: attributes})
			info.UserFlags |= pac.ExtraSIDsPresent
		default:
			info.ResourceGroupDomain = a.domain.SID
			info.ResourceGroups = append(info.ResourceGroups, pac.Group{RID: g.sid.RID(), Attributes: attributes})
			info.UserFlags |= pac.ResourceGroupsPresent
		}
		added = true
	}
	return added
}
