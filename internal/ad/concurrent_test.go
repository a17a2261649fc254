package ad_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Administrators who edit the readers of one account at the same time lose nothing of
// each other's.
func TestConcurrentEditsOfReaders(t *testing.T) {
	t.Run("Samba", func(t *testing.T) { testConcurrentReaders(t, lab.Samba(t, lab.SambaConfig{Private: true})) })
	t.Run("gmsa", func(t *testing.T) { testConcurrentReaders(t, lab.Own(t, lab.OwnConfig{})) })
}

func testConcurrentReaders(t *testing.T, dc *lab.DC) {
	const administrators, hosts = 4, 5
	dc.AddGMSA(t, lab.GMSA{Name: "crowded", Readers: []string{"web1$"}})
	root := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
	info, err := root.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Nobody has these identifiers: an entry may name who is gone.
	host := func(admin, i int) dtyp.SID { return info.SID.Child(uint32(500_000 + 100*admin + i)) }
	var all sync.WaitGroup
	for admin := range administrators {
		s := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
		all.Go(func() {
			for i := range hosts {
				if err := addThenRemove(t, s, host(admin, i), host(admin, i-1), i > 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	a, err := root.ServiceAccount(t.Context(), "crowded")
	if err != nil {
		t.Fatal(err)
	}
	got := map[dtyp.SID]bool{}
	for _, sid := range a.MSA.Readers.Trustees(secdesc.ReadManagedPassword) {
		got[sid] = true
	}
	for admin := range administrators {
		if !got[host(admin, hosts-1)] {
			t.Errorf("administrator %d added a host, and it is not there", admin)
		}
	}
	if len(got) != administrators+1 {
		t.Errorf("%d readers, want the last host of each of %d administrators and web1$: %v", len(got), administrators, got)
	}
}

// addThenRemove is one administrator's turn: a host in, the one before it out.
func addThenRemove(t *testing.T, s *ad.Session, in, out dtyp.SID, removes bool) error {
	if _, sids, err := s.AddReaders(t.Context(), "crowded", in.String()); err != nil || len(sids) != 1 {
		return fmt.Errorf("add %v: %v, %w", in, sids, err)
	}
	if !removes {
		return nil
	}
	if _, sids, err := s.RemoveReaders(t.Context(), "crowded", out.String()); err != nil || len(sids) != 1 {
		return fmt.Errorf("remove %v: %v, %w", out, sids, err)
	}
	return nil
}
