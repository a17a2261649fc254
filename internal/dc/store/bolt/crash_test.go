//go:build unix

package bolt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// The variables that make a process of this test the one that is killed or watched,
// and GMSA_STORE_ROUNDS, which makes both tests longer than make test has time for.
const (
	crashEnv  = "STORE_TEST_CRASH"
	traceEnv  = "STORE_TEST_TRACE"
	roundsEnv = "GMSA_STORE_ROUNDS"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(crashEnv) != "":
		crashChild(os.Getenv(crashEnv))
	case os.Getenv(traceEnv) != "":
		traceChild(os.Getenv(traceEnv))
	default:
		os.Exit(m.Run())
	}
}

// rounds is how often a test goes round, unless the environment has another number.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	s := os.Getenv(roundsEnv)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number", roundsEnv, s)
	}
	return n
}

const (
	crashWorkers = 4
	// crashKept is how many values of a worker are there at a time.
	crashKept = 8
)

// crashValue is the value that a worker writes in its nth update: it proves itself.
func crashValue(worker, n uint64) []byte {
	r := rand.New(rand.NewPCG(worker, n))
	b := make([]byte, 4+r.IntN(6000)) // more than a page at times
	for i := 4; i < len(b); i++ {
		b[i] = byte(r.Uint32())
	}
	binary.BigEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
	return b
}

func crashKey(worker, n uint64) []byte { return fmt.Appendf(nil, "value/%d/%d", worker, n) }
func countKey(worker uint64) []byte    { return fmt.Appendf(nil, "count/%d", worker) }

// crashChild writes until it is killed, and says of each update that has returned
// which one it was.
func crashChild(path string) {
	s, err := Open(path, 0o600)
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for w := range uint64(crashWorkers) {
		wg.Go(func() {
			for {
				var n uint64
				err := s.Update(context.Background(), func(tx store.Tx) (err error) {
					n, err = crashUpdate(tx, w)
					return err
				})
				if err != nil {
					panic(err)
				}
				fmt.Printf("%d %d\n", w, n) // one write, not buffered
			}
		})
	}
	wg.Wait()
}

// crashUpdate counts, writes one value and removes one that is old.
func crashUpdate(tx store.Tx, worker uint64) (n uint64, err error) {
	it, err := tx.Get(countKey(worker))
	if err == nil {
		n = binary.BigEndian.Uint64(it.Value)
	} else if !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	n++
	err = errors.Join(tx.Put(countKey(worker), binary.BigEndian.AppendUint64(nil, n)), tx.Put(crashKey(worker, n), crashValue(worker, n)))
	if n > crashKept {
		err = errors.Join(err, tx.Delete(crashKey(worker, n-crashKept)))
	}
	return n, err
}

// TestKilledStore kills a process that writes, at random moments, and opens what it
// has left: every update that had returned is there, at most one of each worker that
// had not, whole, and nothing else; and the file is sound by bbolt's own account.
func TestKilledStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	usual := 200
	if raceDetector || testing.Short() {
		usual = 20 // each start is several times as slow
	}
	// A disk on which a sync takes long has fewer rounds in the time there is.
	deadline := time.Now().Add(15 * time.Second)
	var acknowledged [crashWorkers]uint64
	total := rounds(t, usual)
	for round := range total {
		if os.Getenv(roundsEnv) == "" && time.Now().After(deadline) && round >= 20 {
			t.Logf("%d rounds instead of %d: the time is up", round, total)
			break
		}
		crashRound(t, path, &acknowledged)
		s, err := open(path, 0o600, true)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		checkCrashed(t, s, &acknowledged)
		if err := errors.Join(s.db.View(sound), s.Close()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	var sum uint64
	for _, n := range acknowledged {
		sum += n
	}
	if sum == 0 {
		t.Error("no update ever returned")
	}
	t.Logf("%d updates", sum)
}

// crashRound runs the child for a moment and notes which updates have returned in it.
func crashRound(t *testing.T, path string, acknowledged *[crashWorkers]uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// From before the store is open to some dozens of updates later.
	time.AfterFunc(time.Duration(rand.Int64N(int64(40*time.Millisecond))), func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var w, n uint64
		if _, err := fmt.Sscan(lines.Text(), &w, &n); err != nil || w >= crashWorkers {
			t.Fatalf("the child says %q", lines.Text())
		}
		acknowledged[w] = n
	}
	_ = cmd.Wait() // killed
	if complaint.Len() > 0 {
		t.Fatalf("the child complains:\n%s", complaint.Bytes())
	}
}

// checkCrashed compares the store with what was acknowledged, and takes what is there
// for acknowledged from now on.
func checkCrashed(t *testing.T, s store.Store, acknowledged *[crashWorkers]uint64) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		want := 0
		var writes uint64
		for w := range uint64(crashWorkers) {
			var n uint64
			if it, err := r.Get(countKey(w)); err == nil {
				n = binary.BigEndian.Uint64(it.Value)
				want++
			}
			if n < acknowledged[w] || n > acknowledged[w]+1 {
				t.Errorf("worker %d: %d updates are there, %d had returned", w, n, acknowledged[w])
			}
			acknowledged[w] = n
			writes += n
			for i := max(n, crashKept) - crashKept + 1; i <= n; i++ {
				if it, err := r.Get(crashKey(w, i)); err != nil || !bytes.Equal(it.Value, crashValue(w, i)) {
					t.Errorf("worker %d: the value of update %d of %d is lost or another: %v", w, i, n, err)
				}
				want++
			}
		}
		if got := r.Revision(); got != writes {
			t.Errorf("revision %d after %d updates", got, writes)
		}
		for _, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			want--
		}
		if want != 0 {
			t.Errorf("%d items too few", want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// sound is bbolt's own check of its pages.
func sound(tx *bbolt.Tx) error {
	var all []error
	for err := range tx.Check() {
		all = append(all, err)
	}
	return errors.Join(all...)
}
