//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// refresh measures the processor time that one renewed ticket costs this side: what
// the guard does for each account every few hours, beside kinit in a loop.
func refresh(r *run) {
	mit := mitKDC(r, 200)
	keeping := startKeeper(r, mit)
	kept, fresh := atMost(60), atMost(110)
	r.add(guardRefresh(r, keeping, true, 2000).with(kept))
	r.add(guardRefresh(r, mit, false, 2000).with(fresh))
	r.add(bareRefresh(r, keeping, 2000, true))
	r.add(bareRefresh(r, keeping, 2000, false))
	r.add(kinitLoop(r, mit, 100))
	samba := sambaKDC(r)
	r.add(guardRefresh(r, samba, true, 300).with(kept))
	r.add(guardRefresh(r, samba, false, 300).with(fresh))
	r.add(kinitLoop(r, samba, 50))
}

// sambaKDC is the lab's domain controller with its hosts' keys: its tickets have a
// PAC.
func sambaKDC(r *run) kdc {
	dc := lab.Samba(r, lab.SambaConfig{Private: true})
	k := kdc{
		name: "Samba", realm: lab.Realm, address: dc.IP.String() + ":88",
		keytab: dc.Keytab(r, "web1"), conf: dc.KRB5Config, pid: sambaPID(r, dc),
	}
	k.accounts = readAccounts(r, k.keytab)
	return k
}

// workers is how many refreshes are under way at once. The guard's limit is 32.
const workers = 16

// guardRefresh runs the guard's own code: kclient, ccache, lease.
func guardRefresh(r *run, k kdc, keep bool, n int) figure {
	cfg := kclient.Config{Realm: k.realm, KDCs: k.kdcs(), ETypes: []crypto.EType{crypto.AES256SHA1}}
	f := figure{name: "guard, new connection each time, " + k.name, unit: "us"}
	if keep {
		f.name = "guard, kept connections, " + k.name
	} else {
		cfg.IdleTimeout = -1
	}
	client, err := kclient.New(cfg)
	r.must(err)
	defer client.Close()
	root, err := lease.Storage{Path: filepath.Join(r.tmpfs(), "leases"), AllowSwap: true}.Open()
	r.must(err)
	defer root.Close()
	var held []*holder
	for _, p := range k.accounts {
		held = append(held, &holder{r: r, client: client, account: p, root: root})
	}
	refreshMany(r, held, max(n/4, len(held))) // connections, derived keys, directories
	r.profiled("refresh "+f.name, func() {
		f.fiveRounds(n, func() { refreshMany(r, held, n) })
	})
	return f
}

// fiveRounds measures the processor time of n refreshes five times.
func (f *figure) fiveRounds(n int, do func()) {
	var rate sample
	for range 5 {
		used, begin := cpu(), time.Now()
		do()
		f.rounds = append(f.rounds, us(cpu()-used)/float64(n))
		rate = append(rate, float64(n)/time.Since(begin).Seconds())
	}
	f.note = fmt.Sprintf("%s refreshes/s, %d at a time", number(rate.median()), workers)
}

// refreshMany renews n tickets, the accounts in turn.
func refreshMany(r *run, held []*holder, n int) {
	atATime(r, n, func(i int) error { return held[i%len(held)].refresh() })
}

// atATime does n things, as many at a time as there are workers.
func atATime(r *run, n int, do func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		r.Fatal(*err)
	}
}

// A holder is an account with one lease.
type holder struct {
	r       *run
	client  *kclient.Client
	account principal
	root    *lease.Root

	mu  sync.Mutex // a lease's directory is for one goroutine at a time
	dir *lease.Dir
}

// refresh gets a ticket and shows it in the lease.
func (h *holder) refresh() error {
	res, err := h.client.AS(h.r.ctx, kclient.ASRequest{Client: h.account.name, Secret: kclient.Keys(h.account.key)})
	if err != nil {
		return err
	}
	cache := ccache.Cache{Principal: res.Credential.Client, Credentials: []krb5.Credential{res.Credential}, KDCOffset: res.Offset}
	content := lease.Content{Krb5Conf: []byte("[libdefaults]\n"), Accounts: []lease.AccountFiles{
		{Name: "account", CCache: secret.New(cache.Append(nil))},
	}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dir == nil {
		h.dir, err = h.root.Create(lease.NewID(), lease.Owner{UID: 1000, GID: 1000, Mode: 0o400}, content)
		return err
	}
	return h.dir.Write(content)
}

// kinitLoop is the peer: MIT's kinit, one process for each ticket, started by a shell.
func kinitLoop(r *run, k kdc, n int) figure {
	f := figure{name: "kinit -k in a shell's loop, " + k.name, unit: "us"}
	cache := filepath.Join(r.tmpfs(), "ccache")
	var rate sample
	for range 3 {
		cmd := exec.CommandContext(r.ctx, "/bin/sh", "-c", `i=0; while [ $i -lt $1 ]; do kinit -k -t "$2" "$3" || exit; i=$((i+1)); done`,
			"sh", fmt.Sprint(n), k.keytab, k.accounts[0].name.String())
		cmd.Env = append(os.Environ(), "KRB5_CONFIG="+k.conf, "KRB5CCNAME=FILE:"+cache)
		var out bytes.Buffer
		cmd.Stderr = &out
		begin := time.Now()
		if err := cmd.Run(); err != nil {
			r.Fatalf("kinit: %v\n%s", err, out.Bytes())
		}
		f.rounds = append(f.rounds, us(cpuOf(cmd))/float64(n))
		rate = append(rate, float64(n)/time.Since(begin).Seconds())
	}
	f.note = fmt.Sprintf("%s refreshes/s, one at a time", number(rate.median()))
	return f
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
