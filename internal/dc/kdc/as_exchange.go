package kdc

import (
	"errors"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
)

// asRefused are the options that make no sense without a ticket: RFC 4120, Section
// 3.1.3.
const asRefused = krb5.OptForwarded | krb5.OptProxy | krb5.OptRenew | krb5.OptValidate |
	krb5.OptEncTktInSkey | krb5.OptCnameInAddlTkt

// asExchange answers an AS-REQ: RFC 4120, Section 3.1.3, [MS-KILE] 3.3.5.6.
func (x *exchange) asExchange() (krb5.KDCRep, error) {
	body := &x.req.Body
	attempt, err := x.cfg.Accounts.Attempt(body.CName.String(), x.from)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	if body.Options&asRefused != 0 {
		return krb5.KDCRep{}, refuse(krb5.ErrBadOption, "options %v in an AS-REQ", body.Options&asRefused)
	}
	client, err := x.client()
	if err != nil {
		return krb5.KDCRep{}, attempt.Refuse(x.ctx, nil, err)
	}
	if err := attempt.Known(client); err != nil {
		return krb5.KDCRep{}, err
	}
	server, err := x.server(body.SName)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	if err := x.checkClient(client); err != nil {
		return krb5.KDCRep{}, attempt.Refuse(x.ctx, client, err)
	}
	proof, err := x.preauthenticate(client)
	if _, wrong := errors.AsType[*account.LogonError](err); wrong {
		return krb5.KDCRep{}, x.preauthFailed(proof, attempt.Refuse(x.ctx, client, err))
	}
	if err != nil {
		return krb5.KDCRep{}, err
	}
	rep, err := x.issueInitial(client, server, proof)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	x.attempt, x.loggedOn = attempt, client
	return rep, nil
}

// client finds the client of an AS-REQ.
func (x *exchange) client() (*account.Account, error) {
	body := &x.req.Body
	if !account.IsRealm(x.domain, body.Realm) {
		return nil, account.UnknownClient(errors.New("the realm " + body.Realm + " is not served here"))
	}
	client, err := x.cfg.Accounts.Client(x.ctx, body.CName)
	if errors.Is(err, account.ErrUnknown) {
		return nil, account.UnknownClient(err)
	}
	return client, err
}

// server finds the account that a ticket is asked for. A user without an SPN is no
// service ([MS-KILE] 3.3.5.7), except for user-to-user.
func (x *exchange) server(name krb5.PrincipalName) (*account.Account, error) {
	if !account.IsRealm(x.domain, x.req.Body.Realm) {
		return nil, refuse(krb5.ErrServerUnknown, "the realm %s is not served here", x.req.Body.Realm)
	}
	server, err := x.cfg.Accounts.Server(x.ctx, name)
	if errors.Is(err, account.ErrUnknown) {
		return nil, &refusal{code: krb5.ErrServerUnknown, err: err}
	}
	if err != nil {
		return nil, err
	}
	if !server.Service && !x.req.Body.Options.Has(krb5.OptEncTktInSkey) {
		return nil, refuse(krb5.ErrServerUnknown, "%s is no service: it has no SPN", server.Name)
	}
	if server.Control.Disabled() && !server.IsKrbtgt() {
		return nil, refuse(krb5.ErrServiceRevoked, "%s is disabled", server.Name)
	}
	return server, nil
}

// checkClient judges the state of the account before it has proved anything, as AD does:
// a client whose password has expired is told to change it. For that, and for nothing
// else, an expired password is good.
func (x *exchange) checkClient(client *account.Account) error {
	if err := x.cfg.Accounts.CheckStanding(client, x.filetime()); err != nil {
		return err
	}
	err := x.cfg.Accounts.CheckPassword(client, x.filetime())
	if errors.Is(err, krb5.ErrKeyExpired) && account.IsChangePassword(x.req.Body.SName) {
		return nil
	}
	return err
}

// issueInitial makes the ticket and the reply.
func (x *exchange) issueInitial(client, server *account.Account, proof proof) (krb5.KDCRep, error) {
	l, err := x.lifetime(accountEnd(client), time.Time{})
	if err != nil {
		return krb5.KDCRep{}, err
	}
	have := krb5.FlagForwardable | krb5.FlagProxiable
	if client.Control&adproto.UACNotDelegated != 0 {
		have = 0 // [MS-KILE] 3.3.5.6: sensitive, cannot be delegated
	}
	part := krb5.EncTicketPart{
		Flags:  x.flags(have, server, l) | krb5.FlagInitial | proof.flags,
		CRealm: x.realm, CName: x.clientName(client),
		AuthTime: l.start, StartTime: l.start, EndTime: l.end, RenewTill: l.renewTill,
		CAddr: x.req.Body.Addresses,
	}
	if x.wantsEncPARep() {
		part.Flags |= krb5.FlagEncPARep
	}
	p, err := x.initialPAC(client, server, &part)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	keys, err := x.sealing(server)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	ticket, err := x.sealTicket(server, part, p, keys)
	if err != nil {
		return krb5.KDCRep{}, err
	}
	info := krb5.ETypeInfo2{proof.info()}
	rep := krb5.KDCRep{Type: krb5.MsgASRep, CRealm: x.realm, CName: part.CName, Ticket: ticket,
		PAData: []krb5.PAData{{Type: krb5.PAETypeInfo2, Value: info.Append(x.scratch.take(paValueSize))}}}
	enc := x.replyPart(krb5.MsgASRep, part, server, keys.session)
	enc.KeyExpiration, enc.LastReq = x.passwordNotice(client)
	enc.PAData = append(x.requestProof(proof.key), x.replyPAData(adproto.EncDefaultAccounts)...)
	rep.EncPart, err = x.sealReply(enc, proof.key, krb5.UsageASRepEncPart)
	rep.EncPart.KVNO = proof.set.KVNO
	return rep, err
}

// clientName is the name in the ticket: the client's own spelling, or the account's name
// where the client lets the KDC choose ([MS-KILE] 3.3.5.6.1, RFC 6806, Section 6).
func (x *exchange) clientName(client *account.Account) krb5.PrincipalName {
	if x.req.Body.Options.Has(krb5.OptCanonicalize) {
		return client.Principal()
	}
	return x.req.Body.CName
}

// serverName is the server's name in ticket and reply: as it was asked for, but krbtgt's
// in the realm's own spelling where the client lets the KDC choose.
func (x *exchange) serverName(server *account.Account) krb5.PrincipalName {
	name := x.req.Body.SName
	if server.IsKrbtgt() && x.req.Body.Options.Has(krb5.OptCanonicalize) && !account.IsChangePassword(name) {
		return x.tgs
	}
	return name
}

// passwordWarning is how long before its end a client is told in last-req that its
// password expires: the 14 days of AD's default policy. key-expiration always says so.
const passwordWarning = 14 * 24 * time.Hour

// passwordNotice is key-expiration and last-req. The latter must have an entry: type 0
// says nothing.
func (x *exchange) passwordNotice(client *account.Account) (expires time.Time, last []krb5.LastReq) {
	expires = client.PasswordExpires()
	if !expires.IsZero() && expires.Sub(x.now) < passwordWarning {
		return expires, []krb5.LastReq{{Type: krb5.LRPasswordExpires, Value: expires}}
	}
	return expires, noLastReq()
}

func noLastReq() []krb5.LastReq { return []krb5.LastReq{{}} }
