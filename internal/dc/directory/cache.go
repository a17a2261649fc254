package directory

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// The limits of what is kept between searches: in entries, descriptors and callers. A
// table that is full is emptied, which costs a domain that does not fit a few
// microseconds an entry and needs no account of who was used when.
const (
	maxObjects     = 4096
	maxDescriptors = 512
	maxTokens      = 128
	maxRights      = 64 // of one caller, each about 1 KiB
	maxNames       = 1024
	// maxCachedName bounds the text by which somebody asked for an object, in bytes.
	maxCachedName = 256
)

// cached is what searches found out and others need again. Nothing in it can be out of
// date: an object counts for the revision of its row, a name for the revision of the
// store, rights for the bytes of a descriptor and the SIDs of a token.
type cached struct {
	seed maphash.Seed // immutable

	mu          sync.RWMutex
	objects     map[dtyp.GUID]*object
	descriptors map[string]*secdesc.SecurityDescriptor
	tokens      map[uint64]*tokenRights
	// names are the objects that texts of distinguished names stood for at namesAt.
	names   map[string]dtyp.GUID
	namesAt uint64
}

func newCached() *cached {
	return &cached{
		seed:        maphash.MakeSeed(),
		objects:     map[dtyp.GUID]*object{},
		descriptors: map[string]*secdesc.SecurityDescriptor{},
		tokens:      map[uint64]*tokenRights{},
		names:       map[string]dtyp.GUID{},
	}
}

// object is an entry with what its descriptor and classes say of it. It is immutable.
type object struct {
	*rows.Entry
	sd    *secdesc.SecurityDescriptor
	class dtyp.GUID // schemaIDGUID of its most specific structural class
	sid   dtyp.SID  // zero for none
	rdn   string    // CN=alice, escaped
	// stored are the attributes of Values by name: maps have no order of their own.
	stored []*schema.Attribute
	// virtual says that it is of the schema partition and in no store.
	virtual bool
}

// nobodys is the descriptor of an object that has none, or one that cannot be read:
// nothing is granted by it.
var nobodys = &secdesc.SecurityDescriptor{DACL: &secdesc.ACL{Revision: secdesc.RevisionDS}}

// newObject reads what an entry says of itself.
func (d *Directory) newObject(e *rows.Entry) *object {
	o := &object{Entry: e, sd: nobodys, rdn: strings.ToUpper(e.RDN.Name) + "=" + adproto.EscapeDN(e.Name)}
	if v := e.Values[d.known.securityDescriptor]; len(v) > 0 {
		o.sd = d.cached.descriptor(v[0])
	}
	if classes := e.Values[d.known.objectClass]; len(classes) > 0 {
		if c, ok := d.cfg.Schema.Class(string(classes[len(classes)-1])); ok {
			o.class = c.GUID
		}
	}
	if v := e.Values[d.known.objectSid]; len(v) > 0 {
		o.sid, _ = dtyp.SIDFromBytes(v[0]) // the zero SID is what an object without one has
	}
	o.stored = make([]*schema.Attribute, 0, len(e.Values))
	for a := range e.Values {
		o.stored = append(o.stored, a)
	}
	slices.SortFunc(o.stored, func(a, b *schema.Attribute) int { return strings.Compare(a.Name, b.Name) })
	return o
}

// is reports whether the object is of the class.
func (o *object) is(d *Directory, class string) bool {
	return slices.ContainsFunc(o.Values[d.known.objectClass], func(v []byte) bool { return string(v) == class })
}

// one is the first value of an attribute, nil where it has none.
func (o *object) one(a *schema.Attribute) []byte {
	if v := o.Values[a]; len(v) > 0 {
		return v[0]
	}
	return nil
}

// number is the value of an attribute of integers, 0 where it has none.
func (o *object) number(a *schema.Attribute) int64 {
	n, _ := schema.ParseNumber(o.one(a), 64) // nothing else is stored
	return n
}

// deleted reports whether the object is a tombstone.
func (o *object) deleted(d *Directory) bool { return string(o.one(d.known.isDeleted)) == "TRUE" }

// object finds an object, and the revision of the row that it was made of: 0, which no
// row has, where none is kept.
func (c *cached) object(g dtyp.GUID) (o *object, revision uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if o = c.objects[g]; o != nil {
		revision = o.USNChanged
	}
	return o, revision
}

func (c *cached) keep(o *object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.objects) >= maxObjects {
		clear(c.objects)
	}
	c.objects[o.GUID] = o
}

// name finds the object that a text named at a revision of the store.
func (c *cached) name(text string, revision uint64) (dtyp.GUID, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	g, ok := c.names[text]
	return g, ok && c.namesAt == revision
}

func (c *cached) keepName(text string, g dtyp.GUID, revision uint64) {
	if len(text) > maxCachedName {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.namesAt != revision || len(c.names) >= maxNames {
		clear(c.names)
		c.namesAt = revision
	}
	c.names[text] = g
}

// descriptor parses a descriptor once: most objects of a domain share a few.
func (c *cached) descriptor(b []byte) *secdesc.SecurityDescriptor {
	c.mu.RLock()
	sd, ok := c.descriptors[string(b)]
	c.mu.RUnlock()
	if ok {
		return sd
	}
	parsed, err := secdesc.Parse(b)
	if err != nil {
		return nobodys
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sd, ok := c.descriptors[string(b)]; ok {
		return sd
	}
	if len(c.descriptors) >= maxDescriptors {
		clear(c.descriptors)
	}
	c.descriptors[string(b)] = &parsed
	return &parsed
}

// tokenRights is what one token may do, by descriptor.
type tokenRights struct {
	token secdesc.Token // immutable

	mu     sync.Mutex
	rights map[rightsKey]*rights
}

// rightsKey is all that rights on an object depend on beside the token: the descriptor,
// the class, and the object's own SID where the token has it, because entries for
// PRINCIPAL_SELF count for nobody else.
type rightsKey struct {
	sd    *secdesc.SecurityDescriptor
	class dtyp.GUID
	self  dtyp.SID
}

// rights is what a token may do with all objects of one descriptor and class.
type rights struct {
	token  secdesc.Token // immutable
	object access.Object // immutable
	all    bool          // the controller itself; immutable

	mu    sync.Mutex
	read  map[*schema.Attribute]bool
	lists *bool
}

// token finds what is known of a token, by its SIDs: two with the same ones have the
// same rights.
func (c *cached) token(t secdesc.Token) *tokenRights {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, list := range [][]dtyp.SID{t.SIDs, t.DenyOnly} {
		maphash.WriteComparable(&h, len(list))
		for _, sid := range list {
			maphash.WriteComparable(&h, sid)
		}
	}
	key := h.Sum64()
	c.mu.RLock()
	known, ok := c.tokens[key]
	c.mu.RUnlock()
	if ok && known.is(t) {
		return known
	}
	t.SIDs, t.DenyOnly = slices.Clone(t.SIDs), slices.Clone(t.DenyOnly)
	known = &tokenRights{token: t, rights: map[rightsKey]*rights{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tokens) >= maxTokens {
		clear(c.tokens)
	}
	c.tokens[key] = known
	return known
}

func (t *tokenRights) is(o secdesc.Token) bool {
	return t.token.Privileges == o.Privileges && slices.Equal(t.token.SIDs, o.SIDs) && slices.Equal(t.token.DenyOnly, o.DenyOnly)
}

// on is what the token may do with an object.
func (t *tokenRights) on(o *object) *rights {
	key := rightsKey{sd: o.sd, class: o.class}
	if !o.sid.IsZero() && (slices.Contains(t.token.SIDs, o.sid) || slices.Contains(t.token.DenyOnly, o.sid)) {
		key.self = o.sid
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.rights[key]
	if !ok {
		if len(t.rights) >= maxRights {
			clear(t.rights)
		}
		r = &rights{token: t.token, object: access.Object{SD: key.sd, Class: key.class, SID: key.self},
			read: map[*schema.Attribute]bool{}}
		t.rights[key] = r
	}
	return r
}

// readable is access.Object.Readable, once for each attribute.
func (r *rights) readable(a *schema.Attribute) bool {
	if r.all {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	may, known := r.read[a]
	if !known {
		may = r.object.Readable(r.token, a)
		r.read[a] = may
	}
	return may
}

// listable reports whether the children can be seen.
func (r *rights) listable() bool {
	if r.all {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lists == nil {
		may := r.object.Lists(r.token)
		r.lists = &may
	}
	return *r.lists
}
