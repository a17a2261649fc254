package account

import (
	"fmt"
	"sync"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
)

// KeySet is the keys of one password.
type KeySet struct {
	KVNO uint32
	Salt string
	Keys []*crypto.Key // strongest first
}

// Find is the key of a type, nil where there is none.
func (s KeySet) Find(e crypto.EType) *crypto.Key {
	for _, k := range s.Keys {
		if k.EType() == e {
			return k
		}
	}
	return nil
}

// ETypes are the types that the account can be spoken to in, strongest first: those
// that msDS-SupportedEncryptionTypes has, AES with SHA-1 where it is unset or names
// none that anybody here can use. Whoever uses them must not change them.
func (a *Account) ETypes() []crypto.EType { return a.etypes }

func spokenTypes(encryption adproto.EncryptionTypes) []crypto.EType {
	if types := encryption.ETypes(); len(types) > 0 {
		return types
	}
	return adproto.EncDefaultAccounts.ETypes()
}

// KeyInfo is what a client must know to make the keys of its password.
type KeyInfo struct {
	Salt   string
	ETypes []crypto.EType // strongest first
}

// LogonInfo is of the first of [Accounts.LogonKeys], which it does not make: whoever asks
// without proof must not have them derived, which takes 2 ms. It is zero where there are
// none.
func (a *Accounts) LogonInfo(acct *Account, now dtyp.Filetime) (KeyInfo, error) {
	if acct.timeline != nil {
		periods, err := acct.timeline.Accepted(now)
		if err != nil || len(periods) == 0 {
			return KeyInfo{}, err
		}
		return KeyInfo{Salt: periods[0].Salt, ETypes: acct.derivedTypes()}, nil
	}
	if acct.stored == nil {
		return KeyInfo{}, nil
	}
	info := KeyInfo{Salt: acct.stored.current.salt}
	for _, k := range acct.stored.current.keys {
		info.ETypes = append(info.ETypes, k.EType())
	}
	return info, nil
}

// derivedTypes are the types that a gMSA has keys of.
func (a *Account) derivedTypes() []crypto.EType {
	return (a.Encryption | adproto.EncDefaultAccounts).ETypes()
}

// LogonKeys are the keys with which the account may prove itself at now, those in
// force first: of a gMSA also the ones that are accepted around a
// rollover, see [kds.Timeline.Accepted]. There are none for an account without a
// password, and for a gMSA whose root key is gone.
func (a *Accounts) LogonKeys(acct *Account, now dtyp.Filetime) ([]KeySet, error) {
	if acct.timeline == nil {
		return acct.storedSets(false), nil
	}
	periods, err := acct.timeline.Accepted(now)
	if err != nil {
		return nil, err
	}
	return a.derive(acct, periods)
}

// TicketKeys are the keys that a ticket for the account may be encrypted in, those in
// force first. A ticket lives longer than the password that it was issued under.
func (a *Accounts) TicketKeys(acct *Account, now dtyp.Filetime) ([]KeySet, error) {
	if acct.timeline == nil {
		return acct.storedSets(true), nil
	}
	p, err := acct.timeline.At(now)
	if err != nil {
		return nil, err
	}
	periods := []kds.Period{p}
	if previous, ok := acct.timeline.Previous(p); ok {
		periods = append(periods, previous)
	}
	return a.derive(acct, periods)
}

// CurrentKeys are the keys in force, under which the account is encrypted to.
func (a *Accounts) CurrentKeys(acct *Account, now dtyp.Filetime) (KeySet, error) {
	var sets []KeySet
	var err error
	if acct.timeline == nil {
		sets = acct.storedSets(false)
	} else {
		p, atErr := acct.timeline.At(now)
		if atErr != nil {
			return KeySet{}, atErr
		}
		sets, err = a.derive(acct, []kds.Period{p})
	}
	if err != nil || len(sets) == 0 {
		return KeySet{}, err
	}
	return sets[0], nil
}

func (a *Account) storedSets(previous bool) []KeySet {
	if a.stored == nil {
		return nil
	}
	sets := []KeySet{a.stored.current.set()}
	if previous && a.stored.previous.kvno != 0 {
		sets = append(sets, a.stored.previous.set())
	}
	return sets
}

func (g generation) set() KeySet { return KeySet{KVNO: g.kvno, Salt: g.salt, Keys: g.keys} }

// derive makes the keys of periods of a gMSA, or finds them.
func (a *Accounts) derive(acct *Account, periods []kds.Period) ([]KeySet, error) {
	ring := a.cfg.Directory.Ring()
	sets := make([]KeySet, 0, len(periods))
	for _, p := range periods {
		set, err := a.derived.get(ring, derivedKey{acct.GUID, p, acct.Encryption}, func() (KeySet, error) {
			password, err := ring.Password(acct.SID, p)
			if err != nil {
				return KeySet{}, err
			}
			defer password.Destroy()
			text, err := managedpassword.UTF8(password)
			if err != nil {
				return KeySet{}, err
			}
			defer text.Destroy()
			keys, err := passwordKeys(password, text, p.Salt, acct.derivedTypes())
			return KeySet{KVNO: p.KVNO, Salt: p.Salt, Keys: keys}, err
		})
		if err != nil {
			return nil, fmt.Errorf("derive keys of %s: %w", acct.Name, err)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// derivedKey is what derived keys follow from, besides the root keys.
type derivedKey struct {
	account    dtyp.GUID
	period     kds.Period
	encryption adproto.EncryptionTypes
}

// maxDerived bounds the derived keys in memory, in passwords.
const maxDerived = 8192

// derivedKeys keeps the keys of gMSAs, which cost 2 ms to compute. It is safe for
// concurrent use.
type derivedKeys struct {
	mu sync.Mutex
	// Both are guarded by mu. The keys of one ring are gone with it, so that a root key
	// that is removed takes effect at once.
	ring *kds.Ring
	sets map[derivedKey]KeySet
}

// get finds keys, or makes them. Two who come at the same time both make them; that is
// no harm.
func (d *derivedKeys) get(ring *kds.Ring, k derivedKey, derive func() (KeySet, error)) (KeySet, error) {
	d.mu.Lock()
	if d.ring != ring || len(d.sets) >= maxDerived {
		d.ring, d.sets = ring, map[derivedKey]KeySet{}
	}
	set, ok := d.sets[k]
	d.mu.Unlock()
	if ok {
		return set, nil
	}
	set, err := derive()
	if err != nil {
		return KeySet{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ring == ring {
		d.sets[k] = set
	}
	return set, nil
}
