package ldapd

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// flushSize is how much of an answer is gathered before it is sent, in bytes.
const flushSize = 32 << 10

// buffer is memory for an answer that is being written.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 1<<10)} }}

// release gives the buffer back; a large one goes, for the few entries that need it
// would make all of them large.
func (b *buffer) release() {
	if cap(b.b) > 2*flushSize {
		return
	}
	clear(b.b) // it may have been a managed password
	b.b = b.b[:0]
	buffers.Put(b)
}

// search answers a search. One object is read at once; what may take long runs beside
// the reader.
func (c *conn) search(ctx context.Context, m ldapmsg.Message, o options) error {
	w, err := m.Search()
	if err != nil {
		return c.respond(ctx, m, malformed(err))
	}
	if w.Base == "" && directory.Scope(w.Scope) == directory.ScopeBase {
		return c.searchRoot(ctx, m, w)
	}
	if c.caller.Anonymous() {
		return c.respond(ctx, m, errAnonymous())
	}
	s := searching{c: c, m: ldapmsg.Message{ID: m.ID, Op: m.Op}, caller: c.caller}
	if err := s.prepare(w, o); err != nil {
		return s.done(ctx, err)
	}
	if s.q.Scope == directory.ScopeBase {
		return s.run(ctx)
	}
	if err := c.beside(ctx, m.ID, func(ctx context.Context) { _ = s.run(ctx) }); err != nil {
		return c.respond(ctx, m, err)
	}
	return nil
}

// searching is a search under way.
type searching struct {
	c      *conn
	m      ldapmsg.Message // without its body, whose memory the reader uses again
	caller directory.Caller
	q      directory.SearchRequest

	paged bool
	// sorted is the answer to a sort control, nil without one.
	sorted *sortResult
	buf    *buffer
	err    error // of writing to the client
}

// sortResult is the answer to a sort control.
type sortResult struct {
	code      int
	attribute string
}

// prepare makes the directory's request.
func (s *searching) prepare(w ldapmsg.SearchRequest, o options) error {
	s.q = directory.SearchRequest{
		Base: w.Base, Scope: directory.Scope(w.Scope), Filter: w.Filter, Attributes: w.Attributes,
		TypesOnly: w.TypesOnly, SizeLimit: w.SizeLimit, TimeLimit: seconds(w.TimeLimit),
		SDFlags: o.sdFlags, HasSDFlags: o.hasSDFlags, ExtendedDN: o.extendedDN, ShowDeleted: o.showDeleted,
		GlobalCatalog: s.c.at.globalCatalog,
	}
	if o.paged != nil {
		s.paged, s.q.PageSize, s.q.Cookie = true, o.paged.Size, bytes.Clone(o.paged.Cookie)
	}
	return s.prepareSort(o)
}

// prepareSort takes the one key that Active Directory can sort by: [MS-ADTS]
// 3.1.1.3.4.1.13. A search that cannot be sorted goes on unsorted, and says so, unless
// the control is critical: RFC 2891, Section 2.
func (s *searching) prepareSort(o options) error {
	if o.sort == nil {
		return nil
	}
	key := o.sort[0]
	s.sorted = &sortResult{}
	_, known := s.c.s.cfg.Directory.Schema().Attribute(key.Attribute)
	switch {
	case len(o.sort) > 1:
		s.sorted.code = unwillingToPerform
	case !known:
		*s.sorted = sortResult{int(directory.NoSuchAttribute), key.Attribute}
	case key.Rule != "":
		*s.sorted = sortResult{inappropriateMatching, key.Attribute}
	default:
		s.q.Sort, s.q.Reverse = key.Attribute, key.Reverse
		return nil
	}
	if o.sortCritical {
		return fail(unavailableCriticalExtension, 0x2040, "the entries cannot be sorted so") // ERROR_DS_UNAVAILABLE_CRIT_EXTENSION
	}
	return nil
}

// run asks the directory and sends what it finds.
func (s *searching) run(ctx context.Context) error {
	s.buf = buffers.Get().(*buffer)
	defer func() { s.buf.release() }()
	if s.paged && s.q.PageSize == 0 {
		// The end of a search in pages before its last one: RFC 2696, Section 3.
		return s.finish(ctx, directory.SearchResult{}, nil)
	}
	result, err := s.c.s.cfg.Directory.Search(ctx, s.caller, s.q, func(e directory.SearchEntry) error {
		if abandoned(ctx) {
			return ctx.Err()
		}
		return s.entry(e)
	})
	switch {
	case s.err != nil:
		return s.err
	case abandoned(ctx):
		return nil
	}
	return s.finish(ctx, result, err)
}

// entry writes an entry; it is called for one after the other.
func (s *searching) entry(e directory.SearchEntry) error {
	w := ldapmsg.BeginEntry(s.buf.b, s.m.ID, e.DN)
	for _, a := range e.Attributes {
		w.Attribute(a.Name, a.Values)
		if isSecret(a.Name) {
			erase(a.Values)
		}
	}
	s.buf.b = w.End()
	if len(s.buf.b) < flushSize {
		return nil
	}
	s.err = s.c.write(s.buf.b)
	clear(s.buf.b)
	s.buf.b = s.buf.b[:0]
	return s.err
}

// isSecret reports whether the values of an attribute were made for this answer alone
// and are ours to erase: see directory.Directory.Search.
func isSecret(name string) bool {
	return strings.EqualFold(name, "msDS-ManagedPassword") || strings.EqualFold(name, "msKds-RootKeyData")
}

func erase(values [][]byte) {
	for _, v := range values {
		clear(v)
	}
}

// finish sends the rest of the entries and the result in one piece.
func (s *searching) finish(ctx context.Context, result directory.SearchResult, err error) error {
	r := resultOf(err)
	s.c.logResult(ctx, s.m, r, err)
	s.buf.b = ldapmsg.AppendResult(s.buf.b, s.m.ID, ldapmsg.OpSearchDone, r, s.responseControls(result.Cookie)...)
	return s.c.write(s.buf.b)
}

// done is finish for a search that did not begin.
func (s *searching) done(ctx context.Context, err error) error {
	return s.c.respond(ctx, s.m, err, s.responseControls(nil)...)
}

// responseControls are the answers to the request's controls.
func (s *searching) responseControls(cookie []byte) []ldapmsg.Control {
	var out []ldapmsg.Control
	if s.sorted != nil {
		value := ldapmsg.AppendSortResult(nil, s.sorted.code, s.sorted.attribute)
		out = append(out, ldapmsg.Control{Type: adproto.ControlSortResponse, Value: value})
	}
	if s.paged {
		out = append(out, ldapmsg.Control{Type: adproto.ControlPaged, Value: ldapmsg.Paged{Cookie: cookie}.Append(nil)})
	}
	return out
}
