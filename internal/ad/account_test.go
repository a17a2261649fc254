package ad

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/secret"
)

func TestIdentityNeverPrintsWhatProvesIt(t *testing.T) {
	name, err := adproto.ParseAccountName(`CONTOSO\web1$`)
	if err != nil {
		t.Fatal(err)
	}
	id, err := WithPassword(name, secret.Copy([]byte("correct horse")))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, v := range []any{id, &id, []Identity{id}, struct{ id Identity }{id}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "correct") || strings.Contains(s, "636f7272656374") {
				t.Errorf("%s of %T: %s", verb, v, s)
			}
		}
	}
	if id.String() != "web1$" {
		t.Error(id)
	}
}

func TestAttributesThatCannotBeParsedAreNamed(t *testing.T) {
	for attr, value := range map[string]string{
		"objectSid": "\x01", "objectGUID": "short", "userAccountControl": "many", "whenCreated": "yesterday", "pwdLastSet": "-1",
		"msDS-ManagedPasswordId": "\x01", "msDS-GroupMSAMembership": "\x01", "msDS-KeyVersionNumber": "4294967296",
	} {
		e := ldap.NewEntry("CN=x", map[string][]string{"objectClass": {"msDS-GroupManagedServiceAccount"}, attr: {value}})
		if _, err := parseAccount(e); err == nil || !strings.Contains(err.Error(), attr) {
			t.Errorf("%s: %v", attr, err)
		}
	}
	a, err := parseAccount(ldap.NewEntry("CN=x", map[string][]string{"OBJECTCLASS": {"TOP", "COMPUTER"}, "UserAccountControl": {"-2147483648"}, "pwdLastSet": {"0"}}))
	if err != nil || a.Kind != KindComputer || a.Control != 1<<31 || !a.PasswordSet.IsZero() || a.MSA != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

func FuzzParseAccount(f *testing.F) {
	for _, attr := range accountAttrs {
		f.Add(attr, []byte("1"))
		f.Add(attr, []byte("\x01\x05\x00\x00\x00\x00\x00\x05\x15\x00\x00\x00"))
	}
	f.Add("whenCreated", []byte("20261120123646.0Z"))
	f.Fuzz(func(t *testing.T, attr string, value []byte) {
		e := ldap.NewEntry("CN=x", map[string][]string{"objectClass": {"msDS-GroupManagedServiceAccount"}, attr: {string(value)}})
		if a, err := parseAccount(e); err == nil && strings.EqualFold(attr, "objectSid") && len(value) > 0 && a.SID.IsZero() {
			t.Errorf("a SID of %d bytes is nothing", len(value))
		}
	})
}
