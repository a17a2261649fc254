package directory_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/secret"
)

var contoso = directory.Domain{
	DNSName: "contoso.com", NetBIOS: "CONTOSO", Site: "Default-First-Site-Name", Host: "dc1",
	SID: dtyp.NewSID(dtyp.AuthorityNT, 21, 1, 2, 3), GUID: dtyp.GUID{1},
}

// config is a directory in memory.
func config(t *testing.T, s store.Store) directory.Config {
	t.Helper()
	sch, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := atrest.Create(t.Context(), s, secret.New(make([]byte, atrest.KeySize)), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return directory.Config{Store: s, Schema: sch, Seal: seal, Rand: rand.Reader,
		Now: func() time.Time { return time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC) }}
}

func TestADomainIsMadeOnceAndFoundAgain(t *testing.T) {
	s := memory.New()
	cfg := config(t, s)
	if _, err := directory.Open(t.Context(), cfg); !errors.Is(err, directory.ErrNotInitialized) {
		t.Errorf("an empty store: got %v", err)
	}
	if _, err := directory.Create(t.Context(), cfg, contoso); err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Create(t.Context(), cfg, contoso); !errors.Is(err, directory.ErrInitialized) {
		t.Errorf("a second domain in one store: got %v", err)
	}
	d, err := directory.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if d.Domain() != contoso {
		t.Errorf("got %+v, want %+v", d.Domain(), contoso)
	}
}

func TestSIDsAreGivenOnce(t *testing.T) {
	d, err := directory.Create(t.Context(), config(t, memory.New()), contoso)
	if err != nil {
		t.Fatal(err)
	}
	for want := uint32(1000); want < 1003; want++ {
		var sid dtyp.SID
		if err := d.Update(t.Context(), func(w *directory.Writer) (err error) { sid, err = w.NextSID(); return err }); err != nil {
			t.Fatal(err)
		}
		if sid.RID() != want || sid.Domain() != contoso.SID {
			t.Errorf("got %s, want RID %d", sid, want)
		}
	}
}

// TestRootKeysMakeTheRing: an update that writes a root key changes the ring, and one
// that fails does not.
func TestRootKeysMakeTheRing(t *testing.T) {
	d, err := directory.Create(t.Context(), config(t, memory.New()), contoso)
	if err != nil {
		t.Fatal(err)
	}
	head := &rows.Entry{GUID: contoso.GUID, RDN: attribute(t, d, "dc"), Name: "contoso"}
	key, err := gkdi.NewRootKey(rand.Reader, dtyp.FiletimeOf(d.Now()), dtyp.FiletimeOf(d.Now()))
	if err != nil {
		t.Fatal(err)
	}
	e := &rows.Entry{GUID: dtyp.GUID{2}, Parent: head.GUID, RDN: attribute(t, d, "cn"), Name: key.ID.String(),
		WhenCreated: 5, Values: map[*schema.Attribute][][]byte{attribute(t, d, "objectClass"): {[]byte("top"), []byte("msKds-ProvRootKey")}}}
	for _, a := range kds.NewProvRootKey(key, "CN=DC1").Attributes() {
		if a.Name != "cn" && a.Name != directory.PrivateRootKey {
			e.Values[attribute(t, d, a.Name)] = [][]byte{a.Value}
		}
	}
	refused := errors.New("refused")
	write := func(outcome error) error {
		return d.Update(t.Context(), func(w *directory.Writer) error {
			return errors.Join(w.Insert(head), w.Insert(e), w.SetPrivate(e.GUID, directory.PrivateRootKey, key.Key), outcome)
		})
	}
	before := d.Changes()
	if err := write(refused); !errors.Is(err, refused) || len(d.Ring().Keys()) != 0 || d.Changes() != before {
		t.Errorf("an update that failed left %d keys, changes %d to %d: %v", len(d.Ring().Keys()), before, d.Changes(), err)
	}
	if err := write(nil); err != nil {
		t.Fatal(err)
	}
	keys := d.Ring().Keys()
	if len(keys) != 1 || keys[0].ID != key.ID || !keys[0].Key.Equal(key.Key) || keys[0].WhenCreated != 5 || d.Changes() == before {
		t.Errorf("got %+v", keys)
	}
	if err := d.Update(t.Context(), func(w *directory.Writer) error { return w.Delete(e) }); err != nil {
		t.Fatal(err)
	}
	if n := len(d.Ring().Keys()); n != 0 {
		t.Errorf("a root key that was deleted left %d", n)
	}
	err = d.View(t.Context(), func(r *directory.Reader) error {
		_, err := r.Private(e.GUID, directory.PrivateRootKey)
		return err
	})
	if !errors.Is(err, rows.ErrNotFound) {
		t.Errorf("a private row outlives its object: %v", err)
	}
}

func attribute(t testing.TB, d *directory.Directory, name string) *schema.Attribute {
	t.Helper()
	a, ok := d.Schema().Attribute(name)
	if !ok {
		t.Fatalf("no attribute %s", name)
	}
	return a
}
