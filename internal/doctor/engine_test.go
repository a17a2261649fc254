package doctor

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// examined runs checks for one domain with two accounts.
func examined(t *testing.T, checks []Check, limit time.Duration) map[string]Result {
	t.Helper()
	s := &shared{home: &placeFacts{}}
	subjects := map[Scope][]*Facts{OfDomain: {{shared: s}}, OfAccount: {
		{shared: s, account: &accountFacts{name: "a"}}, {shared: s, account: &accountFacts{name: "b"}},
	}}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	results := map[string]Result{}
	for _, r := range run(ctx, plan(checks, subjects), nil) {
		results[strings.TrimSpace(r.Check+" "+r.Subject)] = r
	}
	return results
}

func says(list ...Finding) func(context.Context, *Facts) []Finding {
	return func(context.Context, *Facts) []Finding { return list }
}

func TestACheckIsSkippedWhoseGroundFailed(t *testing.T) {
	onlyB := func(_ context.Context, f *Facts) []Finding {
		if f.account.name == "b" {
			return []Finding{wrong("b is broken")}
		}
		return []Finding{warning("a creaks")}
	}
	got := examined(t, []Check{
		{ID: "ground", Of: OfDomain, run: says(ok("firm"))},
		{ID: "wall", Of: OfAccount, Needs: []string{"ground"}, run: onlyB},
		{ID: "roof", Of: OfAccount, Needs: []string{"wall"}, run: says(ok("tight"))},
		{ID: "smoke", Of: OfAccount, Needs: []string{"roof"}, run: says(ok("rises"))},
		{ID: "view", Of: OfAccount, Needs: []string{"ground"}, After: []string{"smoke"}, run: says(info("wide"))},
		{ID: "all", Of: OfDomain, Needs: []string{"smoke"}, run: says(ok("done"))},
	}, time.Second)
	for name, want := range map[string]Severity{
		"ground": OK, "wall a": Warning, "wall b": Error, "roof a": OK, "roof b": Skipped, "smoke a": OK, "smoke b": Skipped, "view a": Info, "view b": Info, "all": Skipped,
	} {
		if got[name].Severity != want {
			t.Errorf("%s is %q, want %q", name, got[name].Severity, want)
		}
	}
	for _, name := range []string{"roof b", "smoke b", "all"} {
		if r := got[name]; r.Root != "wall" || r.Reason != "wall: b is broken" || len(r.Findings) > 0 {
			t.Errorf("%s is skipped because of %q: %q", name, r.Root, r.Reason)
		}
	}
}

func TestChecksRunSideBySideAndEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, _ *Facts) []Finding {
			<-ctx.Done()
			return []Finding{wrong("%v", ctx.Err())}
		}
		start := time.Now()
		got := examined(t, []Check{
			{ID: "slow", Of: OfAccount, Limit: time.Minute, run: hang},
			{ID: "slower", Of: OfDomain, Limit: 2 * time.Minute, run: hang},
			{ID: "never", Of: OfDomain, After: []string{"slower"}, run: says(ok("ran"))},
		}, 90*time.Second)
		if took := time.Since(start); took != 90*time.Second {
			t.Errorf("it took %v", took)
		}
		if got["slow a"].Millis != 60_000 || got["slower"].Millis != 90_000 || got["never"].Severity != Skipped || got["never"].Reason != "no time was left" {
			t.Errorf("%+v", got)
		}
	})
}

func TestTheRootCauseStandsFirst(t *testing.T) {
	r := Report{Results: []Result{
		{Check: "c", order: 2, Severity: Error, Findings: []Finding{ok("x"), wrong("third").mend("do c")}},
		{Check: "a", order: 0, Severity: Warning, Findings: []Finding{warning("first")}},
		{Check: "b", order: 1, Severity: Error, Findings: []Finding{wrong("second").because("e").mend("do b")}},
		{Check: "d", order: 3, Severity: Skipped},
		{Check: "e", order: 4, Severity: OK},
	}}
	r.sum()
	var order []string
	for _, x := range r.Results {
		order = append(order, x.Check)
	}
	if !slices.Equal(order, []string{"b", "c", "a", "d", "e"}) || r.Cause == nil || r.Cause.Problem != "second" || r.Cause.Remedies[0] != "do b" || r.Healthy || r.Counts[Error] != 2 {
		t.Errorf("%v, %+v", order, r)
	}
	healthy := Report{Results: []Result{{Check: "a", Severity: OK}, {Check: "b", Severity: Info}}}
	if healthy.sum(); !healthy.Healthy || healthy.Cause != nil {
		t.Errorf("%+v", healthy)
	}
}

func TestACheckThatRestsOnALaterOneIsAFaultOfOurs(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it is planned")
		}
	}()
	plan([]Check{{ID: "a", Of: OfDomain, Needs: []string{"b"}}, {ID: "b", Of: OfDomain}}, map[Scope][]*Facts{OfDomain: {{}}})
}

// Programs read the report: its fields are only ever added to.
func TestTheFieldsOfTheReportAreStable(t *testing.T) {
	r := Report{Host: "web1", Version: "v1", Time: time.Unix(0, 0).UTC(), Domain: "contoso.com", Seen: SeenHost, Results: []Result{
		{Check: "a", Title: "A", Subject: "s", Severity: Error, Guide: "5:42", Millis: 7, Findings: []Finding{wrong("p").because("e").mend("m")}},
		{Check: "b", Title: "B", Severity: Skipped, Reason: "a: p", Root: "a"},
	}, Millis: 9}
	r.sum()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"host":"web1","version":"v1","time":"1970-01-01T00:00:00Z","domain":"contoso.com","seen":"host","healthy":false,` +
		`"cause":{"check":"a","subject":"s","problem":"p","remedies":["m"]},"counts":{"error":1,"skipped":1},"results":[` +
		`{"check":"a","title":"A","subject":"s","severity":"error","findings":[{"severity":"error","problem":"p","evidence":["e"],"remedies":["m"]}],"guide":"5:42","milliseconds":7},` +
		`{"check":"b","title":"B","severity":"skipped","reason":"a: p","root":"a","milliseconds":0}],"milliseconds":9}`
	if string(b) != want {
		t.Errorf("%s", b)
	}
}
