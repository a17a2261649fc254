package directory_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// crowd adds n users u000, u001, … in three units, the second of which lies in the first.
func (h *home) crowd(n int) {
	h.t.Helper()
	units := []string{"OU=One," + domainDN, "OU=Two,OU=One," + domainDN, "OU=Three," + domainDN}
	for _, ou := range units {
		h.add(ou, "organizationalUnit")
	}
	for i := range n {
		h.add(fmt.Sprintf("CN=u%03d,%s", i, units[i%3]), "user", fmt.Sprintf("sAMAccountName=u%03d", i),
			fmt.Sprintf("displayName=%03d", (i*37)%n), "userAccountControl=512")
	}
}

// pages reads all pages and calls between after each.
func (h *home) pages(c directory.Caller, q directory.SearchRequest, between func(page int)) (pages [][]string) {
	h.t.Helper()
	for range 1000 {
		entries, r, err := h.search(c, q)
		if err != nil {
			h.t.Fatalf("page %d: %v", len(pages)+1, err)
		}
		var page []string
		for _, e := range entries {
			page = append(page, e.DN)
		}
		if pages = append(pages, page); len(r.Cookie) == 0 {
			return pages
		}
		q.Cookie = r.Cookie
		between(len(pages))
	}
	h.t.Fatal("1000 pages, and no end")
	return nil
}

// TestPagesGiveEachEntryOnce, by every way to find candidates.
func TestPagesGiveEachEntryOnce(t *testing.T) {
	h := newHome(t)
	h.crowd(60)
	alice := h.Caller(t, "alice")
	for name, test := range map[string]struct {
		base, filter, sort string
		scope              directory.Scope
		gc                 bool
	}{
		"a walk":             {base: domainDN, filter: "(cn=u*)", scope: directory.ScopeSubtree},
		"an index":           {base: domainDN, filter: "(objectClass=user)", scope: directory.ScopeSubtree},
		"two indexes":        {base: domainDN, filter: "(|(objectClass=user)(objectClass=group))", scope: directory.ScopeSubtree},
		"one level":          {base: "OU=One," + domainDN, filter: "(objectClass=*)", scope: directory.ScopeOne},
		"sorted":             {base: domainDN, filter: "(cn=u*)", scope: directory.ScopeSubtree, sort: "displayName"},
		"sorted by nothing":  {base: domainDN, filter: "(cn=u*)", scope: directory.ScopeSubtree, sort: "sudoHost"},
		"the schema":         {base: "CN=Schema,CN=Configuration," + domainDN, filter: "(lDAPDisplayName=msDS-*)", scope: directory.ScopeSubtree},
		"the global catalog": {filter: "(cn=ms-DS-*)", scope: directory.ScopeSubtree, gc: true},
	} {
		t.Run(name, func(t *testing.T) {
			q := request(t, test.base, test.scope, test.filter, "1.1")
			q.Sort, q.GlobalCatalog = test.sort, test.gc
			entries, _, err := h.search(alice, q)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, e := range entries {
				want = append(want, e.DN)
			}
			for _, size := range []int{1, 7, len(want) - 1, len(want), len(want) + 1} {
				q.PageSize = size
				pages := h.pages(alice, q, func(int) {})
				got := slices.Concat(pages...)
				if !slices.Equal(got, want) || len(want) < 20 {
					t.Errorf("pages of %d: %d entries, want %d in the same order", size, len(got), len(want))
				}
				for i, p := range pages {
					if i < len(pages)-1 && len(p) != size {
						t.Errorf("page %d of %d has %d entries, want %d", i+1, len(pages), len(p), size)
					}
				}
			}
		})
	}
}

// TestPagesBesideChanges: what stays is given once, whatever comes and goes between
// pages.
func TestPagesBesideChanges(t *testing.T) {
	for _, filter := range []string{"(cn=u*)", "(objectClass=user)"} {
		h := newHome(t)
		h.crowd(30)
		alice := h.Caller(t, "alice")
		remove := []string{"CN=u000,OU=One", "CN=u003,OU=One", "CN=u006,OU=One", "CN=u001,OU=Two,OU=One", "CN=u029,OU=Three"}
		q := request(t, domainDN, directory.ScopeSubtree, filter, "1.1")
		q.PageSize = 4
		pages := h.pages(alice, q, func(page int) {
			if page <= len(remove) {
				h.change(remove[page-1]+","+domainDN, func(w *directory.Writer, e *rows.Entry) error { return nil })
				h.delete(remove[page-1] + "," + domainDN)
				h.add(fmt.Sprintf("CN=u9%02d,OU=Two,OU=One,%s", page, domainDN), "contact")
			}
			if page == 6 {
				h.change("OU=Two,OU=One,"+domainDN, func(_ *directory.Writer, e *rows.Entry) error {
					e.Name = "Zwei"
					return nil
				})
			}
		})
		count := map[string]int{}
		for _, dn := range slices.Concat(pages...) {
			count[strings.SplitN(dn, ",", 2)[0]]++
		}
		for i := range 30 {
			name := fmt.Sprintf("CN=u%03d", i)
			removed := slices.ContainsFunc(remove, func(s string) bool { return strings.HasPrefix(s, name+",") })
			if count[name] > 1 && filter != "(cn=u*)" || count[name] == 0 && !removed {
				t.Errorf("%s: %s was given %d times", filter, name, count[name])
			}
		}
	}
}

func (h *home) delete(dn string) {
	h.t.Helper()
	err := h.Update(h.t.Context(), func(w *directory.Writer) error {
		g, err := w.ResolveTarget(dn)
		if err != nil {
			return err
		}
		e, err := w.Get(g)
		if err != nil {
			return err
		}
		return w.Delete(e)
	})
	if err != nil {
		h.t.Fatalf("delete %s: %v", dn, err)
	}
}

func TestCookiesAreOfOneSearchOnly(t *testing.T) {
	h := newHome(t)
	h.crowd(12)
	alice := h.Caller(t, "alice")
	q := request(t, domainDN, directory.ScopeSubtree, "(cn=u*)", "1.1")
	q.PageSize = 5
	_, r, err := h.search(alice, q)
	if err != nil || len(r.Cookie) == 0 {
		t.Fatalf("no cookie: %v", err)
	}
	q.Cookie = r.Cookie
	for what, spoil := range map[string]func(*directory.SearchRequest, *directory.Caller){
		"another filter":     func(q *directory.SearchRequest, _ *directory.Caller) { q.Filter.Initial = []byte("a") },
		"another base":       func(q *directory.SearchRequest, _ *directory.Caller) { q.Base = "CN=Users," + domainDN },
		"another scope":      func(q *directory.SearchRequest, _ *directory.Caller) { q.Scope = directory.ScopeOne },
		"another order":      func(q *directory.SearchRequest, _ *directory.Caller) { q.Sort = "cn" },
		"deleted ones too":   func(q *directory.SearchRequest, _ *directory.Caller) { q.ShowDeleted = true },
		"another caller":     func(_ *directory.SearchRequest, c *directory.Caller) { *c = h.Caller(t, "Administrator") },
		"a cookie cut short": func(q *directory.SearchRequest, _ *directory.Caller) { q.Cookie = q.Cookie[:20] },
		"no cookie of ours":  func(q *directory.SearchRequest, _ *directory.Caller) { q.Cookie = []byte("x") },
		"a flipped bit": func(q *directory.SearchRequest, _ *directory.Caller) {
			q.Cookie = slices.Clone(q.Cookie)
			q.Cookie[len(q.Cookie)-1] ^= 1
		},
	} {
		other, c := q, alice
		spoil(&other, &c)
		if entries, _, err := h.search(c, other); code(err) != directory.UnwillingToPerform || len(entries) != 0 {
			t.Errorf("%s: %d entries, %v", what, len(entries), err)
		}
	}
	q.Attributes, q.PageSize = []string{"cn"}, 3
	if entries, _, err := h.search(alice, q); err != nil || len(entries) != 3 {
		t.Errorf("other attributes and another size: %d entries, %v", len(entries), err)
	}
	q.PageSize = 0
	if entries, r, err := h.search(alice, q); err != nil || len(entries) != 0 || len(r.Cookie) != 0 {
		t.Errorf("a search that is given up: %d entries, %v", len(entries), err)
	}
}

func TestLimits(t *testing.T) {
	h := newHome(t)
	h.crowd(12)
	alice := h.Caller(t, "alice")
	q := request(t, domainDN, directory.ScopeSubtree, "(cn=u0*)", "1.1")
	for limit, want := range map[int]directory.Code{11: directory.SizeLimitExceeded, 12: directory.Success, 13: directory.Success} {
		q.SizeLimit = limit
		entries, _, err := h.search(alice, q)
		if code(err) != want || len(entries) != min(limit, 12) {
			t.Errorf("a limit of %d: %d entries, %v", limit, len(entries), err)
		}
	}
	q.SizeLimit, q.PageSize = 5, 5
	if entries, r, err := h.search(alice, q); code(err) != directory.SizeLimitExceeded || len(entries) != 5 || len(r.Cookie) != 0 {
		t.Errorf("a page as large as the limit: %d entries, %v", len(entries), err)
	}
	q.SizeLimit, q.PageSize, q.TimeLimit = 0, 0, time.Nanosecond
	if _, _, err := h.search(alice, q); code(err) != directory.TimeLimitExceeded {
		t.Errorf("a limit of no time: %v", err)
	}
	wide := "(|" + strings.Repeat("(sn=a)", 10_000) + ")"
	q = request(t, domainDN, directory.ScopeSubtree, wide, "1.1")
	q.GlobalCatalog = true // the schema too: a thousand objects
	if _, _, err := h.search(alice, q); code(err) != directory.AdminLimitExceeded {
		t.Errorf("a filter of 10,000 items: %v", err)
	}
	stop := errors.New("stop")
	_, err := h.Search(t.Context(), alice, request(t, domainDN, directory.ScopeSubtree, "(objectClass=*)"), func(directory.SearchEntry) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("the caller's own error: %v", err)
	}
}

// TestWhatASearchMayCost: what a filter makes the directory do counts, wherever it is done,
// and not only how many entries it is held against.
func TestWhatASearchMayCost(t *testing.T) {
	h := newHome(t)
	h.crowd(520)
	h.add("OU=Empty,"+domainDN, "organizationalUnit")
	alice := h.Caller(t, "alice")
	var groups, chains []string
	for i := range 52 { // all are members of all
		groups = append(groups, fmt.Sprintf("CN=g%d,OU=Three,%s", i, domainDN))
		h.add(groups[i], "group", fmt.Sprintf("sAMAccountName=g%d", i), "groupType=-2147483646")
		chains = append(chains, "(memberOf:1.2.840.113556.1.4.1941:="+groups[i]+")")
		for _, other := range groups[:i] {
			h.link("member", groups[i], other)
			h.link("member", other, groups[i])
		}
	}
	for what, c := range map[string]struct {
		base, filter string
		code         directory.Code
		entries      int
	}{
		"one chain":                  {"OU=Three," + domainDN, chains[0], directory.Success, 52},
		"as many chains as groups":   {"OU=Three," + domainDN, "(|" + strings.Join(chains, "") + ")", directory.AdminLimitExceeded, 0},
		"and without the first":      {"OU=Three," + domainDN, "(&(!" + strings.Join(chains, ")(!") + "))", directory.AdminLimitExceeded, 0},
		"one index, asked again":     {"OU=Empty," + domainDN, "(|" + strings.Repeat("(objectClass=user)", 8000) + ")", directory.Success, 0},
		"an index, all out of scope": {"OU=Empty," + domainDN, "(objectClass=user)", directory.Success, 0},
	} {
		entries, _, err := h.search(alice, request(t, c.base, directory.ScopeSubtree, c.filter, "1.1"))
		if code(err) != c.code || err == nil && len(entries) != c.entries {
			t.Errorf("%s: %d entries, %v", what, len(entries), err)
		}
	}
	lists := []string{"allowedAttributes", "allowedAttributesEffective", "allowedChildClasses", "allowedChildClassesEffective"}
	if entries, _, err := h.search(alice, request(t, domainDN, directory.ScopeSubtree, "(cn=u*)", lists...)); err != nil || len(entries) < 520 {
		t.Errorf("lists of rights that are the same: %d entries, %v", len(entries), err)
	}
	for i := range 300 { // each with a descriptor of its own
		h.protect(fmt.Sprintf("CN=u%03d,%s", i, []string{"OU=One," + domainDN, "OU=Two,OU=One," + domainDN, "OU=Three," + domainDN}[i%3]),
			fmt.Sprintf("O:DAG:DAD:(A;;RPLCLORC;;;AU)(A;;RP;;;S-1-5-21-1-1-1-%d)", i+1000))
	}
	if _, _, err := h.search(alice, request(t, domainDN, directory.ScopeSubtree, "(cn=u*)", lists...)); code(err) != directory.AdminLimitExceeded {
		t.Errorf("lists of rights that all differ: %v", err)
	}
	big := strings.Repeat("x", 100_000)
	for i := range 30 {
		h.change(groups[i], func(_ *directory.Writer, e *rows.Entry) error {
			e.Values[h.attribute("thumbnailPhoto")] = [][]byte{[]byte(big)}
			return nil
		})
	}
	q := request(t, "OU=Three,"+domainDN, directory.ScopeOne, "(|"+strings.Repeat("(thumbnailPhoto=*a)", 1000)+")", "1.1")
	if _, _, err := h.search(alice, q); code(err) != directory.AdminLimitExceeded {
		t.Errorf("long values: %v", err)
	}
}

// TestASearchEndsInTime, whatever the client allows and however slowly it takes entries.
func TestASearchEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		h.crowd(130) // more than one state of the directory is asked for
		alice := h.Caller(t, "alice")
		for _, allowed := range []time.Duration{0, time.Hour} {
			q := request(t, domainDN, directory.ScopeSubtree, "(cn=u*)", "1.1")
			q.TimeLimit = allowed
			_, err := h.Search(t.Context(), alice, q, func(directory.SearchEntry) error { time.Sleep(2 * time.Second); return nil })
			if code(err) != directory.TimeLimitExceeded {
				t.Errorf("with %v allowed: %v", allowed, err)
			}
		}
	})
}

func TestSorting(t *testing.T) {
	h := newHome(t)
	h.add("OU=S,"+domainDN, "organizationalUnit")
	for i, name := range []string{"b", "a", "C", ""} {
		values := []string{}
		if name != "" {
			values = append(values, "displayName="+name)
		}
		h.add(fmt.Sprintf("CN=%d,OU=S,%s", i, domainDN), "contact", values...)
	}
	alice := h.Caller(t, "alice")
	order := func(reverse bool) (out string) {
		q := request(t, "OU=S,"+domainDN, directory.ScopeOne, "(objectClass=*)", "1.1")
		q.Sort, q.Reverse = "displayName", reverse
		entries, _, err := h.search(alice, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out += e.DN[len("CN="):len("CN=0")]
		}
		return out
	}
	if got := order(false); got != "1023" {
		t.Errorf("ascending: %s", got)
	}
	if got := order(true); got != "3201" {
		t.Errorf("descending: %s", got)
	}
}

// TestWalkAndIndexAgree: whatever the filter, the answer is that of asking each object.
func TestWalkAndIndexAgree(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	const users = "CN=Users," + domainDN
	all := h.names(alice, request(t, users, directory.ScopeSubtree, "(objectClass=*)", "1.1"))
	items := []string{"(objectClass=user)", "(objectClass=group)", "(sAMAccountName=Staff)", "(name=Letters)", "(cn=Alice)", "(ou=Users)",
		"(member=" + aliceDN + ")", "(memberOf=CN=Staff,CN=Users," + domainDN + ")", "(displayName=A*)", "(mail=*)", "(sudoHost=a)",
		"(objectSid=S-1-5-32-544)", "(distinguishedName=" + aliceDN + ")", "(uSNChanged>=1)", "(dc=contoso)", "(name=contoso)"}
	rapid.Check(t, func(rt *rapid.T) {
		var draw func(depth int) string
		draw = func(depth int) string {
			kind := 0
			if depth > 0 {
				kind = rapid.IntRange(0, 3).Draw(rt, "kind")
			}
			switch kind {
			case 1:
				return "(&" + draw(depth-1) + draw(depth-1) + ")"
			case 2:
				return "(|" + draw(depth-1) + draw(depth-1) + ")"
			case 3:
				return "(!" + draw(depth-1) + ")"
			}
			return rapid.SampledFrom(items).Draw(rt, "item")
		}
		filter := draw(3)
		got := h.names(alice, request(t, users, directory.ScopeSubtree, filter, "1.1"))
		var want []string
		for _, dn := range all {
			want = append(want, h.names(alice, request(t, dn+","+domainDN, directory.ScopeBase, filter, "1.1"))...)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			rt.Fatalf("%s: got %q, want %q", filter, got, want)
		}
	})
}
