package directory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/secdesc"
)

// copyOf is the domain again, in a store of its own.
func (d *domain) copyOf(t testing.TB) *domain {
	t.Helper()
	c := *d
	c.t, c.store, c.log = t, memory.New(), &eventLog{}
	copyRows(t, c.store, d.store)
	c.config.Store, c.config.Audit = c.store, c.log
	var err error
	if c.Directory, err = directory.Open(t.Context(), c.config); err != nil {
		t.Fatal(err)
	}
	return &c
}

func copyRows(t testing.TB, to, from store.Store) {
	t.Helper()
	var items []store.Item
	err := from.View(t.Context(), func(r store.Reader) error {
		for it, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			items = append(items, store.Item{Key: bytes.Clone(it.Key), Value: bytes.Clone(it.Value)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for batch := range slices.Chunk(items, 256) {
		err := to.Update(t.Context(), func(tx store.Tx) error {
			for _, it := range batch {
				if err := tx.Put(it.Key, it.Value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checker looks at the raw rows of a store.
type checker struct {
	d       *domain
	fatalf  func(string, ...any)
	table   *rows.Table
	dump    map[string]string
	entries map[dtyp.GUID]*rows.Entry
	links   map[*schema.Attribute][]rows.Link
}

// check reports what is wrong with the rows: see the methods.
func (d *domain) check(fatalf func(string, ...any)) {
	c := &checker{d: d, fatalf: fatalf, table: &rows.Table{Schema: d.config.Schema, Domain: contoso.DN()},
		dump: map[string]string{}, entries: map[dtyp.GUID]*rows.Entry{}, links: map[*schema.Attribute][]rows.Link{}}
	if err := d.store.View(d.t.Context(), c.read); err != nil {
		fatalf("%v", err)
	}
	c.checkRows()
	c.checkPrivate()
	c.checkLinks()
	c.checkNames()
	c.checkDescriptors()
}

func (c *checker) read(r store.Reader) error {
	for it, err := range r.Scan(nil, nil) {
		if err != nil {
			return err
		}
		c.dump[string(it.Key)] = string(it.Value)
	}
	byID := map[int]*schema.Attribute{}
	for _, a := range c.table.Schema.Attributes() {
		if a.ForwardLink() {
			byID[a.LinkID] = a
		}
	}
	for key := range c.dump {
		switch key[0] {
		case 'e':
			g := dtyp.GUID([]byte(key[1:]))
			e, err := c.table.Get(r, g)
			if err != nil {
				return err
			}
			c.entries[g] = e
		case 'f': // source 16, link 2, target 16, data
			a := byID[int(key[17])<<8|int(key[18])]
			c.links[a] = append(c.links[a], rows.Link{Source: dtyp.GUID([]byte(key[1:17])), Target: dtyp.GUID([]byte(key[19:35])), Data: key[35:]})
		}
	}
	return nil
}

// checkRows: the rows of objects, names, indexes and links are exactly those that a new
// store has after the same objects and links were written into it.
func (c *checker) checkRows() {
	s := memory.New()
	ctx := c.d.t.Context()
	written := map[dtyp.GUID]bool{{}: true}
	for progress := true; progress; {
		progress = false
		for g, e := range c.entries {
			if written[g] || !written[e.Parent] {
				continue
			}
			if err := s.Update(ctx, func(tx store.Tx) error { return c.table.Insert(tx, e) }); err != nil {
				c.fatalf("%s: %v", e.Name, err)
			}
			written[g], progress = true, true
		}
	}
	for a, links := range c.links {
		for _, l := range links {
			if err := s.Update(ctx, func(tx store.Tx) error { return c.table.Link(tx, a, l) }); err != nil {
				c.fatalf("%s: %v", a.Name, err)
			}
		}
	}
	want := map[string]string{}
	err := s.View(ctx, func(r store.Reader) error {
		for it, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			want[string(it.Key)] = string(it.Value)
		}
		return nil
	})
	if err != nil {
		c.fatalf("%v", err)
	}
	got := maps.Clone(c.dump)
	maps.DeleteFunc(got, func(key, _ string) bool { return strings.IndexByte("ecdiufb", key[0]) < 0 })
	for key := range want {
		if got[key] != want[key] {
			c.fatalf("the row %q is missing or differs", key)
		}
		delete(got, key)
	}
	for key := range got {
		c.fatalf("the row %q belongs to nothing", key)
	}
}

// checkPrivate: private rows belong to objects that live, and every gMSA has a timeline.
func (c *checker) checkPrivate() {
	for key := range c.dump {
		if key[0] == 'p' {
			if e := c.entries[dtyp.GUID([]byte(key[1:17]))]; e == nil || rows.Deleted(e) {
				c.fatalf("the private row %q is nobody's", key)
			}
		}
	}
	for g, e := range c.entries {
		if c.class(e).Has("msDS-GroupManagedServiceAccount") && !rows.Deleted(e) {
			if _, ok := c.dump["p"+string(g[:])+"timeline"]; !ok {
				c.fatalf("%s has no timeline", e.Name)
			}
		}
	}
}

func (c *checker) class(e *rows.Entry) schema.ObjectClass {
	var names []string
	for _, v := range e.Values[c.attribute("objectClass")] {
		names = append(names, string(v))
	}
	class, err := c.table.Schema.Expand(names...)
	if err != nil {
		c.fatalf("%s: %v", e.Name, err)
	}
	return class
}

func (c *checker) attribute(name string) *schema.Attribute {
	a, _ := c.table.Schema.Attribute(name)
	return a
}

func (c *checker) text(e *rows.Entry, name string) string {
	if v := e.Values[c.attribute(name)]; len(v) > 0 {
		return string(v[0])
	}
	return ""
}

// checkLinks: nothing leads to or from the dead, nobody is in two groups in one, and
// groups hold what their scope lets them.
func (c *checker) checkLinks() {
	for a, links := range c.links {
		from := map[dtyp.GUID]int{}
		for _, l := range links {
			source, target := c.entries[l.Source], c.entries[l.Target]
			if rows.Deleted(source) || rows.Deleted(target) {
				c.fatalf("%s leads from %s to %s, of which one is deleted", a.Name, source.Name, target.Name)
			}
			if from[l.Source]++; a.SingleValued && from[l.Source] > 1 {
				c.fatalf("%s has %d values of %s", source.Name, from[l.Source], a.Name)
			}
			if a.Name != "member" {
				continue
			}
			group, member := c.groupType(source), c.groupType(target)
			bad := group&adproto.GroupGlobal != 0 && member&(adproto.GroupDomainLocal|adproto.GroupUniversal) != 0 ||
				group&adproto.GroupUniversal != 0 && member&adproto.GroupDomainLocal != 0
			if bad || l.Source == l.Target {
				c.fatalf("%s (%v) is in %s (%v)", target.Name, member, source.Name, group)
			}
		}
	}
}

func (c *checker) groupType(e *rows.Entry) adproto.GroupType {
	n, err := schema.ParseNumber([]byte(c.text(e, "groupType")), 32)
	if err != nil {
		return 0
	}
	return adproto.GroupType(uint32(n))
}

// checkNames: machines end in "$", users do not, and no two accounts differ in it alone.
func (c *checker) checkNames() {
	seen := map[string]string{}
	for _, e := range c.entries {
		class := c.class(e)
		if rows.Deleted(e) || !class.Has("user") {
			continue
		}
		name := strings.ToLower(c.text(e, "sAMAccountName"))
		bare, dollar := strings.CutSuffix(name, "$")
		if dollar != class.Has("computer") {
			c.fatalf("a %s is called %s", class.Structural().Name, name)
		}
		if other, twice := seen[bare]; twice {
			c.fatalf("%s and %s", name, other)
		}
		seen[bare] = name
	}
}

// checkDescriptors: every object has inherited from its parent.
func (c *checker) checkDescriptors() {
	for _, e := range c.entries {
		parent := c.entries[e.Parent]
		instance, _ := schema.ParseNumber([]byte(c.text(e, "instanceType")), 32)
		if parent == nil || rows.Deleted(e) || instance&1 != 0 {
			continue
		}
		sd, above := c.descriptor(e), c.descriptor(parent)
		want := access.Reinherit(sd, &above, c.class(e).Structural().GUID)
		if !slices.EqualFunc(sd.DACL.ACEs, want.DACL.ACEs, secdesc.ACE.Equal) {
			c.fatalf("%s has not inherited from %s", e.Name, parent.Name)
		}
	}
}

func (c *checker) descriptor(e *rows.Entry) secdesc.SecurityDescriptor {
	sd, err := secdesc.Parse([]byte(c.text(e, "nTSecurityDescriptor")))
	if err != nil {
		c.fatalf("%s: %v", e.Name, err)
	}
	return sd
}

// flaky is a store that refuses an update now and then.
type flaky struct {
	store.Store
	fail func() bool
}

var errFlaky = errors.New("the disk is full")

func (f *flaky) Update(ctx context.Context, fn func(store.Tx) error) error {
	return f.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		if f.fail() {
			return errFlaky
		}
		return nil
	})
}

// TestRandomWritesKeepTheRowsConsistent: whatever clients do, and whatever of it fails.
func TestRandomWritesKeepTheRowsConsistent(t *testing.T) {
	whole := people(t)
	whole.mustAdd(web, "objectClass: organizationalUnit")
	whole.check(t.Fatalf)
	rapid.Check(t, func(rt *rapid.T) {
		d := whole.copyOf(t)
		cfg := d.config
		cfg.Store = &flaky{Store: d.store, fail: func() bool { return rapid.IntRange(0, 19).Draw(rt, "fails") == 0 }}
		var err error
		if d.Directory, err = directory.Open(t.Context(), cfg); err != nil && !errors.Is(err, errFlaky) {
			rt.Fatal(err)
		} else if err != nil {
			return
		}
		w := &writes{domain: d, t: rt, callers: []directory.Caller{d.admin, d.admin, d.admin, d.Caller(t, "bob"), d.Caller(t, "web1$")}}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			if err := w.step(); err != nil && directory.AsError(err).Code == directory.OperationsError && !errors.Is(err, errFlaky) {
				rt.Fatalf("an error without an explanation: %v", err)
			}
		}
		if d.Directory, err = directory.Open(t.Context(), d.config); err != nil {
			rt.Fatal(err)
		}
		d.check(rt.Fatalf)
	})
}

// writes draws operations.
type writes struct {
	*domain
	t       *rapid.T
	callers []directory.Caller
}

func (w *writes) pick(label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(w.t, label)
}

// name is that of an object that is there, or was, or may come to be.
func (w *writes) name() string {
	if rapid.IntRange(0, 3).Draw(w.t, "elsewhere") > 0 {
		return w.pick("object", alice, bob, web1, webapp, w.group(), "CN=x,"+users)
	}
	return "CN=" + w.pick("name", "alice", "global", "x", "y") + "," + w.pick("parent", users, computers, managed, web, "OU=deep,"+web)
}

func (w *writes) group() string {
	return w.pick("group", group("global"), group("local"), group("universal"))
}

func (w *writes) step() error {
	c := rapid.SampledFrom(w.callers).Draw(w.t, "caller")
	ctx := w.domain.t.Context()
	switch rapid.IntRange(0, 12).Draw(w.t, "operation") {
	case 10, 11, 12:
		return w.modify(w.admin, w.group(), w.pick("op", "add", "add", "replace", "delete")+": "+
			w.pick("of a group", "member: "+w.group(), "member: "+w.group(), "groupType: -2147483646", "groupType: -2147483644", "groupType: -2147483640"))
	case 0, 1:
		return w.addOne(c)
	case 2:
		return w.delete(c, w.pick("deleted", w.name(), w.name(), web, "OU=deep,"+web), rapid.Bool().Draw(w.t, "tree"))
	case 3:
		return w.rename(c, w.name(), "CN="+w.pick("rdn", "x", "y", "alice"), w.pick("superior", "", users, web, "OU=deep,"+web))
	case 4:
		return w.rename(c, "OU=deep,"+web, "OU=deep", w.pick("superior", web, "DC=contoso,DC=com"))
	case 5:
		sd := secdesc.SecurityDescriptor{DACL: &secdesc.ACL{ACEs: []secdesc.ACE{{Mask: secdesc.FullControl, SID: w.admin.SID,
			Flags: secdesc.ACEFlags(w.pick("flags", "\x00", "\x02", "\x0a", "\x06")[0])}}}}
		if rapid.Bool().Draw(w.t, "protected") {
			sd.Control |= secdesc.DACLProtected
		}
		return w.writeDescriptor(c, w.pick("described", w.name(), web, "OU=deep,"+web), sd, adproto.SDDACL)
	}
	var lines []string
	for range rapid.IntRange(1, 3).Draw(w.t, "changes") {
		lines = append(lines, w.pick("op", "add: ", "delete: ", "replace: ")+w.attributeLine())
	}
	return w.Modify(ctx, c, directory.ModifyRequest{DN: w.name(), Changes: changes(lines...), Permissive: rapid.Bool().Draw(w.t, "permissive")})
}

func (w *writes) addOne(c directory.Caller) error {
	if rapid.IntRange(0, 5).Draw(w.t, "unit") == 0 {
		return w.add(c, w.pick("unit", web, "OU=deep,"+web), "objectClass: organizationalUnit")
	}
	lines := []string{"objectClass: " + w.pick("class", "user", "computer", "group", "msDS-GroupManagedServiceAccount", "msDS-ManagedServiceAccount", "contact", "container")}
	for range rapid.IntRange(0, 3).Draw(w.t, "attributes") {
		if line := w.attributeLine(); strings.Contains(line, ": ") {
			lines = append(lines, line)
		}
	}
	return w.add(c, w.name(), lines...)
}

// attributeLine is an attribute with a value, or without.
func (w *writes) attributeLine() string {
	return w.pick("attribute",
		"sAMAccountName: "+w.pick("account", "x", "x$", "y", "y$", "alice", "web1$", "bad/name"),
		"userPrincipalName: "+w.pick("upn", "x@contoso.com", "alice@contoso.com", "z@fabrikam.com"),
		"servicePrincipalName: "+w.pick("spn", "host/x", "http/x", "HOST/X.", "host/web1.contoso.com", "none"),
		"userAccountControl: "+w.pick("control", "512", "514", "4096", "4098", "8192", "546", "x"),
		"groupType: "+w.pick("type", "2", "4", "8", "-2147483646", "-2147483644", "-2147483640", "14"),
		"member: "+w.name(), "member: "+w.name(), "member", "manager: "+w.name(), "managedBy: "+w.name(),
		"primaryGroupID: "+w.pick("primary", "513", "515", "1104"),
		"description: "+w.pick("description", "a", "b"), "description", "otherTelephone: 1", "pwdLastSet: "+w.pick("pwdLastSet", "0", "-1", "7"),
		"unicodePwd: "+quoted("Some-Passw0rd"), "dNSHostName: "+w.pick("dns", "x.contoso.com", "web1.contoso.com"),
		"objectClass: "+w.pick("aux", "bootableDevice", "user"), "lockoutTime: 0", "isDeleted: TRUE", "memberOf: "+w.name())
}

// TestConflictingWrites: of writes at the same time that cannot all be, one is.
func TestConflictingWrites(t *testing.T) {
	d := people(t)
	const writers = 8
	for name, write := range map[string]func(i int) error{
		"one account name": func(i int) error {
			return d.add(d.admin, fmt.Sprintf("CN=a%d,%s", i, users), "objectClass: user", "sAMAccountName: same")
		},
		"a user and a machine": func(i int) error {
			if i%2 == 0 {
				return d.add(d.admin, fmt.Sprintf("CN=b%d,%s", i, users), "objectClass: user", "sAMAccountName: like")
			}
			return d.add(d.admin, fmt.Sprintf("CN=b%d,%s", i, computers), "objectClass: computer", "sAMAccountName: like$")
		},
		"one SPN": func(i int) error {
			return d.add(d.admin, fmt.Sprintf("CN=c%d,%s", i, users), "objectClass: user", "servicePrincipalName: x/y")
		},
		"one name": func(i int) error { return d.add(d.admin, "CN=d,"+users, "objectClass: user") },
		"a value that is taken back": func(i int) error {
			return d.modify(d.admin, bob, "delete: userAccountControl: 512", "add: userAccountControl: 514")
		},
		"a name that somebody else moves to": func(i int) error {
			return d.rename(d.admin, group([]string{"global", "local", "universal"}[i%3]), "CN=e", "")
		},
		"a member": func(i int) error { return d.modify(d.admin, "CN=Domain Guests,"+users, "add: member: "+alice) },
	} {
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() { errs[i] = write(i) })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			}
		}
		if done != 1 && (name != "a name that somebody else moves to" || done == 0) {
			t.Errorf("%s: %d of %d succeeded, want one: %v", name, done, writers, errors.Join(errs...))
		}
	}
	d.check(t.Fatalf)
}

// looking is a store that lets the test look at what an update wrote, and forgets it.
type looking struct {
	store.Store
	look func(store.Tx) error
}

var errForgotten = errors.New("forgotten")

func (l *looking) Update(ctx context.Context, fn func(store.Tx) error) error {
	return l.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return errors.Join(l.look(tx), errForgotten)
	})
}

// FuzzModify: no change makes a panic, an error that explains nothing, or a value that
// the schema does not allow.
func FuzzModify(f *testing.F) {
	d := people(f)
	names := []string{alice, web1, webapp, group("global"), "DC=contoso,DC=com", managed}
	objects := make([]dtyp.GUID, len(names))
	for i, n := range names {
		objects[i] = d.get(n).GUID
	}
	all := d.Schema().Attributes()
	s := &looking{Store: d.store}
	cfg := d.config
	cfg.Store = s
	dir, err := directory.Open(f.Context(), cfg)
	if err != nil {
		f.Fatal(err)
	}
	table := &rows.Table{Schema: d.Schema(), Domain: contoso.DN()}
	f.Add(byte(0), uint16(100), byte(2), []byte("value"), uint16(7), byte(0), []byte{})
	f.Add(byte(3), uint16(500), byte(0), []byte(alice), uint16(500), byte(1), []byte(alice))
	f.Fuzz(func(t *testing.T, object byte, first uint16, op byte, value []byte, second uint16, op2 byte, value2 []byte) {
		n := int(object) % len(names)
		change := func(at uint16, op byte, value []byte) directory.Change {
			a := directory.Attribute{Name: all[int(at)%len(all)].Name}
			if len(value) > 0 {
				a.Values = [][]byte{value}
			}
			return directory.Change{Op: directory.ChangeOp(op % 3), Attribute: a}
		}
		s.look = func(tx store.Tx) error {
			e, err := table.Get(tx, objects[n])
			if err != nil {
				return err
			}
			for a, values := range e.Values {
				for _, v := range rows.AsWritten(a, values) {
					if err := a.Check(v); err != nil {
						t.Errorf("%s: %v", a.Name, err)
					}
				}
			}
			return nil
		}
		err := dir.Modify(t.Context(), d.admin, directory.ModifyRequest{DN: names[n],
			Changes: []directory.Change{change(first, op, value), change(second, op2, value2)}})
		if directory.AsError(err).Code == directory.OperationsError && !errors.Is(err, errForgotten) {
			t.Errorf("an error without an explanation: %v", err)
		}
	})
}
