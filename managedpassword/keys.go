package managedpassword

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/md4" //nolint:staticcheck // RFC 4757 leaves no choice

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// Salt is the salt of the Kerberos keys of a gMSA, an sMSA or a computer
// ([MS-KILE] 3.1.1.2): the realm in capitals, "host", the account's name
// without its final "$" and the realm, both in small letters. The names
// dNSHostName and userPrincipalName do not enter. A domain keeps the salt of
// the keys in force when an account is renamed: what the KDC says in
// PA-ETYPE-INFO2 overrides this.
func Salt(realm, samAccountName string) string {
	name := strings.TrimSuffix(samAccountName, "$")
	return strings.ToUpper(realm) + "host" + strings.ToLower(name) + "." + strings.ToLower(realm)
}

// UTF8 converts a password from UTF-16LE by Windows' rule, which the keys of
// a gMSA depend on since its password is random: a pair of surrogates becomes
// one character of 4 bytes, a surrogate without its partner U+FFFD, and
// everything else is kept, controls and noncharacters included. The result has
// memory of its own. It fails for an odd number of bytes.
func UTF8(password secret.Bytes) (secret.Bytes, error) {
	b := password.Reveal()
	if len(b)%2 != 0 {
		return secret.Bytes{}, fmt.Errorf("password of %d bytes is not UTF-16", len(b))
	}
	out := make([]byte, 0, len(b)/2*3) // no code unit takes more than 3 bytes
	for i := 0; i < len(b); i += 2 {
		r := rune(binary.LittleEndian.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if i+4 <= len(b) {
				low = rune(binary.LittleEndian.Uint16(b[i+2:]))
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 2
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return secret.New(out), nil
}

// UTF16 converts a password that somebody typed, in UTF-8, to the UTF-16LE that
// Windows and this package have passwords in. The result has memory of its own. It
// fails for bytes that are not UTF-8.
func UTF16(password secret.Bytes) (secret.Bytes, error) {
	text := password.Reveal()
	if !utf8.Valid(text) {
		return secret.Bytes{}, errors.New("password is not UTF-8")
	}
	out := make([]byte, 0, 2*len(text)) // no byte of UTF-8 stands for more than a code unit
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		if utf16.RuneLen(r) == 2 {
			high, low := utf16.EncodeRune(r)
			out = binary.LittleEndian.AppendUint16(out, uint16(high))
			r = low
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(r))
	}
	return secret.New(out), nil
}

// Key derives one Kerberos key from a password in UTF-16LE, without
// terminator: RFC 3962 or RFC 8009 string-to-key with the default iterations
// for etypes 17 to 20. Etype 23 needs crypto.AllowRC4; its key is the MD4 of
// the raw bytes, and salt does not enter.
func Key(e crypto.EType, password secret.Bytes, salt string, allow ...crypto.Allowance) (*crypto.Key, error) {
	if e == crypto.RC4HMAC {
		h := md4.New()
		h.Write(password.Reveal())
		return crypto.NewKey(e, secret.New(h.Sum(nil)), allow...)
	}
	text, err := UTF8(password)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	return crypto.StringToKey(e, text.Reveal(), salt, nil, allow...)
}

// Keys derives a key of each etype, in that order. Etype 23 is refused: it
// takes [Key] and an allowance.
func Keys(password secret.Bytes, salt string, etypes ...crypto.EType) ([]*crypto.Key, error) {
	text, err := UTF8(password)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	return crypto.StringToKeys(etypes, text.Reveal(), salt)
}
