package kclient_test

import (
	"errors"
	"testing"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

func TestSambaSalt(t *testing.T) {
	c := client(t, lab.Samba(t, lab.SambaConfig{}), nil)
	defer c.Close()
	salt, err := c.Salt(t.Context(), krb5.NewName(krb5.NamePrincipal, "WEBAPP01$"), "", crypto.AES256SHA1, crypto.AES128SHA1)
	if err != nil || salt != "CONTOSO.COMhostwebapp01.contoso.com" {
		t.Errorf("salt %q, %v", salt, err)
	}
	if _, err := c.Salt(t.Context(), krb5.NewName(krb5.NamePrincipal, "nobody$"), "", crypto.AES256SHA1); !errors.Is(err, kclient.ErrUnknownClient) {
		t.Errorf("an account that is not there: %v", err)
	}
	if _, err := c.Salt(t.Context(), krb5.NewName(krb5.NamePrincipal, "webapp01$"), "", crypto.AES256SHA2); !errors.Is(err, kclient.ErrEType) {
		t.Errorf("a type that it has no key of: %v", err)
	}
}
