package kdc

import (
	"errors"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// tgsExchange answers a TGS-REQ: RFC 4120, Section 3.3.3, [MS-KILE] 3.3.5.7.
func (x *exchange) tgsExchange() (krb5.KDCRep, error) {
	shown, err := x.openRequest()
	if err != nil {
		return krb5.KDCRep{}, err
	}
	if err := x.refuseExtensions(); err != nil {
		return krb5.KDCRep{}, err
	}
	client, err := x.holder(shown.shownTicket)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	server, err := x.server(x.req.Body.SName)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	if shown.service != nil && (shown.service.GUID != server.GUID || x.req.Body.Options&(krb5.OptRenew|krb5.OptValidate) == 0) {
		return krb5.KDCRep{}, refuse(krb5.ErrNotUs, "a ticket for %s in place of a TGT", shown.service.Name)
	}
	part, err := x.newTicket(shown.shownTicket, client, server)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	return x.issue(shown, client, server, part)
}

// refuseExtensions refuses what this KDC does not have and must not be passed over,
// because the ticket would be another one than was asked for: S4U2Self, S4U2Proxy
// ([MS-SFU] 3.2.5), and what nobody can ask for here, because no such ticket is issued.
func (x *exchange) refuseExtensions() error {
	list := krb5.MethodData(x.req.PAData)
	for _, t := range []krb5.PAType{krb5.PAForUser, krb5.PAForX509User} {
		if _, ok := list.Find(t); ok {
			return refuse(krb5.ErrPADataTypeNoSupport, "S4U2Self")
		}
	}
	switch options := x.req.Body.Options; {
	case options.Has(krb5.OptCnameInAddlTkt):
		return refuse(krb5.ErrBadOption, "S4U2Proxy")
	case options.Has(krb5.OptValidate):
		return refuse(krb5.ErrBadOption, "there are no tickets to validate")
	}
	return nil
}

// newTicket decides what the ticket says: its life, flags and addresses.
func (x *exchange) newTicket(shown *shownTicket, client, server *account.Account) (krb5.EncTicketPart, error) {
	old, options := &shown.part, x.req.Body.Options
	if options.Has(krb5.OptRenew) {
		return x.renewed(old)
	}
	renewNotAfter := old.RenewTill
	l, err := x.lifetime(earliestOf(old.EndTime, accountEnd(client)), renewNotAfter)
	if err != nil {
		return krb5.EncTicketPart{}, err
	}
	if !old.Flags.Has(krb5.FlagRenewable) {
		l.renewable, l.renewTill = false, time.Time{}
	}
	part := krb5.EncTicketPart{
		Flags:  x.flags(old.Flags, server, l) | old.Flags&(krb5.FlagPreAuthent|krb5.FlagHWAuthent|krb5.FlagForwarded|krb5.FlagEncPARep) | krb5.FlagTransitedChecked,
		CRealm: old.CRealm, CName: old.CName, Transited: old.Transited,
		AuthTime: old.AuthTime, StartTime: l.start, EndTime: l.end, RenewTill: l.renewTill, CAddr: old.CAddr,
	}
	for _, delegation := range []struct {
		option     krb5.KDCOptions
		need, gets krb5.TicketFlags
	}{
		{krb5.OptForwarded, krb5.FlagForwardable, krb5.FlagForwarded},
		{krb5.OptProxy, krb5.FlagProxiable, krb5.FlagProxy},
	} {
		if !options.Has(delegation.option) {
			continue
		}
		if !old.Flags.Has(delegation.need) {
			return part, refuse(krb5.ErrBadOption, "%v of a ticket that is not %v", delegation.option, delegation.need)
		}
		part.Flags |= delegation.gets
		part.CAddr = x.req.Body.Addresses
	}
	return part, nil
}

// earliestOf is earliest for two times of which either may be zero.
func earliestOf(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return earliest(a, b)
}

// renewed is the same ticket with another life: RFC 4120, Section 3.3.3.
func (x *exchange) renewed(old *krb5.EncTicketPart) (krb5.EncTicketPart, error) {
	part := *old
	part.AuthorizationData = nil
	if !old.Flags.Has(krb5.FlagRenewable) {
		return part, refuse(krb5.ErrBadOption, "the ticket cannot be renewed")
	}
	now := x.now.Truncate(time.Second)
	if !old.RenewTill.After(now) {
		return part, refuse(krb5.ErrTicketExpired, "the ticket could be renewed until %v", old.RenewTill)
	}
	start := old.StartTime
	if start.IsZero() {
		start = old.AuthTime
	}
	part.StartTime = now
	part.EndTime = earliest(now.Add(old.EndTime.Sub(start)), old.RenewTill)
	return part, nil
}

// issue makes the ticket and the reply.
func (x *exchange) issue(shown shownRequest, client, server *account.Account, part krb5.EncTicketPart) (krb5.KDCRep, error) {
	keys, err := x.tgsSealing(server)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	if part.AuthorizationData, err = x.authorizationData(shown); err != nil {
		return krb5.KDCRep{}, err
	}
	p, err := x.nextPAC(shown.shownTicket, client, server, &part)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	ticket, err := x.sealTicket(server, part, p, keys)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	enc := x.replyPart(krb5.MsgTGSRep, part, server, keys.session)
	enc.PAData = x.replyPAData(server.Encryption)
	key, usage := shown.session, krb5.UsageTGSRepEncPart
	if shown.subkey != nil {
		key, usage = shown.subkey, krb5.UsageTGSRepSubkey
	}
	rep := krb5.KDCRep{Type: krb5.MsgTGSRep, CRealm: part.CRealm, CName: part.CName, Ticket: ticket}
	rep.EncPart, err = x.sealReply(enc, key, usage)
	return rep, err
}

// tgsSealing chooses the keys of the ticket: for user-to-user the session key of the
// server's own TGT.
func (x *exchange) tgsSealing(server *account.Account) (s sealing, err error) {
	if !x.req.Body.Options.Has(krb5.OptEncTktInSkey) {
		return x.sealing(server)
	}
	if s.key, err = x.userToUserKey(server); err != nil {
		return s, err
	}
	t, err := x.sessionType(server.ETypes())
	if err != nil {
		return s, err
	}
	s.session, err = x.newSessionKey(t)
	return s, err
}

// userToUserKey is the session key of the TGT that the server gave to the client: RFC
// 4120, Section 3.3.3. It must be the server's.
func (x *exchange) userToUserKey(server *account.Account) (*crypto.Key, error) {
	tickets := x.req.Body.AdditionalTickets
	if len(tickets) == 0 {
		return nil, refuse(krb5.ErrBadOption, "user-to-user without the server's TGT")
	}
	theirs, err := x.openTicket(tickets[0])
	if err != nil {
		return nil, err
	}
	if theirs.service != nil {
		return nil, refuse(krb5.ErrPolicy, "user-to-user with a ticket for %s", theirs.service.Name)
	}
	holder, err := x.holder(theirs)
	if err != nil {
		return nil, err
	}
	if holder.GUID != server.GUID {
		return nil, refuse(krb5.ErrBadMatch, "user-to-user with %s, and the TGT of %s", server.Name, holder.Name)
	}
	return theirs.session, nil
}

// authorizationData is what the new ticket carries besides the PAC: what the old one has,
// and what the client adds (RFC 4120, Section 5.4.1). A PAC can come from the KDC alone.
func (x *exchange) authorizationData(shown shownRequest) (krb5.AuthorizationData, error) {
	list := shown.rest
	enc := x.req.Body.EncAuthorizationData
	if enc.Cipher == nil {
		return list, nil
	}
	key, usage := shown.session, krb5.UsageTGSReqAuthDataSKey
	if shown.subkey != nil {
		key, usage = shown.subkey, krb5.UsageTGSReqAuthDataSub
	}
	plain, err := enc.Open(key, usage)
	if err != nil {
		return nil, refuse(krb5.ErrBadIntegrity, "enc-authorization-data: %w", err)
	}
	added, err := krb5.ParseAuthorizationData(plain)
	if err != nil {
		return nil, malformed(err)
	}
	if len(withoutPAC(added)) != len(added) {
		return nil, refuse(krb5.ErrPolicy, "a PAC in enc-authorization-data")
	}
	if len(list)+len(added) >= krb5.MaxAuthorizationData {
		return nil, refuse(krb5.ErrPolicy, "%d elements of authorization data", len(list)+len(added))
	}
	return slices.Concat(list, added), nil
}

// withoutPAC is the elements that neither are nor hold a PAC.
func withoutPAC(list krb5.AuthorizationData) krb5.AuthorizationData {
	var out krb5.AuthorizationData
	for _, e := range list {
		if _, has := (krb5.AuthorizationData{e}).Find(krb5.ADWin2KPAC); !has {
			out = append(out, e)
		}
	}
	return out
}

// nextPAC is the PAC of the new ticket, made of the one that was verified: [MS-KILE]
// 3.3.5.7.
func (x *exchange) nextPAC(shown *shownTicket, client, server *account.Account, part *krb5.EncTicketPart) (*pac.PAC, error) {
	if x.isTGS(server) || shown.service != nil {
		return &shown.pac, nil
	}
	asked, err := shown.pac.Attributes()
	if errors.Is(err, pac.ErrMissing) {
		asked, err = pac.GivenImplicitly, nil
	}
	if err != nil {
		return nil, err
	}
	info, hasInfo := shown.pac.Find(pac.TypeLogonInfo)
	upn, hasUPN := shown.pac.Find(pac.TypeUPNInfo)
	if !hasInfo || !hasUPN {
		b := client.Buffers(x.filetime())
		info, upn = b.LogonInfo, b.UPNInfo
	}
	return x.servicePAC(server, part, asked, info, upn)
}
