package kclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// ASRequest asks for a ticket on the strength of a password or key: RFC 4120,
// Section 3.1.
type ASRequest struct {
	// Client is the account. [krb5.NameEnterprise] has one component,
	// user@suffix, and needs a KDC that proves its answer (RFC 6806, Section 11).
	Client krb5.PrincipalName
	Secret Secret
	// Server is what the ticket is for; zero means krbtgt/REALM.
	Server krb5.PrincipalName
	// Options are forwardable, proxiable, renewable-ok and the like. Renewable
	// and canonicalize are set by the fields below.
	Options krb5.KDCOptions
	// Lifetime is wished for; 0 asks for the longest. RenewLifetime asks for a
	// renewable ticket unless it is 0.
	Lifetime, RenewLifetime time.Duration
	// ExactName asks the KDC to leave the client's name as it is.
	ExactName bool
	// NoPAC asks for a ticket without authorization data.
	NoPAC bool
	// Prefer is the host name of the controller to ask before the others; empty
	// for none. After a password has changed it may be the only one that knows.
	Prefer string
}

// Result is a ticket, and what the KDC said besides.
type Result struct {
	Credential krb5.Credential
	// KDC is the controller that issued the ticket.
	KDC KDC
	// Offset is how far the realm's clock is ahead of the local one.
	Offset time.Duration

	// The rest is of the AS exchange only.

	// ClientKey is the client's key that opened the reply; with a password it
	// saves the next caller the derivation. KVNO is its version, 0 if the KDC
	// does not say.
	ClientKey *crypto.Key
	KVNO      uint32
	// PasswordExpires and AccountExpires are zero if the KDC did not say.
	PasswordExpires, AccountExpires time.Time
	// SupportedETypes is the bit mask of the account's
	// msDS-SupportedEncryptionTypes; 0 if the KDC did not say.
	SupportedETypes uint32
	// Proved says that the KDC proved that its answer is to this very request
	// (enc-pa-rep, RFC 6806, Section 11).
	Proved bool
}

// maxRounds bounds an AS exchange: asked without pre-authentication, with the
// right salt, with the right clock, with another key type; one to spare.
const maxRounds = 5

// farFuture is the end that Windows asks for when it wants the longest ticket:
// the day before 32 bits overflow in every time zone.
var farFuture = time.Date(2037, 9, 13, 2, 48, 5, 0, time.UTC)

// AS gets a ticket with a password or key. Errors are *[Error].
func (c *Client) AS(ctx context.Context, req ASRequest) (Result, error) {
	if req.Server.IsZero() {
		req.Server = krb5.NewName(krb5.NameSrvInst, "krbtgt", c.cfg.Realm)
	}
	x := &asExchange{c: c, req: req, offset: c.Offset()}
	res, err := x.run(ctx)
	if err != nil {
		return Result{}, &Error{
			Op:     "AS exchange",
			Client: krb5.Principal{Realm: c.cfg.Realm, Name: req.Client},
			Server: krb5.Principal{Realm: c.cfg.Realm, Name: req.Server},
			KDC:    x.kdc, Kind: kindOf(err), Err: err,
		}
	}
	return res, nil
}

// asExchange is the state between the rounds of one exchange.
type asExchange struct {
	c      *Client
	req    ASRequest
	etypes []crypto.EType
	offset time.Duration // of the realm's clock: proved, or suggested by an error

	// key is what pre-authentication is made with; nil in a first request that
	// only asks how.
	key *crypto.Key
	// guessed says that key was chosen before the KDC said which it wants.
	guessed, asked, skewed bool

	body  krb5.KDCReqBody
	bytes []byte // the request, as it was sent
	kdc   KDC
}

func (x *asExchange) run(ctx context.Context) (Result, error) {
	var err error
	if len(x.req.Client.Components) == 0 {
		return Result{}, errors.New("no client is named")
	}
	if x.etypes, err = x.req.Secret.etypes(x.c.cfg.ETypes); err != nil {
		return Result{}, err
	}
	if err := x.guess(); err != nil {
		return Result{}, err
	}
	for range maxRounds {
		if err := x.build(); err != nil {
			return Result{}, err
		}
		var reply []byte
		if reply, x.kdc, err = x.c.send(ctx, x.req.Prefer, x.bytes); err != nil {
			return Result{}, err
		}
		if t, ok := krb5.TypeOf(reply); ok && t == krb5.MsgASRep {
			res, err := x.accept(reply)
			if err == nil { // what a Result has of the reply is a copy
				x.c.recycle(reply)
			}
			return res, err
		}
		e, err := parseError(reply)
		if err != nil {
			return Result{}, err
		}
		if err := x.react(e); err != nil {
			return Result{}, err
		}
	}
	return Result{}, badReply("no ticket after %d requests", maxRounds)
}

// parseError reads an answer that is not the wanted one.
func parseError(reply []byte) (*krb5.KRBError, error) {
	e, err := krb5.ParseKRBError(reply)
	if err != nil {
		return nil, badReply("neither a ticket nor an error: %w", err)
	}
	return &e, nil
}

// guess makes the key before the KDC was asked which it wants: with keys, and
// with a password whose salt is known. It saves a round trip.
func (x *asExchange) guess() (err error) {
	s := x.req.Secret
	if s.guessable() {
		x.key, err = s.key(krb5.ETypeInfo2Entry{EType: x.etypes[0]}, s.salt, x.c.cfg.Allow)
		x.guessed = true
	}
	return err
}

// build makes the request.
func (x *asExchange) build() error {
	nonce, err := x.c.nonce()
	if err != nil {
		return err
	}
	now := x.now()
	x.body = krb5.KDCReqBody{
		Options: x.req.Options, CName: x.req.Client, Realm: x.c.cfg.Realm, SName: x.req.Server,
		Till: until(now, x.req.Lifetime), Nonce: nonce, ETypes: x.etypes,
	}
	if x.canonicalize() {
		x.body.Options |= krb5.OptCanonicalize
	}
	if x.req.RenewLifetime > 0 {
		x.body.Options |= krb5.OptRenewable
		x.body.RTime = until(now, x.req.RenewLifetime)
	}
	q := krb5.KDCReq{Type: krb5.MsgASReq, Body: x.body, PAData: []krb5.PAData{{Type: krb5.PAReqEncPARep, Value: []byte{}}}}
	if x.req.NoPAC {
		q.PAData = append(q.PAData, krb5.PAData{Type: krb5.PAPACRequest, Value: krb5.PACRequest{}.Append(nil)})
	}
	if x.key != nil {
		ts, err := x.timestamp(now)
		if err != nil {
			return err
		}
		q.PAData = append(q.PAData, ts)
	}
	x.bytes = q.Append(make([]byte, 0, 512))
	return nil
}

func (x *asExchange) canonicalize() bool {
	return !x.req.ExactName || x.req.Client.Type == krb5.NameEnterprise
}

// now is the realm's time as this exchange takes it to be.
func (x *asExchange) now() time.Time { return x.c.cfg.Now().Add(x.offset) }

// until is the end of a lifetime, in whole seconds; without one, the far future.
func until(now time.Time, lifetime time.Duration) time.Time {
	if lifetime > 0 {
		return now.Add(lifetime).Truncate(time.Second)
	}
	if farFuture.After(now) {
		return farFuture
	}
	return now.AddDate(10, 0, 0).Truncate(time.Second)
}

// nonce is 31 random bits: RFC 4120, Section 5.2.4 warns of peers that take it
// for signed.
func (c *Client) nonce() (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(c.cfg.Rand, b[:]); err != nil {
		return 0, fmt.Errorf("make a nonce: %w", err)
	}
	return binary.BigEndian.Uint32(b[:])&(1<<31-1) | 1, nil
}

// timestamp is PA-ENC-TIMESTAMP: RFC 4120, Section 5.2.7.2.
func (x *asExchange) timestamp(now time.Time) (krb5.PAData, error) {
	ts := krb5.PAEncTSEnc{Time: now, Usec: now.Nanosecond() / 1000}
	e, err := krb5.Seal(x.key, krb5.UsageASReqTimestamp, ts.Append(nil), x.c.cfg.Rand)
	if err != nil {
		return krb5.PAData{}, err
	}
	return krb5.PAData{Type: krb5.PAEncTimestamp, Value: e.Append(nil)}, nil
}

// react decides after an error whether to ask again, and how. Each way is gone
// once, so that a hostile answer cannot keep us busy.
func (x *asExchange) react(e *krb5.KRBError) error {
	switch e.Code {
	case krb5.ErrPreauthRequired:
		if x.asked {
			return badReply("pre-authentication is asked for again: %w", e)
		}
		x.asked, x.guessed = true, false
		return x.choose(e)
	case krb5.ErrPreauthFailed, krb5.ErrETypeNoSupport, krb5.ErrBadIntegrity:
		return x.refused(e)
	case krb5.ErrSkew:
		if x.skewed {
			return e
		}
		x.skewed = true
		offset, err := x.c.suggested(e)
		x.offset = offset
		return err
	case krb5.ErrWrongRealm:
		return fmt.Errorf("%w: %q: %w", ErrReferral, e.CRealm, e)
	case krb5.ErrKeyExpired:
		// Not authenticated, and nothing to do about it here.
		return e
	}
	return e
}

// refused looks whether a guessed key was of a type or salt that the account
// does not have; then the KDC's choice is tried, else the secret is wrong.
func (x *asExchange) refused(e *krb5.KRBError) error {
	wrong := error(e)
	if e.Code == krb5.ErrBadIntegrity {
		wrong = fmt.Errorf("%w: %w", ErrWrongKey, e)
	}
	if err := x.sameSalt(e); err != nil {
		return err
	}
	if !x.guessed || x.asked || x.req.Secret.exact {
		return wrong
	}
	before := x.key
	x.asked, x.guessed = true, false
	if _, ok := e.MethodData().Find(krb5.PAETypeInfo2); !ok {
		if e.Code != krb5.ErrETypeNoSupport {
			return wrong
		}
		x.asked, x.key = false, nil // ask which type it has
		return nil
	}
	if err := x.choose(e); err != nil {
		return wrong
	}
	if x.key.Equal(before) {
		return wrong
	}
	return nil
}

// choose makes the key that the KDC asks for: the first entry of ETYPE-INFO2
// that was offered. What is chosen can only be what we offered; the salt is the
// word of whoever answered, the iteration count is fixed (RFC 4120, Section
// 5.2.7.5; package crypto).
func (x *asExchange) choose(e *krb5.KRBError) error {
	if err := x.sameSalt(e); err != nil {
		return err
	}
	info, err := x.keyInfo(e.MethodData())
	if err != nil {
		return err
	}
	for _, entry := range info {
		if slices.Contains(x.etypes, entry.EType) {
			x.key, err = x.req.Secret.key(entry, x.defaultSalt(), x.c.cfg.Allow)
			return err
		}
	}
	return fmt.Errorf("%w: the account has keys of %v, offered were %v", ErrEType, types(info), x.etypes)
}

// sameSalt returns a *[SaltError] when the KDC announces another salt than the
// one that the keys were made with.
func (x *asExchange) sameSalt(e *krb5.KRBError) error {
	if !x.req.Secret.exact {
		return nil
	}
	b, ok := e.MethodData().Find(krb5.PAETypeInfo2)
	if !ok {
		return nil
	}
	info, err := krb5.ParseETypeInfo2(b)
	if err != nil {
		return badReply("read ETYPE-INFO2: %w", err)
	}
	for _, entry := range info {
		if slices.Contains(x.etypes, entry.EType) && entry.HasSalt && entry.Salt != x.req.Secret.salt {
			return &SaltError{Salt: entry.Salt, Tried: x.key != nil}
		}
	}
	return nil
}

// keyInfo is ETYPE-INFO2, or what its absence means.
func (x *asExchange) keyInfo(m krb5.MethodData) (krb5.ETypeInfo2, error) {
	if b, ok := m.Find(krb5.PAETypeInfo2); ok {
		info, err := krb5.ParseETypeInfo2(b)
		if err != nil {
			return nil, badReply("read ETYPE-INFO2: %w", err)
		}
		return info, nil
	}
	if b, ok := m.Find(krb5.PAETypeInfo); ok {
		old, err := krb5.ParseETypeInfo(b)
		if err != nil {
			return nil, badReply("read ETYPE-INFO: %w", err)
		}
		// The older form has no parameters, so it can only speak of RC4.
		var info krb5.ETypeInfo2
		for _, entry := range old {
			if entry.EType == crypto.RC4HMAC {
				info = append(info, krb5.ETypeInfo2Entry{EType: entry.EType})
			}
		}
		return info, nil
	}
	return krb5.ETypeInfo2{{EType: x.etypes[0]}}, nil
}

func types(info krb5.ETypeInfo2) []crypto.EType {
	var out []crypto.EType
	for _, entry := range info {
		out = append(out, entry.EType)
	}
	return out
}

// defaultSalt is the realm and the components of the name: RFC 4120, Section 4.
func (x *asExchange) defaultSalt() string {
	return x.c.cfg.Realm + strings.Join(x.req.Client.Components, "")
}

// accept judges an AS-REP: RFC 4120, Section 3.1.5.
func (x *asExchange) accept(reply []byte) (Result, error) {
	at := x.c.cfg.Now()
	rep, err := krb5.ParseKDCRep(reply)
	if err != nil {
		return Result{}, badReply("read the AS-REP: %w", err)
	}
	key, err := x.replyKey(rep)
	if err != nil {
		return Result{}, err
	}
	plain, err := rep.EncPart.Open(key, krb5.UsageASRepEncPart)
	if err != nil {
		if x.key != nil && x.key.EType() == rep.EncPart.EType {
			return Result{}, badReply("the KDC took our key, but did not encrypt with it: %w", err)
		}
		return Result{}, fmt.Errorf("%w: open the AS-REP: %w", ErrWrongKey, err)
	}
	defer clear(plain)
	part, err := krb5.ParseEncKDCRepPart(plain)
	if err != nil {
		return Result{}, badReply("read the encrypted part: %w", err)
	}
	proved, err := x.proof(part, key)
	if err != nil {
		return Result{}, err
	}
	if err := x.checkClient(rep, proved); err != nil {
		return Result{}, err
	}
	if !part.Flags.Has(krb5.FlagInitial) {
		return Result{}, badReply("the flags %q lack initial", part.Flags)
	}
	check := replyCheck{c: x.c, body: x.body, at: at, kdcTime: part.AuthTime}
	cred, err := check.credential(rep, part)
	if err != nil {
		return Result{}, err
	}
	res := Result{Credential: cred, KDC: x.kdc, Offset: x.c.Offset(), ClientKey: key, KVNO: rep.EncPart.KVNO, Proved: proved}
	res.notices(part)
	return res, nil
}

// replyKey is the key that the reply says it is encrypted in.
func (x *asExchange) replyKey(rep krb5.KDCRep) (*crypto.Key, error) {
	e := rep.EncPart.EType
	if !slices.Contains(x.etypes, e) {
		return nil, badReply("encrypted with %v, which was not offered", e)
	}
	if x.key != nil && x.key.EType() == e {
		return x.key, nil
	}
	info, err := x.keyInfo(rep.PAData)
	if err != nil {
		return nil, err
	}
	for _, entry := range info {
		if entry.EType == e {
			return x.req.Secret.key(entry, x.defaultSalt(), x.c.cfg.Allow)
		}
	}
	return x.req.Secret.key(krb5.ETypeInfo2Entry{EType: e}, x.defaultSalt(), x.c.cfg.Allow)
}

// proof verifies PA-REQ-ENC-PA-REP: the KDC's checksum of the request as it
// received it. RFC 6806, Section 11.
func (x *asExchange) proof(part krb5.EncKDCRepPart, key *crypto.Key) (bool, error) {
	if !part.Flags.Has(krb5.FlagEncPARep) {
		return false, nil
	}
	b, ok := krb5.MethodData(part.PAData).Find(krb5.PAReqEncPARep)
	if !ok {
		return false, badReply("the flag enc-pa-rep is set, but PA-REQ-ENC-PA-REP is missing")
	}
	sum, err := krb5.ParseChecksum(b)
	if err != nil {
		return false, badReply("read PA-REQ-ENC-PA-REP: %w", err)
	}
	if sum.Type != key.ChecksumType() {
		return false, badReply("PA-REQ-ENC-PA-REP has checksum type %d, the key makes %d", sum.Type, key.ChecksumType())
	}
	if err := key.VerifyChecksum(krb5.UsageASReqChecksum, x.bytes, sum.Sum); err != nil {
		return false, badReply("the KDC received another request than was sent: %w", err)
	}
	return true, nil
}

// checkClient demands the client that was asked for. Another one is taken only
// from a KDC that proved its answer, if it was allowed to change the name: RFC
// 6806, Section 6.
func (x *asExchange) checkClient(rep krb5.KDCRep, proved bool) error {
	if !strings.EqualFold(rep.CRealm, x.c.cfg.Realm) {
		return badReply("the client's realm is %q, not %q", rep.CRealm, x.c.cfg.Realm)
	}
	if rep.CName.EqualFold(x.req.Client) || (proved && x.canonicalize()) {
		return nil
	}
	return badReply("the ticket is for the client %q, not %q", rep.CName, x.req.Client)
}

// notices takes what the KDC says about expiry. It is not an error: MIT's and
// Samba's KDC send it weeks ahead.
func (r *Result) notices(part krb5.EncKDCRepPart) {
	r.PasswordExpires = part.KeyExpiration
	for _, l := range part.LastReq {
		switch t := max(l.Type, -l.Type); {
		case t == krb5.LRPasswordExpires && r.PasswordExpires.IsZero():
			r.PasswordExpires = l.Value
		case t == krb5.LRAccountExpires:
			r.AccountExpires = l.Value
		}
	}
	if b, ok := krb5.MethodData(part.PAData).Find(krb5.PASupportedETypes); ok {
		if mask, err := krb5.ParseSupportedETypes(b); err == nil {
			r.SupportedETypes = mask
		}
	}
}
