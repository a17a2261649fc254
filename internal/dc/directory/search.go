package directory

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/filter"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// The limits of a search. The first three are policies of AD: [MS-ADTS] 3.1.1.3.4.6.
const (
	// maxPage is how many entries one search gives: MaxPageSize.
	maxPage = 1000
	// maxSorted is how many entries are sorted: MaxTempTableSize.
	maxSorted = 10_000
	// maxDuration is how long a search may take, whatever the client allows:
	// MaxQueryDuration.
	maxDuration = 120 * time.Second
	// maxBatch and maxBatchSize are how many entries, and about how many bytes of
	// values, are read from one state of the directory before they are given to the
	// caller: a client that is slow to take them holds up no writer.
	maxBatch     = 64
	maxBatchSize = 256 << 10
	// maxKept is how many objects that a search came across are kept for others: one that
	// visits all there are would leave nothing that is asked for often.
	maxKept = 256
	// maxVisits is how many entries are visited in one state of the directory.
	maxVisits = 20_000
)

// search is a search under way.
type search struct {
	*session
	q      SearchRequest
	filter *filter.Filter
	items  int // of the filter
	want   selection
	sortBy *schema.Attribute // nil for none, or one that no object has
	// limit is how many entries may be given.
	limit int
	paged bool

	base  *object // found in the first state that is looked at
	given int
	lists rightsLists
	// How candidates are found, and where the search goes on.
	planned, walks bool
	sweeping       bool // more than maxKept were visited
	probes         []filter.Probe
	pos            position
}

// Search finds the objects below a base that a filter takes and calls yield with each,
// in no order but that of q.Sort. Objects and attributes that the caller may not read
// are not there. An object that moves or changes meanwhile may be given as it was
// before or is after, and one that stays is given once. What yield is given belongs to
// the directory and must not be changed, but for the value of msDS-ManagedPassword and
// msKds-RootKeyData, which is the caller's to erase.
//
// It fails with an [Error]; SizeLimitExceeded, TimeLimitExceeded and AdminLimitExceeded
// come after entries that were given. An error of yield is returned as it is.
func (d *Directory) Search(ctx context.Context, c Caller, q SearchRequest, yield func(SearchEntry) error) (SearchResult, error) {
	if c.Anonymous() {
		return SearchResult{}, Errorf(OperationsError, Win32Operations, "Operation unavailable without authentication")
	}
	s, err := d.newSearch(ctx, c, q)
	if err != nil || s == nil {
		return SearchResult{}, err
	}
	if q.Scope != ScopeBase {
		limit := maxDuration
		if q.TimeLimit > 0 {
			limit = min(limit, q.TimeLimit)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, Errorf(TimeLimitExceeded, 0, "the time limit of the search was reached"))
		defer cancel()
	}
	for {
		var b batch
		err := d.View(ctx, func(r *Reader) (err error) {
			s.begin(r)
			b, err = s.next(ctx)
			return err
		})
		if err != nil {
			return SearchResult{}, searchError(ctx, err)
		}
		for _, e := range b.entries {
			if err := yield(e); err != nil {
				return SearchResult{}, err
			}
		}
		switch {
		case b.full && s.paged:
			cookie, err := s.cookie()
			return SearchResult{Cookie: cookie}, err
		case b.full:
			return SearchResult{}, Errorf(SizeLimitExceeded, 0, "more than %d entries match", s.limit)
		case b.done:
			return SearchResult{}, nil
		}
	}
}

// searchError is the result for a failure: what ended the context where that did it.
func searchError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return AsError(err)
}

// newSearch reads the request. It returns nil for a client that gives up a search in
// pages (RFC 2696, Section 3).
func (d *Directory) newSearch(ctx context.Context, c Caller, q SearchRequest) (*search, error) {
	f, err := d.plain(ctx, q.Filter)
	if err != nil {
		return nil, searchError(ctx, err)
	}
	s := &search{session: d.session(c), q: q, limit: maxPage}
	s.showDeleted, s.globalCatalog = q.ShowDeleted, q.GlobalCatalog
	s.filter = filter.Compile(filter.Context{Schema: d.cfg.Schema, SchemaDN: d.schemaDN}, f)
	s.items, s.want = s.filter.Items(), d.selection(q.Attributes)
	if q.Sort != "" {
		s.sortBy, _ = d.cfg.Schema.Attribute(q.Sort)
	}
	if q.SizeLimit > 0 {
		s.limit = min(s.limit, q.SizeLimit)
	}
	// RFC 2696, Section 3: a page that holds all that the size limit allows is none.
	if q.PageSize > 0 && (q.SizeLimit <= 0 || q.PageSize < q.SizeLimit) {
		s.paged, s.limit = true, min(maxPage, q.PageSize)
	}
	switch {
	case len(q.Cookie) == 0:
		return s, nil
	case q.PageSize <= 0:
		return nil, nil
	}
	return s, s.resume(d.cookies, q.Cookie)
}

// batch is what was found in one state of the directory.
type batch struct {
	entries []SearchEntry
	size    int  // of the values, in bytes
	done    bool // there is nothing more
	full    bool // there is more than may be given
}

// next looks for entries from s.pos on.
func (s *search) next(ctx context.Context) (b batch, err error) {
	if err := s.findBase(); err != nil {
		return b, err
	}
	if s.q.Sort != "" {
		return s.sorted(ctx)
	}
	visits := 0
	var last *object // the one dealt with last
	for o, err := range s.candidates() {
		if err != nil {
			return b, err
		}
		if visits%256 == 0 && ctx.Err() != nil {
			return b, context.Cause(ctx)
		}
		taken, err := s.takes(o)
		if err != nil {
			return b, err
		}
		if taken {
			if s.given == s.limit {
				b.full = true
				return b, s.leave(last)
			}
			if err := s.give(&b, o); err != nil {
				return b, err
			}
		}
		s.sweeping = visits > maxKept
		if visits++; len(b.entries) >= maxBatch || b.size >= maxBatchSize || visits >= maxVisits {
			return b, s.leave(o)
		}
		last = o
	}
	b.done = true
	return b, nil
}

// give renders an entry into the batch.
func (s *search) give(b *batch, o *object) error {
	e, err := s.entry(o)
	if err != nil {
		return err
	}
	for _, a := range e.Attributes {
		b.size += size(a.Values)
	}
	b.entries = append(b.entries, e)
	s.given++
	return nil
}

// findBase finds the object where the search begins.
func (s *search) findBase() (err error) {
	switch {
	case s.base != nil:
		_, err = s.object(s.base.GUID) // which may be gone by now
	case s.q.Base == "" && s.q.GlobalCatalog && s.q.Scope != ScopeBase:
		s.base, err = s.object(s.domain.GUID)
	default:
		s.base, err = s.find(s.q.Base)
	}
	return err
}

// takes reports whether the object belongs to the answer.
func (s *search) takes(o *object) (bool, error) {
	if err := s.spend(s.items); err != nil {
		return false, err
	}
	seen, err := s.visible(o)
	if err != nil || !seen {
		return false, err
	}
	taken := s.filter.Match(s.look(o))
	return taken && s.err == nil, s.err
}

// sorted finds all entries, sorts them and gives those from s.pos on.
func (s *search) sorted(ctx context.Context) (b batch, err error) {
	var all []sortable
	from := s.pos
	s.pos = position{}
	for o, err := range s.candidates() {
		if err != nil {
			return b, err
		}
		if ctx.Err() != nil {
			return b, context.Cause(ctx)
		}
		taken, err := s.takes(o)
		switch {
		case err != nil:
			return b, err
		case !taken:
			continue
		case len(all) == maxSorted:
			return b, Errorf(AdminLimitExceeded, Win32AdminLimit, "more than %d entries match, which is too much to sort", maxSorted)
		}
		all = append(all, s.sortable(o))
	}
	slices.SortFunc(all, func(x, y sortable) int { return x.compare(y, s.q.Reverse) })
	if from.kind == atSorted {
		all = slices.DeleteFunc(all, func(x sortable) bool { return x.compare(from.sorted, s.q.Reverse) <= 0 })
	}
	for _, x := range all {
		if s.given == s.limit {
			b.full = true
			return b, nil
		}
		if err := s.give(&b, x.object); err != nil {
			return b, err
		}
		s.pos = position{kind: atSorted, sorted: x}
	}
	b.done = true
	return b, nil
}

// sortable is an entry with what it is sorted by.
type sortable struct {
	object *object
	guid   dtyp.GUID
	// key is the least of the values, as their syntax orders them; absent where the
	// caller can read none, which sorts as more than all (RFC 2891, Section 2.2).
	key    []byte
	absent bool
}

func (s *search) sortable(o *object) sortable {
	x := sortable{object: o, guid: o.GUID, absent: true}
	if s.sortBy == nil || s.sortBy.Constructed() || s.sortBy.Secret() || s.sortBy.LinkID >= 0 {
		return x
	}
	values, _ := s.look(o).Values(s.sortBy)
	for _, v := range values {
		key, err := s.sortBy.Syntax.Key(v)
		if err == nil && (x.absent || string(key) < string(x.key)) {
			x.key, x.absent = key, false
		}
	}
	return x
}

func (x sortable) compare(y sortable, reverse bool) int {
	var c int
	switch {
	case x.absent && !y.absent:
		c = 1
	case y.absent && !x.absent:
		c = -1
	default:
		c = slices.Compare(x.key, y.key)
	}
	if reverse {
		c = -c
	}
	if c == 0 {
		c = slices.Compare(x.guid[:], y.guid[:])
	}
	return c
}

// cost says how many entries an index has for a value, up to limit of them.
func (s *search) cost(p filter.Probe, limit int) (entries int, ok bool) {
	switch {
	case p.Attribute == s.known.objectGUID, p.Attribute == s.known.distinguishedName, rows.Unique(p.Attribute):
		return 1, true
	case !s.probed(p.Attribute):
		return 0, false
	}
	for _, err := range s.probe(p, dtyp.GUID{}) {
		if entries++; entries == limit || err != nil { // whoever reads them next tells of the error
			break
		}
	}
	if err := s.spend(entries); err != nil {
		s.fail(err)
	}
	return entries, true
}

// probed reports whether probe finds objects by the attribute. Links are rows that can
// be found from both ends; times, numbers and names that are fields of an entry have
// no index, but for the name itself.
func (s *search) probed(a *schema.Attribute) bool {
	switch a {
	case s.known.usnChanged, s.known.usnCreated:
		return false
	case s.known.name:
		return true
	}
	return rows.Indexed(a) || a.LinkID >= 0 && a.Syntax == schema.DN
}

// probe yields the objects that an index has for a value, after a GUID and in the order
// of GUIDs.
func (s *search) probe(p filter.Probe, after dtyp.GUID) func(func(dtyp.GUID, error) bool) {
	a := p.Attribute
	switch {
	case a == s.known.objectGUID:
		g, err := dtyp.GUIDFromBytes(p.Key)
		if err != nil {
			err = errors.Join(rows.ErrNotFound, err) // of no GUID that an object has
		}
		return s.probeOne(after, g, err)
	case a == s.known.distinguishedName:
		g, err := s.named(p.Key)
		return s.probeOne(after, g, err)
	case a == s.known.name:
		return s.probeName(p.Key, after)
	case a.LinkID >= 0:
		return s.probeLink(p, after)
	case (s.showDeleted || s.globalCatalog) && rows.Unique(a):
		return merged(s.table.FindAfter(s.r, a, p.Key, after), s.table.FindBuried(s.r, a, p.Key, after))
	}
	return s.table.FindAfter(s.r, a, p.Key, after)
}

// probeOne is the object of a key that stands for one, if there is such an object.
func (s *search) probeOne(after dtyp.GUID, g dtyp.GUID, err error) func(func(dtyp.GUID, error) bool) {
	return func(yield func(dtyp.GUID, error) bool) {
		if err == nil {
			_, err = s.table.Revision(s.r, g)
		}
		if !errors.Is(err, rows.ErrNotFound) && compareGUID(g, after) > 0 {
			yield(g, err)
		}
	}
}

// named finds an object by the key of its name. It fails with rows.ErrNotFound.
func (s *search) named(key []byte) (dtyp.GUID, error) {
	dn, err := adproto.ParseDN(string(key))
	if err != nil {
		return dtyp.GUID{}, errors.Join(rows.ErrNotFound, err) // of no name that an object has
	}
	return s.Resolve(dn)
}

// probeName looks for objects by their names, whatever attribute names them. There are
// as many streams as naming attributes, of which all but one are mostly empty.
func (s *search) probeName(key []byte, after dtyp.GUID) func(func(dtyp.GUID, error) bool) {
	var streams []iter.Seq2[dtyp.GUID, error]
	for _, a := range s.naming {
		streams = append(streams, s.table.FindAfter(s.r, a, key, after))
	}
	return merged(streams...)
}

// merged yields what streams do, in the order of GUIDs.
func merged(streams ...iter.Seq2[dtyp.GUID, error]) func(func(dtyp.GUID, error) bool) {
	return func(yield func(dtyp.GUID, error) bool) {
		var all []dtyp.GUID
		for _, stream := range streams {
			guids, err := collect(stream)
			if err != nil {
				yield(dtyp.GUID{}, err)
				return
			}
			all = append(all, guids...)
		}
		slices.SortFunc(all, compareGUID)
		for _, g := range all {
			if !yield(g, nil) {
				return
			}
		}
	}
}

// probeLink looks for objects that have the object of that name among their values.
func (s *search) probeLink(p filter.Probe, after dtyp.GUID) func(func(dtyp.GUID, error) bool) {
	return func(yield func(dtyp.GUID, error) bool) {
		g, err := s.named(p.Key)
		if errors.Is(err, rows.ErrNotFound) {
			return
		}
		if err != nil {
			yield(g, err)
			return
		}
		for l, err := range s.table.LinkingAfter(s.r, p.Attribute, g, after) {
			if !yield(near(p.Attribute, l), err) {
				return
			}
		}
	}
}

func compareGUID(a, b dtyp.GUID) int { return slices.Compare(a[:], b[:]) }
