// Package ap is the server's side of the AP exchange: who shows which ticket, judged by
// the steps of RFC 4120, Section 3.2.3. GSS-API contexts and the password service are
// built on it; the KDC's own exchange has other rules.
//
// It has no socket, clock or randomness of its own: keys, time and the replay cache are
// arguments. What the ticket's PAC says is for others to judge. Read [Acceptor.Open]
// first.
package ap

import (
	"fmt"
	"io"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/replay"
)

// DefaultSkew is how far the clocks of client and server may be apart.
const DefaultSkew = 5 * time.Minute

// KeyFunc returns the keys that a ticket for server may be encrypted in, the
// likeliest first: those of the ticket's version number and then others of the
// same type, because the number may be missing or another directory's. It is
// called once for a request.
type KeyFunc func(server krb5.Principal, kvno uint32, e crypto.EType) []*crypto.Key

// ReplayCache remembers authenticators; *replay.Cache is one. Seen is called
// after an authenticator was decrypted and its time judged, by as many
// goroutines as there are requests, and reports whether the authenticator was
// seen before. It must remember one for twice the skew. On an error the request
// is refused.
type ReplayCache interface {
	Seen(now time.Time, e replay.Entry) (bool, error)
}

// Acceptor says whom to accept.
type Acceptor struct {
	// Keys finds the server's keys. Required.
	Keys KeyFunc
	// Now is the time. Required.
	Now func() time.Time
	// Skew is how far the client's clock may be off; zero stands for [DefaultSkew].
	Skew time.Duration
	// Replay remembers authenticators; nil accepts replays, which is safe only
	// where something else excludes them.
	Replay ReplayCache
}

// Request is an AP-REQ that was opened.
type Request struct {
	Client, Server krb5.Principal
	// Ticket is the decrypted part of the ticket, PAC included.
	Ticket        krb5.EncTicketPart
	Authenticator krb5.Authenticator
	// Session is the ticket's key, and Subkey the one that the client chose, nil for
	// none.
	Session, Subkey *crypto.Key

	cipher []byte // of the authenticator
}

// refuse is an error with the code for the peer and a detail for us.
func refuse(code krb5.ErrorCode, format string, args ...any) error {
	return fmt.Errorf("%w: %s", code, fmt.Sprintf(format, args...))
}

// Open decrypts and judges a request, all but whether it came before: whoever has
// judged the rest of the message asks [Acceptor.Once]. Its errors wrap the
// krb5.ErrorCode that the client is told.
func (a Acceptor) Open(req krb5.APReq) (Request, error) {
	var r Request
	if req.Options&krb5.APUseSessionKey != 0 {
		return r, refuse(krb5.ErrMethod, "user-to-user tickets are not accepted")
	}
	ticket, err := krb5.ParseTicket(req.Ticket)
	if err != nil {
		return r, fmt.Errorf("%w: %w", krb5.ErrModified, err)
	}
	r.Server = krb5.Principal{Realm: ticket.Realm, Name: ticket.SName}
	if r.Ticket, err = a.openTicket(r.Server, ticket.EncPart); err != nil {
		return r, err
	}
	if e := r.Ticket.Key.EType; !e.Allowed() {
		return r, fmt.Errorf("%w: session key: %w: %v", krb5.ErrInappropriateChecksum, crypto.ErrEType, e)
	}
	if r.Session, err = r.Ticket.Key.Key(); err != nil {
		return r, fmt.Errorf("%w: session key: %w", krb5.ErrModified, err)
	}
	if err := r.openAuthenticator(req.Authenticator); err != nil {
		return r, err
	}
	r.Client = krb5.Principal{Realm: r.Ticket.CRealm, Name: r.Ticket.CName}
	if auth := r.Authenticator; auth.CRealm != r.Client.Realm || !auth.CName.Equal(r.Client.Name) {
		return r, refuse(krb5.ErrBadMatch, "authenticator of %v@%s, ticket of %v", auth.CName, auth.CRealm, r.Client)
	}
	return r, a.checkTimes(r)
}

// openTicket decrypts a ticket with the first key that fits.
func (a Acceptor) openTicket(server krb5.Principal, enc krb5.EncryptedData) (krb5.EncTicketPart, error) {
	if !enc.EType.Allowed() {
		return krb5.EncTicketPart{}, fmt.Errorf("%w: ticket: %w: %v", krb5.ErrBadKeyVersion, crypto.ErrEType, enc.EType)
	}
	keys := a.Keys(server, enc.KVNO, enc.EType)
	for _, k := range keys {
		if k.EType() != enc.EType {
			continue
		}
		plain, err := k.Decrypt(krb5.UsageTicket, enc.Cipher)
		if err != nil {
			continue
		}
		part, err := krb5.ParseEncTicketPart(plain)
		if err != nil {
			return part, fmt.Errorf("%w: %w", krb5.ErrModified, err)
		}
		return part, nil
	}
	if len(keys) == 0 {
		return krb5.EncTicketPart{}, refuse(krb5.ErrNoKey, "no %v key for %v", enc.EType, server)
	}
	return krb5.EncTicketPart{}, refuse(krb5.ErrModified, "none of %d keys opens the ticket for %v, kvno %d", len(keys), server, enc.KVNO)
}

func (r *Request) openAuthenticator(enc krb5.EncryptedData) error {
	if enc.EType != r.Session.EType() {
		return refuse(krb5.ErrModified, "authenticator in %v, session key %v", enc.EType, r.Session.EType())
	}
	plain, err := r.Session.Decrypt(krb5.UsageAPReqAuthenticator, enc.Cipher)
	if err != nil {
		return fmt.Errorf("%w: authenticator: %w", krb5.ErrBadIntegrity, err)
	}
	if r.Authenticator, err = krb5.ParseAuthenticator(plain); err != nil {
		return fmt.Errorf("%w: %w", krb5.ErrModified, err)
	}
	r.cipher = enc.Cipher
	if r.Authenticator.Subkey.IsZero() {
		return nil
	}
	if r.Subkey, err = r.Authenticator.Subkey.Key(); err != nil {
		return fmt.Errorf("%w: subkey: %w", krb5.ErrModified, err)
	}
	return nil
}

// checkTimes judges the authenticator's time and the ticket's.
func (a Acceptor) checkTimes(r Request) error {
	now, skew := a.Now(), a.Skew
	if skew == 0 {
		skew = DefaultSkew
	}
	sent := r.Authenticator.CTime.Add(time.Duration(r.Authenticator.CUsec) * time.Microsecond)
	if off := sent.Sub(now); off.Abs() > skew {
		return refuse(krb5.ErrSkew, "the client's clock is off by %v", off.Round(time.Second))
	}
	start := r.Ticket.StartTime
	if start.IsZero() {
		start = r.Ticket.AuthTime
	}
	if start.After(now.Add(skew)) || r.Ticket.Flags.Has(krb5.FlagInvalid) {
		return refuse(krb5.ErrTicketNotYetValid, "ticket starts at %v", start)
	}
	if r.Ticket.EndTime.Before(now.Add(-skew)) {
		return refuse(krb5.ErrTicketExpired, "ticket ended at %v", r.Ticket.EndTime)
	}
	return nil
}

// Once fails if the request came before, with krb5.ErrRepeat, and remembers it.
func (a Acceptor) Once(r Request) error {
	if a.Replay == nil {
		return nil
	}
	seen, err := a.Replay.Seen(a.Now(), replay.Entry{
		Client: r.Client.String(), Server: r.Server.String(),
		CTime: r.Authenticator.CTime, CUsec: r.Authenticator.CUsec, Authenticator: r.cipher,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", krb5.ErrGeneric, err)
	}
	if seen {
		return refuse(krb5.ErrRepeat, "authenticator of %v", r.Client)
	}
	return nil
}

// Reply is the AP-REP that proves the server to the client: RFC 4120, Section 3.2.4.
// subkey is one of the server's choice, nil for none.
func (r Request) Reply(subkey *crypto.Key, seq uint32, rand io.Reader) ([]byte, error) {
	part := krb5.EncAPRepPart{CTime: r.Authenticator.CTime, CUsec: r.Authenticator.CUsec, SeqNumber: seq}
	if subkey != nil {
		part.Subkey = krb5.KeyOf(subkey)
	}
	plain := part.Append(nil)
	defer clear(plain)
	enc, err := krb5.Seal(r.Session, krb5.UsageAPRepEncPart, plain, rand)
	if err != nil {
		return nil, fmt.Errorf("encrypt AP-REP: %w", err)
	}
	return krb5.APRep{EncPart: enc}.Append(nil), nil
}
