package kds

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// liveAccount is an account of a Samba domain whose clock was set.
type liveAccount struct {
	Name    string        `json:"name"`
	Hash    string        `json:"hash"`
	RootID  dtyp.GUID     `json:"root_key_id"`
	RootKey string        `json:"root_key"`
	Made    dtyp.Filetime `json:"root_key_create_time"`
	Start   dtyp.Filetime `json:"root_key_use_start_time"`
	SID     dtyp.SID      `json:"sid"`
	Created dtyp.Filetime `json:"created"`
	Days    int64         `json:"interval_days"`
	Salt    string        `json:"salt"`
	Domain  string        `json:"domain"`
	Reads   []liveRead    `json:"reads"`
}

type liveRead struct {
	Time       dtyp.Filetime `json:"time"`
	Blob       string        `json:"blob"`
	PasswordID string        `json:"password_id"`
	Current    [3]int32      `json:"current_gkid"`
	Previous   *[3]int32     `json:"previous_gkid"`
	AES256     string        `json:"aes256_key"`
	AES128     string        `json:"aes128_key"`
}

func liveAccounts(t *testing.T) []liveAccount {
	t.Helper()
	b, err := os.ReadFile("testdata/live.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Accounts []liveAccount `json:"accounts"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Accounts) != 4 {
		t.Fatalf("%d accounts, want one for each hash", len(file.Accounts))
	}
	return file.Accounts
}

func (a liveAccount) ring(t *testing.T) *Ring {
	t.Helper()
	h, err := gkdi.ParseHash(a.Hash)
	if err != nil {
		t.Fatal(err)
	}
	key := gkdi.RootKey{ID: a.RootID, Version: 1, Hash: h, Key: secret.New(unhex(t, a.RootKey)), UseStart: a.Start, Created: a.Made}
	// The account was made in the domain's past, so the key is of its founding.
	return NewRing(gkdi.NewCache(0), RootKey{RootKey: key, WhenCreated: a.Made, Founding: true})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadingsOfSamba reproduces whole blobs: passwords, intervals and the
// window of five minutes, for a root key of each hash. Samba thought these
// accounts younger than one interval, because their whenCreated was the real
// time, which is later than all reads.
func TestReadingsOfSamba(t *testing.T) {
	const future = dtyp.Never
	for _, a := range liveAccounts(t) {
		ring := a.ring(t)
		timeline, err := Create(ring, a.Created, a.Days, a.Salt)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range a.Reads {
			reading, err := timeline.Read(future, r.Time)
			if err != nil {
				t.Fatal(err)
			}
			if got := reading.Current.KeyID; got != (gkdi.KeyID{L0: r.Current[0], L1: r.Current[1], L2: r.Current[2]}) {
				t.Errorf("%s at %v: key id %v, want %v", a.Name, r.Time, got, r.Current)
			}
			blob, err := reading.Blob(ring, a.SID)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(blob.Append(nil)); got != r.Blob {
				t.Errorf("%s at %v: blob\n%s, want\n%s", a.Name, r.Time, got, r.Blob)
			}
			for etype, want := range map[crypto.EType]string{crypto.AES256SHA1: r.AES256, crypto.AES128SHA1: r.AES128} {
				k, err := managedpassword.Key(etype, blob.Current, reading.Current.Salt)
				if err != nil || hex.EncodeToString(k.Secret().Reveal()) != want {
					t.Errorf("%s at %v: %v key differs (%v)", a.Name, r.Time, etype, err)
				}
			}
		}
		first, err := timeline.At(a.Created)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(first.PasswordID(a.Domain, a.Domain).Append(nil)); got != a.Reads[0].PasswordID {
			t.Errorf("%s: password id\n%s, want\n%s", a.Name, got, a.Reads[0].PasswordID)
		}
	}
}

// TestAnAccountOfAnIntervalIsGivenItsPreviousPassword pins the rule that hides
// it before.
func TestAnAccountOfAnIntervalIsGivenItsPreviousPassword(t *testing.T) {
	a := liveAccounts(t)[0]
	ring := a.ring(t)
	timeline, err := Create(ring, a.Created, a.Days, a.Salt)
	if err != nil {
		t.Fatal(err)
	}
	old := a.Created + timeline.Interval()
	for name, c := range map[string]struct {
		at   dtyp.Filetime
		want bool
	}{
		"after the first rollover, a tick too young": {old - 1, false},
		"one interval old":                           {old, true},
		"years later":                                {old.Add(3 * 366 * 24 * time.Hour), true},
	} {
		r, err := timeline.Read(a.Created, c.at)
		if err != nil || r.HasPrevious != c.want {
			t.Errorf("%s: previous given: %t, want %t (%v)", name, r.HasPrevious, c.want, err)
		}
		if c.want && r.Previous.KVNO+1 != r.Current.KVNO {
			t.Errorf("%s: kvno %d before %d", name, r.Previous.KVNO, r.Current.KVNO)
		}
	}
}
