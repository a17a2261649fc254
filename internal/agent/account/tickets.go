package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// refresh gets new tickets for a share.
func (a *account) refresh(ctx context.Context, s *share) error {
	now := a.now()
	if a.ring.last.IsZero() {
		s.retryAt = a.retryAt
		s.attempted(a.readErr)
		return a.readErr
	}
	if !a.ring.Settled(now) && s.goodUntil.Sub(now) > unsettledTicket && !s.pressing {
		s.retryAt = now.Add(postpone)
		return nil
	}
	if now.Before(s.triedAt.Add(demandPause)) && now.Before(s.retryAt) {
		s.attempted(s.lastErr)
		return nil
	}
	err := a.renew(ctx, s)
	s.triedAt, s.lastErr = a.now(), err
	if err != nil {
		s.failures++
		s.retryAt = s.triedAt.Add(a.backoff(s.failures, backoffLast))
		a.failed(err)
	} else {
		s.failures, s.retryAt, s.pressing = 0, time.Time{}, false
	}
	a.publish([]*share{s})
	s.attempted(err)
	return err
}

// renew authenticates and fetches the tickets of the profile's services.
func (a *account) renew(ctx context.Context, s *share) error {
	auth, err := a.authenticate(ctx, s.profile)
	if err != nil {
		return err
	}
	if err := a.tryTicket(ctx, s, auth.Credential); err != nil {
		return err
	}
	now := a.now()
	tickets, issuers := []krb5.Credential{auth.Credential}, []string{auth.Controller}
	life := lifeOf(auth.Credential)
	refreshLife := life
	for _, service := range s.profile.Services {
		cred, issuer, err := a.domain.ServiceTicket(ctx, auth.Credential, service)
		a.heard(err)
		if err != nil {
			a.pool.cfg.Log.Warn("no service ticket", a.attrs(slog.String("service", service.String()), slog.Any("error", err))...)
			continue
		}
		tickets, issuers = append(tickets, cred), append(issuers, issuer)
		refreshLife = min(refreshLife, cred.EndTime.Sub(now.Add(auth.Credential.EndTime.Sub(now)-life)))
	}
	point := refreshFrom + refreshOver*spreadOf(a.key.Host, a.key.Name, auth.Credential.EndTime.String())
	s.tickets, s.issuers, s.goodUntil, s.offset = tickets, issuers, now.Add(life), auth.Offset
	s.refreshAt = now.Add(max(time.Duration(point*float64(refreshLife)), lookGap))
	return nil
}

// tryTicket shows a new ticket-granting ticket to the KDC before it replaces one
// that is good: nothing in an answer protects the ticket itself, and whoever
// changed a bit of it would break every lease until the next refresh. Of a first
// ticket [account.proveVersion] finds that out.
func (a *account) tryTicket(ctx context.Context, s *share, tgt krb5.Credential) error {
	if len(s.tickets) == 0 || !a.now().Before(s.goodUntil) {
		return nil
	}
	_, _, err := a.domain.ServiceTicket(ctx, tgt, krb5.NewName(krb5.NameSrvInst, "krbtgt", a.key.Realm))
	if !errors.Is(err, ErrTicket) {
		return nil // whatever else is wrong, it is not this ticket
	}
	return &Error{Reason: ErrAnswer, Controller: controllerOf(err, ""), Err: err}
}

// lifeOf is how long a ticket lives, which does not depend on anybody's clock.
func lifeOf(c krb5.Credential) time.Duration {
	start := c.StartTime
	if start.IsZero() {
		start = c.AuthTime
	}
	return c.EndTime.Sub(start)
}

// authenticate gets a ticket-granting ticket: with the password in force, with
// its neighbour if a controller refuses that, and with what another controller
// says after both were refused. No key is sent that was refused before, unless
// the controller has called it in force since.
func (a *account) authenticate(ctx context.Context, profile Profile) (Authentication, error) {
	if now := a.now(); !a.ring.Settled(now) && now.Sub(a.ring.last) > lookGap {
		_ = a.read(ctx, nil) // recorded there; the ring may do
	}
	var refused []string
	var err error
	for range maxTries {
		controller := a.ring.lastHeard(a.now())
		candidates := a.ring.Candidates(a.now(), controller)
		if len(candidates) == 0 {
			if e := a.read(ctx, refused); e != nil {
				return Authentication{}, errors.Join(err, e)
			}
			controller = a.ring.lastHeard(a.now())
			candidates = a.ring.Candidates(a.now(), controller)
		}
		if len(candidates) == 0 {
			break
		}
		c := candidates[0]
		var auth Authentication
		auth, err = a.exchange(ctx, c, controller, profile)
		if err == nil {
			a.ring = a.ring.Accepted(c)
			a.stale = a.stale || !a.ring.knows(auth.KVNO)
			return auth, nil
		}
		if !errors.Is(err, ErrWrongKey) {
			return Authentication{}, err
		}
		by := controllerOf(err, controller)
		refused = append(refused, by)
		a.ring = a.ring.Refused(c, by, a.now())
	}
	if err == nil {
		err = &Error{Reason: ErrWrongKey, Err: fmt.Errorf("every known key of %s was refused before", a.key)}
	}
	return Authentication{}, err
}

// controllerOf is the controller that refused, or the one that was asked.
func controllerOf(err error, asked string) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Controller != "" {
		return e.Controller
	}
	return asked
}

// exchange is one AS exchange, made again with other keys where the KDC uses
// another salt.
func (a *account) exchange(ctx context.Context, c Candidate, controller string, profile Profile) (Authentication, error) {
	req := AuthRequest{
		Client: a.principal(), Keys: limit(c.Keys, profile.EncTypes), Salt: c.Salt,
		Proven:     c.Proven || a.announced != "" && a.announced == c.Salt,
		Controller: controller, Forwardable: profile.Forwardable, Lifetime: profile.Lifetime,
	}
	if len(req.Keys) == 0 {
		return Authentication{}, &Error{Reason: ErrNoEncType, Err: fmt.Errorf("the profile allows %v", profile.EncTypes)}
	}
	auth, err := a.domain.Authenticate(ctx, req)
	a.heard(err)
	salt := a.otherSalt(ctx, req, c, err)
	if salt == "" {
		return auth, err
	}
	if c.Proven || a.ring.heldBy(controller) != c.id {
		// The salt is that of another password: this one is not in force there.
		return auth, &Error{Reason: ErrWrongKey, Controller: controllerOf(err, controller), Salt: salt, Err: err}
	}
	if err := a.resalt(ctx, c, salt); err != nil {
		return Authentication{}, err
	}
	p, ok := a.ring.Lookup(c.Print)
	if !ok {
		return Authentication{}, err
	}
	req.Keys, req.Salt, req.Proven = limit(p.Keys, profile.EncTypes), p.Salt, false
	auth, err = a.domain.Authenticate(ctx, req)
	a.heard(err)
	return auth, err
}

// otherSalt is the salt that the KDC uses in the place of the request's; empty if
// that is right, or the failure is another. A refusal counts only where the salt was
// remembered or announced; a KDC that does not give the right one with it is asked.
func (a *account) otherSalt(ctx context.Context, req AuthRequest, c Candidate, err error) string {
	e, ok := errors.AsType[*Error](err)
	trusted := req.Proven && !c.Proven && errors.Is(err, ErrWrongKey)
	if !ok || !trusted && !errors.Is(err, ErrSalt) {
		return ""
	}
	salt := e.Salt
	if salter, ok := a.domain.(Salter); ok && salt == "" {
		etypes := make([]crypto.EType, len(req.Keys))
		for i, k := range req.Keys {
			etypes[i] = k.EType()
		}
		salt, _ = salter.Salt(ctx, req.Client, req.Controller, etypes...) // without an answer the refusal stands
	}
	if salt == req.Salt {
		return ""
	}
	return salt
}

// resalt derives keys again with the salt that the KDC uses: of the candidate,
// and of every other password whose salt was only computed from the account's
// name. It reads the password for it, since passwords are not kept.
func (a *account) resalt(ctx context.Context, c Candidate, salt string) error {
	return a.reading(ctx, nil, func(rd Reading) error {
		etypes := a.pool.cfg.shared(rd.EncTypes)
		unproven := a.ring.Unproven()
		for _, b := range []secret.Bytes{rd.Blob.Current, rd.Blob.Previous} {
			print := FingerprintOf(b)
			if b.IsZero() || print != c.Print && !slices.Contains(unproven, print) {
				continue
			}
			keys, err := a.pool.cfg.Derive(b, salt, etypes...)
			if err != nil {
				return fmt.Errorf("derive the keys of %s: %w", a.key, err)
			}
			a.ring = a.ring.Resalt(Password{Print: print, Salt: salt, Keys: keys}, print == c.Print)
		}
		return nil
	})
}

// limit are the keys whose types a profile allows.
func limit(keys []*crypto.Key, etypes []crypto.EType) []*crypto.Key {
	if len(etypes) == 0 {
		return keys
	}
	var out []*crypto.Key
	for _, e := range etypes {
		for _, k := range keys {
			if k.EType() == e {
				out = append(out, k)
			}
		}
	}
	return out
}

// opener is the key of the ring that opens a ticket, or nil.
func (a *account) opener(t krb5.Ticket) *crypto.Key {
	for _, set := range a.ring.AcceptorKeys() {
		for _, k := range set.Keys {
			if k.EType() != t.EncPart.EType {
				continue
			}
			if _, err := k.Decrypt(krb5.UsageTicket, t.EncPart.Cipher); err == nil {
				return k
			}
		}
	}
	return nil
}
