package crypto

import (
	"encoding/binary"
	"errors"
	"fmt"

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
