package directory_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

func TestLogonsRoundTrip(t *testing.T) {
	want := directory.Logons{LastLogon: 1 << 60, LogonCount: 7, BadPasswordTime: 1<<60 + 1, BadPwdCount: 3}
	b := want.Append(nil)
	if got, err := directory.ParseLogons(b); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range b {
		if _, err := directory.ParseLogons(b[:n]); !errors.Is(err, directory.ErrLogons) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestCountersAreShown: what is counted of an account's logons is beside the object, and
// clients see it as attributes of that.
func TestCountersAreShown(t *testing.T) {
	h := newHome(t)
	admin := h.Caller(t, "Administrator")
	names := []string{"lastLogon", "logonCount", "badPasswordTime", "badPwdCount"}
	h.change(aliceDN, func(_ *directory.Writer, e *rows.Entry) error {
		for _, name := range names {
			e.Values[h.attribute(name)] = [][]byte{[]byte("0")}
		}
		return nil
	})
	check := func(what string, want ...string) {
		t.Helper()
		got := h.entry(admin, aliceDN, names...)
		for i, name := range names {
			if got[name] != want[i] {
				t.Errorf("%s: %s is %q, want %q", what, name, got[name], want[i])
			}
		}
	}
	check("nothing was counted", "0", "0", "0", "0")
	h.change(aliceDN, func(w *directory.Writer, e *rows.Entry) error {
		return w.SetLogons(e.GUID, directory.Logons{LastLogon: 5, LogonCount: 6, BadPasswordTime: 7, BadPwdCount: 8})
	})
	check("counted", "5", "6", "7", "8")
	for filter, want := range map[string]int{"(badPwdCount>=8)": 1, "(badPwdCount>=9)": 0, "(logonCount=6)": 1} {
		if got := len(h.names(admin, request(t, domainDN, directory.ScopeSubtree, filter))); got != want {
			t.Errorf("%s finds %d", filter, got)
		}
	}
}

// TestPasswordTimeOfAGMSAFollowsItsTimeline: nobody writes it when a password begins.
func TestPasswordTimeOfAGMSAFollowsItsTimeline(t *testing.T) {
	h := newHome(t)
	admin, made := h.Caller(t, "Administrator"), dtyp.FiletimeOf(h.Now())
	if got := h.entry(admin, gmsaDN, "pwdLastSet")["pwdLastSet"]; got != fmt.Sprint(uint64(made)) {
		t.Errorf("a new one: %s, want %d", got, made)
	}
	h.Clock.Advance(30 * 24 * time.Hour)
	set, err := strconv.ParseUint(h.entry(admin, gmsaDN, "pwdLastSet")["pwdLastSet"], 10, 64)
	if now := dtyp.FiletimeOf(h.Now()); err != nil || dtyp.Filetime(set) <= made || dtyp.Filetime(set) > now {
		t.Errorf("30 days later: %d, %v, made at %d, now %d", set, err, made, now)
	}
}
