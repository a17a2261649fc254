package gss

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/krb5/replay"
)

// DefaultSkew is how far the clocks of initiator and acceptor may be apart.
const DefaultSkew = 5 * time.Minute

// KeyFunc returns the keys that a ticket for server may be encrypted in, the
// likeliest first: those of the ticket's version number and then others of the
// same type, because the number may be missing or another directory's. It is
// called once for a context.
type KeyFunc func(server krb5.Principal, kvno uint32, e crypto.EType) []*crypto.Key

// KeytabKeys looks keys up in a keytab: first those of the server's name and
// version number, then of the name, then of the number, then all others. A
// ticket that any key of the keytab opens is meant for whoever has the keytab,
// whichever of the account's names the client used.
func KeytabKeys(kt keytab.Keytab) KeyFunc {
	return func(server krb5.Principal, kvno uint32, e crypto.EType) []*crypto.Key {
		var ranks [4][]*crypto.Key
		for _, entry := range kt.Entries {
			if entry.Key == nil || entry.Key.EType() != e {
				continue
			}
			rank := 0
			if entry.Principal.Realm != server.Realm || !entry.Principal.Name.EqualFold(server.Name) {
				rank += 2
			}
			if entry.KVNO != kvno {
				rank++
			}
			ranks[rank] = append(ranks[rank], entry.Key)
		}
		var out []*crypto.Key
		for _, keys := range ranks {
			out = append(out, keys...)
		}
		return out
	}
}

// ReplayCache remembers authenticators; *replay.Cache is one. Seen is called
// after an authenticator was decrypted and its time judged, by as many
// goroutines as there are acceptors, and reports whether the authenticator was
// seen before. It must remember one for twice the skew. On an error the context
// is refused.
type ReplayCache interface {
	Seen(now time.Time, e replay.Entry) (bool, error)
}

// AcceptorConfig says whom to accept.
type AcceptorConfig struct {
	// Keys finds the acceptor's keys. Required.
	Keys KeyFunc
	// ChannelBindings are those of the channel the tokens travel in; nil outside
	// TLS, and then those of the initiator are not looked at.
	ChannelBindings *ChannelBindings
	// Binding is what is demanded of the initiator's bindings.
	Binding BindingPolicy
	// Now is the time. Required.
	Now func() time.Time
	// Skew is how far the initiator's clock may be off; zero stands for
	// [DefaultSkew].
	Skew time.Duration
	// Replay remembers authenticators; nil accepts replays, which is safe only
	// where the channel excludes them.
	Replay ReplayCache
	// Rand gives random bytes. Required.
	Rand io.Reader
}

// Acceptor is the side of a context that has a long-term key. It needs one step.
type Acceptor struct {
	cfg   AcceptorConfig
	state state
	ctx   *Context
}

// NewAcceptor prepares to accept one context.
func NewAcceptor(cfg AcceptorConfig) (*Acceptor, error) {
	if cfg.Keys == nil || cfg.Now == nil || cfg.Rand == nil {
		return nil, fmt.Errorf("%w: Keys, Now and Rand are required", ErrState)
	}
	if cfg.Skew == 0 {
		cfg.Skew = DefaultSkew
	}
	return &Acceptor{cfg: cfg}, nil
}

// Context is the established context, nil before.
func (a *Acceptor) Context() *Context { return a.ctx }

// Step takes the initiator's token and returns ours: an AP-REP, nothing if the
// initiator did not ask for mutual authentication, or, together with an error,
// a KRB-ERROR that tells the initiator the code and nothing else. The error
// wraps the krb5.ErrorCode and the detail.
func (a *Acceptor) Step(in []byte) (out []byte, finished bool, err error) {
	if a.state != begun {
		return nil, false, ErrState
	}
	a.state = broken
	id, message, err := parseMessage(in)
	if err != nil {
		return nil, false, err
	}
	if id != tokenAPReq {
		return nil, false, fmt.Errorf("%w: token id: got %04x, want %04x", ErrToken, id, tokenAPReq)
	}
	req, err := krb5.ParseAPReq(message)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrToken, err)
	}
	ticket, err := krb5.ParseTicket(req.Ticket)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrToken, err)
	}
	out, err = a.accept(req, ticket)
	if err != nil {
		return a.errorToken(ticket, err), false, err
	}
	a.state = done
	return out, true, nil
}

// accept goes through the steps of RFC 4120, Section 3.2.3, and then those of
// RFC 4121, Section 4.1.
func (a *Acceptor) accept(req krb5.APReq, ticket krb5.Ticket) ([]byte, error) {
	if req.Options&krb5.APUseSessionKey != 0 {
		return nil, refuse(krb5.ErrMethod, "user-to-user tickets are not accepted")
	}
	if err := checkEType(ticket.EncPart.EType); err != nil {
		return nil, fmt.Errorf("%w: ticket: %w", krb5.ErrBadKeyVersion, err)
	}
	server := krb5.Principal{Realm: ticket.Realm, Name: ticket.SName}
	part, err := a.openTicket(server, ticket.EncPart)
	if err != nil {
		return nil, err
	}
	if err := checkEType(part.Key.EType); err != nil {
		return nil, fmt.Errorf("%w: session key: %w", krb5.ErrInappropriateChecksum, err)
	}
	session, err := contextKey(part.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: session key: %w", krb5.ErrModified, err)
	}
	auth, err := openAuthenticator(session, req.Authenticator)
	if err != nil {
		return nil, err
	}
	if auth.CRealm != part.CRealm || !auth.CName.Equal(part.CName) {
		return nil, refuse(krb5.ErrBadMatch, "authenticator of %v@%s, ticket of %v@%s", auth.CName, auth.CRealm, part.CName, part.CRealm)
	}
	sent := auth.CTime.Add(time.Duration(auth.CUsec) * time.Microsecond)
	if err := a.checkTimes(part, sent); err != nil {
		return nil, err
	}
	sum, err := parseChecksum(auth.Checksum)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", krb5.ErrInappropriateChecksum, err)
	}
	bound, err := a.cfg.Binding.check(a.cfg.ChannelBindings, sum.bindings, advertisesCBT(auth.AuthorizationData))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", krb5.ErrModified, err)
	}
	if sum.flags.Has(FlagDCEStyle) {
		return nil, refuse(krb5.ErrMethod, "DCE style is not supported")
	}
	client := krb5.Principal{Realm: part.CRealm, Name: part.CName}
	if err := a.checkReplay(client, server, auth, req.Authenticator.Cipher); err != nil {
		return nil, err
	}
	a.ctx = &Context{
		flags:  sum.flags,
		client: client, server: server, endTime: part.EndTime,
		bound: bound, delegated: sum.deleg, ticket: part,
		rand: a.cfg.Rand, recv: newWindow(sum.flags, auth.SeqNumber),
	}
	out, err := a.answer(session, auth)
	if err != nil {
		a.ctx = nil
	}
	return out, err
}

// refuse is an error with the code for the peer and a detail for us.
func refuse(code krb5.ErrorCode, format string, args ...any) error {
	return fmt.Errorf("gss: %w: %s", code, fmt.Sprintf(format, args...))
}

// openTicket decrypts a ticket with the first key that fits.
func (a *Acceptor) openTicket(server krb5.Principal, enc krb5.EncryptedData) (krb5.EncTicketPart, error) {
	keys := a.cfg.Keys(server, enc.KVNO, enc.EType)
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
			return part, fmt.Errorf("%w: %w: %w", krb5.ErrModified, ErrToken, err)
		}
		return part, nil
	}
	if len(keys) == 0 {
		return krb5.EncTicketPart{}, refuse(krb5.ErrNoKey, "no %v key for %v", enc.EType, server)
	}
	return krb5.EncTicketPart{}, refuse(krb5.ErrModified, "none of %d keys opens the ticket for %v, kvno %d", len(keys), server, enc.KVNO)
}

func openAuthenticator(session *crypto.Key, enc krb5.EncryptedData) (krb5.Authenticator, error) {
	if enc.EType != session.EType() {
		return krb5.Authenticator{}, refuse(krb5.ErrModified, "authenticator in %v, session key %v", enc.EType, session.EType())
	}
	plain, err := session.Decrypt(krb5.UsageAPReqAuthenticator, enc.Cipher)
	if err != nil {
		return krb5.Authenticator{}, fmt.Errorf("%w: authenticator: %w", krb5.ErrBadIntegrity, err)
	}
	auth, err := krb5.ParseAuthenticator(plain)
	if err != nil {
		return auth, fmt.Errorf("%w: %w: %w", krb5.ErrModified, ErrToken, err)
	}
	return auth, nil
}

// checkTimes judges the authenticator's time and the ticket's.
func (a *Acceptor) checkTimes(part krb5.EncTicketPart, sent time.Time) error {
	now, skew := a.cfg.Now(), a.cfg.Skew
	if off := sent.Sub(now); off.Abs() > skew {
		return refuse(krb5.ErrSkew, "the initiator's clock is off by %v", off.Round(time.Second))
	}
	start := part.StartTime
	if start.IsZero() {
		start = part.AuthTime
	}
	if start.After(now.Add(skew)) || part.Flags.Has(krb5.FlagInvalid) {
		return refuse(krb5.ErrTicketNotYetValid, "ticket starts at %v", start)
	}
	if part.EndTime.Before(now.Add(-skew)) {
		return refuse(krb5.ErrTicketExpired, "ticket ended at %v", part.EndTime)
	}
	return nil
}

// checkReplay asks the cache, if there is one.
func (a *Acceptor) checkReplay(client, server krb5.Principal, auth krb5.Authenticator, cipher []byte) error {
	if a.cfg.Replay == nil {
		return nil
	}
	seen, err := a.cfg.Replay.Seen(a.cfg.Now(), replay.Entry{
		Client: client.String(), Server: server.String(),
		CTime: auth.CTime, CUsec: auth.CUsec, Authenticator: cipher,
	})
	if err != nil {
		return fmt.Errorf("gss: %w: %w", krb5.ErrGeneric, err)
	}
	if seen {
		return refuse(krb5.ErrRepeat, "authenticator of %v", client)
	}
	return nil
}

// advertisesCBT reports whether the initiator says that it binds to channels:
// [MS-KILE] 3.4.5.
func advertisesCBT(ad krb5.AuthorizationData) bool {
	b, ok := ad.Find(krb5.ADAPOptions)
	return ok && len(b) == 4 && binary.LittleEndian.Uint32(b)&krb5.APOptionsCBT != 0
}

// answer finishes the context and makes the AP-REP, which asserts a subkey of
// ours; without mutual authentication there is none, and the initiator's key
// and sequence number serve both directions.
func (a *Acceptor) answer(session *crypto.Key, auth krb5.Authenticator) ([]byte, error) {
	key := session
	if !auth.Subkey.IsZero() {
		var err error
		if key, err = contextKey(auth.Subkey); err != nil {
			return nil, fmt.Errorf("%w: subkey: %w", krb5.ErrModified, err)
		}
	}
	if !a.ctx.flags.Has(FlagMutual) {
		a.ctx.key, a.ctx.sendSeq = key, uint64(auth.SeqNumber)
		return nil, nil
	}
	subkey, err := crypto.Generate(key.EType(), a.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("gss: make subkey: %w", err)
	}
	seq, err := initialSequence(a.cfg.Rand)
	if err != nil {
		return nil, err
	}
	plain := krb5.EncAPRepPart{
		CTime: auth.CTime, CUsec: auth.CUsec,
		Subkey:    krb5.EncryptionKey{EType: subkey.EType(), Value: subkey.Secret()},
		SeqNumber: seq,
	}.Append(nil)
	defer clear(plain)
	cipher, err := session.Encrypt(nil, krb5.UsageAPRepEncPart, plain, a.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("gss: encrypt AP-REP: %w", err)
	}
	a.ctx.key, a.ctx.acceptorSubkey, a.ctx.sendSeq = subkey, true, uint64(seq)
	rep := krb5.APRep{EncPart: krb5.EncryptedData{EType: session.EType(), Cipher: cipher}}
	return frameMessage(tokenAPRep, rep.Append(nil)), nil
}

// errorToken tells the initiator the code of an error, if it has one.
func (a *Acceptor) errorToken(ticket krb5.Ticket, err error) []byte {
	code, ok := errors.AsType[krb5.ErrorCode](err)
	if !ok {
		code = krb5.ErrGeneric
	}
	now := a.cfg.Now().UTC()
	e := krb5.KRBError{STime: now, SUsec: microseconds(now), Code: code, Realm: ticket.Realm, SName: ticket.SName}
	return frameMessage(tokenError, e.Append(nil))
}
