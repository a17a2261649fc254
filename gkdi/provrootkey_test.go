package gkdi

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// day0 is a time inside a key cycle: 7 h 30 min after it began.
var day0 = dtyp.FiletimeOf(time.Date(2026, 11, 20, 13, 30, 0, 0, time.UTC))

func sampleObject() ProvRootKey {
	key := RootKey{ID: dtyp.GUID{7}, Version: 1, Hash: SHA512, Key: secret.New(bytes.Repeat([]byte{7}, KeySize)), UseStart: day0, Created: day0}
	return NewProvRootKey(key, "CN=DC1,OU=Domain Controllers,DC=contoso,DC=com")
}

func lookup(attrs []Attribute) func(string) [][]byte {
	return func(name string) (values [][]byte) {
		for _, a := range attrs {
			if strings.EqualFold(a.Name, name) {
				values = append(values, a.Value)
			}
		}
		return values
	}
}

func TestRootKeyObject(t *testing.T) {
	want := sampleObject()
	attrs := want.Attributes()
	got, err := ParseProvRootKey(lookup(attrs))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Key.Equal(want.Key) || got.ID != want.ID || got.Hash != want.Hash || got.UseStart != want.UseStart ||
		got.Created != want.Created || got.DomainID != want.DomainID || got.PrivateKeyBits != 512 ||
		got.PublicKeyBits != 2048 || got.SecretAgreement != "DH" || !bytes.Equal(got.AgreementParam, want.AgreementParam) {
		t.Errorf("got %+v", got)
	}
	if cn := lookup(attrs)("cn"); string(cn[0]) != "00000007-0000-0000-0000-000000000000" {
		t.Errorf("cn is %q", cn)
	}
	if v := lookup(attrs)("msKds-UseStartTime"); string(v[0]) != fmt.Sprint(uint64(day0)) {
		t.Errorf("use time is %q", v)
	}
	got.Key.Destroy()
	if want.Key.Reveal()[0] != 7 {
		t.Error("the parsed key shares memory with the object's")
	}
}

func TestRootKeyObjectsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		attribute string
		value     string
		want      error
	}{
		"a name that is no GUID":      {"cn", "master", ErrAttribute},
		"a version to come":           {"msKds-Version", "2", ErrUnsupported},
		"a version that is no number": {"msKds-Version", "one", ErrAttribute},
		"a key of 63 bytes":           {"msKds-RootKeyData", strings.Repeat("k", 63), ErrUnsupported},
		"another KDF":                 {"msKds-KDFAlgorithmID", "SP800_56A_CONCAT", ErrUnsupported},
		"KDF parameters cut short":    {"msKds-KDFParam", "\x00\x00\x00\x00", ErrAttribute},
		"another hash":                {"msKds-KDFParam", string(bytes.Replace(SHA512.KDFParameters(), []byte("5\x001\x002"), []byte("5\x001\x003"), 1)), ErrUnsupported},
		"a negative time":             {"msKds-UseStartTime", "-1", ErrAttribute},
		"a time past Integer8":        {"msKds-CreateTime", "9223372036854775808", ErrAttribute},
		"a key length of 1 Mbit":      {"msKds-PublicKeyLength", "1048576", ErrAttribute},
		"a domain that is not UTF-8":  {"msKds-DomainID", "CN=\xff", ErrAttribute},
	} {
		attrs := sampleObject().Attributes()
		for i := range attrs {
			if attrs[i].Name == c.attribute {
				attrs[i].Value = []byte(c.value)
			}
		}
		if _, err := ParseProvRootKey(lookup(attrs)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestEachMandatoryAttributeOfARootKeyIsDemanded(t *testing.T) {
	all := sampleObject().Attributes()
	for i, a := range all {
		if a.Name == "msKds-SecretAgreementParam" {
			continue
		}
		without := append(append([]Attribute(nil), all[:i]...), all[i+1:]...)
		if _, err := ParseProvRootKey(lookup(without)); !errors.Is(err, ErrAttribute) || !strings.Contains(err.Error(), a.Name) {
			t.Errorf("without %s: %v", a.Name, err)
		}
		if _, err := ParseProvRootKey(lookup(append(slices.Clip(all), a))); !errors.Is(err, ErrAttribute) {
			t.Errorf("%s twice: %v", a.Name, err)
		}
	}
}
