package rows

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
)

var head, users, alice, staff, nobody = dtyp.GUID{1}, dtyp.GUID{2}, dtyp.GUID{3}, dtyp.GUID{4}, dtyp.GUID{9}

func testTable(t testing.TB) *Table {
	t.Helper()
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	return &Table{Schema: s, Domain: adproto.DomainDN("contoso.com")}
}

func (t *Table) attr(tb testing.TB, name string) *schema.Attribute {
	tb.Helper()
	a, ok := t.Schema.Attribute(name)
	if !ok {
		tb.Fatalf("no attribute %s", name)
	}
	return a
}

// entry makes one from "rdn=name" and "attribute=value" texts.
func (t *Table) entry(tb testing.TB, g, parent dtyp.GUID, rdn string, values ...string) *Entry {
	tb.Helper()
	typ, name, _ := strings.Cut(rdn, "=")
	e := &Entry{GUID: g, Parent: parent, RDN: t.attr(tb, typ), Name: name, WhenCreated: 5, WhenChanged: 6,
		Values: map[*schema.Attribute][][]byte{}}
	for _, v := range values {
		n, v, _ := strings.Cut(v, "=")
		a := t.attr(tb, n)
		e.Values[a] = append(e.Values[a], []byte(v))
	}
	return e
}

func update(tb testing.TB, s store.Store, fn func(store.Tx) error) error {
	tb.Helper()
	return s.Update(tb.Context(), fn)
}

func view(tb testing.TB, s store.Store, fn func(store.Reader) error) {
	tb.Helper()
	if err := s.View(tb.Context(), fn); err != nil {
		tb.Fatal(err)
	}
}

// domain is a store with a head, a container, a user and a group.
func domain(tb testing.TB, t *Table) store.Store {
	tb.Helper()
	s := memory.New()
	err := update(tb, s, func(tx store.Tx) error {
		return errors.Join(
			t.Insert(tx, t.entry(tb, head, dtyp.GUID{}, "DC=contoso")),
			t.Insert(tx, t.entry(tb, users, head, "CN=Users", "description=accounts")),
			t.Insert(tx, t.entry(tb, alice, users, "CN=Alice", "sAMAccountName=alice", "servicePrincipalName=HTTP/a", "servicePrincipalName=HTTP/b", "objectClass=top")),
			t.Insert(tx, t.entry(tb, staff, users, "CN=Staff", "sAMAccountName=staff", "objectClass=top")))
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func mustDN(tb testing.TB, s string) adproto.DN {
	tb.Helper()
	dn, err := adproto.ParseDN(s)
	if err != nil {
		tb.Fatal(err)
	}
	return dn
}

func collect[T any](tb testing.TB, seq func(func(T, error) bool)) []T {
	tb.Helper()
	var out []T
	for v, err := range seq {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func TestAnEntryComesBackAsItWasWritten(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	want := table.entry(t, alice, users, "CN=Alice", "sAMAccountName=alice", "servicePrincipalName=HTTP/a", "servicePrincipalName=HTTP/b", "objectClass=top")
	view(t, s, func(r store.Reader) error {
		got, err := table.Get(r, alice)
		if err != nil {
			return err
		}
		if got.USNCreated != 1 || got.USNChanged != 1 {
			t.Errorf("USNs %d and %d", got.USNCreated, got.USNChanged)
		}
		got.USNCreated, got.USNChanged = 0, 0
		if !cmp.Equal(got, want, cmp.Comparer(func(a, b *schema.Attribute) bool { return a == b })) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if dn, err := table.DN(r, got); err != nil || dn.String() != "CN=Alice,CN=Users,DC=contoso,DC=com" {
			t.Errorf("its name is %s, %v", dn, err)
		}
		_, err = table.Get(r, nobody)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
		return nil
	})
	change := want.Clone()
	change.Values[table.attr(t, "description")] = [][]byte{[]byte("new")}
	if err := update(t, s, func(tx store.Tx) error { return table.Replace(tx, change) }); err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		got, err := table.Get(r, alice)
		if err == nil && (got.USNCreated != 1 || got.USNChanged != 2) {
			t.Errorf("after a change: USNs %d and %d", got.USNCreated, got.USNChanged)
		}
		return err
	})
	if len(want.Values) != 3 {
		t.Error("the clone's values are the original's")
	}
}

func TestNamesAreResolved(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	for dn, want := range map[string]struct {
		at  dtyp.GUID
		err error
	}{
		"DC=contoso,DC=com":                        {head, nil},
		"cn=ALICE, cn=users,dc=Contoso,dc=COM":     {alice, nil},
		"2.5.4.3=alice,cn=users,dc=contoso,dc=com": {alice, nil},
		"CN=Bob,CN=Users,DC=contoso,DC=com":        {users, ErrNotFound},
		"CN=a,CN=Bob,CN=Users,DC=contoso,DC=com":   {users, ErrNotFound},
		"OU=Users,DC=contoso,DC=com":               {head, ErrNotFound},
		"CN=Alice+OU=x,CN=Users,DC=contoso,DC=com": {users, ErrNotFound},
		"DC=com":                               {dtyp.GUID{}, ErrNotFound},
		"CN=Alice,CN=Users,DC=fabrikam,DC=com": {dtyp.GUID{}, ErrNotFound},
		"":                                     {dtyp.GUID{}, ErrNotFound},
	} {
		view(t, s, func(r store.Reader) error {
			if got, err := table.Resolve(r, mustDN(t, dn)); got != want.at || !errors.Is(err, want.err) {
				t.Errorf("%q: %v, %v", dn, got, err)
			}
			return nil
		})
	}
}

func TestARenamedOrMovedEntryTakesAllBelowAlong(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	err := update(t, s, func(tx store.Tx) error {
		return errors.Join(table.Replace(tx, table.entry(t, users, head, "OU=People")),
			table.Replace(tx, table.entry(t, alice, staff, "CN=alice")))
	})
	if err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		for dn, want := range map[string]dtyp.GUID{
			"OU=People,DC=contoso,DC=com":                   users,
			"CN=Alice,CN=Staff,OU=People,DC=contoso,DC=com": alice,
			"CN=Alice,OU=People,DC=contoso,DC=com":          {},
			"CN=Users,DC=contoso,DC=com":                    {},
			"CN=People,DC=contoso,DC=com":                   {},
		} {
			if got, err := table.Resolve(r, mustDN(t, dn)); (err == nil) != (want != dtyp.GUID{}) || err == nil && got != want {
				t.Errorf("%s: %v, %v", dn, got, err)
			}
		}
		if below := collect(t, table.Children(r, users)); !slices.Equal(below, []dtyp.GUID{staff}) {
			t.Errorf("left below: %v", below)
		}
		return nil
	})
}

func TestWhatIsRefused(t *testing.T) {
	table := testTable(t)
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		do   func(tx store.Tx) error
		want error
	}{
		"a name that is taken": {func(tx store.Tx) error { return table.Insert(tx, table.entry(t, nobody, users, "CN=ALICE")) }, ErrExists},
		"a GUID that is taken": {func(tx store.Tx) error { return table.Insert(tx, table.entry(t, alice, users, "CN=x")) }, ErrExists},
		"a parent that is not": {func(tx store.Tx) error { return table.Insert(tx, table.entry(t, nobody, dtyp.GUID{8}, "CN=x")) }, ErrNotFound},
		"changing nobody":      {func(tx store.Tx) error { return table.Replace(tx, table.entry(t, nobody, users, "CN=x")) }, ErrNotFound},
		"a move below itself":  {func(tx store.Tx) error { return table.Replace(tx, table.entry(t, users, alice, "CN=Users")) }, ErrCycle},
		"a move into itself":   {func(tx store.Tx) error { return table.Replace(tx, table.entry(t, users, users, "CN=Users")) }, ErrCycle},
		"a rename to a taken name": {func(tx store.Tx) error {
			return table.Replace(tx, table.entry(t, staff, users, "CN=alice", "sAMAccountName=staff"))
		}, ErrExists},
		"deleting a parent": {func(tx store.Tx) error { return table.Delete(tx, users) }, ErrHasChildren},
		"deleting nobody":   {func(tx store.Tx) error { return table.Delete(tx, nobody) }, ErrNotFound},
		"a long name twice": {func(tx store.Tx) error {
			return errors.Join(table.Insert(tx, table.entry(t, nobody, users, "CN="+long)), table.Insert(tx, table.entry(t, dtyp.GUID{8}, users, "CN="+strings.ToUpper(long))))
		}, ErrExists},
	} {
		if err := update(t, domain(t, table), c.do); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := update(t, domain(t, table), func(tx store.Tx) error {
		return errors.Join(table.Insert(tx, table.entry(t, nobody, users, "CN="+long+"1")), table.Insert(tx, table.entry(t, dtyp.GUID{8}, users, "CN="+long+"2")))
	}); err != nil {
		t.Errorf("two long names that differ at the end: %v", err)
	}
}

func TestAValueThatMustBeUnique(t *testing.T) {
	table := testTable(t)
	for attribute, value := range map[string]string{"servicePrincipalName": "http/A", "sAMAccountName": "ALICE"} {
		s := domain(t, table)
		err := update(t, s, func(tx store.Tx) error {
			return table.Insert(tx, table.entry(t, nobody, users, "CN=x", attribute+"="+value))
		})
		c, ok := errors.AsType[*Conflict](err)
		if !ok || c.Holder != alice || c.Attribute.Name != attribute || string(c.Value) != value {
			t.Errorf("%s: %v", attribute, err)
		}
		// Once its holder lets go of it, anybody may have it.
		err = update(t, s, func(tx store.Tx) error {
			return errors.Join(table.Replace(tx, table.entry(t, alice, users, "CN=Alice")),
				table.Insert(tx, table.entry(t, nobody, users, "CN=x", attribute+"="+value)))
		})
		if err != nil {
			t.Errorf("%s, given away: %v", attribute, err)
		}
	}
}

// TestValuesThatBeginEachOther must not find each other.
func TestValuesThatBeginEachOther(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	values := []string{"a", "a\x00", "a\x00\x01", "ab", strings.Repeat("a", 256), strings.Repeat("a", 257), strings.Repeat("a", 256) + "b"}
	given := table.attr(t, "sn")
	if !Indexed(given) {
		t.Fatal("sn is not indexed")
	}
	err := update(t, s, func(tx store.Tx) error {
		for i, v := range values {
			if err := table.Insert(tx, table.entry(t, dtyp.GUID{100, byte(i)}, users, fmt.Sprintf("CN=n%d", i), "sn="+v)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		for i, v := range values {
			if got := collect(t, table.Find(r, given, []byte(v))); len(got) != 1 || got[0] != (dtyp.GUID{100, byte(i)}) {
				t.Errorf("%.20q finds %v", v, got)
			}
		}
		return nil
	})
}

func TestLinks(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	member, memberOf := table.attr(t, "member"), table.attr(t, "memberOf")
	link := Link{Source: staff, Target: alice}
	do := func(fn func(tx store.Tx) error) error { return update(t, s, fn) }
	if err := do(func(tx store.Tx) error { return table.Link(tx, member, link) }); err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		if got := collect(t, table.Links(r, member, staff)); !slices.Equal(got, []Link{link}) {
			t.Errorf("member: %v", got)
		}
		if got := collect(t, table.Links(r, memberOf, alice)); !slices.Equal(got, []Link{link}) {
			t.Errorf("memberOf: %v", got)
		}
		if got := collect(t, table.Links(r, table.attr(t, "managedBy"), staff)); len(got) != 0 {
			t.Errorf("managedBy: %v", got)
		}
		return nil
	})
	for name, c := range map[string]struct {
		fn   func(tx store.Tx) error
		want error
	}{
		"the same again":     {func(tx store.Tx) error { return table.Link(tx, member, link) }, ErrExists},
		"to nobody":          {func(tx store.Tx) error { return table.Link(tx, member, Link{Source: staff, Target: nobody}) }, ErrNotFound},
		"from nobody":        {func(tx store.Tx) error { return table.Link(tx, member, Link{Source: nobody, Target: alice}) }, ErrNotFound},
		"one that is not":    {func(tx store.Tx) error { return table.Unlink(tx, member, Link{Source: alice, Target: staff}) }, ErrNotFound},
		"deleting one end":   {func(tx store.Tx) error { return table.Delete(tx, alice) }, ErrHasLinks},
		"deleting the other": {func(tx store.Tx) error { return table.Delete(tx, staff) }, ErrHasLinks},
	} {
		if err := do(c.fn); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := do(func(tx store.Tx) error { return table.Link(tx, memberOf, link) }); err == nil {
		t.Error("a back link was written")
	}
	err := do(func(tx store.Tx) error { return errors.Join(table.Unlink(tx, member, link), table.Delete(tx, alice)) })
	if err != nil {
		t.Error(err)
	}
}

func TestALargeGroupIsUnlinkedInSteps(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	member := table.attr(t, "member")
	const n = 50
	for i := range n {
		g := dtyp.GUID{200, byte(i)}
		if err := update(t, s, func(tx store.Tx) error {
			return errors.Join(table.Insert(tx, table.entry(t, g, users, fmt.Sprintf("CN=m%d", i))),
				table.Link(tx, member, Link{Source: staff, Target: g}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	steps := 0
	for more := true; more; steps++ {
		if err := update(t, s, func(tx store.Tx) (err error) {
			more, err = table.UnlinkAll(tx, staff, 20)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := update(t, s, func(tx store.Tx) error { return table.Delete(tx, staff) }); err != nil || steps != 3 {
		t.Errorf("%d steps, then %v", steps, err)
	}
	view(t, s, func(r store.Reader) error {
		for it := range r.Scan([]byte{'b'}, nil) {
			t.Errorf("a back link is left: %x", it.Key)
		}
		return nil
	})
}

func TestChainsOfLinks(t *testing.T) {
	table := testTable(t)
	s := domain(t, table)
	member, memberOf := table.attr(t, "member"), table.attr(t, "memberOf")
	err := update(t, s, func(tx store.Tx) error {
		return errors.Join( // users ─► staff ─► alice ─► users: a loop
			table.Link(tx, member, Link{Source: users, Target: staff}),
			table.Link(tx, member, Link{Source: staff, Target: alice}),
			table.Link(tx, member, Link{Source: alice, Target: users}),
			table.Link(tx, member, Link{Source: head, Target: users}))
	})
	if err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		if got, err := table.Reachable(r, memberOf, alice, 10); err != nil || !slices.Equal(got, []dtyp.GUID{staff, users, head, alice}) {
			t.Errorf("alice is in %v, %v", got, err)
		}
		if got, err := table.Reachable(r, member, head, 3); err != nil || !slices.Equal(got, []dtyp.GUID{users, staff, alice}) {
			t.Errorf("the head has %v, %v", got, err)
		}
		if _, err := table.Reachable(r, member, head, 2); !errors.Is(err, ErrTooWide) {
			t.Errorf("a limit of 2: %v", err)
		}
		return nil
	})
}

// dump is all rows of a store, without revisions.
func dump(t *rapid.T, s store.Store) map[string]string {
	out := map[string]string{}
	err := s.View(t.Context(), func(r store.Reader) error {
		for it, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			out[string(it.Key)] = string(it.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRowsFollowFromEntries: after any history the store holds exactly the rows
// of a new one into which the entries and links that are left were written at
// once: nothing is missing and nothing is left behind. What fails changes
// nothing.
func TestRowsFollowFromEntries(t *testing.T) {
	table := testTable(t)
	member := table.attr(t, "member")
	rapid.Check(t, func(rt *rapid.T) {
		s := memory.New()
		entries := map[dtyp.GUID]*Entry{}
		links := map[Link]bool{}
		guids := []dtyp.GUID{head, users, alice, staff, nobody}
		pick := rapid.SampledFrom(guids)
		parents := rapid.SampledFrom([]dtyp.GUID{head, head, head, users, alice, nobody})
		entries[head] = table.entry(t, head, dtyp.GUID{}, "DC=contoso")
		if err := s.Update(t.Context(), func(tx store.Tx) error { return table.Insert(tx, entries[head]) }); err != nil {
			rt.Fatal(err)
		}
		drawEntry := func(g dtyp.GUID) *Entry {
			e := table.entry(t, g, parents.Draw(rt, "parent"), "CN="+rapid.SampledFrom([]string{"a", "A", "b", "c"}).Draw(rt, "name"))
			for _, n := range []string{"sAMAccountName", "sn", "description"} {
				for _, v := range rapid.SliceOfN(rapid.SampledFrom([]string{"x", "X", "y", "z", "v", "w"}), 0, 2).Draw(rt, n) {
					e.Values[table.attr(t, n)] = append(e.Values[table.attr(t, n)], []byte(v))
				}
			}
			return e
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			g, l := pick.Draw(rt, "entry"), Link{Source: pick.Draw(rt, "source"), Target: pick.Draw(rt, "target")}
			e := drawEntry(g)
			before := dump(rt, s)
			var done func()
			op := rapid.IntRange(0, 4).Draw(rt, "op")
			err := s.Update(t.Context(), func(tx store.Tx) error {
				switch {
				case op == 0:
					done = func() { entries[g] = e }
					return table.Insert(tx, e)
				case op == 1 && g != head:
					done = func() { entries[g] = e }
					return table.Replace(tx, e)
				case op == 2:
					done = func() { delete(entries, g) }
					return table.Delete(tx, g)
				case op == 3:
					done = func() { links[l] = true }
					return table.Link(tx, member, l)
				}
				done = func() { delete(links, l) }
				return table.Unlink(tx, member, l)
			})
			if err != nil {
				if !maps.Equal(before, dump(rt, s)) {
					rt.Fatalf("a change that failed changed something: %v", err)
				}
				continue
			}
			done()
		}
		want := rebuild(rt, table, member, entries, links)
		if got := dump(rt, s); !maps.Equal(got, want) {
			rt.Fatalf("rows differ: %s", cmp.Diff(want, got))
		}
	})
}

// rebuild writes entries and links into a new store, parents first.
func rebuild(t *rapid.T, table *Table, member *schema.Attribute, entries map[dtyp.GUID]*Entry, links map[Link]bool) map[string]string {
	s := memory.New()
	err := s.Update(t.Context(), func(tx store.Tx) error {
		written := map[dtyp.GUID]bool{{}: true}
		for len(written) <= len(entries) {
			progress := false
			for g, e := range entries {
				if !written[g] && written[e.Parent] {
					if err := table.Insert(tx, e); err != nil {
						return err
					}
					written[g], progress = true, true
				}
			}
			if !progress {
				return errors.New("an entry lies below nothing")
			}
		}
		for l := range links {
			if err := table.Link(tx, member, l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dump(t, s)
}

func sample(t testing.TB, table *Table) []byte {
	return table.entry(t, alice, users, "CN=Alice", "sAMAccountName=alice", "servicePrincipalName=HTTP/a", "servicePrincipalName=HTTP/b", "objectClass=top").encode()
}

func TestEveryPrefixOfAnEntryIsRefused(t *testing.T) {
	table := testTable(t)
	b := sample(t, table)
	for n := range b {
		if _, err := parseEntry(table.Schema, b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	if _, err := parseEntry(table.Schema, append(b, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a trailing byte: %v", err)
	}
	newer := append([]byte{2}, b[1:]...)
	if _, err := parseEntry(table.Schema, newer); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another version: %v", err)
	}
}

func FuzzEntry(f *testing.F) {
	table := testTable(f)
	f.Add(sample(f, table))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(table.Schema, b)
		if err != nil {
			return
		}
		again, err := parseEntry(table.Schema, e.encode())
		if err != nil || !bytes.Equal(again.encode(), e.encode()) {
			t.Errorf("% x does not come back: %v", b, err)
		}
	})
}

// TestGoingOn: what begins after something leaves out that and what is before, and finds
// the rest, whether what it begins after is there or not.
func TestGoingOn(t *testing.T) {
	table, s := testTable(t), memory.New()
	member, memberOf, title := table.attr(t, "member"), table.attr(t, "memberOf"), table.attr(t, "objectCategory")
	category := []byte("CN=Person,DC=contoso,DC=com")
	err := update(t, s, func(tx store.Tx) error {
		errs := []error{table.Insert(tx, table.entry(t, head, dtyp.GUID{}, "dc=contoso"))}
		for i := byte(10); i < 16; i++ {
			e := table.entry(t, dtyp.GUID{i}, head, fmt.Sprintf("cn=u%d", i), "objectCategory="+string(category))
			errs = append(errs, table.Insert(tx, e))
			if i > 10 {
				errs = append(errs, table.Link(tx, member, Link{Source: dtyp.GUID{10}, Target: dtyp.GUID{i}}))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := title.Syntax.Key(category)
	if err != nil {
		t.Fatal(err)
	}
	list := func(seq func(func(dtyp.GUID, error) bool)) (out []byte) {
		for g, err := range seq {
			if err != nil {
				t.Error(err)
			}
			out = append(out, g[0])
		}
		return out
	}
	err = s.View(t.Context(), func(r store.Reader) error {
		sources := func(g, after dtyp.GUID) (out []byte) {
			for l, err := range table.LinkingAfter(r, memberOf, g, after) {
				if err != nil {
					t.Error(err)
				}
				out = append(out, l.Target[0])
			}
			return out
		}
		for what, got := range map[string][]byte{
			"index 13 14 15":          list(table.FindAfter(r, title, key, dtyp.GUID{12})),
			"index 13 14 15, between": list(table.FindAfter(r, title, key, dtyp.GUID{12, 1})),
			"names 13 14 15":          list(table.ChildrenAfter(r, head, "U12")),
			"names 13 14 15, between": list(table.ChildrenAfter(r, head, "u12a")),
			"links 13 14 15":          sources(dtyp.GUID{10}, dtyp.GUID{12}),
			"links 13 14 15, between": sources(dtyp.GUID{10}, dtyp.GUID{12, 1}),
		} {
			if !bytes.Equal(got, []byte{13, 14, 15}) {
				t.Errorf("%s: %v", what, got)
			}
		}
		if got := list(table.FindAfter(r, title, key, dtyp.GUID{15})); got != nil {
			t.Errorf("after the last: %v", got)
		}
		for _, test := range []struct {
			g    dtyp.GUID
			want []int
		}{{dtyp.GUID{10}, []int{member.LinkID}}, {dtyp.GUID{11}, []int{memberOf.LinkID}}, {head, nil}} {
			if ids, err := table.LinkIDs(r, test.g); err != nil || !slices.Equal(ids, test.want) {
				t.Errorf("links of %s: %v, %v, want %v", test.g, ids, err, test.want)
			}
		}
		for _, test := range []struct {
			a       string
			from    dtyp.GUID
			to      dtyp.GUID
			linking bool
		}{{"member", dtyp.GUID{10}, dtyp.GUID{11}, true}, {"member", dtyp.GUID{11}, dtyp.GUID{10}, false}, {"memberOf", dtyp.GUID{11}, dtyp.GUID{10}, true}, {"memberOf", dtyp.GUID{10}, dtyp.GUID{11}, false}} {
			if got, err := table.Linked(r, table.attr(t, test.a), test.from, test.to); err != nil || got != test.linking {
				t.Errorf("%s of %s has %s: %t, %v", test.a, test.from, test.to, got, err)
			}
		}
		named, err := table.attr(t, "cn").Syntax.Key([]byte("U14"))
		if got := list(table.Find(r, table.attr(t, "cn"), named)); err != nil || !bytes.Equal(got, []byte{14}) {
			t.Errorf("by name: %v, %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
