package kdc

import (
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// sealing is how a ticket is encrypted and signed.
type sealing struct {
	key     *crypto.Key // of the server
	kvno    uint32      // 0 for a session key
	session *crypto.Key // of the new ticket
}

// sealing chooses the keys of a ticket for an account.
func (x *exchange) sealing(server *account.Account) (s sealing, err error) {
	set, key, err := x.serverKey(server)
	if err != nil {
		return s, err
	}
	t, err := x.sessionType(server.ETypes())
	if err != nil {
		return s, err
	}
	s = sealing{key: key, kvno: set.KVNO}
	s.session, err = x.newSessionKey(t)
	return s, err
}

// sealTicket signs the PAC, if there is one, and encrypts the ticket.
func (x *exchange) sealTicket(server *account.Account, part krb5.EncTicketPart, p *pac.PAC, s sealing) ([]byte, error) {
	part.Key = krb5.KeyOf(s.session)
	if p != nil {
		krbtgt, err := x.krbtgtKey()
		if err != nil {
			return nil, err
		}
		kind := pac.Service
		if x.isTGS(server) {
			kind = pac.TGT
		}
		if part, err = pac.Seal(part, *p, kind, pac.Keys{Server: s.key, KDC: krbtgt}); err != nil {
			return nil, err
		}
	}
	plain := part.Append(x.scratch.take(ticketPartSize + authorizationSize(part)))
	enc, err := x.seal(s.key, krb5.UsageTicket, plain)
	clear(plain)
	if err != nil {
		return nil, err
	}
	enc.KVNO = s.kvno
	out := x.scratch.take(ticketHeader + len(enc.Cipher))
	return krb5.Ticket{Realm: x.realm, SName: x.serverName(server), EncPart: enc}.Append(out), nil
}

// What is commonly taken by what is made here, in bytes.
const (
	ticketPartSize = 256 // the encrypted part of a ticket, besides its authorization data
	ticketHeader   = 128 // a ticket besides that
	replyPartSize  = 384 // the encrypted part of a reply
)

func authorizationSize(part krb5.EncTicketPart) (size int) {
	for _, e := range part.AuthorizationData {
		size += len(e.Data)
	}
	return size
}

// krbtgtKey is the key in which TGTs are encrypted and PACs are signed: AES256.
func (x *exchange) krbtgtKey() (*crypto.Key, error) {
	krbtgt, err := x.cfg.Accounts.Krbtgt(x.ctx)
	if err != nil {
		return nil, err
	}
	_, key, err := x.serverKey(krbtgt)
	return key, err
}

// replyPart is what the client learns about its ticket: RFC 4120, Section 5.4.2.
//
// Deviation: who asks for a renewable ticket and gets one that is not is told a
// renew-till that is its end; impacket cannot read a reply without.
func (x *exchange) replyPart(t krb5.MessageType, part krb5.EncTicketPart, server *account.Account, session *crypto.Key) krb5.EncKDCRepPart {
	renewTill := part.RenewTill
	if renewTill.IsZero() && x.req.Body.Options.Has(krb5.OptRenewable) {
		renewTill = part.EndTime
	}
	return krb5.EncKDCRepPart{
		Type: t, Key: krb5.KeyOf(session), LastReq: noLastReq(), Nonce: x.req.Body.Nonce, Flags: part.Flags,
		AuthTime: part.AuthTime, StartTime: part.StartTime, EndTime: part.EndTime, RenewTill: renewTill,
		SRealm: x.realm, SName: x.serverName(server), CAddr: part.CAddr,
	}
}

// sealReply encrypts it.
func (x *exchange) sealReply(enc krb5.EncKDCRepPart, key *crypto.Key, usage uint32) (krb5.EncryptedData, error) {
	plain := enc.Append(x.scratch.take(replyPartSize))
	defer clear(plain)
	return x.seal(key, usage, plain)
}
