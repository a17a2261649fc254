package kclient

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// Secret is what proves who a client is: a password, or keys. The zero value is
// neither, and fails.
type Secret struct {
	password secret.Bytes
	salt     string
	salted   bool
	keys     []*crypto.Key

	// exact: the keys were made with salt, and only that will do; proven: a KDC
	// took them before.
	exact, proven bool
}

// Password is a password in UTF-8. It must stay as it is during the exchange.
func Password(p secret.Bytes) Secret { return Secret{password: p} }

// PasswordWithSalt is a password whose salt is known, so that the KDC need not
// be asked for it first. A wrong salt costs one failed attempt, which counts
// for the account's lockout.
func PasswordWithSalt(p secret.Bytes, salt string) Secret {
	return Secret{password: p, salt: salt, salted: true}
}

// Keys are the account's keys, at most one of each type. Only their types are
// offered to the KDC.
func Keys(keys ...*crypto.Key) Secret { return Secret{keys: slices.Clone(keys)} }

// SaltedKeys are keys that were made with a known salt. The exchange tries one
// of them, of the first type that the KDC has too, and ends with a *[SaltError]
// when the KDC announces another salt. Unless a KDC took the keys before
// (proven) it is asked first, so that no attempt is wasted on a wrong salt.
func SaltedKeys(salt string, proven bool, keys ...*crypto.Key) Secret {
	return Secret{keys: slices.Clone(keys), salt: salt, exact: true, proven: proven}
}

// guessable: pre-authentication can be made before the KDC said how.
func (s Secret) guessable() bool {
	switch {
	case s.exact:
		return s.proven
	case s.password.IsZero():
		return true
	default:
		return s.salted
	}
}

// etypes are those of offered that the secret can serve.
func (s Secret) etypes(offered []crypto.EType) ([]crypto.EType, error) {
	if !s.password.IsZero() {
		return offered, nil
	}
	if len(s.keys) == 0 {
		return nil, errors.New("neither a password nor a key was given")
	}
	var out []crypto.EType
	for _, e := range offered {
		if s.find(e) != nil {
			out = append(out, e)
		}
	}
	if out == nil {
		return nil, fmt.Errorf("%w: the keys are of %v, offered are %v", ErrEType, s.keyTypes(), offered)
	}
	return out, nil
}

func (s Secret) keyTypes() []crypto.EType {
	var out []crypto.EType
	for _, k := range s.keys {
		out = append(out, k.EType())
	}
	return out
}

func (s Secret) find(e crypto.EType) *crypto.Key {
	for _, k := range s.keys {
		if k.EType() == e {
			return k
		}
	}
	return nil
}

// key makes the key that info describes; without a salt in it, salt is used.
func (s Secret) key(info krb5.ETypeInfo2Entry, salt string, allow []crypto.Allowance) (*crypto.Key, error) {
	if s.password.IsZero() {
		if k := s.find(info.EType); k != nil {
			return k, nil
		}
		return nil, fmt.Errorf("%w: no key of %v", ErrEType, info.EType)
	}
	if info.HasSalt {
		salt = info.Salt
	}
	k, err := crypto.StringToKey(info.EType, s.password.Reveal(), salt, info.S2KParams, allow...)
	if err != nil {
		return nil, badReply("string-to-key for %v: %w", info.EType, err)
	}
	return k, nil
}

// String hides what is inside.
func (Secret) String() string { return "[secret]" }

// GoString hides what is inside.
func (Secret) GoString() string { return "[secret]" }
