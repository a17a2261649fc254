package account

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// numbered is a password of a test: one key, told by its number.
func numbered(n int) Password {
	b := make([]byte, 32)
	b[0] = byte(n)
	k, err := crypto.NewKey(crypto.AES256SHA1, secret.New(b))
	if err != nil {
		panic(err)
	}
	return Password{Print: Fingerprint{byte(n + 1)}, Salt: "salt", Keys: []*crypto.Key{k}}
}

// numberOf is the number of a password's key.
func numberOf(k *crypto.Key) int { return int(k.Secret().Reveal()[0]) }

func numbers(sets []KeySet) map[uint32]int {
	out := make(map[uint32]int)
	for _, s := range sets {
		if _, ok := out[s.KVNO]; !ok {
			out[s.KVNO] = numberOf(s.Keys[0])
		}
	}
	return out
}

// A hostile or mad domain says anything in any order: the ring stays within its
// bounds, never changes under a reader, and keeps what was in force as long as a
// ticket under it may live.
func TestRingSurvivesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const life = 10 * time.Hour
		r, now := NewRing(life), epoch
		seen := make(map[int]time.Time) // when a password was last said to be in force
		password := rapid.IntRange(0, 5)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(15*time.Hour)).Draw(t, "pause")))
			o := Observation{Controller: fmt.Sprint("dc", rapid.IntRange(1, 20).Draw(t, "controller")), At: now,
				KVNO:    rapid.Uint32Range(0, 9).Draw(t, "kvno"),
				Expires: now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(800*time.Hour)).Draw(t, "left")))}
			n := password.Draw(t, "in force")
			o.InForce = numbered(n)
			if rapid.Bool().Draw(t, "has former") {
				p := numbered(password.Draw(t, "former"))
				o.Former = &p
			}
			if rapid.Bool().Draw(t, "has upcoming") {
				p := numbered(password.Draw(t, "upcoming"))
				o.Upcoming = &p
			}
			if rapid.Bool().Draw(t, "dated") {
				o.InForce.Starts = epoch.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "period")) * 20 * time.Hour)
			}
			before := fmt.Sprint(numbers(r.AcceptorKeys()), len(r.held))
			old := r
			r, _ = r.Observe(o)
			if after := fmt.Sprint(numbers(old.AcceptorKeys()), len(old.held)); after != before {
				t.Fatalf("Observe changed its receiver: %s, was %s", after, before)
			}
			seen[n] = now
			checkRing(t, r, now, seen, life)
			if c := r.Candidates(now, o.Controller); len(c) > 0 && rapid.Bool().Draw(t, "refuse") {
				r = r.Refused(c[0], o.Controller, now)
				if again := r.Candidates(now, o.Controller); slices.ContainsFunc(again, func(a Candidate) bool { return a.id == c[0].id }) {
					t.Fatalf("password %d is offered again right after it was refused", numberOf(c[0].Keys[0]))
				}
			}
		}
	})
}

func checkRing(t *rapid.T, r Ring, now time.Time, seen map[int]time.Time, life time.Duration) {
	if len(r.held) > maxHeld || len(r.sightings) > maxSightings || r.current < 0 || r.current >= len(r.held) {
		t.Fatalf("%d passwords, %d sightings, current %d", len(r.held), len(r.sightings), r.current)
	}
	var kept []int
	for _, s := range r.AcceptorKeys() {
		kept = append(kept, numberOf(s.Keys[0]))
	}
	for n, at := range seen {
		if now.Sub(at) <= life && !slices.Contains(kept, n) {
			t.Fatalf("password %d was in force %v ago and is gone; kept: %v", n, now.Sub(at), kept)
		}
	}
	for spread := 0.0; spread < 1; spread += 0.3 {
		if p := r.NextRead(spread); p.At.Before(now.Add(lookGap)) || p.At.After(now.Add(recheck*5/4)) {
			t.Fatalf("next read at %v, %v from now", p.At, p.At.Sub(now))
		}
	}
	if _, ok := r.InitiatorKeys(now); !ok {
		t.Fatal("no initiator keys after an observation")
	}
}

// A domain that follows the rules, without clocks and requests: passwords come
// one after the other, each under the next kvno. Whatever was observed or
// announced can be accepted under its number, and what is in force is used.
func TestRingFollowsADomain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const period = 20 * time.Hour
		skews := []time.Duration{0, time.Duration(rapid.Int64Range(-int64(ClockSkew), int64(ClockSkew)).Draw(t, "skew"))}
		spread := rapid.Float64Range(0, 0.999).Draw(t, "spread")
		r, now := Ring{}, epoch.Add(time.Duration(rapid.Int64Range(0, int64(period)).Draw(t, "start")))
		observe := func(c int) {
			local := now.Add(skews[c])
			n := int(local.Sub(epoch) / period)
			ends := epoch.Add(time.Duration(n+1) * period).Sub(local)
			o := Observation{Controller: fmt.Sprint("dc", c), At: now, InForce: numbered(n), KVNO: uint32(n + 1), Expires: now.Add(ends)}
			o.InForce.Starts = epoch.Add(time.Duration(n) * period)
			if next := numbered(n + 1); ends <= ClockSkew {
				o.Upcoming = &next
			} else if n > 0 {
				former := numbered(n - 1)
				o.Former = &former
			}
			r, _ = r.Observe(o)
		}
		observe(rapid.IntRange(0, 1).Draw(t, "first"))
		for range 200 {
			plan := r.NextRead(spread)
			// At the instant before the read and after it every controller's
			// key must be acceptable under its number.
			now = plan.At
			checkAccepts(t, r, now, skews, period)
			c := rapid.IntRange(0, 1).Draw(t, "controller")
			if slices.Contains(plan.Avoid, fmt.Sprint("dc", c)) {
				c = 1 - c
			}
			observe(c)
			checkAccepts(t, r, now, skews, period)
		}
	})
}

func checkAccepts(t *rapid.T, r Ring, now time.Time, skews []time.Duration, period time.Duration) {
	keys := numbers(r.AcceptorKeys())
	var inForce []int
	for i, s := range skews {
		n := int(now.Add(s).Sub(epoch) / period)
		inForce = append(inForce, n)
		if got, ok := keys[uint32(n+1)]; !ok || got != n {
			t.Fatalf("at %v dc%d issues under password %d, kvno %d; the ring has %v", now, i, n, n+1, keys)
		}
	}
	k, _ := r.InitiatorKeys(now)
	if n := numberOf(k.Keys[0]); !slices.Contains(inForce, n) {
		t.Fatalf("at %v initiators use password %d, in force are %v", now, n, inForce)
	}
	if r.Settled(now) && inForce[0] != inForce[1] {
		t.Fatalf("at %v the ring takes the controllers for agreed: %v", now, inForce)
	}
}

func observed(n int, kvno uint32, at time.Time, left time.Duration) Observation {
	return Observation{Controller: "dc1", At: at, InForce: numbered(n), KVNO: kvno, Expires: at.Add(left)}
}

// What a keytab on tmpfs still holds goes on counting after a restart: old keys
// under their numbers, and the announced one, which initiators must not use yet.
func TestRestoreKeepsWhatTheDomainDoesNotGive(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, 20*time.Hour))
	next := numbered(2)
	o := observed(1, 7, epoch.Add(19*time.Hour+56*time.Minute), 4*time.Minute)
	o.Upcoming = &next
	r, _ = r.Observe(o)
	left := r.AcceptorKeys()
	if got := fmt.Sprint(numbers(left)); got != "map[7:1 8:2]" {
		t.Fatalf("before the restart: %s", got)
	}

	for _, tt := range []struct {
		name      string
		o         Observation
		want      string
		initiator int
	}{
		{"before the rollover", observed(1, 7, o.At.Add(time.Minute), 3*time.Minute), "map[7:1 8:2]", 1},
		{"after the rollover", observed(2, 8, o.At.Add(9*time.Hour), 11*time.Hour), "map[7:1 8:2]", 2},
		{"after two rollovers", observed(3, 9, o.At.Add(21*time.Hour), 19*time.Hour), "map[7:1 8:2 9:3]", 3},
		{"the number was wrong", observed(2, 9, o.At.Add(time.Hour), 19*time.Hour), "map[7:1 8:2 9:2]", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Ring{}.Restore(left, tt.o.At.Add(-time.Second))
			if _, ok := s.InitiatorKeys(tt.o.At); ok {
				t.Error("a restored key is used before the domain was asked")
			}
			s, _ = s.Observe(tt.o)
			if got := fmt.Sprint(numbers(s.AcceptorKeys())); got != tt.want {
				t.Errorf("acceptor keys %s, want %s", got, tt.want)
			}
			if k, _ := s.InitiatorKeys(tt.o.At); numberOf(k.Keys[0]) != tt.initiator {
				t.Errorf("initiators use password %d, want %d", numberOf(k.Keys[0]), tt.initiator)
			}
		})
	}
}

// What a keytab holds beyond the password in force need not be the next one: the
// guard looks for that in the window all the same, and initiators do not go on to
// what nobody announced.
func TestRestoredKeyIsNotTakenForTheNextOne(t *testing.T) {
	r := Ring{}.Restore([]KeySet{{KVNO: 7, Keys: numbered(1).Keys}, {KVNO: 8, Keys: numbered(9).Keys}}, epoch)
	r, _ = r.Observe(observed(1, 7, epoch, 20*time.Minute))
	if p := r.NextRead(0); !p.At.Equal(epoch.Add(20*time.Minute - lead)) {
		t.Errorf("next read after %v, want at the approach", p.At.Sub(epoch))
	}
	if k, _ := r.InitiatorKeys(epoch.Add(21 * time.Minute)); numberOf(k.Keys[0]) != 1 {
		t.Errorf("initiators went on to password %d", numberOf(k.Keys[0]))
	}
	next := numbered(2)
	o := observed(1, 7, epoch.Add(16*time.Minute), 4*time.Minute)
	o.Upcoming = &next
	r, _ = r.Observe(o)
	if k, _ := r.InitiatorKeys(epoch.Add(21 * time.Minute)); numberOf(k.Keys[0]) != 2 {
		t.Errorf("initiators use password %d after the announcement", numberOf(k.Keys[0]))
	}
	if got := fmt.Sprint(len(r.AcceptorKeys())); got != "3" {
		t.Errorf("%s acceptor sets, want 3", got)
	}
}

// Keys have the time at which they were learnt, in this run or an earlier one.
func TestKeysHaveTheTimeOfTheirLearning(t *testing.T) {
	for _, tt := range []struct{ since, want time.Duration }{
		{-time.Hour, -time.Hour},
		{time.Hour, 0}, // in the future
	} {
		keys := NewRing(0).Restore([]KeySet{{KVNO: 1, Keys: numbered(1).Keys, Since: epoch.Add(tt.since)}}, epoch).AcceptorKeys()
		if len(keys) != 1 || !keys[0].Since.Equal(epoch.Add(tt.want)) {
			t.Errorf("restored from %v: %+v", tt.since, keys)
		}
	}
	if keys := NewRing(0).Restore([]KeySet{{KVNO: 1, Keys: numbered(1).Keys, Since: time.Unix(0, 0)}}, epoch).AcceptorKeys(); !keys[0].Since.Equal(epoch) {
		t.Errorf("restored from no time: %+v", keys)
	}
}

// A keytab's reader may put two passwords of one version into one set.
func TestRestoreTakesPasswordsApart(t *testing.T) {
	both := KeySet{KVNO: 8, Keys: []*crypto.Key{numbered(3).Keys[0], numbered(2).Keys[0]}}
	r := Ring{}.Restore([]KeySet{both}, epoch)
	r, _ = r.Observe(observed(3, 8, epoch.Add(time.Second), time.Hour))
	sets := r.AcceptorKeys()
	if got := fmt.Sprint(numbers(sets)); got != "map[8:3]" || len(sets) != 2 || numberOf(sets[1].Keys[0]) != 2 {
		t.Errorf("%d sets, first of each number %s", len(sets), got)
	}
}

// An announced password whose period was slept through may have been used by a
// controller that was awake: it stays acceptable for as long as its tickets.
func TestSleptThroughAnnouncementIsKept(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, 4*time.Minute))
	next, former := numbered(2), numbered(2)
	o := observed(1, 7, epoch.Add(time.Second), 4*time.Minute)
	o.Upcoming = &next
	r, _ = r.Observe(o)
	late := observed(3, 9, epoch.Add(25*time.Hour), 15*time.Hour)
	late.Former = &former
	r, change := r.Observe(late)
	if change&NewInForce == 0 || change&NewPassword == 0 {
		t.Errorf("change %b", change)
	}
	if got := fmt.Sprint(numbers(r.AcceptorKeys())); got != "map[7:1 8:2 9:3]" {
		t.Errorf("acceptor keys %s", got)
	}
}

// A controller that lags behind does not put the clock back.
func TestLaggingControllerIsNotBelievedOverTheOther(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, time.Hour))
	r, _ = r.Observe(observed(2, 8, epoch.Add(time.Hour), 20*time.Hour))
	o := observed(1, 7, epoch.Add(time.Hour+time.Second), 3*time.Minute)
	o.Controller = "dc2"
	r, change := r.Observe(o)
	if change != 0 {
		t.Errorf("change %b", change)
	}
	if k, _ := r.InitiatorKeys(o.At); numberOf(k.Keys[0]) != 2 {
		t.Errorf("initiators went back to password %d", numberOf(k.Keys[0]))
	}
	// At that controller, though, the old one is tried first.
	if c := r.Candidates(o.At, "dc2"); len(c) < 2 || numberOf(c[0].Keys[0]) != 1 || numberOf(c[1].Keys[0]) != 2 {
		t.Errorf("candidates at the lagging controller: %v", c)
	}
	if c := r.Candidates(o.At, "dc1"); len(c) < 2 || numberOf(c[0].Keys[0]) != 2 {
		t.Errorf("candidates at the other one: %v", c)
	}
}

// A controller that had gone on and is back at the old password was restored from
// a backup: the domain is where it says, and the old number counts again.
func TestDomainThatWasSetBack(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, time.Hour))
	r, _ = r.Observe(observed(2, 8, epoch.Add(time.Hour), 20*time.Hour))
	o := observed(1, 7, epoch.Add(2*time.Hour), 20*time.Hour)
	r, change := r.Observe(o)
	if change&NewInForce == 0 {
		t.Errorf("change %b", change)
	}
	if k, _ := r.InitiatorKeys(o.At); numberOf(k.Keys[0]) != 1 {
		t.Errorf("initiators use password %d", numberOf(k.Keys[0]))
	}
	if got := fmt.Sprint(numbers(r.AcceptorKeys())); got != "map[7:1 8:2]" {
		t.Errorf("acceptor keys %s", got)
	}
}

func TestSettled(t *testing.T) {
	rolled := epoch.Add(time.Hour)
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, time.Hour))
	announced := r
	next := numbered(2)
	o := observed(1, 7, rolled.Add(-4*time.Minute), 4*time.Minute)
	o.Upcoming = &next
	announced, _ = announced.Observe(o)
	after, _ := announced.Observe(observed(2, 8, rolled.Add(time.Minute), 20*time.Hour))
	for _, tt := range []struct {
		name string
		ring Ring
		at   time.Time
		want bool
	}{
		{"nothing known", Ring{}, epoch, false},
		{"long before", r, rolled.Add(-6 * time.Minute), true},
		{"another clock may be ahead", r, rolled.Add(-4 * time.Minute), false},
		{"past, and nothing announced", r, rolled.Add(time.Hour), false},
		{"another clock may be late", announced, rolled.Add(4 * time.Minute), false},
		{"past for all", announced, rolled.Add(6 * time.Minute), true},
		{"just replicated", after, rolled.Add(2 * time.Minute), false},
		{"replicated", after, rolled.Add(17 * time.Minute), true},
	} {
		if got := tt.ring.Settled(tt.at); got != tt.want {
			t.Errorf("%s: settled is %t", tt.name, got)
		}
	}
}

// After a jump of the clock nothing is known of times: keys stay, as if they had
// been in use until now, and nothing is used before the domain was asked.
func TestUnclocked(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, time.Hour))
	r, _ = r.Observe(observed(2, 8, epoch.Add(time.Hour), 20*time.Hour))
	r, _ = r.Observe(observed(3, 9, epoch.Add(2*time.Hour), 20*time.Hour))
	late := epoch.Add(1000 * time.Hour)
	r = r.Unclocked(late)
	if _, ok := r.InitiatorKeys(late); ok || !r.NextRead(0).At.IsZero() {
		t.Error("the ring goes on as if nothing had happened")
	}
	for pause, want := range map[time.Duration]string{9 * time.Hour: "map[7:1 8:2 9:3]", 11 * time.Hour: "map[8:2 9:3]"} {
		after, _ := r.Observe(observed(3, 9, late.Add(pause), 20*time.Hour))
		if got := fmt.Sprint(numbers(after.AcceptorKeys())); got != want {
			t.Errorf("%v later: %s, want %s", pause, got, want)
		}
	}
}

// A controller that says nothing of the version, or whose two searches do not fit
// together, is asked again soon.
func TestReadingsAreDated(t *testing.T) {
	const period = 20 * time.Hour
	start := gkdi.KeyIDAt(dtyp.FiletimeOf(epoch))
	in := func(n int64) *managedpassword.ID {
		id, err := start.Add(2 * n) // 20 h
		if err != nil {
			t.Fatal(err)
		}
		return &managedpassword.ID{KeyID: id}
	}
	begins, err := start.Start()
	if err != nil {
		t.Fatal(err)
	}
	window := managedpassword.Blob{Previous: secret.New([]byte{1}), QueryInterval: time.Minute, UnchangedInterval: time.Minute + period - ClockSkew}
	for _, tt := range []struct {
		name     string
		known    time.Time // start of the password in force, if seen before
		announce bool
		left     time.Duration
		id       *managedpassword.ID
		want     uint32
	}{
		{"no id", time.Time{}, false, 5 * time.Hour, nil, 7},
		{"first seen", time.Time{}, false, 5 * time.Hour, in(0), 7},
		{"seen before", begins.Time(), false, 5 * time.Hour, in(0), 7},
		{"the id of another period", begins.Time(), false, 5 * time.Hour, in(1), 0},
		{"in the window", time.Time{}, true, time.Minute, in(0), 7},
		{"gone on between the searches", time.Time{}, true, time.Minute, in(1), 0},
		{"about to go on", begins.Time(), true, striking - time.Second, in(0), 7},
		{"about to go on, and no id", begins.Time(), true, striking - time.Second, nil, 0},
	} {
		rd := Reading{Blob: managedpassword.Blob{QueryInterval: tt.left, UnchangedInterval: tt.left - ClockSkew}, ID: tt.id}
		o := Observation{At: begins.Time().Add(period - tt.left), KVNO: 7, InForce: numbered(1)}
		o.Expires = o.At.Add(tt.left)
		o.InForce.Starts = tt.known
		if tt.announce {
			next := numbered(2)
			o.Upcoming = &next
			rd.Blob = window
			rd.Blob.QueryInterval = tt.left
			rd.Blob.UnchangedInterval = tt.left + period - ClockSkew
		}
		if o.date(rd); o.KVNO != tt.want {
			t.Errorf("%s: kvno %d, want %d", tt.name, o.KVNO, tt.want)
		}
	}
	r, _ := NewRing(0).Observe(observed(1, 0, epoch, 10*time.Hour))
	if p := r.NextRead(0.5); !p.At.Equal(epoch.Add(silentGap)) {
		t.Errorf("without a version the next read is after %v", p.At.Sub(epoch))
	}
}

// A key that a controller refuses although it calls it in force is not sent to it
// again for an hour, whatever it says; another controller may have it at once.
func TestRefusedKeyWaits(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, 200*time.Hour))
	r = r.Refused(r.Candidates(epoch, "dc1")[0], "dc1", epoch)
	for at := time.Minute; at < coolDown; at += 7 * time.Minute {
		r, _ = r.Observe(observed(1, 7, epoch.Add(at), 200*time.Hour))
		if c := r.Candidates(epoch.Add(at), "dc1"); len(c) != 0 {
			t.Fatalf("offered again after %v", at)
		}
	}
	o := observed(1, 7, epoch.Add(coolDown-time.Second), 200*time.Hour)
	o.Controller = "dc2"
	r, _ = r.Observe(o)
	if c := r.Candidates(o.At, "dc2"); len(c) != 1 {
		t.Error("another controller calls the key in force: it should be tried there")
	}
	r, _ = r.Observe(observed(1, 7, epoch.Add(coolDown+time.Second), 200*time.Hour))
	if c := r.Candidates(epoch.Add(coolDown+time.Second), "dc1"); len(c) != 1 {
		t.Error("not offered again after the cool-down")
	}
}

// Two passwords under one number, after controllers rolled over on their own: the
// one that a ticket proved comes first, and the other one is not lost.
func TestTwoPasswordsUnderOneNumber(t *testing.T) {
	r, _ := NewRing(0).Observe(observed(1, 7, epoch, time.Hour))
	r, _ = r.Observe(observed(2, 8, epoch.Add(time.Hour), 20*time.Hour))
	r, _ = r.Observe(observed(3, 8, epoch.Add(2*time.Hour), 20*time.Hour))
	at := epoch.Add(2 * time.Hour)
	sets := r.AcceptorKeys()
	if got := fmt.Sprint(numbers(sets)); got != "map[7:1 8:3]" || len(sets) != 3 {
		t.Errorf("%d sets, first of each number %s", len(sets), got)
	}
	r, explained := r.Ticketed(8, numbered(2).Keys[0], at.Add(time.Second))
	if got := fmt.Sprint(numbers(r.AcceptorKeys())); !explained || got != "map[7:1 8:2]" {
		t.Errorf("after a ticket under the other one: %s", got)
	}
	if _, explained := r.Ticketed(9, nil, at); explained {
		t.Error("a ticket that no key opens is explained")
	}
}
