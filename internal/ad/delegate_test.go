package ad_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secdesc"
)

const serviceAccounts = "CN=Managed Service Accounts," + lab.BaseDN

// entries are those of the access control list of the container.
func entries(t *testing.T, s *ad.Session) []secdesc.ACE {
	t.Helper()
	o, err := s.Object(t.Context(), serviceAccounts, "nTSecurityDescriptor")
	if err != nil {
		t.Fatal(err)
	}
	sd, err := secdesc.Parse(o.Values["nTSecurityDescriptor"][0])
	if err != nil {
		t.Fatal(err)
	}
	return sd.DACL.ACEs
}

// TestDelegationKeepsWhatOthersWrote: entries of others stay, in their order, those too
// that are written at the same time.
func TestDelegationKeepsWhatOthersWrote(t *testing.T) {
	t.Run("Samba", func(t *testing.T) {
		dc := lab.Samba(t, lab.SambaConfig{Private: true})
		s := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
		// Samba has no way to see that somebody else was faster: one after the other.
		testDelegation(t, s, func(do ...func()) {
			for _, f := range do {
				f()
			}
		})
	})
	t.Run("gmsa", func(t *testing.T) {
		dc := lab.Own(t, lab.OwnConfig{Private: true})
		s := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
		testDelegation(t, s, func(do ...func()) {
			var all sync.WaitGroup
			for _, f := range do {
				all.Go(f)
			}
			all.Wait()
		})
	})
}

func testDelegation(t *testing.T, s *ad.Session, atOnce func(do ...func())) {
	to := []string{"web1$", "web2$", "evil1$", "WebHosts", "Domain Computers", "Domain Guests"}
	before := entries(t, s)
	var do []func()
	for _, principal := range to {
		do = append(do, func() {
			done, err := s.Delegate(t.Context(), principal, "")
			if err != nil || !done.Changed {
				t.Errorf("%s: %+v, %v", principal, done, err)
			}
		})
	}
	atOnce(do...)
	after := entries(t, s)
	for _, principal := range to {
		o, err := s.Lookup(t.Context(), principal)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, e := range after {
			if e.SID == o.SID {
				count++
			}
		}
		if count != 2 {
			t.Errorf("%s has %d entries, want 2", principal, count)
		}
	}
	var kept []secdesc.ACE
	for _, e := range after {
		if slices.ContainsFunc(before, e.Equal) {
			kept = append(kept, e)
		}
	}
	if !slices.EqualFunc(kept, before, secdesc.ACE.Equal) {
		t.Errorf("entries of others:\n%v\nwere\n%v", kept, before)
	}
	if len(after) != len(before)+2*len(to) {
		t.Errorf("%d entries, want %d and two for each of %d", len(after), len(before), len(to))
	}
}
