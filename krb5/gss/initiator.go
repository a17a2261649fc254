package gss

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// InitiatorConfig says how to begin a context.
type InitiatorConfig struct {
	// Credential is the ticket for the server, and its session key.
	Credential krb5.Credential
	// Flags are the properties asked for; zero stands for [DefaultFlags].
	// [FlagDelegate] is set by Delegated.
	Flags Flags
	// ChannelBindings are those of the channel the tokens travel in; nil outside
	// TLS.
	ChannelBindings *ChannelBindings
	// Delegated is the DER of a KRB-CRED to forward, encrypted in the session
	// key; nil for none.
	Delegated []byte
	// Now is the time by the server's clock, as well as it is known. Required.
	Now func() time.Time
	// Rand gives random bytes. Required.
	Rand io.Reader
}

// Initiator is the side of a context that has a ticket. It goes through
//
//	begun ──► first token made ──► AP-REP verified
//	                  │                   │
//	        not mutual└──────► done ◄─────┘
type Initiator struct {
	cfg     InitiatorConfig
	state   state
	subkey  *crypto.Key
	seq     uint32    // ours, from the authenticator
	sent    time.Time // CTime and CUsec of the authenticator
	ctx     *Context  // set when done
	dialect dialect
}

type state int

const (
	begun state = iota
	waiting
	done
	broken
)

// dialect is what tests change to play an older client.
type dialect struct {
	hideCBT bool // do not advertise KERB_AP_OPTIONS_CBT
}

// NewInitiator prepares a context. It fails if the session key's type has no
// contexts here.
func NewInitiator(cfg InitiatorConfig) (*Initiator, error) {
	if cfg.Now == nil || cfg.Rand == nil {
		return nil, fmt.Errorf("%w: Now and Rand are required", ErrState)
	}
	k := cfg.Credential.SessionKey
	if k == nil {
		return nil, fmt.Errorf("%w: the credential has no session key", ErrState)
	}
	if err := checkEType(k.EType()); err != nil {
		return nil, fmt.Errorf("session key for %v: %w", cfg.Credential.Server, err)
	}
	if cfg.Flags == 0 {
		cfg.Flags = DefaultFlags
	}
	cfg.Flags &^= FlagDelegate
	if cfg.Delegated != nil {
		cfg.Flags |= FlagDelegate
	}
	if cfg.Flags.Has(FlagDCEStyle) {
		return nil, fmt.Errorf("%w: DCE style is not supported", ErrState)
	}
	return &Initiator{cfg: cfg}, nil
}

// checkEType refuses the types whose per-message tokens are not those of RFC
// 4121: RC4's are RFC 4757's.
func checkEType(e crypto.EType) error {
	if !e.Allowed() {
		return fmt.Errorf("%w: %v", ErrEType, e)
	}
	return nil
}

// Step takes the peer's token, nil the first time, and returns ours, if there is
// one to send, and whether the context is established. After an error the
// Initiator is of no more use. An acceptor that answers with a KRB-ERROR makes
// a [*PeerError].
func (i *Initiator) Step(in []byte) (out []byte, finished bool, err error) {
	switch {
	case i.state == begun && len(in) == 0:
		out, err = i.request()
	case i.state == waiting && len(in) > 0:
		err = i.reply(in)
	default:
		err = ErrState
	}
	if err != nil {
		i.state = broken
		return nil, false, err
	}
	return out, i.state == done, nil
}

// Context is the established context, nil before.
func (i *Initiator) Context() *Context { return i.ctx }

// request makes the first token: RFC 4121, Section 4.1.
func (i *Initiator) request() ([]byte, error) {
	cred := i.cfg.Credential
	var err error
	if i.subkey, err = crypto.Generate(cred.SessionKey.EType(), i.cfg.Rand); err != nil {
		return nil, fmt.Errorf("gss: make subkey: %w", err)
	}
	if i.seq, err = initialSequence(i.cfg.Rand); err != nil {
		return nil, err
	}
	sum, err := checksum{bindings: i.cfg.ChannelBindings.sum(), flags: i.cfg.Flags, deleg: i.cfg.Delegated}.build()
	if err != nil {
		return nil, err
	}
	i.sent = i.cfg.Now().UTC().Truncate(time.Microsecond)
	authenticator := krb5.Authenticator{
		CRealm:            cred.Client.Realm,
		CName:             cred.Client.Name,
		Checksum:          sum,
		CTime:             i.sent.Truncate(time.Second),
		CUsec:             microseconds(i.sent),
		Subkey:            krb5.EncryptionKey{EType: i.subkey.EType(), Value: i.subkey.Secret()},
		SeqNumber:         i.seq,
		AuthorizationData: i.advertise(),
	}
	plain := authenticator.Append(nil)
	defer clear(plain)
	cipher, err := cred.SessionKey.Encrypt(nil, krb5.UsageAPReqAuthenticator, plain, i.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("gss: encrypt authenticator: %w", err)
	}
	req := krb5.APReq{
		Ticket:        cred.Ticket,
		Authenticator: krb5.EncryptedData{EType: cred.SessionKey.EType(), Cipher: cipher},
	}
	i.state = waiting
	if i.cfg.Flags.Has(FlagMutual) {
		req.Options = krb5.APMutualRequired
	} else {
		i.establish(i.subkey, false, i.seq)
	}
	return frameMessage(tokenAPReq, req.Append(nil)), nil
}

// advertise tells the acceptor that this client binds to channels, so that
// missing bindings mean an attack: [MS-KILE] 3.2.5.8.
func (i *Initiator) advertise() krb5.AuthorizationData {
	if i.dialect.hideCBT {
		return nil
	}
	options := binary.LittleEndian.AppendUint32(nil, krb5.APOptionsCBT)
	return krb5.AuthorizationData{{Type: krb5.ADAPOptions, Data: options}}.IfRelevant()
}

// reply verifies the acceptor's token: RFC 4120, Section 3.2.5.
func (i *Initiator) reply(token []byte) error {
	id, message, err := parseMessage(token)
	if err != nil {
		return err
	}
	switch id {
	case tokenAPRep:
	case tokenError:
		e, err := krb5.ParseKRBError(message)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrToken, err)
		}
		return &PeerError{KRBError: e}
	default:
		return fmt.Errorf("%w: token id: got %04x, want %04x or %04x", ErrToken, id, tokenAPRep, tokenError)
	}
	rep, err := krb5.ParseAPRep(message)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	session := i.cfg.Credential.SessionKey
	if rep.EncPart.EType != session.EType() {
		return fmt.Errorf("%w: AP-REP in %v, want %v", ErrMutual, rep.EncPart.EType, session.EType())
	}
	plain, err := session.Decrypt(krb5.UsageAPRepEncPart, rep.EncPart.Cipher)
	if err != nil {
		return fmt.Errorf("%w: AP-REP: %w", ErrMutual, err)
	}
	defer clear(plain)
	part, err := krb5.ParseEncAPRepPart(plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	if !part.CTime.Equal(i.sent.Truncate(time.Second)) || part.CUsec != microseconds(i.sent) {
		return fmt.Errorf("%w: AP-REP is for another request", ErrMutual)
	}
	if part.Subkey.IsZero() {
		i.establish(i.subkey, false, part.SeqNumber)
		return nil
	}
	key, err := contextKey(part.Subkey)
	if err != nil {
		return fmt.Errorf("acceptor's subkey: %w", err)
	}
	i.establish(key, true, part.SeqNumber)
	return nil
}

// contextKey makes a key of a subkey that came in a message.
func contextKey(k krb5.EncryptionKey) (*crypto.Key, error) {
	if err := checkEType(k.EType); err != nil {
		return nil, err
	}
	key, err := crypto.NewKey(k.EType, k.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return key, nil
}

// establish makes the context; peerSeq is the acceptor's first number.
func (i *Initiator) establish(key *crypto.Key, fromAcceptor bool, peerSeq uint32) {
	cred := i.cfg.Credential
	i.state = done
	i.ctx = &Context{
		key: key, initiator: true, acceptorSubkey: fromAcceptor,
		flags:  i.cfg.Flags,
		client: cred.Client, server: cred.Server, endTime: cred.EndTime,
		bound: i.cfg.ChannelBindings != nil && i.cfg.Flags.Has(FlagMutual),
		rand:  i.cfg.Rand, sendSeq: uint64(i.seq),
		recv: newWindow(i.cfg.Flags, peerSeq),
	}
}

func newWindow(f Flags, first uint32) window {
	return window{
		replay: f.Has(FlagReplay), sequence: f.Has(FlagSequence),
		next: uint64(first), first: uint64(first),
	}
}

// initialSequence is a random first sequence number: RFC 4120, Section 5.5.1.
// It has 30 bits, because old implementations read it as a signed number, and
// is not zero, which means absent.
func initialSequence(rand io.Reader) (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return 0, fmt.Errorf("gss: read random sequence number: %w", err)
	}
	return binary.BigEndian.Uint32(b[:])&0x3fffffff | 1, nil
}

// microseconds is the part of t below a second.
func microseconds(t time.Time) int { return t.Nanosecond() / int(time.Microsecond) }

// PeerError is a KRB-ERROR that the acceptor sent in place of its answer. It is
// not authenticated: its STime may be a hint about the server's clock when
// errors.Is finds krb5.ErrSkew, no more.
type PeerError struct {
	krb5.KRBError
}

// Error is the code's name and text, and the server's text if it sent one.
func (e *PeerError) Error() string {
	s := "gss: acceptor answered " + e.Code.Error()
	if e.EText != "" {
		s += ": " + e.EText
	}
	return s
}

// Unwrap is the code.
func (e *PeerError) Unwrap() error { return e.Code }
