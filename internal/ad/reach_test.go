package ad_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secret"
)

// clocked runs a test on both controllers, each with a clock that it moves.
func clocked(t *testing.T, test func(t *testing.T, dc *lab.DC, own bool)) {
	t.Run("Samba", func(t *testing.T) { test(t, lab.Samba(t, lab.SambaConfig{Clock: true}), false) })
	t.Run("gmsa", func(t *testing.T) { test(t, lab.Own(t, lab.OwnConfig{Clock: true}), true) })
}

// TestWhatALeakedRootKeyGivesAway: an account is in the reach of a root key for as long as
// its current or its previous password comes from it, and for as long the key is not
// removed.
func TestWhatALeakedRootKeyGivesAway(t *testing.T) { clocked(t, testReach) }

func testReach(t *testing.T, dc *lab.DC, own bool) {
	const interval = 20 * time.Hour // of a password that lives for a day
	dc.AddGMSA(t, lab.GMSA{Name: "reached", Interval: 1, Readers: []string{"web1$"}})
	as := func(who string) *ad.Session { return session(t, domain(t, config(t, dc)), password(t, who)) }
	// Samba rolls an account over when somebody reads its password.
	read := func() {
		t.Helper()
		if _, err := as("web1$").ManagedPassword(t.Context(), name(t, "reached"), ad.Hint{}); err != nil {
			t.Fatal(err)
		}
	}
	reach := func(id dtyp.GUID) string {
		t.Helper()
		list, whole, err := as("Administrator").Dependents(t.Context(), id)
		if err != nil || !whole {
			t.Fatalf("%t, %v", whole, err)
		}
		i := slices.IndexFunc(list, func(d ad.Dependent) bool { return d.Account.Name == "reached$" })
		if i < 0 {
			return "-"
		}
		return fmt.Sprintf("current %t, previous %t", list[i].Current, list[i].Previous)
	}
	a, err := as("Administrator").ServiceAccount(t.Context(), "reached")
	if err != nil {
		t.Fatal(err)
	}
	leaked := a.MSA.ID.RootKeyID
	next, _, err := as("Administrator").AddRootKey(t.Context(), dc.Now().Add(10*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got := reach(next.ID); got != "-" {
		t.Errorf("the new key's: %s", got)
	}
	var states []string
	for elapsed := time.Duration(0); len(states) == 0 || states[len(states)-1] != "-"; elapsed += interval + time.Minute {
		if elapsed > 5*interval {
			t.Fatalf("still in reach after %v: %q", elapsed, states)
		}
		dc.SetClock(t, elapsed)
		if own { // what it does once an hour by the machine's clock, it does when it starts
			dc.Stop(t)
			dc.Start(t)
		}
		read()
		state := reach(leaked)
		states = append(states, state)
		_, err := as("Administrator").RemoveRootKey(t.Context(), leaked, false)
		inUse, ok := errors.AsType[*ad.RootKeyInUseError](err)
		kept := ok && slices.ContainsFunc(inUse.Dependents, func(d ad.Dependent) bool { return d.Account.Name == "reached$" })
		if kept != (state != "-") {
			t.Errorf("%s, and the removal of the key: %v", state, err)
		}
	}
	// Whether the new key serves the first rollover or the second depends on when in the
	// key cycle the test runs.
	states = slices.DeleteFunc(states, func(s string) bool { return s == "current true, previous true" })
	if want := []string{"current true, previous false", "current false, previous true", "-"}; !slices.Equal(states, want) {
		t.Errorf("reach: %q, want %q", states, want)
	}
	if got := reach(next.ID); got != "current true, previous true" {
		t.Errorf("the new key's, afterwards: %s", got)
	}
}

// TestHowLongARemovedHostKnowsAPassword: it is until the next rollover, by the word of the
// directory; our own controller brings it forward, others say what else can be done.
func TestHowLongARemovedHostKnowsAPassword(t *testing.T) { clocked(t, testRemovedHost) }

func testRemovedHost(t *testing.T, dc *lab.DC, own bool) {
	dc.AddGMSA(t, lab.GMSA{Name: "lost", Interval: 30, Readers: []string{"web1$", "web2$"}})
	as := func(who string) *ad.Session { return session(t, domain(t, config(t, dc)), password(t, who)) }
	known := func(who string) secret.Bytes {
		t.Helper()
		p, err := as(who).ManagedPassword(t.Context(), name(t, "lost"), ad.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Current
	}
	old := known("web2$")
	a, removed, err := as("Administrator").RemoveReaders(t.Context(), "lost", "web2$")
	if err != nil || len(removed) != 1 {
		t.Fatalf("%v, %v", removed, err)
	}
	until := a.NextRollover()
	if wait := until.Sub(dc.Now()); wait <= 0 || wait > 30*24*time.Hour {
		t.Fatalf("until %v, now %v", until, dc.Now())
	}
	if _, err := as("web2$").ManagedPassword(t.Context(), name(t, "lost"), ad.Hint{}); !errors.Is(err, ad.ErrWithheld) {
		t.Errorf("the removed host: %v", err)
	}
	logOn := func(at time.Time, works bool) {
		t.Helper()
		dc.SetClock(t, time.Until(at))
		if err := as("web1$").LogOn(t.Context(), a, old); (err == nil) != works {
			t.Errorf("the password that the host knows, at %v: %v", at, err)
		}
	}
	rotated, err := as("Administrator").Rotate(t.Context(), "lost")
	if !own {
		e, ok := errors.AsType[*ad.RotateError](err)
		if !ok || !e.Until.Equal(until) || !strings.Contains(e.Hint(), "new account in its place") || !strings.Contains(e.Hint(), "a new root key does not shorten it") {
			t.Errorf("rotate: %v", err)
		}
	} else {
		shown, showErr := as("Administrator").ServiceAccount(t.Context(), "lost")
		if err != nil || showErr != nil || !shown.Rotating() || !shown.NextRollover().Equal(rotated.NextRollover()) || !shown.NextRollover().Before(until) ||
			shown.KVNO != a.KVNO || !shown.PasswordSet.Equal(a.PasswordSet) {
			t.Errorf("rotate: %v, then %v (%v, %v), before %v", rotated.NextRollover(), shown.NextRollover(), err, showErr, until)
		}
		until = rotated.NextRollover()
	}
	// Both take the old password for five minutes after its end.
	logOn(until.Add(-10*time.Minute), true)
	logOn(until.Add(10*time.Minute), false)
	if bytes.Equal(known("web1$").Reveal(), old.Reveal()) {
		t.Error("the host that may read it still gets the old password")
	}
	if now, err := as("Administrator").ServiceAccount(t.Context(), "lost"); err != nil || now.Rotating() || now.NextRollover().Sub(until) < 29*24*time.Hour {
		t.Errorf("after the rollover at %v the next is at %v, rotating %t: %v", until, now.NextRollover(), now.Rotating(), err)
	}
}

// TestARootKeyOfPasswordsThatHostsWereToldStays: in the last ten minutes of a key cycle the
// key that the next passwords come from is not removed, though no password in force does; by
// force it is.
func TestARootKeyOfPasswordsThatHostsWereToldStays(t *testing.T) {
	dc := lab.Own(t, lab.OwnConfig{Clock: true})
	dc.AddGMSA(t, lab.GMSA{Name: "told", Interval: 1, Readers: []string{"web1$"}})
	admin := func() *ad.Session { return session(t, domain(t, config(t, dc)), password(t, "Administrator")) }
	a, err := admin().ServiceAccount(t.Context(), "told")
	if err != nil {
		t.Fatal(err)
	}
	var keys []ad.RootKey
	for _, use := range []time.Duration{0, 10 * time.Hour, 10 * time.Hour} {
		key, _, err := admin().AddRootKey(t.Context(), dc.Now().Add(use))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	ends := keys[2].FirstUse()
	for _, c := range []struct {
		what   string
		id     dtyp.GUID
		before time.Duration
		force  bool
		want   string // of the refusal
	}{
		{"minutes before the end of a cycle with which no account rolls over", keys[0].ID, 10*time.Hour + 5*time.Minute, false, ""},
		{"minutes before, one that is not the newest", keys[1].ID, 9 * time.Minute, false, ""},
		{"minutes before, the newest", keys[2].ID, 8 * time.Minute, false, "may have been told"},
		{"minutes before, that of the password in force", a.MSA.ID.RootKeyID, 7 * time.Minute, false, "told$"},
		{"minutes before, by force", keys[2].ID, 6 * time.Minute, true, ""},
	} {
		dc.SetClock(t, time.Until(ends.Add(-c.before)))
		_, err := admin().RemoveRootKey(t.Context(), c.id, c.force)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
		if e, ok := errors.AsType[*ad.RootKeyInUseError](err); ok && (e.Told.Equal(ends) != (c.id == keys[2].ID) || !strings.Contains(e.Hint(), "gmsa kds reach")) {
			t.Errorf("%s: told until %v, %s", c.what, e.Told, e.Hint())
		}
	}
}
