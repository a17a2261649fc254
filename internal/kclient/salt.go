package kclient

import (
	"context"
	"slices"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Salt asks which salt the account's key of the best of the types has: an AS
// request without pre-authentication, to which the KDC answers how it wants it
// (RFC 4120, Section 5.2.7.5). Who derives keys in the meantime need not ask again
// in the exchange. The answer is not authenticated. An account that the KDC gives a
// ticket without pre-authentication, which no gMSA is, makes this fail. Errors are
// *[Error].
func (c *Client) Salt(ctx context.Context, client krb5.PrincipalName, prefer string, etypes ...crypto.EType) (string, error) {
	x := &asExchange{c: c, offset: c.Offset(), etypes: etypes, req: ASRequest{
		Client: client, Server: krb5.NewName(krb5.NameSrvInst, "krbtgt", c.cfg.Realm), Prefer: prefer,
	}}
	salt, err := x.salt(ctx)
	if err != nil {
		return "", &Error{
			Op:     "AS exchange",
			Client: krb5.Principal{Realm: c.cfg.Realm, Name: client},
			Server: krb5.Principal{Realm: c.cfg.Realm, Name: x.req.Server},
			KDC:    x.kdc, Kind: kindOf(err), Err: err,
		}
	}
	return salt, nil
}

func (x *asExchange) salt(ctx context.Context) (string, error) {
	if err := x.build(); err != nil {
		return "", err
	}
	reply, kdc, err := x.c.send(ctx, x.req.Prefer, x.bytes)
	x.kdc = kdc
	if err != nil {
		return "", err
	}
	e, err := parseError(reply)
	if err != nil {
		return "", err
	}
	if e.Code != krb5.ErrPreauthRequired {
		return "", e
	}
	info, err := x.keyInfo(e.MethodData())
	if err != nil {
		return "", err
	}
	for _, entry := range info {
		if slices.Contains(x.etypes, entry.EType) {
			if entry.HasSalt {
				return entry.Salt, nil
			}
			return x.defaultSalt(), nil
		}
	}
	return "", ErrEType
}
