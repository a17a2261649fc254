package ad

import (
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// Identity is who asks, and what proves it.
type Identity struct {
	client   krb5.PrincipalName
	secret   kclient.Secret
	password secret.Bytes     // for simple binds
	name     string           // as written, for simple binds
	tgt      *krb5.Credential // instead of a secret
}

// WithPassword is an account with its password in UTF-8. The secret must live
// as long as the identity.
func WithPassword(name adproto.AccountName, password secret.Bytes) (Identity, error) {
	id := Identity{secret: kclient.Password(password), password: password, name: name.String()}
	switch name.Form {
	case adproto.FormDN:
		return Identity{}, fmt.Errorf("ad: %v names an object, not who logs on: want NAME, DOMAIN\\NAME or NAME@SUFFIX", name)
	case adproto.FormUPN:
		id.client = krb5.NewName(krb5.NameEnterprise, name.String())
	default:
		id.client = krb5.NewName(krb5.NamePrincipal, name.Name)
	}
	return id, nil
}

// WithKeys is an account with its long-term keys, as a keytab holds them.
func WithKeys(client krb5.PrincipalName, keys ...*crypto.Key) Identity {
	return Identity{client: client, secret: kclient.Keys(keys...)}
}

// WithTicket is whoever a ticket-granting ticket was issued to. Such an identity
// cannot get a new one by itself.
func WithTicket(tgt krb5.Credential) Identity {
	return Identity{client: tgt.Client.Name, tgt: &tgt}
}

// Client is the Kerberos name.
func (id Identity) Client() krb5.PrincipalName { return id.client }

// String is the name; what proves it never shows.
func (id Identity) String() string { return id.client.String() }

// GoString hides what proves the identity from %#v.
func (id Identity) GoString() string { return "ad.Identity{" + id.String() + "}" }

// principal is the name that fits the domain: a UPN in the domain's own name is
// an account name.
func (id Identity) principal(domain string) krb5.PrincipalName {
	if id.client.Type != krb5.NameEnterprise {
		return id.client
	}
	if local, suffix, ok := cutLast(id.client.Components[0], "@"); ok && strings.EqualFold(suffix, domain) {
		return krb5.NewName(krb5.NamePrincipal, local)
	}
	return id.client
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
