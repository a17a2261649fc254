package account

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// striking is so close to the expiry that the controller may have gone on to the
// next password between the two searches of a reading: without an id that was
// read together with it, its kvno is not believed.
const striking = 10 * time.Second

// DeriveFunc makes the Kerberos keys of a password, one of each type in their
// order. It is called by several goroutines at once.
type DeriveFunc func(password secret.Bytes, salt string, etypes ...crypto.EType) ([]*crypto.Key, error)

// announces reports whether the blob's current password is the next one, which
// the KDC still refuses: the password in force is then the previous one. The
// unchanged interval covers the next period then and exceeds the query interval;
// at all other times it is 5 min shorter than it.
func announces(b managedpassword.Blob) bool {
	return !b.Previous.IsZero() && b.UnchangedInterval > b.QueryInterval
}

// foretells is [announces] for a controller that counts its intervals otherwise:
// shortly before the expiry the password that is known to be in force has become
// the previous one.
func (r Ring) foretells(b managedpassword.Blob, current, previous Password) bool {
	i := r.find(previous)
	return b.QueryInterval <= ClockSkew && i >= 0 && r.held[i].id == r.inForceID() && r.find(current) < 0
}

// observation makes of a reading, which came at an instant, what the ring wants
// to know. Keys that the ring holds are not derived again, the others with salt.
func (a *account) observation(rd Reading, salt string, at time.Time) (Observation, error) {
	etypes := a.pool.cfg.shared(rd.EncTypes)
	if len(etypes) == 0 {
		return Observation{}, &Error{Reason: ErrNoEncType, Controller: rd.Controller,
			Err: fmt.Errorf("msDS-SupportedEncryptionTypes is %#x, the host allows %v", rd.EncTypes, a.pool.cfg.EncTypes)}
	}
	passwords, err := a.passwords(rd, salt, etypes)
	if err != nil {
		return Observation{}, err
	}
	o := Observation{Controller: rd.Controller, At: at, KVNO: rd.KVNO, Expires: at.Add(rd.Blob.QueryInterval), InForce: passwords[0]}
	if len(passwords) > 1 {
		current, previous := passwords[0], passwords[1]
		if announces(rd.Blob) || a.ring.foretells(rd.Blob, current, previous) {
			o.InForce, o.Upcoming = previous, &current
		} else {
			o.Former = &previous
		}
	}
	o.date(rd)
	return o, nil
}

// date adds the period and the version to the password in force, unless they
// belong to another one: the controller went on between its two searches.
func (o *Observation) date(rd Reading) {
	var starts time.Time
	if rd.ID != nil {
		if s, err := rd.ID.KeyID.Start(); err == nil {
			starts = s.Time()
		}
	}
	known := o.InForce.Starts
	torn := !known.IsZero() && !starts.IsZero() && !known.Equal(starts)
	torn = torn || o.Upcoming != nil && starts.IsZero() && rd.Blob.QueryInterval < striking
	if announces(rd.Blob) && !starts.IsZero() {
		period := rd.Blob.UnchangedInterval - rd.Blob.QueryInterval + ClockSkew
		torn = torn || starts.Add(period).Sub(o.Expires).Abs() > period/2
	}
	if torn {
		o.KVNO = 0
		return
	}
	if !starts.IsZero() {
		o.InForce.Starts = starts
	}
}

// passwords turns the current and, if there is one, the previous password of a
// reading into keys, both at once: a lease may be waiting, and a key costs
// milliseconds.
func (a *account) passwords(rd Reading, salt string, etypes []crypto.EType) ([]Password, error) {
	blobs := []secret.Bytes{rd.Blob.Current}
	if !rd.Blob.Previous.IsZero() {
		blobs = append(blobs, rd.Blob.Previous)
	}
	out, errs := make([]Password, len(blobs)), make([]error, len(blobs))
	var all sync.WaitGroup
	for i, b := range blobs {
		all.Go(func() { out[i], errs[i] = a.password(b, salt, etypes) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

// password turns a password's bytes into keys, unless the ring has them. The
// salt is a guess when the password is first seen; only a KDC knows better, and
// [account.resalt] asks it.
func (a *account) password(b secret.Bytes, salt string, etypes []crypto.EType) (Password, error) {
	print := FingerprintOf(b)
	p, ok := a.ring.Lookup(print)
	if ok && slices.EqualFunc(p.Keys, etypes, func(k *crypto.Key, e crypto.EType) bool { return k.EType() == e }) {
		return p, nil
	}
	if !ok {
		p = Password{Print: print, Salt: salt}
	}
	keys, err := a.pool.cfg.Derive(b, p.Salt, etypes...)
	if err != nil {
		return Password{}, fmt.Errorf("derive the keys of %s: %w", a.key, err)
	}
	p.Keys = keys
	return p, nil
}

// derive is [managedpassword.Keys], with the types that have no work in common
// beside each other.
func derive(password secret.Bytes, salt string, etypes ...crypto.EType) ([]*crypto.Key, error) {
	var groups [][]crypto.EType
	for _, e := range etypes {
		i := slices.IndexFunc(groups, func(g []crypto.EType) bool { return sha1Type(g[0]) && sha1Type(e) })
		if i < 0 {
			groups = append(groups, []crypto.EType{e})
			continue
		}
		groups[i] = append(groups[i], e)
	}
	keys, errs := make([][]*crypto.Key, len(groups)), make([]error, len(groups))
	var all sync.WaitGroup
	for i, g := range groups {
		all.Go(func() { keys[i], errs[i] = managedpassword.Keys(password, salt, g...) })
	}
	all.Wait()
	out := slices.Concat(keys...)
	slices.SortFunc(out, func(a, b *crypto.Key) int {
		return slices.Index(etypes, a.EType()) - slices.Index(etypes, b.EType())
	})
	return out, errors.Join(errs...)
}

func sha1Type(e crypto.EType) bool { return e == crypto.AES256SHA1 || e == crypto.AES128SHA1 }

// encTypeBit is the flag of msDS-SupportedEncryptionTypes ([MS-KILE] 2.2.7) of
// an encryption type.
func encTypeBit(e crypto.EType) uint32 {
	switch e {
	case crypto.RC4HMAC:
		return 0x04
	case crypto.AES128SHA1:
		return 0x08
	case crypto.AES256SHA1:
		return 0x10
	case crypto.AES128SHA2:
		return 0x40
	case crypto.AES256SHA2:
		return 0x80
	}
	return 0
}

// shared are the encryption types that the host allows and the account has
// keys for, in the host's order. Where the attribute is absent, a domain of
// level 2008 and later has AES keys all the same.
func (c *Config) shared(supported uint32) []crypto.EType {
	const known = 0x04 | 0x08 | 0x10 | 0x40 | 0x80
	if supported&known == 0 {
		supported = 0x08 | 0x10
	}
	var out []crypto.EType
	for _, e := range c.EncTypes {
		if supported&encTypeBit(e) != 0 {
			out = append(out, e)
		}
	}
	return out
}
