package gkdi

import (
	"encoding/binary"
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// PasswordSize is the size in bytes of a gMSA's password, without terminator.
const PasswordSize = 256

// serviceLabel is "KDS service" and passwordLabel "GMSA PASSWORD" in UTF-16LE
// with terminator: the labels of seeds and of passwords.
const (
	serviceLabel  = "K\x00D\x00S\x00 \x00s\x00e\x00r\x00v\x00i\x00c\x00e\x00\x00\x00"
	passwordLabel = "G\x00M\x00S\x00A\x00 \x00P\x00A\x00S\x00S\x00W\x00O\x00R\x00D\x00\x00\x00"
)

// gmsaTargetSD is O:SYD:(A;;FRFW;;;S-1-5-9) as a self-relative descriptor:
// enterprise domain controllers may read and write files, owner SYSTEM.
const gmsaTargetSD = "\x01\x00\x04\x80" + // revision 1, self-relative with DACL
	"\x30\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x14\x00\x00\x00" + // owner at 48, DACL at 20
	"\x02\x00\x1c\x00\x01\x00\x00\x00" + // ACL of 28 bytes with one entry
	"\x00\x00\x14\x00\x9f\x01\x12\x00" + // allow FILE_GENERIC_READ | FILE_GENERIC_WRITE
	"\x01\x01\x00\x00\x00\x00\x00\x05\x09\x00\x00\x00" + // S-1-5-9
	"\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00" // S-1-5-18

// GMSATargetSD returns the target security descriptor of every gMSA password,
// 60 bytes ([MS-ADTS] 3.1.1.4.5.39). It is constant: a gMSA's key does not
// depend on who may read it.
func GMSATargetSD() []byte { return []byte(gmsaTargetSD) }

// seed is a seed key at one of the three levels.
type seed [KeySize]byte

// chain computes the seeds of one root key. It holds no state but its inputs.
type chain struct {
	hash Hash
	id   dtyp.GUID
}

// step derives into dst the seed that src has at (l0, l1, l2), with extra
// appended to the context. dst and src may be the same.
func (c chain) step(dst *seed, src []byte, id KeyID, extra []byte) {
	context := make([]byte, 0, 16+3*4+len(gmsaTargetSD))
	context = append(context, c.id[:]...)
	context = binary.LittleEndian.AppendUint32(context, uint32(id.L0))
	context = binary.LittleEndian.AppendUint32(context, uint32(id.L1))
	context = binary.LittleEndian.AppendUint32(context, uint32(id.L2))
	context = append(context, extra...)
	var out seed
	kdf(c.hash, out[:], src, []byte(serviceLabel), context)
	*dst = out
	clear(out[:])
}

// top derives the L1 seed 31 of an epoch: the only place where the target
// security descriptor enters.
func (c chain) top(root []byte, sd []byte, l0 int32) seed {
	var s seed
	c.step(&s, root, KeyID{l0, -1, -1}, nil)
	c.step(&s, s[:], KeyID{l0, fanOut - 1, -1}, sd)
	return s
}

// l1 descends from the L1 seed of index from to that of index to.
func (c chain) l1(s *seed, l0, from, to int32) {
	for i := from - 1; i >= to; i-- {
		c.step(s, s[:], KeyID{l0, i, -1}, nil)
	}
}

// l2 descends from the seed above L2 index from to that of index to: from 32
// means that s is the L1 seed.
func (c chain) l2(s *seed, l0, l1, from, to int32) {
	for i := from - 1; i >= to; i-- {
		c.step(s, s[:], KeyID{l0, l1, i}, nil)
	}
}

// take makes a secret of s and clears s.
func (s *seed) take() secret.Bytes {
	b := secret.Copy(s[:])
	clear(s[:])
	return b
}

// DeriveSeed derives the seed of id for the target security descriptor sd
// ([MS-GKDI] 3.1.4.1.2): the L2 seed, or the L1 seed where id.L2 is -1. It is
// KeySize bytes. It fails with ErrUnsupported for a root key of another make,
// and with ErrKeyID.
func DeriveSeed(root RootKey, sd []byte, id KeyID) (secret.Bytes, error) {
	if err := root.Check(); err != nil {
		return secret.Bytes{}, err
	}
	if err := id.checkSeed(); err != nil {
		return secret.Bytes{}, err
	}
	c := chain{root.Hash, root.ID}
	s := c.top(root.Key.Reveal(), sd, id.L0)
	c.l1(&s, id.L0, fanOut-1, id.L1)
	if id.L2 >= 0 {
		c.l2(&s, id.L0, id.L1, fanOut, id.L2)
	}
	return s.take(), nil
}

// Descend derives the seed of to from the seed of from, which somebody was
// given: neither root key nor security descriptor is needed. From an L1 seed
// (from.L2 is -1) every seed of that and of lower L1 indexes follows; from an
// L2 seed those of lower L2 indexes with the same L1. Anything else fails with
// ErrKeyID.
func Descend(h Hash, rootID dtyp.GUID, from KeyID, key secret.Bytes, to KeyID) (secret.Bytes, error) {
	if h < SHA1 || h > SHA512 {
		return secret.Bytes{}, fmt.Errorf("%w: hash %v", ErrUnsupported, h)
	}
	if key.Len() != KeySize {
		return secret.Bytes{}, fmt.Errorf("%w: seed of %d bytes, want %d", ErrUnsupported, key.Len(), KeySize)
	}
	if err := from.checkSeed(); err != nil {
		return secret.Bytes{}, err
	}
	if err := to.checkSeed(); err != nil {
		return secret.Bytes{}, err
	}
	c, s := chain{h, rootID}, seed(key.Reveal())
	switch {
	case from.L0 == to.L0 && from.L2 == -1 && to.L1 <= from.L1:
		c.l1(&s, to.L0, from.L1, to.L1)
		if to.L2 >= 0 {
			c.l2(&s, to.L0, to.L1, fanOut, to.L2)
		}
	case from.L0 == to.L0 && from.L1 == to.L1 && to.L2 >= 0 && to.L2 <= from.L2:
		c.l2(&s, to.L0, to.L1, from.L2, to.L2)
	default:
		clear(s[:])
		return secret.Bytes{}, fmt.Errorf("%w: %v cannot be derived from %v", ErrKeyID, to, from)
	}
	return s.take(), nil
}

// Password derives the password of the gMSA sid in the interval id: 256
// bytes, which are 128 UTF-16LE code units, none of them zero ([MS-ADTS]
// 3.1.1.4.5.39). Errors as of [DeriveSeed].
func Password(root RootKey, sid dtyp.SID, id KeyID) (secret.Bytes, error) {
	if err := id.Check(); err != nil {
		return secret.Bytes{}, err
	}
	key, err := DeriveSeed(root, GMSATargetSD(), id)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer key.Destroy()
	return passwordFrom(root.Hash, key.Reveal(), sid), nil
}

// passwordFrom derives a password from the L2 seed of its interval.
func passwordFrom(h Hash, l2 []byte, sid dtyp.SID) secret.Bytes {
	out := make([]byte, PasswordSize)
	kdf(h, out, l2, []byte(passwordLabel), sid.Bytes())
	// A code unit of zero would end the string for whoever takes it for one.
	for i := 0; i < len(out); i += 2 {
		if out[i] == 0 && out[i+1] == 0 {
			out[i] = 1
		}
	}
	return secret.New(out)
}

// GroupKey is what a caller of the service's GetKey is given: the seeds from
// which all keys of one epoch up to ID follow.
type GroupKey struct {
	ID KeyID
	L1 secret.Bytes // of ID.L1 if ID.L2 is 31, of ID.L1-1 otherwise; empty if there is none
	L2 secret.Bytes // of ID; empty if ID.L2 is 31, since L1 yields it
}

// GetKey answers who may read the keys of sd and asks for those of want while
// the time is in interval now ([MS-GKDI] 3.1.4.1, GetKey, processing of the
// seed keys): for the epoch of now the seeds of now, for an earlier epoch the
// one seed that yields the epoch whole. Future intervals fail with ErrKeyID.
func GetKey(root RootKey, sd []byte, now, want KeyID) (GroupKey, error) {
	for _, id := range []KeyID{now, want} {
		if err := id.Check(); err != nil {
			return GroupKey{}, err
		}
	}
	if want.Compare(now) > 0 {
		return GroupKey{}, fmt.Errorf("%w: %v is later than the present %v", ErrKeyID, want, now)
	}
	k := GroupKey{ID: now}
	if want.L0 < now.L0 {
		k.ID = KeyID{want.L0, fanOut - 1, fanOut - 1}
	}
	l1 := KeyID{k.ID.L0, k.ID.L1, -1}
	var err error
	if k.ID.L2 < fanOut-1 {
		l1.L1--
		if k.L2, err = DeriveSeed(root, sd, k.ID); err != nil {
			return GroupKey{}, err
		}
	}
	if l1.L1 >= 0 {
		if k.L1, err = DeriveSeed(root, sd, l1); err != nil {
			return GroupKey{}, err
		}
	}
	return k, nil
}

// Seed derives the L2 seed of want from k, as a client of GetKey does.
func (k GroupKey) Seed(h Hash, rootID dtyp.GUID, want KeyID) (secret.Bytes, error) {
	if !k.L2.IsZero() && want.L0 == k.ID.L0 && want.L1 == k.ID.L1 {
		return Descend(h, rootID, k.ID, k.L2, want)
	}
	l1 := KeyID{k.ID.L0, k.ID.L1, -1}
	if k.ID.L2 < fanOut-1 {
		l1.L1--
	}
	return Descend(h, rootID, l1, k.L1, want)
}
