package dc

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/secret"
)

// TestTheVectorsOverLDAP: what was read from a Samba domain, with a root key of each hash,
// is read from this controller, once it has the root key, the account and the time.
func TestTheVectorsOverLDAP(t *testing.T) {
	b, err := os.ReadFile("kds/testdata/live.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Accounts []struct {
			Name    string
			Hash    string
			RootID  dtyp.GUID     `json:"root_key_id"`
			RootKey string        `json:"root_key"`
			Made    dtyp.Filetime `json:"root_key_create_time"`
			Start   dtyp.Filetime `json:"root_key_use_start_time"`
			SID     dtyp.SID
			Created dtyp.Filetime
			Days    int64 `json:"interval_days"`
			Reads   []struct {
				Time dtyp.Filetime
				Blob string
			}
		}
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Accounts) != 4 {
		t.Fatalf("%d accounts, %v", len(file.Accounts), err)
	}
	for _, a := range file.Accounts {
		c := newClocked(t, a.Created.Time())
		hash, err := gkdi.ParseHash(a.Hash)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := hex.DecodeString(a.RootKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.addRootKey(gkdi.RootKey{ID: a.RootID, Version: 1, Hash: hash, Key: secret.New(raw), UseStart: a.Start, Created: a.Made}); err != nil {
			t.Fatal(err)
		}
		c.addComputer("web1", "Comp-web1-Pass!")
		reader := c.bind("web1$@contoso.com", "Comp-web1-Pass!")
		c.addGMSA(a.Name, a.Days, "web1$")
		c.setSID(a.Name+"$", a.SID)
		c.makeYoung(a.Name + "$")
		for _, r := range a.Reads {
			c.clock.Set(r.Time.Time())
			m, err := readManaged(reader, a.Name)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(m.raw); got != r.Blob {
				t.Errorf("%s at %v:\n%s, want\n%s", a.Name, r.Time.Time(), got, r.Blob)
			}
		}
	}
}

// makeYoung lets an account be made later than it is read, as those of the vectors were, so
// that its previous password is not told.
func (c *clocked) makeYoung(account string) {
	c.t.Helper()
	err := c.Directory().Update(c.t.Context(), func(w *directory.Writer) error {
		sam, _ := w.Schema().Attribute("sAMAccountName")
		e, err := w.Lookup(sam, []byte(account))
		if err != nil {
			return err
		}
		e.WhenCreated = dtyp.Never
		return w.Replace(e)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}
