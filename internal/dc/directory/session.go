package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// maxDepth bounds the walk from an object to the head of the domain.
const maxDepth = 128

// session is what one caller sees of one state of the directory.
type session struct {
	*Reader
	caller Caller
	token  *tokenRights // nil for the controller itself
	// How the caller wants to see it.
	extended      ExtendedDN
	showDeleted   bool
	globalCatalog bool

	// parent is the object whose name was asked for last, and parentName that name:
	// most answers name siblings one after the other.
	parent     dtyp.GUID
	parentName string
	// recent are the objects that were read last: an object's parent is asked for over
	// and over.
	recent     [4]*object
	nextRecent int
	// inForce is of the gMSA that was looked at last.
	inForce  inForce
	targets  []resolvedName
	chains   []chain
	revision uint64 // of the state that they are of
	// view is the one entry that is looked at; filters keep none.
	view view
	// err is the first failure of a store inside of a filter, which has no errors.
	err error
	// spent is what was done so far of maxWork.
	spent int
}

// maxWork is what one search may do, in comparisons of a filter over all entries that are
// visited, or what costs as much: half a second of a processor, and 50 comparisons for each
// of 100,000 entries.
const maxWork = 5_000_000

// Prices of what is more than a comparison.
const (
	linkWork  = 40   // a step along links, so that maxChain of them are affordable
	valueWork = 256  // bytes of a value that a comparison goes through
	listWork  = 5000 // a list of what may be written or made, which asks for hundreds of rights
)

// spend counts work and fails where there was too much.
func (s *session) spend(work int) error {
	if s.spent += work; s.spent <= maxWork {
		return nil
	}
	return Errorf(AdminLimitExceeded, Win32AdminLimit, "the search costs more than %d comparisons: narrow it", maxWork)
}

func (d *Directory) session(c Caller) *session {
	s := &session{Reader: d.reader(nil), caller: c} // of no state yet, see begin
	if !c.Controller {
		s.token = d.cached.token(c.Token)
	}
	return s
}

// begin turns the session to another state of the directory. Chains stay while it is the
// same one, for they can cost more than all else.
func (s *session) begin(r *Reader) {
	s.Reader, s.parentName, s.targets = r, "", nil
	s.recent, s.inForce = [4]*object{}, inForce{}
	if revision := r.HighestUSN(); revision != s.revision {
		s.revision = revision
		for i := range s.chains {
			s.chains[i].members = nil
		}
	}
}

// rights is what the caller may do with an object.
func (s *session) rights(o *object) *rights {
	if s.token == nil {
		return controllers
	}
	return s.token.on(o)
}

// controllers is what the controller itself may do with any object.
var controllers = &rights{all: true}

// object reads an object, of the schema partition too. It fails with rows.ErrNotFound.
func (s *session) object(g dtyp.GUID) (*object, error) { return s.load(g, true) }

// load is object, and says whether others are likely to ask for it again.
func (s *session) load(g dtyp.GUID, keep bool) (*object, error) {
	for _, o := range s.recent {
		if o != nil && o.GUID == g {
			return o, nil
		}
	}
	o, err := s.read(g, keep)
	if err == nil {
		s.recent[s.nextRecent] = o
		s.nextRecent = (s.nextRecent + 1) % len(s.recent)
	}
	return o, err
}

func (s *session) read(g dtyp.GUID, keep bool) (*object, error) {
	o, revision := s.cached.object(g)
	e, err := s.table.GetNewer(s.r, g, revision)
	if errors.Is(err, rows.ErrNotFound) {
		if o, ok := s.schemaObject(g); ok {
			return o, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if e == nil {
		return o, nil
	}
	o = s.newObject(e)
	if keep {
		s.cached.keep(o)
	}
	return o, nil
}

// look turns the session's view to an object.
func (s *session) look(o *object) *view {
	s.view = view{session: s, o: o, rights: s.rights(o)}
	return &s.view
}

// name is the distinguished name of an object.
func (s *session) name(o *object) (string, error) {
	if o.Parent.IsZero() {
		return s.domainDN, nil
	}
	if s.parentName != "" && s.parent == o.Parent {
		return o.rdn + "," + s.parentName, nil
	}
	var b strings.Builder
	b.WriteString(o.rdn)
	first := o.Parent
	at, start := o, 0
	for range maxDepth {
		parent, err := s.object(at.Parent)
		if err != nil {
			return "", fmt.Errorf("parent of %s: %w", at.GUID, err)
		}
		b.WriteByte(',')
		if start == 0 {
			start = b.Len()
		}
		if parent.Parent.IsZero() {
			b.WriteString(s.domainDN)
			s.parent, s.parentName = first, b.String()[start:]
			return b.String(), nil
		}
		b.WriteString(parent.rdn)
		at = parent
	}
	return "", fmt.Errorf("%w: %s lies more than %d deep", rows.ErrCorrupt, o.GUID, maxDepth)
}

// shownName is the name of an object in the form that the caller asked for.
func (s *session) shownName(o *object) (string, error) {
	dn, err := s.name(o)
	if err != nil || s.extended == PlainDN {
		return dn, err
	}
	guid, sid := o.GUID.String(), o.sid.String()
	if s.extended == ExtendedHex {
		guid, sid = fmt.Sprintf("%x", o.GUID[:]), fmt.Sprintf("%x", o.sid.Bytes())
	}
	if !o.sid.IsZero() {
		guid += ">;<SID=" + sid
	}
	return "<GUID=" + guid + ">;" + dn, nil
}

// visible reports whether the object is there for the caller ([MS-ADTS] 3.1.1.3.1.3,
// 5.1.3.3.5): its parent lists its children, something of it can be read, and it is no
// tombstone that nobody asked for.
func (s *session) visible(o *object) (bool, error) {
	if o.deleted(s.Directory) && !s.showDeleted {
		return false, nil
	}
	if s.caller.Controller {
		return true, nil
	}
	if !o.Parent.IsZero() {
		parent, err := s.object(o.Parent)
		if err != nil {
			return false, err
		}
		if !s.rights(parent).listable() {
			return false, nil
		}
	}
	r := s.rights(o)
	if r.readable(s.known.objectClass) {
		return true, nil
	}
	return slices.ContainsFunc(o.stored, r.readable) || r.readable(s.known.name) || r.readable(s.known.objectGUID), nil
}

// find reads the object that a request names. One that the caller cannot see is not
// there.
func (s *session) find(name string) (*object, error) {
	g, err := s.resolve(name)
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		return nil, err
	}
	if err := s.refer(g, name); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, s.absent(g, err)
	}
	o, err := s.object(g)
	if err != nil {
		return nil, err
	}
	seen, err := s.visible(o)
	if err != nil {
		return nil, err
	}
	if !seen {
		return nil, s.absent(o.Parent, fmt.Errorf("%s cannot be seen: %w", g, rows.ErrNotFound))
	}
	return o, nil
}

// resolve is ResolveTarget with the names of the schema partition, and with names that
// were found before.
func (s *session) resolve(name string) (dtyp.GUID, error) {
	revision := s.r.Revision()
	if g, ok := s.cached.name(name, revision); ok {
		return g, nil
	}
	t, err := parseTarget(name)
	if err != nil {
		return dtyp.GUID{}, err
	}
	if t.known == "" && t.dn.Within(s.schemaDN) {
		return s.resolveSchema(t.dn)
	}
	g, err := s.resolveTarget(t)
	if errors.Is(err, rows.ErrNotFound) && !t.guid.IsZero() {
		if _, ok := s.schemaObject(t.guid); ok {
			return t.guid, nil
		}
	}
	if err == nil {
		s.cached.keepName(name, g, revision)
	}
	return g, err
}

// absent is the result for a name that leads to nothing: nearest is the object above
// it that exists, of which the client is told the nearest one that it can see.
func (s *session) absent(nearest dtyp.GUID, cause error) error {
	e := &Error{Code: NoSuchObject, Win32: Win32ObjectNotFound, Err: cause}
	for range maxDepth {
		if nearest.IsZero() {
			break
		}
		o, err := s.object(nearest)
		if err != nil {
			break
		}
		if seen, err := s.visible(o); err == nil && seen {
			e.Matched, _ = s.name(o) // without one nothing matched
			break
		}
		nearest = o.Parent
	}
	e.Message = fmt.Sprintf("NameErr: problem 2001 (NO_OBJECT), data 0, best match of: '%s'", e.Matched)
	return e
}

// resolvedName is a name in a filter with the object that it stands for.
type resolvedName struct {
	dn    *adproto.RDN // the first part of the name: filters do not change while they are used
	guid  dtyp.GUID
	found bool
}

// target finds the object that a name in a filter stands for, once.
func (s *session) target(dn adproto.DN) (dtyp.GUID, bool) {
	if len(dn) == 0 {
		return dtyp.GUID{}, false
	}
	for _, t := range s.targets {
		if t.dn == &dn[0] {
			return t.guid, t.found
		}
	}
	g, err := s.Resolve(dn)
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		s.fail(err)
	}
	s.targets = append(s.targets, resolvedName{&dn[0], g, err == nil})
	return g, err == nil
}

func (s *session) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}
