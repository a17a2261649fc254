package kdc

import (
	"crypto/sha256"
	"errors"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/pac"
	"github.com/opengmsa/opengmsa/krb5/replay"
)

// shownTicket is a ticket that somebody shows to the KDC, opened and verified. It is not
// changed afterwards.
type shownTicket struct {
	part    krb5.EncTicketPart
	session *crypto.Key
	pac     pac.PAC
	// rest is the authorization data besides the PAC.
	rest krb5.AuthorizationData
	// service is nil for a TGT. Another ticket can be renewed and nothing else.
	service *account.Account
}

// shownRequest is a TGS request that was shown to be its client's.
type shownRequest struct {
	*shownTicket
	// subkey is the authenticator's, nil for none.
	subkey *crypto.Key
}

// openRequest goes through the steps of RFC 4120, Section 3.2.3 and 3.3.2: the ticket,
// the authenticator, the checksum of the request.
func (x *exchange) openRequest() (shownRequest, error) {
	value, ok := krb5.MethodData(x.req.PAData).Find(krb5.PATGSReq)
	if !ok {
		return shownRequest{}, refuse(krb5.ErrPADataTypeNoSupport, "no PA-TGS-REQ")
	}
	ap, err := krb5.ParseAPReq(value)
	if err != nil {
		return shownRequest{}, malformed(err)
	}
	shown, err := x.openTicket(ap.Ticket)
	if err != nil {
		return shownRequest{}, err
	}
	auth, err := x.openAuthenticator(shown, ap.Authenticator)
	if err != nil {
		return shownRequest{}, err
	}
	r := shownRequest{shownTicket: shown}
	if !auth.Subkey.IsZero() {
		if r.subkey, err = auth.Subkey.Key(crypto.AllowRC4); err != nil {
			return r, refuse(krb5.ErrETypeNoSupport, "subkey: %w", err)
		}
	}
	if err := x.checkAddresses(shown.part.CAddr); err != nil {
		return r, err
	}
	if err := x.checkBody(shown, auth); err != nil {
		return r, err
	}
	return r, x.checkReplay(shown, auth, ap.Authenticator.Cipher)
}

// openTicket opens a ticket and believes nothing in it before its PAC is verified.
func (x *exchange) openTicket(der []byte) (*shownTicket, error) {
	ticket, err := krb5.ParseTicket(der)
	if err != nil {
		return nil, malformed(err)
	}
	if !account.IsRealm(x.domain, ticket.Realm) {
		return nil, refuse(krb5.ErrNotUs, "a ticket of the realm %s", ticket.Realm)
	}
	service, err := x.cfg.Accounts.Server(x.ctx, ticket.SName)
	if errors.Is(err, account.ErrUnknown) {
		return nil, refuse(krb5.ErrNotUs, "a ticket for %v", ticket.SName)
	}
	if err != nil {
		return nil, err
	}
	keys, err := x.ticketKeys(service, ticket.EncPart)
	if err != nil {
		return nil, err
	}
	shown, err := x.openWith(service, keys, ticket.EncPart.Cipher)
	if err != nil {
		return nil, err
	}
	return shown, x.checkTimes(&shown.part)
}

// ticketKeys are the keys of an account that a ticket may be encrypted in. A version that
// the account no longer has is error 44, so that the client gets a new ticket.
func (x *exchange) ticketKeys(service *account.Account, enc krb5.EncryptedData) ([]*crypto.Key, error) {
	sets, err := x.cfg.Accounts.TicketKeys(service, x.filetime())
	if err != nil {
		return nil, err
	}
	keys := make([]*crypto.Key, 0, 2)
	for _, set := range sets {
		if key := set.Find(enc.EType); key != nil && (enc.KVNO == 0 || enc.KVNO == set.KVNO) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, refuse(krb5.ErrBadKeyVersion, "a ticket for %s of version %d in %v", service.Name, enc.KVNO, enc.EType)
	}
	return keys, nil
}

// openWith decrypts a ticket with the first key that fits and verifies its PAC, or finds
// it where that was done before.
func (x *exchange) openWith(service *account.Account, keys []*crypto.Key, cipher []byte) (*shownTicket, error) {
	hash := ticketKey(sha256.Sum256(cipher))
	for _, key := range keys {
		if service.IsKrbtgt() {
			if shown, ok := x.opened.find(hash, key); ok {
				return shown, nil
			}
		}
		plain, err := key.Decrypt(krb5.UsageTicket, cipher)
		if err != nil {
			continue
		}
		shown, err := x.readTicket(service, key, plain)
		if err == nil && service.IsKrbtgt() {
			x.opened.keep(hash, opened{key: key, ticket: shown})
		}
		return shown, err
	}
	return nil, refuse(krb5.ErrBadIntegrity, "no key of %s opens the ticket", service.Name)
}

// readTicket reads and verifies what a key has decrypted.
func (x *exchange) readTicket(service *account.Account, key *crypto.Key, plain []byte) (*shownTicket, error) {
	part, err := krb5.ParseEncTicketPart(plain)
	if err != nil {
		return nil, &refusal{code: krb5.ErrModified, err: err}
	}
	shown := &shownTicket{part: part, rest: withoutPAC(part.AuthorizationData)}
	if shown.session, err = part.Key.Key(crypto.AllowRC4); err != nil {
		return nil, &refusal{code: krb5.ErrModified, err: err}
	}
	if service.IsKrbtgt() {
		// kadmin/changepw is in the same key. Its tickets have no REQUESTER_SID and fail
		// there, whatever name somebody has written in front of them.
		shown.pac, err = pac.Open(part, pac.TGT, pac.Keys{Server: key, KDC: key})
	} else {
		shown.service = service
		shown.pac, err = x.openServicePAC(part, service)
	}
	return shown, x.judgePAC(shown, err)
}

// openServicePAC verifies the PAC of a service ticket, with all four signatures.
func (x *exchange) openServicePAC(part krb5.EncTicketPart, service *account.Account) (pac.PAC, error) {
	krbtgt, err := x.cfg.Accounts.Krbtgt(x.ctx)
	if err != nil {
		return pac.PAC{}, err
	}
	return x.cfg.Accounts.OpenServicePAC(part, service, krbtgt, x.filetime())
}

// judgePAC refuses a ticket whose PAC is missing, is not ours, or says that the client is
// another domain's.
func (x *exchange) judgePAC(shown *shownTicket, err error) error {
	if err != nil {
		code := krb5.ErrTGTRevoked
		if errors.Is(err, pac.ErrSignature) || errors.Is(err, pac.ErrMalformed) {
			code = krb5.ErrModified
		}
		return &refusal{code: code, err: err}
	}
	if shown.part.CRealm != x.realm {
		return refuse(krb5.ErrTGTRevoked, "a client of the realm %s", shown.part.CRealm)
	}
	if _, ok := shown.pac.Find(pac.TypeLogonInfo); !ok {
		return nil
	}
	info, err := shown.pac.LogonInfo()
	if err == nil {
		err = account.CheckSIDs(x.domain, info)
	}
	if err != nil {
		return &refusal{code: krb5.ErrTGTRevoked, err: err}
	}
	if shown.service != nil {
		return nil
	}
	requestor, err := shown.pac.Requestor()
	if err != nil {
		return &refusal{code: krb5.ErrTGTRevoked, err: err}
	}
	if requestor != info.UserSID() {
		return refuse(krb5.ErrTGTRevoked, "the PAC is of %v, its requestor is %v", info.UserSID(), requestor)
	}
	return nil
}

// checkTimes judges the life of a ticket. One that has ended cannot even be renewed.
func (x *exchange) checkTimes(part *krb5.EncTicketPart) error {
	start := part.StartTime
	if start.IsZero() {
		start = part.AuthTime
	}
	switch {
	case part.Flags.Has(krb5.FlagInvalid), start.After(x.now.Add(x.cfg.Skew)):
		return refuse(krb5.ErrTicketNotYetValid, "the ticket starts at %v", start)
	case !part.EndTime.After(x.now):
		return refuse(krb5.ErrTicketExpired, "the ticket ended at %v", part.EndTime)
	}
	return nil
}

// openAuthenticator decrypts the authenticator and holds it against the ticket.
func (x *exchange) openAuthenticator(shown *shownTicket, enc krb5.EncryptedData) (*krb5.Authenticator, error) {
	plain, err := enc.Open(shown.session, krb5.UsageTGSReqAuthenticator)
	if err != nil {
		return nil, &refusal{code: krb5.ErrBadIntegrity, err: err}
	}
	auth, err := krb5.ParseAuthenticator(plain)
	if err != nil {
		return nil, &refusal{code: krb5.ErrModified, err: err}
	}
	if auth.CRealm != shown.part.CRealm || !auth.CName.Equal(shown.part.CName) {
		return nil, refuse(krb5.ErrBadMatch, "authenticator of %v@%s, ticket of %v@%s", auth.CName, auth.CRealm, shown.part.CName, shown.part.CRealm)
	}
	sent := auth.CTime.Add(time.Duration(auth.CUsec) * time.Microsecond)
	if off := sent.Sub(x.now); off.Abs() > x.cfg.Skew {
		return nil, refuse(krb5.ErrSkew, "the client's clock is off by %v", off.Round(time.Second))
	}
	return &auth, nil
}

// checkBody holds the request against its checksum, which must be keyed: RFC 4120,
// Section 3.3.2.
func (x *exchange) checkBody(shown *shownTicket, auth *krb5.Authenticator) error {
	sum := auth.Checksum
	if sum.IsZero() && x.cfg.AllowMissingChecksum {
		return nil
	}
	if sum.IsZero() || sum.Type != shown.session.ChecksumType() {
		return refuse(krb5.ErrInappropriateChecksum, "checksum of type %d", sum.Type)
	}
	if err := shown.session.VerifyChecksum(krb5.UsageTGSReqChecksum, x.req.RawBody, sum.Sum); err != nil {
		return refuse(krb5.ErrModified, "checksum of the request: %w", err)
	}
	return nil
}

// checkReplay refuses an authenticator that was seen before.
func (x *exchange) checkReplay(shown *shownTicket, auth *krb5.Authenticator, cipher []byte) error {
	seen, err := x.replays.Seen(x.now, replay.Entry{
		Client: shown.part.CName.String(), Server: "krbtgt", CTime: auth.CTime, CUsec: auth.CUsec, Authenticator: cipher,
	})
	if err != nil {
		return refuse(krb5.ErrServiceUnavailable, "%w", err)
	}
	if seen {
		return refuse(krb5.ErrRepeat, "authenticator of %v", auth.CName)
	}
	return nil
}

// holder finds the account that a ticket is of and holds it against the directory: the
// account that the PAC names must still be there, in good standing, and be who the
// ticket's name means now. A ticket without REQUESTER_SID is refused, so that nobody who
// renames an account passes for another (CVE-2021-42287).
func (x *exchange) holder(shown *shownTicket) (*account.Account, error) {
	sid, err := shown.pac.Requestor()
	if shown.service != nil {
		info, infoErr := shown.pac.LogonInfo()
		sid, err = info.UserSID(), infoErr
	}
	if err != nil {
		return nil, &refusal{code: krb5.ErrTGTRevoked, err: err}
	}
	client, err := x.cfg.Accounts.BySID(x.ctx, sid)
	if errors.Is(err, account.ErrUnknown) {
		return nil, &refusal{code: krb5.ErrTGTRevoked, err: err}
	}
	if err != nil {
		return nil, err
	}
	named, err := x.cfg.Accounts.Client(x.ctx, shown.part.CName)
	if err != nil && !errors.Is(err, account.ErrUnknown) {
		return nil, err
	}
	if err != nil || named.GUID != client.GUID {
		return nil, refuse(krb5.ErrTGTRevoked, "%v is not %s any more", shown.part.CName, client.SID)
	}
	if err := x.cfg.Accounts.CheckStanding(client, x.filetime()); err != nil {
		return nil, err
	}
	return client, nil
}
