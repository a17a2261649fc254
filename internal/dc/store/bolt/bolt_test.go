package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/storetest"
)

func openStore(t *testing.T, path string) store.Store {
	t.Helper()
	s, err := Open(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openStore(t, filepath.Join(t.TempDir(), "store")) })
}

func TestItemsAndRevisionsOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openStore(t, path)
	for range 3 {
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put([]byte("a"), []byte("1")) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	defer s.Close()
	err := s.View(t.Context(), func(r store.Reader) error {
		it, err := r.Get([]byte("a"))
		if string(it.Value) != "1" || it.Revision != 3 || r.Revision() != 3 {
			t.Errorf("item = %+v at revision %d", it, r.Revision())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestASecondProcessIsToldThatTheStoreIsInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openStore(t, path)
	defer s.Close()
	if _, err := Open(path, 0o600); !errors.Is(err, ErrInUse) {
		t.Errorf("err = %v", err)
	}
}

func TestAStoreOfANewerVersionIsRefusedAndLeftAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	if err := openStore(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("version"), binary.BigEndian.AppendUint64(nil, formatVersion+1))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 0o600); !errors.Is(err, store.ErrNewer) {
		t.Errorf("err = %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file changed, or cannot be read: %v", err)
	}
}

func TestAFileThatIsNoStoreIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(path, []byte("this is not a store, and long enough to be read as a page header"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(path, 0o600); err == nil {
		s.Close()
		t.Error("opened")
	}
}

func put(key string) func(store.Store) error {
	return func(s store.Store) error {
		return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put([]byte(key), []byte("1")) })
	}
}

func TestCreateFillsAFileBeforeItHasItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	refused := errors.New("refused")
	err := Create(path, 0o600, func(s store.Store) error {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("before it is filled: %v", err)
		}
		return errors.Join(put("lost")(s), refused)
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("a store that could not be filled leaves %v, %v", left, err)
	}
	if err := Create(path, 0o600, put("kept")); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, 0o600, put("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second store at one path: %v", err)
	}
	s := openStore(t, path)
	defer s.Close()
	err = s.View(t.Context(), func(r store.Reader) error {
		_, err := r.Get([]byte("kept"))
		for _, gone := range []string{"lost", "second"} {
			if _, err := r.Get([]byte(gone)); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", gone, err)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
