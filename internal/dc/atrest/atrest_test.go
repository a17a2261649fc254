package atrest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/secret"
)

var alice, bob = dtyp.GUID{1}, dtyp.GUID{2}

func newKey(t *testing.T, fill byte) secret.Bytes {
	t.Helper()
	return secret.New(bytes.Repeat([]byte{fill}, KeySize))
}

func newKeyring(t *testing.T) (*Keyring, store.Store) {
	t.Helper()
	s := memory.New()
	k, err := Create(t.Context(), s, newKey(t, 7), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, s
}

// TestASealedValueOpensForItsObjectAndNameOnly holds security 23.
func TestASealedValueOpensForItsObjectAndNameOnly(t *testing.T) {
	k, _ := newKeyring(t)
	sealed, err := k.Seal(nil, []byte("the key"), alice, "keys")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("the key")) {
		t.Error("the value lies in the clear")
	}
	plain, err := k.Open(sealed, alice, "keys")
	if err != nil || string(plain.Reveal()) != "the key" {
		t.Errorf("got %q, %v", plain.Reveal(), err)
	}
	for name, open := range map[string]func() (secret.Bytes, error){
		"another account": func() (secret.Bytes, error) { return k.Open(sealed, bob, "keys") },
		"another name":    func() (secret.Bytes, error) { return k.Open(sealed, alice, "timeline") },
		"another version": func() (secret.Bytes, error) {
			return k.Open(append([]byte{0, 0, 0, 2}, sealed[4:]...), alice, "keys")
		},
	} {
		if _, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: got %v, want ErrSealed", name, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := k.Open(changed, alice, "keys"); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d changed: got %v", i, err)
		}
		if _, err := k.Open(sealed[:i], alice, "keys"); !errors.Is(err, ErrSealed) {
			t.Errorf("cut to %d bytes: got %v", i, err)
		}
	}
}

func TestAStoreOpensWithItsOwnKeyOnly(t *testing.T) {
	k, s := newKeyring(t)
	sealed, err := k.Seal(nil, []byte("x"), alice, "keys")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Create(t.Context(), s, newKey(t, 7), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Open(sealed, alice, "keys"); err != nil {
		t.Errorf("a second start cannot read what the first wrote: %v", err)
	}
	for _, wrong := range []secret.Bytes{newKey(t, 8), secret.New([]byte("short"))} {
		if _, err := Open(t.Context(), s, wrong, rand.Reader); !errors.Is(err, ErrKey) {
			t.Errorf("got %v, want ErrKey", err)
		}
	}
	if _, err := Open(t.Context(), memory.New(), newKey(t, 7), rand.Reader); !errors.Is(err, rows.ErrNotFound) {
		t.Errorf("an empty store: got %v", err)
	}
}

func TestAnotherKeyEncryptionKey(t *testing.T) {
	k, s := newKeyring(t)
	sealed, err := k.Seal(nil, []byte("the key"), alice, "keys")
	if err != nil {
		t.Fatal(err)
	}
	old, next := newKey(t, 7), newKey(t, 8)
	if err := Rewrap(t.Context(), s, next, old, rand.Reader); !errors.Is(err, ErrKey) {
		t.Errorf("by somebody who does not have the key: got %v", err)
	}
	if err := Rewrap(t.Context(), s, old, next, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), s, old, rand.Reader); !errors.Is(err, ErrKey) {
		t.Errorf("the old key: got %v", err)
	}
	k, err = Open(t.Context(), s, next, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(sealed, alice, "keys"); err != nil || !bytes.Equal(plain.Reveal(), []byte("the key")) {
		t.Errorf("what was sealed before: %v", err)
	}
}
