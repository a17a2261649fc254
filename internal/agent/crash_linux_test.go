package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
)

const crashEnv = "AGENT_TEST_CRASH"

// crashChild is the agent that is killed: its leases are on /dev/shm, all else
// in the test's directory. It ends when it is killed.
func crashChild(base string) {
	if err := Harden(); err != nil {
		panic(err)
	}
	c := testConfig(base)
	logFile, err := os.OpenFile(filepath.Join(base, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	events, err := event.Open(event.Config{Path: filepath.Join(base, "ccg.jsonl")})
	if err != nil {
		panic(err)
	}
	l, err := Listen(c)
	if err != nil {
		panic(err)
	}
	a, err := New(Config{
		Config: c, Identities: &identities{domain: &domain{seed: "crash"}}, Events: events,
		Log: slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		panic(err)
	}
	panic(a.Run(context.Background(), l))
}

// TestKilledAgent kills the agent at random moments under a load of leases that
// come and go, and starts it again: afterwards every lease that a caller was
// given is there, whole and with its inode, unless it was removed; nothing else
// is left; and no secret is anywhere but in the leases.
func TestKilledAgent(t *testing.T) {
	if base := os.Getenv(crashEnv); base != "" {
		crashChild(base)
	}
	rounds := 200
	if testing.Short() {
		rounds = 3
	}
	g := newGuard(t, nil)
	program := plainTests(t)
	client, err := agentapi.Dial(g.cfg.Config.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	k := &killed{t: t, g: g, client: client, alive: map[string]uint64{}}
	for i := range rounds {
		child := k.startAgent(program)
		k.load(time.Duration(20+i*7%50) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		k.stop()
		k.check(fmt.Sprintf("round %d, killed", i))
		if t.Failed() {
			return
		}
	}
	child := k.startAgent(program)
	k.waitForAgent()
	k.check("at the end")
	k.checkRunning()
	k.searchSecrets(child.Process.Pid)
	_ = child.Process.Kill()
	_ = child.Wait()
	if len(k.alive) == 0 || k.removed == 0 {
		t.Errorf("%d leases are alive and %d were removed: no load", len(k.alive), k.removed)
	}
	t.Logf("%d kills, %d leases made, %d removed, %d alive", rounds, k.made.Load(), k.removed, len(k.alive))
}

// killed is the state of the test: what callers know.
type killed struct {
	t      *testing.T
	g      *guard
	client *agentapi.Client

	cancel context.CancelFunc
	wg     sync.WaitGroup

	made atomic.Int64

	mu      sync.Mutex
	alive   map[string]uint64 // leases that were given, by id, with the inode
	unsure  map[string]bool   // whose removal was cut off
	removed int
}

// plainTests is a binary of these tests without the race detector, with which each start
// of an agent takes several times as long.
func plainTests(t *testing.T) string {
	t.Helper()
	if !raceDetector {
		return os.Args[0]
	}
	path := filepath.Join(t.TempDir(), "agent.test")
	if out, err := exec.Command("go", "test", "-c", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	return path
}

func (k *killed) startAgent(program string) *exec.Cmd {
	k.t.Helper()
	cmd := exec.Command(program, "-test.run=^TestKilledAgent$")
	cmd.Env = append(os.Environ(), crashEnv+"="+k.g.base)
	out, err := os.OpenFile(filepath.Join(k.g.base, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func (k *killed) waitForAgent() {
	k.t.Helper()
	eventually(k.t, func() error {
		_, err := k.client.Status(k.t.Context(), &agentapi.StatusRequest{Summary: true})
		return err
	})
}

// load creates and removes leases in some goroutines, for d after the first.
func (k *killed) load(d time.Duration) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.t.Context())
	k.cancel = cancel
	k.unsure = map[string]bool{}
	before := k.made.Load()
	for range 4 {
		k.wg.Go(func() {
			for ctx.Err() == nil {
				k.once(ctx)
			}
		})
	}
	eventually(k.t, func() error {
		if k.made.Load() == before {
			return errors.New("no lease was made")
		}
		return nil
	})
	time.Sleep(d)
}

// once makes a lease, and removes it or another two times out of three.
func (k *killed) once(ctx context.Context) {
	r := mine("webapp01")
	r.Keytab = true
	reply, err := k.client.CreateLease(ctx, r)
	if err != nil {
		time.Sleep(time.Millisecond)
		return
	}
	l := reply.GetLease()
	k.made.Add(1)
	k.mu.Lock()
	k.alive[l.GetId()] = 0
	var victim string
	if len(k.alive) > 15 {
		for victim = range k.alive {
			break
		}
		delete(k.alive, victim)
		k.unsure[victim] = true
	}
	k.mu.Unlock()
	if victim == "" {
		return
	}
	if _, err := k.client.RemoveLease(ctx, &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: victim}}); err == nil {
		k.mu.Lock()
		delete(k.unsure, victim)
		k.removed++
		k.mu.Unlock()
	}
}

func (k *killed) stop() {
	k.cancel()
	k.wg.Wait()
}

// check looks at the files, whether or not an agent runs.
func (k *killed) check(when string) {
	k.t.Helper()
	for id, before := range k.alive {
		dir := filepath.Join(k.g.base, "run", "leases", id)
		if err := checkLease(dir); err != nil {
			k.t.Errorf("%s: lease %s: %v", when, id, err)
			continue
		}
		now := inode(k.t, dir)
		if before != 0 && before != now {
			k.t.Errorf("%s: lease %s has another inode", when, id)
		}
		k.alive[id] = now
	}
}

// checkLease parses every file of a lease and compares them: ticket, keys,
// owner and mode.
func checkLease(dir string) error {
	cc, err1 := os.ReadFile(dir + "/ccache")
	kt, err2 := os.ReadFile(dir + "/keytab")
	client, err3 := os.ReadFile(dir + "/client.keytab")
	conf, err4 := os.ReadFile(dir + "/krb5.conf")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	c, err1 := ccache.Parse(cc)
	k, err2 := keytab.Parse(kt)
	i, err3 := keytab.Parse(client)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if len(c.Credentials) == 0 || len(k.Entries) == 0 || len(i.Entries) == 0 || !bytes.Contains(conf, []byte("[domain_realm]")) {
		return errors.New("a file is not complete")
	}
	for _, name := range []string{"ccache", "keytab", "client.keytab", "krb5.conf"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o400 {
			return fmt.Errorf("%s: %v, %w", name, info.Mode(), err)
		}
	}
	return nil
}

// checkRunning compares the files with what the agent that runs now knows: not
// one lease more or less.
func (k *killed) checkRunning() {
	k.t.Helper()
	known := map[string]bool{}
	for token := ""; ; {
		page, err := k.client.ListLeases(k.t.Context(), &agentapi.ListLeasesRequest{PageToken: token})
		if err != nil {
			k.t.Fatal(err)
		}
		for _, l := range page.GetLeases() {
			known[l.GetId()] = true
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	for id := range k.alive {
		if !known[id] {
			k.t.Errorf("the agent does not know lease %s", id)
		}
	}
	entries, err := os.ReadDir(filepath.Join(k.g.base, "run", "leases"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, entry := range entries {
		switch {
		case known[entry.Name()]:
			k.checkSettled(entry.Name())
		case entry.Name() != "journal" && entry.Name() != "lock":
			k.t.Errorf("left: %s", entry.Name())
		}
	}
}

// checkSettled waits until a lease has no more than ..data, the version in force,
// and for a second the one before: the agent that runs may be about to replace
// its files.
func (k *killed) checkSettled(id string) {
	k.t.Helper()
	var hidden []string
	for range 100 {
		hidden, _ = filepath.Glob(filepath.Join(k.g.base, "run", "leases", id, "..*"))
		if len(hidden) <= 3 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	k.t.Errorf("left in %s: %v", id, hidden)
}

// searchSecrets looks for passwords and keys outside of the leases' own files:
// in the journal, the logs, the state, and in the agent's arguments and
// environment.
func (k *killed) searchSecrets(pid int) {
	k.t.Helper()
	needles := k.needles()
	searched := 0
	look := func(name string, b []byte) {
		searched++
		for what, needle := range needles {
			if bytes.Contains(b, needle) {
				k.t.Errorf("%s holds %s", name, what)
			}
		}
	}
	err := filepath.WalkDir(k.g.base, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the agent renews its leases meanwhile
			return nil
		}
		if err != nil || !entry.Type().IsRegular() || entry.Name() == "keytab" || entry.Name() == "client.keytab" {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.Name() != "ccache" {
			look(path, b)
		}
		return err
	})
	if err != nil || searched < 4 {
		k.t.Errorf("searched %d files, %v", searched, err)
	}
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			k.t.Error(err)
		}
		look(name, b)
	}
	// The search finds what is there.
	found := false
	for id := range k.alive {
		b, _ := os.ReadFile(filepath.Join(k.g.base, "run", "leases", id, "keytab"))
		for _, needle := range needles {
			found = found || bytes.Contains(b, needle)
		}
	}
	if !found {
		k.t.Error("the search does not even find the keys in a keytab")
	}
}

// needles are the password and the keys in the forms in which they could leak.
func (k *killed) needles() map[string][]byte {
	d := &domain{seed: "crash"}
	password := d.password("webapp01$", 0)
	keys, err := managedpassword.Keys(password, managedpassword.Salt("CONTOSO.COM", "webapp01$"), 18, 17)
	if err != nil {
		k.t.Fatal(err)
	}
	raw := map[string][]byte{"the password": password.Reveal()[:32]}
	for _, key := range keys {
		raw[fmt.Sprintf("the key of type %d", key.EType())] = key.Secret().Reveal()
	}
	out := map[string][]byte{}
	for name, b := range raw {
		out[name] = b
		out[name+" in hex"] = []byte(hex.EncodeToString(b))
		out[name+" in capital hex"] = []byte(strings.ToUpper(hex.EncodeToString(b)))
		out[name+" in base64"] = []byte(strings.TrimRight(base64.StdEncoding.EncodeToString(b[:len(b)/3*3]), "="))
		text := hex.EncodeToString(b)
		var wide []byte
		for _, u := range utf16.Encode([]rune(text)) {
			wide = append(wide, byte(u), byte(u>>8))
		}
		out[name+" in hex and UTF-16"] = wide
		out[name+" quoted"] = []byte(strings.Trim(strconv.QuoteToASCII(string(b)), `"`))
	}
	return out
}
