package ad_test

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// BenchmarkManyAccounts lists all managed service accounts of a domain and looks for
// service principal names that two objects have, in domains of growing size: time,
// allocations and the memory that the result holds should grow as the number of accounts
// does, so that the figures for one account stay as they are. The controller is a process
// of its own.
func BenchmarkManyAccounts(b *testing.B) {
	b.Run("gmsa", func(b *testing.B) { benchmarkMany(b, lab.Own(b, lab.OwnConfig{})) })
	b.Run("Samba", func(b *testing.B) { benchmarkMany(b, lab.Samba(b, lab.SambaConfig{Private: true})) })
}

func benchmarkMany(b *testing.B, dc *lab.DC) {
	s := session(b, domain(b, config(b, dc)), password(b, "Administrator"))
	made := 0
	for _, n := range []int{1_000, 5_000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			fill(b, s, made, n)
			made = max(made, n)
			b.Run("list", func(b *testing.B) {
				measure(b, n, func() (any, error) {
					list, err := s.ServiceAccounts(b.Context(), adproto.Present("objectClass"), "")
					if err == nil && len(list) < n {
						err = fmt.Errorf("%d accounts, want %d", len(list), n)
					}
					return list, err
				})
			})
			b.Run("duplicates", func(b *testing.B) {
				measure(b, n, func() (any, error) { return s.DuplicateSPNs(b.Context()) })
			})
		})
	}
}

// fill makes the accounts from..to, each with a name of its own.
func fill(b *testing.B, s *ad.Session, from, to int) {
	b.Helper()
	const hands = 4
	var all sync.WaitGroup
	for hand := range hands {
		all.Go(func() {
			for i := from + hand; i < to; i += hands {
				_, _, err := s.CreateServiceAccount(b.Context(), ad.NewServiceAccount{
					Name: fmt.Sprintf("many%d", i), OutboundOnly: true, SPNs: []string{fmt.Sprintf("http/many%d", i)},
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// measure reports what one account costs.
func measure(b *testing.B, accounts int, do func() (any, error)) {
	b.ReportAllocs()
	var held uint64
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		result, err := do()
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		held = max(held, heap()-min(before, heap()))
		runtime.KeepAlive(result)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*accounts), "µs/account")
	b.ReportMetric(float64(held)/float64(accounts), "B-held/account")
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
