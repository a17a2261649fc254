//go:build unix

package bolt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// The power fails at every moment of a recorded run. A child writes to a store under
// strace, which sees what the kernel was asked to do with the file and when the child
// was told that an update is safe. From that the test builds the files that a disk
// could hold after a failure: everything that was synced, and of the writes after the
// last sync none, all, any one, any one missing, or some at random, the last of them
// torn. Each must open, be sound, and hold the updates that had been acknowledged, and
// at most the next one.

// traceUpdate is the nth update of the run: a number, a value of up to four pages and
// a value less.
func traceUpdate(n int, put func(key string, value []byte), remove func(key string)) {
	r := rand.New(rand.NewPCG(7, uint64(n)))
	put("number", binary.BigEndian.AppendUint64(nil, uint64(n)))
	value := make([]byte, r.IntN(1<<(4+r.IntN(11))))
	for i := range value {
		value[i] = byte(r.Uint32())
	}
	put(fmt.Sprint("value/", r.IntN(40)), value)
	remove(fmt.Sprint("value/", r.IntN(40)))
}

// traceChild makes the updates and says of each that it has returned.
func traceChild(orders string) {
	path, count, _ := strings.Cut(orders, "|")
	updates, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	s, err := Open(path, 0o600)
	if err != nil {
		panic(err)
	}
	for n := 1; n <= updates; n++ {
		err := s.Update(context.Background(), func(tx store.Tx) (err error) {
			traceUpdate(n, func(key string, value []byte) { err = errors.Join(err, tx.Put([]byte(key), value)) },
				func(key string) { err = errors.Join(err, tx.Delete([]byte(key))) })
			return err
		})
		if err != nil {
			panic(err)
		}
		fmt.Printf("ack %d\n", n)
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
}

// step is what the child asked of the kernel: a write, a new size (data is nil), a
// sync, or an acknowledgement.
type step struct {
	offset int64
	data   []byte
	sync   bool
	ack    int
}

// disk is what a disk holds of the file: its pages, and its size.
type disk struct {
	pages map[int64][]byte // by number; a missing one is zero
	size  int64
}

const diskPage = 4096

func (d disk) clone() disk { return disk{maps.Clone(d.pages), d.size} }

// apply does what a step asked. Pages are never changed in place: images share them.
func (d *disk) apply(s step) {
	if s.data == nil {
		d.size = s.offset
		return
	}
	for off, data := s.offset, s.data; len(data) > 0; {
		number, at := off/diskPage, off%diskPage
		page := make([]byte, diskPage)
		copy(page, d.pages[number])
		n := copy(page[at:], data)
		d.pages[number] = page
		off, data = off+int64(n), data[n:]
	}
	d.size = max(d.size, s.offset+int64(len(s.data)))
}

// write makes the file. What is zero stays a hole.
func (d disk) write(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(d.size)
	for number, page := range d.pages {
		if n := min(d.size-number*diskPage, diskPage); n > 0 {
			_, e := f.WriteAt(page[:n], number*diskPage)
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, f.Close())
}

func readDisk(t *testing.T, path string) disk {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := disk{pages: map[int64][]byte{}, size: int64(len(b))}
	for i := int64(0); i < d.size; i += diskPage {
		if page := b[i:min(i+diskPage, d.size)]; len(bytes.Trim(page, "\x00")) > 0 {
			d.pages[i/diskPage] = page
		}
	}
	return d
}

// traceLine is a line of strace: the process, the call, the file, the rest of the
// arguments, the result.
var traceLine = regexp.MustCompile(`^\d+ +(\w+)\(\d+<([^>]*)>(.*)\) += +(-?\d+)$`)

// resumedLine is the second half of a call during which another thread made one.
var resumedLine = regexp.MustCompile(`^\d+ +<\.\.\. \w+ resumed>(.*)$`)

// record runs the child under strace and returns its steps and the file at its start.
func record(t *testing.T, updates int) (before disk, steps []step) {
	t.Helper()
	lab.Need(t, "strace")
	dir := t.TempDir()
	path := filepath.Join(dir, "store")
	if err := openStore(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	before = readDisk(t, path)
	cmd := exec.Command("strace", "-f", "-qq", "-y", "-xx", "-s", "16777216", "-o", dir+"/trace",
		"-e", "trace=pwrite64,pwritev,pwritev2,ftruncate,fallocate,fdatasync,fsync,sync_file_range,write", "-e", "signal=none", os.Args[0])
	// Signals would interrupt calls.
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", traceEnv, path, updates), "GODEBUG=asyncpreemptoff=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(dir + "/trace")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<27)
	begun := map[string]string{} // calls under way, by thread
	for lines.Scan() {
		line := lines.Text()
		thread, _, _ := strings.Cut(line, " ")
		if start, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			begun[thread] = start
			continue
		}
		if m := resumedLine.FindStringSubmatch(line); m != nil {
			line = begun[thread] + m[1]
		}
		if s, ok := parseStep(t, line, path); ok {
			steps = append(steps, s)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return before, steps
}

// parseStep reads a line of strace; not ok if it is about another file.
func parseStep(t *testing.T, line, path string) (s step, ok bool) {
	t.Helper()
	m := traceLine.FindStringSubmatch(line)
	if m == nil {
		if strings.Contains(line, hexed(path)) {
			t.Fatalf("a line of strace that says something else: %.200s", line)
		}
		return step{}, false
	}
	call, file, args, result := m[1], m[2], strings.Split(m[3], ", "), m[4]
	ours := file == hexed(path)
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("%.200s: %v", line, err)
		}
		return n
	}
	switch {
	case call == "write" && !ours:
		_, err := fmt.Sscanf(string(unhex(t, args[1])), "ack %d\n", &s.ack)
		return s, err == nil
	case !ours:
		return step{}, false
	case call == "pwrite64":
		s.data, s.offset = unhex(t, args[1]), number(args[3])
		if int64(len(s.data)) != number(result) {
			t.Fatalf("%d bytes written of %d", number(result), len(s.data))
		}
	case call == "ftruncate" && result == "0":
		s.offset = number(args[1])
	case (call == "fdatasync" || call == "fsync") && result == "0":
		s.sync = true
	default:
		t.Fatalf("a call that this test does not know: %.200s", line)
	}
	return s, true
}

// hexed is a string as strace -xx writes it.
func hexed(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	return b.String()
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Trim(s, `"`), `\x`, ""))
	if err != nil {
		t.Fatalf("a string of strace: %.80s: %v", s, err)
	}
	return b
}

// torn is the beginning or the end of a write.
func torn(r *rand.Rand, s step) step {
	cut := r.IntN(len(s.data))
	if r.IntN(2) == 0 {
		return step{offset: s.offset + int64(cut), data: s.data[cut:]}
	}
	return step{offset: s.offset, data: s.data[:cut+1]}
}

// crashImages yields what the disk may hold if the power fails with these writes not
// synced: as many choices of them as there are, or some.
func crashImages(r *rand.Rand, durable disk, pending []step, some int) (images []disk) {
	with := func(choose func(i int) bool, tear bool) {
		d := durable.clone()
		last := -1
		for i := range pending {
			if choose(i) {
				last = i
			}
		}
		for i, s := range pending {
			switch {
			case !choose(i):
			case i == last && tear && len(s.data) > 0:
				d.apply(torn(r, s))
			default:
				d.apply(s)
			}
		}
		images = append(images, d)
	}
	with(func(int) bool { return false }, false)
	if len(pending) == 0 {
		return images
	}
	last := len(pending) - 1
	with(func(int) bool { return true }, false)
	with(func(int) bool { return true }, true)
	with(func(i int) bool { return i == last }, false) // the newest write alone, and all but the newest:
	with(func(i int) bool { return i != last }, true)  // the second newest is torn
	for range some {
		bits := r.Uint64()
		with(func(i int) bool { return bits>>(i%64)&1 == 1 }, r.IntN(2) == 0)
	}
	return images
}

// replay fails the power after every step and returns the first things that were
// wrong; images is how many files it has looked at.
func replay(t *testing.T, before disk, steps []step, some, enough int) (wrong []string, images int) {
	t.Helper()
	dir := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "gmsa-store-"); err == nil { // a real sync is of no use here
		t.Cleanup(func() { os.RemoveAll(memory) })
		dir = memory
	}
	r := rand.New(rand.NewPCG(1, 2))
	durable, acknowledged := before, 0
	var pending []step
	model := traceModel{states: []map[string]string{{}}}
	for i, s := range steps {
		switch {
		case s.ack > 0:
			acknowledged = s.ack
		case s.sync:
			durable = durable.clone()
			for _, p := range pending {
				durable.apply(p)
			}
			pending = nil
		default:
			pending = append(pending, s)
		}
		for _, d := range crashImages(r, durable, pending, some) {
			images++
			// A name for each: what a panic leaves open is locked.
			if err := checkImage(d, fmt.Sprint(dir, "/", images), &model, acknowledged); err != nil {
				wrong = append(wrong, fmt.Sprintf("after step %d of %d, with %d writes not synced: %v", i+1, len(steps), len(pending), err))
			}
			if len(wrong) == enough {
				return wrong, images
			}
		}
	}
	return wrong, images
}

// traceModel is what the store should hold after each update.
type traceModel struct{ states []map[string]string }

func (m *traceModel) after(n int) map[string]string {
	for len(m.states) <= n {
		next := maps.Clone(m.states[len(m.states)-1])
		traceUpdate(len(m.states), func(key string, value []byte) { next[key] = string(value) }, func(key string) { delete(next, key) })
		m.states = append(m.states, next)
	}
	return m.states[n]
}

// checkImage opens a store as it may be after the failure, and uses it.
func checkImage(d disk, path string, model *traceModel, acknowledged int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	defer os.Remove(path)
	if err := d.write(path); err != nil {
		return err
	}
	s, err := open(path, 0o600, true)
	if err != nil {
		return err
	}
	err = errors.Join(checkContent(s, model, acknowledged), s.db.View(sound))
	if err == nil {
		err = s.Update(context.Background(), func(tx store.Tx) error { return tx.Put([]byte("life"), []byte("goes on")) })
	}
	return errors.Join(err, s.Close())
}

func checkContent(s store.Store, model *traceModel, acknowledged int) error {
	return s.View(context.Background(), func(r store.Reader) error {
		n := 0
		if it, err := r.Get([]byte("number")); err == nil {
			n = int(binary.BigEndian.Uint64(it.Value))
		}
		if n != acknowledged && n != acknowledged+1 {
			return fmt.Errorf("%d updates are there, %d were acknowledged", n, acknowledged)
		}
		if r.Revision() != uint64(n) {
			return fmt.Errorf("revision %d after %d updates", r.Revision(), n)
		}
		want := model.after(n)
		found := 0
		for it, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			if value, ok := want[string(it.Key)]; !ok || value != string(it.Value) {
				return fmt.Errorf("update %d: the value of %s is another", n, it.Key)
			}
			found++
		}
		if found != len(want) {
			return fmt.Errorf("update %d: %d items, want %d", n, found, len(want))
		}
		return nil
	})
}

func TestPowerFailure(t *testing.T) {
	usual := 100
	if raceDetector || testing.Short() {
		usual = 15
	}
	before, steps := record(t, rounds(t, usual))
	syncs, acks := 0, 0
	for _, s := range steps {
		if s.sync {
			syncs++
		}
		acks = max(acks, s.ack)
	}
	if want := rounds(t, usual); acks != want || syncs < 2*want {
		t.Fatalf("%d acknowledgements and %d syncs of %d updates", acks, syncs, want)
	}
	began := time.Now()
	wrong, images := replay(t, before, steps, 8, 10)
	for _, w := range wrong {
		t.Error(w)
	}
	t.Logf("%d steps, %d files after a failure in %v", len(steps), images, time.Since(began).Round(time.Millisecond))
	if t.Failed() {
		return
	}
	// The test must notice a store that syncs too little. It stops at the first file
	// that is wrong: what bbolt makes of a broken one has no bounds.
	t.Run("is noticed where nothing is synced", func(t *testing.T) {
		unsynced := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.sync })
		if wrong, _ := replay(t, before, unsynced, 0, 1); len(wrong) == 0 {
			t.Error("a store that syncs nothing loses nothing")
		}
	})
	t.Run("is noticed where the pages are not synced before the root", func(t *testing.T) {
		// Every first of the two syncs of an update is left out.
		first := false
		reordered := slices.DeleteFunc(slices.Clone(steps), func(s step) bool {
			if s.sync {
				first = !first
				return first
			}
			first = first && s.ack == 0
			return false
		})
		if wrong, _ := replay(t, before, reordered, 2, 1); len(wrong) == 0 {
			t.Error("a root that is on the disk before its pages does no harm")
		}
	})
}
