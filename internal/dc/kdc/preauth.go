package kdc

import (
	"errors"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// proof is how a client has proved itself, and the key that the reply is encrypted in.
type proof struct {
	set   account.KeySet
	key   *crypto.Key
	flags krb5.TicketFlags
	// offer is the types of the keys that it could have used, best first, and salt the one
	// of those in force.
	offer []crypto.EType
	salt  string
}

// info says how the key of the reply comes from a password.
func (p proof) info() krb5.ETypeInfo2Entry { return etypeInfo(p.key.EType(), p.set.Salt) }

func etypeInfo(t crypto.EType, salt string) krb5.ETypeInfo2Entry {
	if t == crypto.RC4HMAC {
		return krb5.ETypeInfo2Entry{EType: crypto.RC4HMAC} // which has no salt
	}
	return krb5.ETypeInfo2Entry{EType: t, Salt: salt, HasSalt: true}
}

// preauthenticate demands an encrypted timestamp: RFC 4120, Section 5.2.7.2. A wrong one
// is an *account.LogonError.
func (x *exchange) preauthenticate(client *account.Account) (proof, error) {
	info, err := x.cfg.Accounts.LogonInfo(client, x.filetime())
	if err != nil {
		return proof{}, err
	}
	if len(info.ETypes) == 0 {
		return proof{}, refuse(krb5.ErrETypeNoSupport, "%s has no keys", client.Name)
	}
	p := proof{salt: info.Salt, offer: x.usable(client, info.ETypes)}
	if len(p.offer) == 0 {
		return p, refuse(krb5.ErrETypeNoSupport, "client offers %v, %s has %v", x.req.Body.ETypes, client.Name, client.ETypes())
	}
	value, ok := krb5.MethodData(x.req.PAData).Find(krb5.PAEncTimestamp)
	trusted := x.cfg.AllowNoPreauth && client.Control&adproto.UACDontRequirePreauth != 0
	if !ok && !trusted {
		return p, p.required()
	}
	sets, err := x.cfg.Accounts.LogonKeys(client, x.filetime())
	if err != nil {
		return p, err
	}
	if !ok {
		p.set, p.key = sets[0], sets[0].Find(p.offer[0])
		return p, nil
	}
	p.flags = krb5.FlagPreAuthent
	return x.checkTimestamp(p, sets, value)
}

// usable are those of the types that both the client and the account's policy have.
func (x *exchange) usable(client *account.Account, have []crypto.EType) []crypto.EType {
	usable := make([]crypto.EType, 0, len(have))
	for _, t := range client.ETypes() {
		if slices.Contains(have, t) && slices.Contains(x.req.Body.ETypes, t) {
			usable = append(usable, t)
		}
	}
	return usable
}

// checkTimestamp opens PA-ENC-TIMESTAMP with each key that is accepted now. All ways to
// fail before the time is read are one error.
func (x *exchange) checkTimestamp(p proof, sets []account.KeySet, value []byte) (proof, error) {
	enc, err := krb5.ParseEncryptedData(value)
	if err != nil {
		return p, malformed(err)
	}
	if !slices.Contains(p.offer, enc.EType) {
		return p, refuse(krb5.ErrETypeNoSupport, "timestamp in %v", enc.EType)
	}
	for _, set := range sets {
		key := set.Find(enc.EType)
		if key == nil {
			continue
		}
		plain, err := enc.Open(key, krb5.UsageASReqTimestamp)
		if err != nil {
			continue
		}
		stamp, err := krb5.ParsePAEncTSEnc(plain)
		if err != nil {
			return p, account.WrongPassword(err)
		}
		sent := stamp.Time.Add(time.Duration(stamp.Usec) * time.Microsecond)
		if off := sent.Sub(x.now); off.Abs() > x.cfg.Skew {
			return p, refuse(krb5.ErrSkew, "the client's clock is off by %v", off.Round(time.Second))
		}
		p.set, p.key = set, key
		return p, nil
	}
	return p, account.WrongPassword(errors.New("no key opens PA-ENC-TIMESTAMP"))
}

// required is error 25 with what the client needs to know: RFC 4120, Section 5.9.1. FAST
// is not among it.
func (p proof) required() *refusal {
	data := krb5.MethodData{
		{Type: krb5.PAETypeInfo2, Value: p.etypeInfo2()},
		{Type: krb5.PAEncTimestamp},
	}
	return &refusal{code: krb5.ErrPreauthRequired, data: data.Append(nil), err: errors.New("no PA-ENC-TIMESTAMP")}
}

func (p proof) etypeInfo2() []byte {
	list := make(krb5.ETypeInfo2, 0, len(p.offer))
	for _, t := range p.offer {
		list = append(list, etypeInfo(t, p.salt))
	}
	return list.Append(nil)
}

// preauthFailed is error 24 with the salts, in case that the client took another one:
// what adcli and MIT's keytabs try.
func (x *exchange) preauthFailed(p proof, err error) error {
	if !errors.Is(err, krb5.ErrPreauthFailed) {
		return err
	}
	data := krb5.MethodData{{Type: krb5.PAETypeInfo2, Value: p.etypeInfo2()}}
	return &refusal{code: krb5.ErrPreauthFailed, data: data.Append(nil), err: err}
}
