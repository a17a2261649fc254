package kclient

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

// replyCheck judges what AS-REP and TGS-REP have in common.
type replyCheck struct {
	c    *Client
	body krb5.KDCReqBody // as it was asked
	at   time.Time       // local time at which the reply came
	// kdcTime is the realm's time: what the encrypted part says of it, or, where
	// it says nothing, ours with the offset.
	kdcTime time.Time
	// renamed allows the KDC to name the server in another way.
	renamed bool
}

// credential checks nonce, names, encryption types and times, takes the clock
// offset, and makes the credential: RFC 4120, Sections 3.1.5 and 3.3.4.
func (r replyCheck) credential(rep krb5.KDCRep, part krb5.EncKDCRepPart) (krb5.Credential, error) {
	if part.Nonce != r.body.Nonce {
		return krb5.Credential{}, badReply("the nonce is %d, not %d: an answer to another request", part.Nonce, r.body.Nonce)
	}
	if err := r.checkServer(rep, part); err != nil {
		return krb5.Credential{}, err
	}
	if !slices.Contains(r.body.ETypes, part.Key.EType) {
		return krb5.Credential{}, badReply("the session key is of %v, which was not offered", part.Key.EType)
	}
	key, err := part.Key.Key(r.c.cfg.Allow...)
	if err != nil {
		return krb5.Credential{}, badReply("the session key: %w", err)
	}
	if err := r.checkTimes(part); err != nil {
		return krb5.Credential{}, err
	}
	r.c.learn(r.kdcTime, r.at)
	start := part.StartTime
	if start.IsZero() {
		start = part.AuthTime
	}
	return krb5.Credential{
		Client:     krb5.Principal{Realm: rep.CRealm, Name: rep.CName},
		Server:     krb5.Principal{Realm: part.SRealm, Name: part.SName},
		SessionKey: key,
		AuthTime:   part.AuthTime, StartTime: start, EndTime: part.EndTime, RenewTill: part.RenewTill,
		Flags: part.Flags,
		// The reply's buffer is larger, and would be kept with it.
		Ticket: bytes.Clone(rep.Ticket),
	}, nil
}

// checkServer demands the server that was asked for, in the encrypted part and
// on the ticket.
func (r replyCheck) checkServer(rep krb5.KDCRep, part krb5.EncKDCRepPart) error {
	ticket, err := krb5.ParseTicket(rep.Ticket)
	if err != nil {
		return badReply("read the ticket: %w", err)
	}
	if !strings.EqualFold(ticket.Realm, part.SRealm) || !ticket.SName.EqualFold(part.SName) {
		return badReply("the ticket is for %v@%s, its description for %v@%s", ticket.SName, ticket.Realm, part.SName, part.SRealm)
	}
	if !strings.EqualFold(part.SRealm, r.body.Realm) {
		return badReply("the server's realm is %q, not %q", part.SRealm, r.body.Realm)
	}
	if !part.SName.EqualFold(r.body.SName) && !r.renamed {
		return badReply("the ticket is for %q, not %q", part.SName, r.body.SName)
	}
	return nil
}

// checkTimes demands a ticket that is valid now, and not for longer than was
// asked.
func (r replyCheck) checkTimes(part krb5.EncKDCRepPart) error {
	if d := r.kdcTime.Sub(r.at); d.Abs() > maxOffset {
		return outside("time", r.kdcTime, r.at)
	}
	if part.Flags.Has(krb5.FlagInvalid) {
		return badReply("the ticket is not valid yet")
	}
	if part.StartTime.Sub(r.kdcTime) > r.c.cfg.Skew {
		return outside("start", part.StartTime, r.kdcTime)
	}
	// By the KDC's clock, which has just proved itself.
	if !part.EndTime.After(r.kdcTime) {
		return badReply("the ticket ends at %v, before it begins at %v", part.EndTime, r.kdcTime)
	}
	if part.EndTime.After(r.body.Till) {
		return badReply("the ticket ends at %v, but was asked for until %v", part.EndTime, r.body.Till)
	}
	if !r.body.RTime.IsZero() && part.RenewTill.After(r.body.RTime) {
		return badReply("the ticket is renewable until %v, but was asked for until %v", part.RenewTill, r.body.RTime)
	}
	return nil
}

// referredTo is the realm of a ticket for another realm's TGS: RFC 6806, Section
// 8. ok is false for any other ticket.
func referredTo(asked, got krb5.PrincipalName) (realm string, ok bool) {
	if len(got.Components) != 2 || got.Components[0] != "krbtgt" || got.EqualFold(asked) {
		return "", false
	}
	return got.Components[1], true
}

func referral(server krb5.PrincipalName, realm string) error {
	return fmt.Errorf("%w: the KDC refers to %s for %v, and referrals are not followed", ErrReferral, realm, server)
}
