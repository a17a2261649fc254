package gkdi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// hexBytes is bytes that the vectors spell in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	p, err := hex.DecodeString(*s)
	*h = p
	return err
}

// vectorID is a key id, which the vectors spell as a list.
type vectorID KeyID

func (v *vectorID) UnmarshalJSON(b []byte) error {
	var a [3]int32
	err := json.Unmarshal(b, &a)
	*v = vectorID{a[0], a[1], a[2]}
	return err
}

// vectorRoot is the root key of a vector.
type vectorRoot struct {
	RootKeyID string   `json:"root_key_id"`
	Hash      string   `json:"hash"`
	RootKey   hexBytes `json:"root_key"`
}

func (v vectorRoot) root(t testing.TB) RootKey {
	t.Helper()
	h, err := ParseHash(v.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return RootKey{ID: guid(t, v.RootKeyID), Version: RootKeyVersion, Hash: h, Key: secret.Copy(v.RootKey)}
}

func guid(t testing.TB, s string) dtyp.GUID {
	t.Helper()
	g, err := dtyp.ParseGUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func sid(t testing.TB, s string) dtyp.SID {
	t.Helper()
	v, err := dtyp.ParseSID(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// vectors is testdata/gmsa.json.
type vectors struct {
	SeedKeys struct {
		TargetSD hexBytes `json:"target_sd"`
		Vectors  []struct {
			Name string
			vectorRoot
			GKID vectorID `json:"gkid"`
			Key  hexBytes `json:"expected_key"`
		}
	} `json:"seed_keys"`
	Failures struct {
		vectorRoot
		Cases []struct {
			Why    string
			GKID   *vectorID `json:"gkid"`
			Status string
		}
	} `json:"seed_key_failures"`
	GetKey struct {
		Vectors []struct {
			Test string
			vectorRoot
			GKIDs    []vectorID `json:"gkids_in_order_of_mention"`
			Expected struct {
				L1 hexBytes `json:"l1_key"`
				L2 hexBytes `json:"l2_key"`
			}
		}
	} `json:"getkey_pairs"`
	Password struct {
		vectorRoot
		GKID     vectorID `json:"gkid"`
		SID      string
		Now      uint64 `json:"current_time"`
		Password hexBytes
	} `json:"gmsa_password"`
	Rollover struct {
		Days     map[int64]uint64 `json:"days_to_100ns"`
		Rejected []int64          `json:"rejected_days"`
	} `json:"rollover_interval"`
	Interval struct {
		Times [][2]json.RawMessage `json:"time_to_gkid"`
	} `json:"interval_id"`
	Start struct {
		Times    [][2]json.RawMessage `json:"gkid_to_time"`
		Rejected []vectorID
	} `json:"key_start_time"`
	KeyEnvelope struct {
		Blob   hexBytes
		Fields struct {
			Flags  uint32
			GKID   vectorID `json:"gkid"`
			Root   string
			Domain string
			Forest string
		}
	} `json:"key_envelope"`
	GroupKeyEnvelope struct {
		Blob      hexBytes
		RootKeyID string   `json:"root_key_id"`
		GKID      vectorID `json:"gkid"`
		L1        hexBytes `json:"l1_key"`
		L2        hexBytes `json:"l2_key"`
		Private   uint32   `json:"private_key_len"`
		Public    uint32   `json:"public_key_len"`
		KDF       string   `json:"kdf_algorithm"`
		Agreement string   `json:"secret_agreement_algorithm"`
		Domain    string
		Forest    string
	} `json:"group_key_envelope"`
	KDFParameters struct {
		Blob hexBytes
		Hash string
	} `json:"kdf_parameters"`
	FFCDH struct {
		Blob      hexBytes
		Order     hexBytes `json:"field_order"`
		Generator hexBytes
	} `json:"ffc_dh_parameters"`
	Live struct {
		Accounts []struct {
			Name string
			vectorRoot
			SID   string
			Reads []struct {
				Current  hexBytes
				Previous hexBytes
				CurrentG vectorID `json:"current_gkid"`
				PrevG    vectorID `json:"previous_gkid"`
			}
		}
	}
}

func load(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/gmsa.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func equal(t *testing.T, what string, got secret.Bytes, want []byte) {
	t.Helper()
	if !bytes.Equal(got.Reveal(), want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got.Reveal(), want)
	}
}

func TestTheTargetSDIsThatOfTheVectors(t *testing.T) {
	if want := load(t).SeedKeys.TargetSD; !bytes.Equal(GMSATargetSD(), want) {
		t.Errorf("got %x, want %x", GMSATargetSD(), []byte(want))
	}
}

func TestSeedKeysOfEveryHash(t *testing.T) {
	v := load(t)
	for _, c := range v.SeedKeys.Vectors {
		t.Run(c.Name, func(t *testing.T) {
			got, err := DeriveSeed(c.root(t), v.SeedKeys.TargetSD, KeyID(c.GKID))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "seed", got, c.Key)
		})
	}
	if n := len(v.SeedKeys.Vectors); n != 6 {
		t.Errorf("%d vectors, want 6", n)
	}
}

func TestSeedKeyFailures(t *testing.T) {
	v := load(t)
	for _, c := range v.Failures.Cases {
		root, id, want := v.Failures.root(t), KeyID{1, 1, 1}, ErrKeyID
		if c.Status == "NT_STATUS_NOT_SUPPORTED" {
			want = ErrUnsupported
		}
		switch c.Why {
		case "":
			id = KeyID(*c.GKID)
		case "root key version 0":
			root.Version = 0
		case "root key version 2":
			root.Version = 2
		case "unknown hash":
			root.Hash = SHA512 + 1
		case "root key data 32 bytes":
			root.Key = secret.Copy(root.Key.Reveal()[:32])
		default:
			t.Fatalf("unknown case %q", c.Why)
		}
		if _, err := DeriveSeed(root, GMSATargetSD(), id); !errors.Is(err, want) {
			t.Errorf("%s %v: got error %v, want %v", c.Why, id, err, want)
		}
		if _, err := NewCache(0).Password(root, dtyp.SID{}, id); !errors.Is(err, want) {
			t.Errorf("cache: %s %v: got error %v, want %v", c.Why, id, err, want)
		}
	}
	if _, err := ParseHash("SHA3"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("ParseHash(SHA3): %v", err)
	}
}

func TestGetKeyPairs(t *testing.T) {
	v := load(t)
	for _, c := range v.GetKey.Vectors {
		t.Run(c.Test, func(t *testing.T) {
			root, now, want := c.root(t), KeyID(c.GKIDs[0]), KeyID(c.GKIDs[1])
			k, err := GetKey(root, v.SeedKeys.TargetSD, now, want)
			if err != nil {
				t.Fatal(err)
			}
			if k.ID != now {
				t.Errorf("answered for %v, want %v", k.ID, now)
			}
			equal(t, "L1", k.L1, c.Expected.L1)
			equal(t, "L2", k.L2, c.Expected.L2)
			direct, err := DeriveSeed(root, v.SeedKeys.TargetSD, want)
			if err != nil {
				t.Fatal(err)
			}
			client, err := k.Seed(root.Hash, root.ID, want)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "seed as the client derives it", client, direct.Reveal())
			later, err := now.Add(1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := GetKey(root, v.SeedKeys.TargetSD, now, later); !errors.Is(err, ErrKeyID) {
				t.Errorf("GetKey for the future: got error %v", err)
			}
			if _, err := k.Seed(root.Hash, root.ID, later); !errors.Is(err, ErrKeyID) {
				t.Errorf("client's seed for the future: got error %v", err)
			}
		})
	}
}

func TestGetKeyOfAnEarlierEpochYieldsAllOfIt(t *testing.T) {
	v := load(t)
	c := v.SeedKeys.Vectors[2]
	root := c.root(t)
	k, err := GetKey(root, v.SeedKeys.TargetSD, KeyID{101, 0, 3}, KeyID{100, 7, 9})
	if err != nil {
		t.Fatal(err)
	}
	if want := (KeyID{100, 31, 31}); k.ID != want || !k.L2.IsZero() {
		t.Errorf("answered for %v with an L2 key of %d bytes, want %v without", k.ID, k.L2.Len(), want)
	}
	equal(t, "L1", k.L1, c.Key)
}

func TestGetKeyInTheFirstL1PeriodHasNoL1Key(t *testing.T) {
	root := load(t).Password.root(t)
	k, err := GetKey(root, GMSATargetSD(), KeyID{362, 0, 23}, KeyID{362, 0, 2})
	if err != nil {
		t.Fatal(err)
	}
	if !k.L1.IsZero() || k.L2.Len() != KeySize {
		t.Errorf("keys of %d and %d bytes, want 0 and %d", k.L1.Len(), k.L2.Len(), KeySize)
	}
	if _, err := k.Seed(root.Hash, root.ID, KeyID{362, 0, 2}); err != nil {
		t.Error(err)
	}
}

func TestDescendRefusesToClimb(t *testing.T) {
	key := secret.New(make([]byte, KeySize))
	for name, c := range map[string]struct{ from, to KeyID }{
		"another epoch":            {KeyID{5, 3, -1}, KeyID{4, 3, 1}},
		"a later L1 from an L1":    {KeyID{5, 3, -1}, KeyID{5, 4, 1}},
		"a later L2":               {KeyID{5, 3, 3}, KeyID{5, 3, 4}},
		"an earlier L1 from L2":    {KeyID{5, 3, 3}, KeyID{5, 2, 1}},
		"the L1 seed from L2":      {KeyID{5, 3, 3}, KeyID{5, 3, -1}},
		"an L2 index above 31":     {KeyID{5, 3, -1}, KeyID{5, 3, 32}},
		"from an L2 index too big": {KeyID{5, 3, 32}, KeyID{5, 3, 1}},
	} {
		if _, err := Descend(SHA512, dtyp.GUID{}, c.from, key, c.to); !errors.Is(err, ErrKeyID) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, err := Descend(SHA512, dtyp.GUID{}, KeyID{}, secret.Copy([]byte("short")), KeyID{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("short seed: got error %v", err)
	}
	if _, err := Descend(0, dtyp.GUID{}, KeyID{}, key, KeyID{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no hash: got error %v", err)
	}
}

func TestPassword(t *testing.T) {
	v := load(t).Password
	got, err := Password(v.root(t), sid(t, v.SID), KeyID(v.GKID))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "password", got, v.Password)
	if _, err := Password(v.root(t), sid(t, v.SID), KeyID{362, 0, -1}); !errors.Is(err, ErrKeyID) {
		t.Errorf("password of an L1 seed: got error %v", err)
	}
}

func TestPasswordsThatADomainControllerGave(t *testing.T) {
	checked := 0
	for _, a := range load(t).Live.Accounts {
		root, account, cache := a.root(t), sid(t, a.SID), NewCache(2)
		check := func(what string, id KeyID, want []byte) {
			got, err := Password(root, account, id)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, a.Name+" "+what, got, want)
			if got, err = cache.Password(root, account, id); err != nil {
				t.Fatal(err)
			}
			equal(t, a.Name+" "+what+" from the cache", got, want)
			checked++
		}
		for _, r := range a.Reads {
			check("current", KeyID(r.CurrentG), r.Current)
			if r.Previous != nil {
				check("previous", KeyID(r.PrevG), r.Previous)
			}
		}
	}
	if checked != 28 {
		t.Errorf("checked %d passwords, want 28", checked)
	}
}

// TestZeroCodeUnitsAreReplaced finds passwords whose raw derivation has a zero
// code unit (one in 512) and looks at the result.
func TestZeroCodeUnitsAreReplaced(t *testing.T) {
	l2, found := make([]byte, KeySize), 0
	account := sid(t, "S-1-5-21-1-2-3-1000")
	for i := range 4000 {
		l2[0], l2[1] = byte(i), byte(i>>8)
		raw := make([]byte, PasswordSize)
		kdf(SHA512, raw, l2, []byte(passwordLabel), account.Bytes())
		got := passwordFrom(SHA512, l2, account).Reveal()
		for j := 0; j < PasswordSize; j += 2 {
			want := [2]byte{raw[j], raw[j+1]}
			if want == [2]byte{} {
				want[0] = 1
				found++
			}
			if [2]byte(got[j:]) != want {
				t.Fatalf("seed %d, byte %d: got %x, want %x", i, j, got[j:j+2], want)
			}
		}
	}
	if found == 0 {
		t.Error("no zero code unit came up; the test proves nothing")
	}
}

func TestRolloverInterval(t *testing.T) {
	v := load(t).Rollover
	for days, want := range v.Days {
		if got, err := RolloverInterval(days); err != nil || uint64(got) != want {
			t.Errorf("%d days: got %d, %v; want %d", days, got, err, want)
		}
	}
	for _, days := range v.Rejected {
		if got, err := RolloverInterval(days); !errors.Is(err, ErrKeyID) || got != 0 {
			t.Errorf("%d days: got %d, %v; want a refusal", days, got, err)
		}
	}
	if n, err := RolloverCycles(30); n != 72 || err != nil {
		t.Errorf("30 days: got %d cycles, %v; want 72", n, err)
	}
}

func decodePair[A, B any](t *testing.T, raw [2]json.RawMessage) (a A, b B) {
	t.Helper()
	if err := errors.Join(json.Unmarshal(raw[0], &a), json.Unmarshal(raw[1], &b)); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestKeyIDAtATime(t *testing.T) {
	for _, raw := range load(t).Interval.Times {
		at, want := decodePair[uint64, vectorID](t, raw)
		if got := KeyIDAt(dtyp.Filetime(at)); got != KeyID(want) {
			t.Errorf("%d: got %v, want %v", at, got, KeyID(want))
		}
	}
}

func TestStartOfAKeyID(t *testing.T) {
	v := load(t).Start
	for _, raw := range v.Times {
		id, want := decodePair[vectorID, uint64](t, raw)
		got, err := KeyID(id).Start()
		if err != nil || uint64(got) != want {
			t.Errorf("%v: got %d, %v; want %d", KeyID(id), got, err, want)
		}
		if KeyIDAt(got) != KeyID(id) {
			t.Errorf("%v starts at %d, which lies in %v", KeyID(id), got, KeyIDAt(got))
		}
	}
	for _, id := range append(v.Rejected, vectorID{0, 32, 0}, vectorID{0, 0, 32}, vectorID{-1, 0, 0}) {
		if got, err := KeyID(id).Start(); !errors.Is(err, ErrKeyID) {
			t.Errorf("%v: got %d, %v; want a refusal", KeyID(id), got, err)
		}
	}
}

func TestKeyIDArithmetic(t *testing.T) {
	for _, c := range []struct {
		from KeyID
		n    int64
		want KeyID
	}{
		{KeyID{362, 7, 23}, 72, KeyID{362, 9, 31}},
		{KeyID{362, 31, 31}, 1, KeyID{363, 0, 0}},
		{KeyID{363, 0, 0}, -1, KeyID{362, 31, 31}},
		{KeyID{0, 0, 1}, -1, KeyID{}},
		{KeyID{math.MaxInt32, 31, 30}, 1, KeyID{math.MaxInt32, 31, 31}},
	} {
		got, err := c.from.Add(c.n)
		if err != nil || got != c.want {
			t.Errorf("%v + %d: got %v, %v; want %v", c.from, c.n, got, err, c.want)
		}
		if d := c.want.Sub(c.from); d != c.n {
			t.Errorf("%v - %v = %d, want %d", c.want, c.from, d, c.n)
		}
		if c.want.Compare(c.from)*c.from.Compare(c.want) != -1 || (c.want.Compare(c.from) > 0) != (c.n > 0) {
			t.Errorf("Compare(%v, %v) disagrees with the distance %d", c.want, c.from, c.n)
		}
	}
	for _, c := range []struct {
		from KeyID
		n    int64
	}{{KeyID{}, -1}, {KeyID{math.MaxInt32, 31, 31}, 1}, {KeyID{0, 32, 0}, 1}, {KeyID{1, 1, 1}, math.MinInt64}, {KeyID{1, 1, 1}, math.MaxInt64}} {
		if got, err := c.from.Add(c.n); !errors.Is(err, ErrKeyID) {
			t.Errorf("%v + %d: got %v, %v; want a refusal", c.from, c.n, got, err)
		}
	}
}

func TestSelectRootKey(t *testing.T) {
	key := func(n byte, use, created dtyp.Filetime) RootKey {
		return RootKey{ID: dtyp.GUID{n}, UseStart: use, Created: created}
	}
	id := KeyID{362, 7, 23}
	start, err := id.Start()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys []RootKey
		want byte
	}{
		"the newest by creation, not by use":   {[]RootKey{key(1, 9, 10), key(2, 1, 20)}, 2},
		"a key from its very start":            {[]RootKey{key(1, 0, 10), key(2, start, 20)}, 2},
		"not a key that starts a tick later":   {[]RootKey{key(1, 0, 10), key(2, start+1, 20)}, 1},
		"creation may lie after the interval":  {[]RootKey{key(1, 0, start+Cycle), key(2, 0, 1)}, 1},
		"of equals the greater id, in any row": {[]RootKey{key(3, 0, 5), key(7, 0, 5), key(4, 0, 5)}, 7},
	} {
		got, err := SelectRootKey(c.keys, id)
		if err != nil || got.ID[0] != c.want {
			t.Errorf("%s: got key %d, %v; want %d", name, got.ID[0], err, c.want)
		}
	}
	if _, err := SelectRootKey([]RootKey{key(1, start+1, 1)}, id); !errors.Is(err, ErrNoRootKey) {
		t.Errorf("only a future key: got error %v", err)
	}
	if _, err := SelectRootKey(nil, KeyID{L2: 32}); !errors.Is(err, ErrKeyID) {
		t.Errorf("bad id: got error %v", err)
	}
}

func TestNewRootKey(t *testing.T) {
	rand := bytes.NewReader(bytes.Repeat([]byte{0xff}, 16+KeySize))
	k, err := NewRootKey(rand, 5, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Check(); err != nil {
		t.Error(err)
	}
	if want := "ffffffff-ffff-4fff-bfff-ffffffffffff"; k.ID.String() != want {
		t.Errorf("id %s, want %s", k.ID, want)
	}
	if k.Created != 5 || k.UseStart != 7 || k.Hash != SHA512 {
		t.Errorf("got %+v", k)
	}
	for _, n := range []int{0, 15, 16, 16 + KeySize - 1} {
		if _, err := NewRootKey(bytes.NewReader(make([]byte, n)), 0, 0); err == nil {
			t.Errorf("a source of %d bytes made a root key", n)
		}
	}
}

func TestRootKeyDoesNotPrint(t *testing.T) {
	k := load(t).Password.root(t)
	if s := strings.ToLower(k.Key.String()); strings.Contains(s, "98cb") {
		t.Error("prints its key")
	}
}
