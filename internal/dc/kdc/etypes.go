package kdc

import (
	"slices"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// sessionType is the strongest type that the client offers and the server understands:
// [MS-KILE] 3.3.5.7. RC4 is among them only where the server's account demands it.
func (x *exchange) sessionType(server []crypto.EType) (crypto.EType, error) {
	for _, t := range server {
		if slices.Contains(x.req.Body.ETypes, t) {
			return t, nil
		}
	}
	return 0, refuse(krb5.ErrETypeNoSupport, "client offers %v, the server has %v", x.req.Body.ETypes, server)
}

// newSessionKey makes a session key of a type.
func (x *exchange) newSessionKey(t crypto.EType) (*crypto.Key, error) {
	return crypto.Generate(t, x.cfg.Rand, crypto.AllowRC4)
}

// serverKey is the key that a ticket for an account is encrypted in: the strongest that
// msDS-SupportedEncryptionTypes has, AES where it is unset.
func (x *exchange) serverKey(server *account.Account) (account.KeySet, *crypto.Key, error) {
	set, err := x.cfg.Accounts.CurrentKeys(server, x.filetime())
	if err != nil {
		return set, nil, err
	}
	for _, t := range server.ETypes() {
		if key := set.Find(t); key != nil {
			return set, key, nil
		}
	}
	return set, nil, refuse(krb5.ErrNullKey, "%s has no key of %v", server.Name, server.ETypes())
}
