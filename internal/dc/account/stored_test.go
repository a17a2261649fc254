package account

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// sample is a row with everything in it.
func sample(t *testing.T) *stored {
	t.Helper()
	key := func(e crypto.EType) *crypto.Key {
		k, err := crypto.Generate(e, rand.Reader, crypto.AllowRC4)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	verify := secret.New(bytes.Repeat([]byte{7}, verifierKeySize))
	return &stored{
		verify:   verify,
		current:  generation{kvno: 3, salt: "CONTOSO.COMalice", keys: []*crypto.Key{key(crypto.AES256SHA2), key(crypto.AES256SHA1), key(crypto.RC4HMAC)}},
		previous: generation{kvno: 2, salt: "CONTOSO.COMalicia", keys: []*crypto.Key{key(crypto.AES128SHA1)}},
		password: newVerifier(verify, []byte("new")),
		history:  []verifier{newVerifier(verify, []byte("old")), newVerifier(verify, []byte("older"))},
	}
}

func TestStoredKeysRoundTrip(t *testing.T) {
	for name, s := range map[string]*stored{
		"all parts":        sample(t),
		"the first random": {verify: secret.New(make([]byte, verifierKeySize)), current: sample(t).current},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.encode()
			got, err := parseStored(secret.Copy(b))
			if err != nil {
				t.Fatal(err)
			}
			if again := got.encode(); !bytes.Equal(again, b) {
				t.Errorf("got %x\nwant %x", again, b)
			}
			if k := got.current.set().Find(crypto.AES256SHA1); !k.Equal(s.current.keys[1]) {
				t.Error("another key came back")
			}
			for n := range b {
				if _, err := parseStored(secret.Copy(b[:n])); !errors.Is(err, ErrKeys) {
					t.Fatalf("%d of %d bytes: %v", n, len(b), err)
				}
			}
			if _, err := parseStored(secret.Copy(append(b, 0))); !errors.Is(err, ErrKeys) {
				t.Errorf("a trailing byte: %v", err)
			}
		})
	}
}

func FuzzParseStored(f *testing.F) {
	s := &stored{verify: secret.New(make([]byte, verifierKeySize))}
	k, err := crypto.NewKey(crypto.AES128SHA1, secret.New(make([]byte, 16)))
	if err != nil {
		f.Fatal(err)
	}
	s.current = generation{kvno: 1, salt: "s", keys: []*crypto.Key{k}}
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStored(secret.Copy(b))
		if err != nil {
			if !errors.Is(err, ErrKeys) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again := s.encode(); !bytes.Equal(again, b) {
			t.Fatalf("read %x, wrote %x", b, again)
		}
	})
}

func TestComplexity(t *testing.T) {
	alice := owner{name: "alice", displayName: "Alice B. Liddell"}
	for password, want := range map[string]bool{
		"Wonder1and":   true,
		"wonder1and":   false, // two kinds
		"WONDER-1AND":  true,
		"xAlice!2026":  false, // her name
		"Liddell!2026": false, // a word of her display name
		"B!b2026zzz":   true,  // a word of one letter does not count
		"пароль-Ж-1":   true,
		"密碼密碼1a":       true, // letters without case are a kind of their own
		"":             false,
	} {
		if got := complexEnough(password, alice); got != want {
			t.Errorf("%q: got %v", password, got)
		}
	}
}
