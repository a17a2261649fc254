package account

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/opengmsa/opengmsa/secret"
)

// Sizes of a verifier and its key, in bytes.
const (
	verifierKeySize = 32
	verifierSize    = sha256.Size
)

// verifier tells whether a password is the right one without stretching it, which
// would cost 2 ms for each LDAP bind: HMAC-SHA-256 of the password in UTF-8 with a
// random key of the account's. It is no weaker than what stands beside it: the row is
// encrypted, and whoever can read it has the Kerberos keys, which are as good as the
// password to this domain.
type verifier []byte

func newVerifier(key secret.Bytes, utf8 []byte) verifier {
	mac := hmac.New(sha256.New, key.Reveal())
	mac.Write(utf8)
	return mac.Sum(nil)
}

// equal compares in constant time; an empty verifier equals none, not even another
// empty one.
func (v verifier) equal(o verifier) bool { return len(v) > 0 && hmac.Equal(v, o) }
