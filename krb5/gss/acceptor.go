package gss

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ap"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// DefaultSkew is how far the clocks of initiator and acceptor may be apart.
const DefaultSkew = ap.DefaultSkew

// KeyFunc finds the keys that a ticket for a server may be encrypted in.
type KeyFunc = ap.KeyFunc

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

// ReplayCache remembers authenticators; *replay.Cache is one.
type ReplayCache = ap.ReplayCache

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
	out, err = a.accept(req)
	if err != nil {
		return a.errorToken(ticket, err), false, err
	}
	a.state = done
	return out, true, nil
}

// accept goes through the steps of RFC 4120, Section 3.2.3, and then those of
// RFC 4121, Section 4.1.
func (a *Acceptor) accept(req krb5.APReq) ([]byte, error) {
	acceptor := ap.Acceptor{Keys: a.cfg.Keys, Now: a.cfg.Now, Skew: a.cfg.Skew, Replay: a.cfg.Replay}
	r, err := acceptor.Open(req)
	if err != nil {
		return nil, describe(err)
	}
	sum, err := parseChecksum(r.Authenticator.Checksum)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", krb5.ErrInappropriateChecksum, err)
	}
	bound, err := a.cfg.Binding.check(a.cfg.ChannelBindings, sum.bindings, advertisesCBT(r.Authenticator.AuthorizationData))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", krb5.ErrModified, err)
	}
	if sum.flags.Has(FlagDCEStyle) {
		return nil, fmt.Errorf("gss: %w: DCE style is not supported", krb5.ErrMethod)
	}
	if err := acceptor.Once(r); err != nil {
		return nil, describe(err)
	}
	a.ctx = &Context{
		flags:  sum.flags,
		client: r.Client, server: r.Server, endTime: r.Ticket.EndTime,
		bound: bound, delegated: sum.deleg, ticket: r.Ticket,
		rand: a.cfg.Rand, recv: newWindow(sum.flags, r.Authenticator.SeqNumber),
	}
	out, err := a.answer(r)
	if err != nil {
		a.ctx = nil
	}
	return out, err
}

// describe adds this package's error to one of the exchange, where it has one.
func describe(err error) error {
	if errors.Is(err, crypto.ErrEType) {
		return fmt.Errorf("%w: %w", ErrEType, err)
	}
	if _, ok := errors.AsType[*krb5.SyntaxError](err); ok {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	return fmt.Errorf("gss: %w", err)
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
func (a *Acceptor) answer(r ap.Request) ([]byte, error) {
	key := r.Session
	if r.Subkey != nil {
		key = r.Subkey
	}
	if !a.ctx.flags.Has(FlagMutual) {
		a.ctx.key, a.ctx.sendSeq = key, uint64(r.Authenticator.SeqNumber)
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
	rep, err := r.Reply(subkey, seq, a.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("gss: %w", err)
	}
	a.ctx.key, a.ctx.acceptorSubkey, a.ctx.sendSeq = subkey, true, uint64(seq)
	return frameMessage(tokenAPRep, rep), nil
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
