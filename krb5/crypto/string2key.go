package crypto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/secret"
)

// ErrParameters is returned for string-to-key parameters other than the
// default: a KDC or whoever answers in its place could otherwise ask for a hash
// that is cheap to attack or too dear to compute.
var ErrParameters = errors.New("crypto: string-to-key parameters refused")

// StringToKey derives a key from a password in UTF-8: RFC 3962, Section 4,
// RFC 8009, Section 4, RFC 4757, Section 2. The parameters, as they stand in
// ETYPE-INFO2, must be absent or the default iteration count of the type: 4096
// for 17 and 18, 32768 for 19 and 20, none for 23, which also ignores the salt.
func StringToKey(e EType, password []byte, salt string, params []byte, allow ...Allowance) (*Key, error) {
	p, err := check(e, allow)
	if err != nil {
		return nil, err
	}
	if err := checkParams(e, p, params); err != nil {
		return nil, err
	}
	var b []byte
	switch {
	case e == RC4HMAC:
		b = stringToKeyRC4(password)
	case p.sha2:
		b, err = stringToKeySHA2(p, password, salt, p.iterations)
	default:
		b, err = stringToKeySHA1(p, password, salt, p.iterations)
	}
	if err != nil {
		return nil, err
	}
	return NewKey(e, secret.New(b), allow...)
}

// StringToKeys derives a key of each type with the default parameters, in the
// order of the types. It is cheaper than one [StringToKey] for each: types 17 and
// 18 differ in nothing but length until PBKDF2 is done, whose shorter output is
// the beginning of the longer one (RFC 8018, Section 5.2).
func StringToKeys(etypes []EType, password []byte, salt string, allow ...Allowance) ([]*Key, error) {
	var stretched []byte // PBKDF2 for the longest of the SHA-1 types
	keys := make([]*Key, 0, len(etypes))
	for _, e := range etypes {
		p, err := check(e, allow)
		if err != nil {
			return nil, err
		}
		if e == RC4HMAC || p.sha2 {
			k, err := StringToKey(e, password, salt, nil, allow...)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
			continue
		}
		if stretched == nil {
			longest := longestSHA1(etypes)
			if stretched, err = stretchSHA1(longest, password, salt, longest.iterations); err != nil {
				return nil, err
			}
			defer clear(stretched)
		}
		k, err := NewKey(e, secret.New(finishSHA1(p, stretched[:p.keySize])), allow...)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// longestSHA1 is the profile of 18 if it is among the types, else that of 17.
func longestSHA1(etypes []EType) *profile {
	if slices.Contains(etypes, AES256SHA1) {
		return &aes256SHA1
	}
	return &aes128SHA1
}

func checkParams(e EType, p *profile, params []byte) error {
	if len(params) == 0 {
		return nil
	}
	if p.iterations == 0 || len(params) != 4 {
		return fmt.Errorf("%w: %d bytes for %v", ErrParameters, len(params), e)
	}
	// Zero stands for 2^32 iterations (RFC 3962, Section 4) and is refused like
	// any other number.
	if n := binary.BigEndian.Uint32(params); n != uint32(p.iterations) {
		return fmt.Errorf("%w: %d iterations for %v, want %d", ErrParameters, n, e, p.iterations)
	}
	return nil
}
