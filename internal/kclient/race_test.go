package kclient

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// track is a list of controllers, each with what it does when it is asked.
type track struct {
	answers []func(context.Context) ([]byte, error)

	mu     sync.Mutex
	asked  []string
	failed []string
}

func (tr *track) KDCs(context.Context) ([]KDC, error) {
	var list []KDC
	for i := range tr.answers {
		list = append(list, KDC{Host: string(rune('a' + i))})
	}
	return list, nil
}

func (tr *track) Failed(k KDC) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.failed = append(tr.failed, k.Host)
}

func (tr *track) ask(ctx context.Context, k KDC) ([]byte, error) {
	tr.mu.Lock()
	tr.asked = append(tr.asked, k.Host)
	tr.mu.Unlock()
	return tr.answers[k.Host[0]-'a'](ctx)
}

// after answers, or fails, when d has passed, or gives up with the context.
func after(d time.Duration, reply string, err error) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		select {
		case <-time.After(d):
			return []byte(reply), err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func TestRace(t *testing.T) {
	refused := errors.New("connection refused")
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		answers       []func(context.Context) ([]byte, error)
		winner        string
		took          time.Duration
		asked, failed string
	}{
		"the first answers and nobody else is asked": {
			[]func(context.Context) ([]byte, error){after(399*ms, "a", nil), after(0, "b", nil)}, "a", 399 * ms, "a", ""},
		"a refusal costs nothing": {
			[]func(context.Context) ([]byte, error){after(0, "", refused), after(1*ms, "b", nil)}, "b", 1 * ms, "ab", "a"},
		"a silent one costs the hedge, and is reported": {
			[]func(context.Context) ([]byte, error){after(time.Hour, "", nil), after(1*ms, "b", nil)}, "b", 401 * ms, "ab", "a"},
		"a late first one still wins": {
			[]func(context.Context) ([]byte, error){after(500*ms, "a", nil), after(time.Hour, "b", nil)}, "a", 500 * ms, "ab", ""},
		"the first fails late and the third is asked at once": {
			[]func(context.Context) ([]byte, error){after(500*ms, "", refused), after(time.Hour, "b", nil), after(1*ms, "c", nil)}, "c", 501 * ms, "abc", "ab"},
		"two silent ones": {
			[]func(context.Context) ([]byte, error){after(time.Hour, "", nil), after(time.Hour, "b", nil), after(1*ms, "c", nil)}, "c", 801 * ms, "abc", "ab"},
		"all refuse": {
			[]func(context.Context) ([]byte, error){after(0, "", refused), after(0, "", refused)}, "", 0, "ab", "ab"},
		"all are silent until the time is up": {
			[]func(context.Context) ([]byte, error){after(time.Hour, "", nil), after(time.Hour, "", nil)}, "", 10 * time.Second, "ab", "ab"},
		"one, silent": {
			[]func(context.Context) ([]byte, error){after(time.Hour, "", nil)}, "", 10 * time.Second, "a", "a"},
		"none": {nil, "", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &track{answers: c.answers}
				client, err := New(Config{Realm: "EXAMPLE.COM", KDCs: tr})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				reply, kdc, err := client.race(t.Context(), "", tr.ask)
				if took := time.Since(begin); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if string(reply) != c.winner || kdc.Host != c.winner || (err == nil) != (c.winner != "") {
					t.Errorf("got %q of %v, %v; want %q", reply, kdc, err, c.winner)
				}
				if err != nil && !errors.Is(err, ErrUnreachable) {
					t.Errorf("the error is %v, want ErrUnreachable", err)
				}
				slices.Sort(tr.failed)
				if got := strings.Join(tr.failed, ""); got != c.failed {
					t.Errorf("reported as failed: %q, want %q", got, c.failed)
				}
				if got := strings.Join(tr.asked, ""); got != c.asked {
					t.Errorf("asked: %q, want %q", got, c.asked)
				}
			})
		})
	}
}

func TestRaceEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &track{answers: []func(context.Context) ([]byte, error){after(time.Hour, "a", nil), after(time.Hour, "b", nil)}}
		client, err := New(Config{Realm: "EXAMPLE.COM", KDCs: tr})
		if err != nil {
			t.Fatal(err)
		}
		for _, patience := range []time.Duration{100 * time.Millisecond, 600 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			begin := time.Now()
			_, _, err = client.race(ctx, "", tr.ask)
			cancel()
			if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error is %v", err)
			}
			if took := time.Since(begin); took != patience {
				t.Errorf("it took %v, want %v", took, patience)
			}
		}
		if len(tr.failed) > 0 {
			t.Errorf("%q blamed for the caller's impatience", tr.failed)
		}
	})
}
