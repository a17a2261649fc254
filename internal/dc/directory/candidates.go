package directory

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/filter"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// A search visits its candidates in an order that does not depend on what changes
// meanwhile, and its position in it is the last object visited:
//
//	walk      the objects below the base, each before those below it, siblings by
//	          name; the position is the path of names from the base down
//	index     the objects that indexes have, by GUID; the position is a GUID
//	schema    the objects of the schema partition, which never change, by name; the
//	          last stage of a search in the global catalog; the position is a number

// place is the kind of a position.
type place byte

const (
	atStart  place = 0
	atWalk   place = 1
	atIndex  place = 2
	atSchema place = 3
	atSorted place = 4
)

// position is where a search goes on. The zero value is its beginning.
type position struct {
	kind   place
	path   []string  // atWalk; empty after the base itself
	guid   dtyp.GUID // atIndex
	next   int       // atSchema
	sorted sortable  // atSorted
}

// indexChunk is how many objects are taken from an index at a time.
const indexChunk = 256

// candidates yields objects that may match, from s.pos on, and keeps s.pos at the one
// before that which is yielded: whoever stops has not yet dealt with it.
func (s *search) candidates() iter.Seq2[*object, error] {
	return func(yield func(*object, error) bool) {
		if s.q.Scope == ScopeBase {
			yield(s.base, nil)
			return
		}
		if s.base.virtual {
			s.schemaCandidates(yield)
			return
		}
		if s.pos.kind != atSchema && !s.storedCandidates(yield) {
			return
		}
		if s.coversSchema() {
			s.schemaCandidates(yield)
		}
	}
}

// storedCandidates are those in the store. It reports whether to go on behind them.
func (s *search) storedCandidates(yield func(*object, error) bool) bool {
	if !s.planned {
		s.plan()
	}
	if s.err != nil {
		return yield(nil, s.err)
	}
	if !s.walks {
		return s.indexCandidates(yield)
	}
	if s.pos.kind == atStart && s.q.Scope == ScopeSubtree && !yield(s.base, nil) {
		return false
	}
	return s.below(s.base, s.pos.path, yield)
}

// plan decides between a walk and indexes, once for all states and pages.
func (s *search) plan() {
	var indexed bool
	s.probes, indexed = s.filter.Probes(s.cost)
	s.probes = once(s.probes)
	s.planned = true
	switch s.pos.kind {
	case atIndex:
		s.walks = false
	case atWalk:
		s.walks = true
	default:
		s.walks = !indexed || s.fewChildren()
	}
}

// once is probes without those that stand there before: a filter may name one value a
// thousand times.
func once(probes []filter.Probe) []filter.Probe {
	type look struct {
		a   *schema.Attribute
		key string
	}
	seen := make(map[look]bool, len(probes))
	return slices.DeleteFunc(probes, func(p filter.Probe) bool {
		l := look{p.Attribute, string(p.Key)}
		before := seen[l]
		seen[l] = true
		return before
	})
}

// fewChildren reports whether a search of one level does better to visit all there are
// than to look into indexes.
func (s *search) fewChildren() bool {
	if s.q.Scope != ScopeOne {
		return false
	}
	entries := 0
	for _, p := range s.probes {
		n, _ := s.cost(p, indexChunk) // it had an answer before
		entries += n
	}
	for _, err := range s.Children(s.base.GUID) {
		if entries--; entries < 0 || err != nil { // whoever reads them next tells of the error
			return false
		}
	}
	return true
}

// below visits what lies below an object, after path.
func (s *search) below(parent *object, path []string, yield func(*object, error) bool) bool {
	children := s.Children(parent.GUID)
	if len(path) > 0 {
		children = s.table.ChildrenAfter(s.r, parent.GUID, path[0])
		if !s.insideOf(parent, path, yield) {
			return false
		}
	}
	for g, err := range children {
		if err != nil {
			return yield(nil, err)
		}
		o, err := s.load(g, !s.sweeping)
		if err != nil {
			return yield(nil, err)
		}
		if s.elsewhere(o) {
			continue
		}
		if !yield(o, nil) {
			return false
		}
		if s.q.Scope == ScopeSubtree && !s.below(o, nil, yield) {
			return false
		}
	}
	return true
}

// insideOf goes on below the child where the walk stopped, if it is still there.
func (s *search) insideOf(parent *object, path []string, yield func(*object, error) bool) bool {
	if s.q.Scope != ScopeSubtree {
		return true
	}
	g, err := s.table.Child(s.r, parent.GUID, path[0])
	if errors.Is(err, rows.ErrNotFound) {
		return true
	}
	if err != nil {
		return yield(nil, err)
	}
	o, err := s.object(g)
	if err != nil {
		return yield(nil, err)
	}
	return s.elsewhere(o) || s.below(o, path[1:], yield)
}

// elsewhere reports whether an object is of a naming context that a search from above
// does not enter: the configuration and other domains lie below the domain by name only,
// and only the global catalog has them all ([MS-ADTS] 3.1.1.3.1.3). Of the schema there
// is nothing in the store.
func (s *search) elsewhere(o *object) bool {
	return !s.globalCatalog && (s.isConfiguration(o) || rows.Replica(o.Entry))
}

func (s *search) isConfiguration(o *object) bool {
	return o.Parent == s.domain.GUID && o.RDN == s.known.cn && strings.EqualFold(o.Name, "Configuration")
}

// indexCandidates are the objects that indexes have, in scope.
func (s *search) indexCandidates(yield func(*object, error) bool) bool {
	scope := scopeCheck{search: s}
	after := s.pos.guid
	for {
		chunk, err := s.indexed(after)
		if err != nil {
			return yield(nil, err)
		}
		for _, g := range chunk {
			o, err := s.load(g, !s.sweeping)
			if err != nil {
				return yield(nil, err)
			}
			in, err := scope.has(o)
			if err != nil {
				return yield(nil, err)
			}
			if in && !yield(o, nil) {
				return false
			}
			after = g
		}
		if len(chunk) < indexChunk {
			return true
		}
	}
}

// indexed are the next objects of all probes together: of the first so many of each,
// the first so many.
func (s *search) indexed(after dtyp.GUID) ([]dtyp.GUID, error) {
	var all []dtyp.GUID
	for _, p := range s.probes {
		n := 0
		for g, err := range s.probe(p, after) {
			if err != nil {
				return nil, err
			}
			all = append(all, g)
			if n++; n == indexChunk {
				break
			}
		}
		if err := s.spend(n + 1); err != nil {
			return nil, err
		}
	}
	if len(s.probes) > 1 {
		slices.SortFunc(all, compareGUID)
		all = slices.Compact(all)
	}
	return all[:min(len(all), indexChunk)], nil
}

// scopeCheck tells whether objects that an index gave lie in scope, and remembers the
// last parent: siblings are often found together.
type scopeCheck struct {
	*search
	parent  dtyp.GUID
	known   bool
	outcome bool
}

func (c *scopeCheck) has(o *object) (bool, error) {
	switch {
	case c.q.Scope == ScopeOne:
		return o.Parent == c.base.GUID && !c.elsewhere(o), nil
	case o.GUID == c.base.GUID:
		return true, nil
	case c.elsewhere(o):
		return false, nil
	case o.Parent.IsZero():
		return false, nil
	case c.known && c.parent == o.Parent:
		return c.outcome, nil
	}
	in, err := c.under(o.Parent)
	c.parent, c.outcome, c.known = o.Parent, in, err == nil
	return in, err
}

// under reports whether an object is the base or lies below it.
func (c *scopeCheck) under(g dtyp.GUID) (bool, error) {
	for range maxDepth {
		if g == c.base.GUID {
			return true, nil
		}
		o, err := c.object(g)
		if err != nil {
			return false, err
		}
		if o.Parent.IsZero() || c.elsewhere(o) {
			return false, nil
		}
		g = o.Parent
	}
	return false, nil
}

// coversSchema reports whether the schema partition lies below the base, which it does
// in the global catalog only.
func (s *search) coversSchema() bool {
	return s.globalCatalog && s.q.Scope == ScopeSubtree && (s.base.Parent.IsZero() || s.isConfiguration(s.base))
}

// schemaCandidates are the objects of the schema partition in scope.
func (s *search) schemaCandidates(yield func(*object, error) bool) {
	p, ok := s.schemaPartition()
	if !ok {
		return
	}
	for _, o := range p.objects[min(s.pos.next, len(p.objects)):] {
		in := o.Parent == s.base.GUID
		if s.q.Scope == ScopeSubtree {
			in = in || o == s.base || !s.base.virtual
		}
		if in && !yield(o, nil) {
			return
		}
	}
}

// leave sets the position behind an object that was dealt with; nil leaves it.
func (s *search) leave(o *object) error {
	switch {
	case o == nil || s.q.Scope == ScopeBase:
		return nil
	case o.virtual:
		p, _ := s.schemaPartition() // it has the object
		s.pos = position{kind: atSchema, next: slices.Index(p.objects, o) + 1}
		return nil
	case !s.walks:
		s.pos = position{kind: atIndex, guid: o.GUID}
		return nil
	}
	s.pos = position{kind: atWalk}
	for range maxDepth {
		if o.GUID == s.base.GUID {
			slices.Reverse(s.pos.path)
			return nil
		}
		s.pos.path = append(s.pos.path, o.Name)
		var err error
		if o, err = s.object(o.Parent); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s lies too deep", rows.ErrCorrupt, o.GUID)
}
