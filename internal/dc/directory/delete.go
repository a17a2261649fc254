package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// linksPerUpdate is how many links of an object that is deleted one transaction
// removes: two rows each.
const linksPerUpdate = store.MaxOps / 2

// Delete deletes an object, or with all below it: [MS-ADTS] 3.1.1.5.5. What is left is
// a tombstone in CN=Deleted Objects, which [Directory.PurgeTombstones] removes in the
// end.
//
// The links of a group of more than 5,000, and the objects of a tree, do not fit into
// one transaction. Links go before the object does, and leaves before what holds them, so
// that whoever is interrupted leaves objects with fewer links and children than before
// and nothing else; deleting again goes on there.
func (d *Directory) Delete(ctx context.Context, c Caller, q DeleteRequest) error {
	for done := false; !done; {
		event := audit.Event{Kind: audit.KindDelete, Object: q.DN}
		err := d.perform(ctx, c, event, func(ch *change) (err error) {
			done, ch.partial, err = ch.delete(q)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// delete takes one step: it unlinks or deletes what there is to delete first. done says
// that this was the object of the request, partial that no object is gone yet.
func (c *change) delete(q DeleteRequest) (done, partial bool, err error) {
	m, err := c.load(q.DN)
	if err != nil {
		return false, false, err
	}
	if err := m.mayDelete(q.Tree); err != nil {
		return false, false, err
	}
	leaf, err := m.leaf(q.Tree)
	if err != nil {
		return false, false, err
	}
	along := leaf.linksAlong()
	more, err := c.UnlinkAll(leaf.e.GUID, along)
	if err == nil && more {
		_, err = c.UnlinkAll(leaf.e.GUID, linksPerUpdate-along)
	}
	if err != nil || more {
		return false, true, err
	}
	return leaf.e.GUID == m.e.GUID, false, leaf.bury()
}

// linksAlong is for how many links the transaction that buries the object has room:
// beside the rows of its indexes, some of which move to those of tombstones, and a few
// of its own.
func (m *modification) linksAlong() int {
	values := 0
	for _, v := range m.e.Values {
		values += len(v)
	}
	const own = 32 // the entry, its old and new name, private rows
	return max(1, (store.MaxOps-2*values-own)/2)
}

// mayDelete reports whether the caller may delete the object.
func (m *modification) mayDelete(tree bool) error {
	if err := m.deletable(); err != nil {
		return err
	}
	if tree {
		return m.require(m.object.DeletesTree(m.caller.Token), "the right to delete the object with all below it")
	}
	parent, err := m.parent()
	if err != nil {
		return err
	}
	return m.require(m.object.Deletes(m.caller.Token, parent), "the right to delete the object")
}

// parent is the object above, as access control sees it.
func (m *modification) parent() (access.Object, error) {
	e, err := m.Get(m.e.Parent)
	if err != nil {
		return access.Object{}, err
	}
	return m.protected(e), nil
}

// deletable refuses to delete what the domain cannot do without ([MS-ADTS]
// 3.1.1.5.5.3), and root keys to all but those who may make them: passwords are
// derived from them.
func (m *modification) deletable() error {
	switch {
	case m.e.Parent.IsZero() || m.isHead():
		return unwilling("the head of a naming context cannot be deleted")
	case m.systemFlags()&flagDisallowDelete != 0:
		return unwilling("the object is protected from deletion")
	case m.flag(m.e, "isCriticalSystemObject"):
		return unwilling("the object is critical to the system")
	case m.isRootKey():
		return m.mayRootKey()
	}
	return nil
}

// Bits of systemFlags of objects: [MS-ADTS] 2.2.10.
const (
	flagDomainDisallowMove   = 0x04000000
	flagDomainDisallowRename = 0x08000000
	flagConfigAllowMove      = 0x20000000
	flagConfigAllowRename    = 0x40000000
	flagDisallowDelete       = 0x80000000
)

func (m *modification) systemFlags() uint32 {
	n, _ := m.number(m.e, "systemFlags")
	return uint32(n)
}

// isHead reports whether the object is the head of a naming context.
func (m *modification) isHead() bool {
	n, _ := m.number(m.e, "instanceType")
	return n&instanceTypeHead != 0
}

// leaf is an object that has none below it: the object itself, or one below it if all
// of them are to be deleted. One that cannot be deleted is an error, before anything
// above it goes.
func (m *modification) leaf(tree bool) (*modification, error) {
	at := m
	for {
		below, err := first(at.Children(at.e.GUID))
		if err != nil || below.IsZero() {
			return at, err
		}
		if !tree {
			return nil, rows.ErrHasChildren
		}
		if at, err = m.loadGUID(below); err != nil {
			return nil, err
		}
		if err := at.deletable(); err != nil {
			return nil, err
		}
	}
}

// first is the first object of a sequence, the zero GUID for none.
func first(seq iter.Seq2[dtyp.GUID, error]) (dtyp.GUID, error) {
	for g, err := range seq {
		return g, err
	}
	return dtyp.GUID{}, nil
}

// bury makes a tombstone of the object, which has no links: without its private rows,
// with few of its attributes, in the container of deleted objects, under a name that
// nobody can give another ([MS-ADTS] 3.1.1.5.5.1).
func (m *modification) bury() error {
	grave, err := m.graveyard()
	if err != nil {
		return err
	}
	above, err := m.Get(m.e.Parent)
	if err != nil {
		return err
	}
	lastParent := m.mustAttribute("lastKnownParent")
	parent, err := m.reference(lastParent, "", above)
	if err != nil {
		return err
	}
	if err := m.ClearPrivate(m.e.GUID); err != nil {
		return err
	}
	for a := range m.e.Values {
		if !survives(a) {
			delete(m.e.Values, a)
		}
	}
	m.set(m.e, "isDeleted", []byte("TRUE"))
	m.set(m.e, lastParent.Name, parent)
	m.set(m.e, "msDS-LastKnownRDN", []byte(m.e.Name))
	m.e.Name = buriedName(m.e.Name, m.e.GUID)
	m.e.Parent = grave
	return m.write()
}

// graveyard is the container of deleted objects of the naming context that the object
// lies in: [MS-ADTS] 6.1.1.4.2.
func (m *modification) graveyard() (dtyp.GUID, error) {
	contexts := []adproto.DN{m.domain.DN()}
	if m.inConfiguration() {
		contexts = []adproto.DN{m.domain.ConfigurationDN(), m.domain.DN()}
	}
	for _, context := range contexts {
		g, err := m.Resolve(adproto.NewDN("CN", "Deleted Objects", context))
		if !errors.Is(err, rows.ErrNotFound) {
			return g, err
		}
	}
	return dtyp.GUID{}, errors.New("the domain has no CN=Deleted Objects")
}

// buriedName is the name of a tombstone: [MS-ADTS] 3.1.1.5.5.
func buriedName(name string, g dtyp.GUID) string {
	const kept = 75 // characters of the old name
	if r := []rune(name); len(r) > kept {
		name = string(r[:kept])
	}
	return fmt.Sprintf("%s\nDEL:%s", name, g)
}

// survives reports whether a tombstone keeps an attribute: [MS-ADTS] 3.1.1.5.5.1.1.
func survives(a *schema.Attribute) bool {
	if a.Name == "objectCategory" || a.Name == "sAMAccountType" {
		return false
	}
	return a.Search&schema.SearchPreserveOnDelete != 0 || slices.Contains([]string{
		"attributeID", "attributeSyntax", "dNReferenceUpdate", "dNSHostName", "flatName", "governsID", "groupType", "instanceType",
		"lDAPDisplayName", "legacyExchangeDN", "mS-DS-CreatorSID", "mSMQOwnerID", "nCName", "nTSecurityDescriptor", "objectClass",
		"objectSid", "oMSyntax", "proxiedObjectName", "sAMAccountName", "securityIdentifier", "sIDHistory", "subClassOf",
		"systemFlags", "trustPartner", "trustDirection", "trustType", "trustAttributes", "userAccountControl",
	}, a.Name)
}

// defaultTombstoneLifetime is that of a new forest, 180 days: [MS-ADTS] 6.1.1.2.4.1.1.
const defaultTombstoneLifetime = 180

// PurgeTombstones removes the tombstones whose lifetime is over, and reports how many
// those were. It is called now and then; a tombstone at a time goes.
func (d *Directory) PurgeTombstones(ctx context.Context) (purged int, err error) {
	var expired []dtyp.GUID
	err = d.View(ctx, func(r *Reader) (err error) { expired, err = r.expiredTombstones(); return err })
	for _, g := range expired {
		if err != nil {
			break
		}
		if err = d.Update(ctx, func(w *Writer) error { return w.purge(g) }); err == nil {
			purged++
		}
	}
	if err != nil {
		return purged, fmt.Errorf("purge tombstones: %w", err)
	}
	return purged, nil
}

func (r *Reader) expiredTombstones() (expired []dtyp.GUID, err error) {
	lifetime, err := r.tombstoneLifetime()
	if err != nil {
		return nil, err
	}
	before := dtyp.FiletimeOf(r.cfg.Now().Add(-lifetime))
	for _, context := range []adproto.DN{r.domain.DN(), r.domain.ConfigurationDN()} {
		grave, err := r.Resolve(adproto.NewDN("CN", "Deleted Objects", context))
		if errors.Is(err, rows.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for g, err := range r.Children(grave) {
			if err != nil {
				return nil, err
			}
			e, err := r.Get(g)
			if err != nil {
				return nil, err
			}
			if rows.Deleted(e) && e.WhenChanged < before {
				expired = append(expired, g)
			}
		}
	}
	return expired, nil
}

// tombstoneLifetime is what CN=Directory Service says: [MS-ADTS] 6.1.1.2.4.1.1.
func (r *Reader) tombstoneLifetime() (time.Duration, error) {
	days := int64(defaultTombstoneLifetime)
	dn := r.domain.ConfigurationDN()
	for _, name := range []string{"Services", "Windows NT", "Directory Service"} {
		dn = adproto.NewDN("CN", name, dn)
	}
	g, err := r.Resolve(dn)
	if err == nil {
		var e *rows.Entry
		if e, err = r.Get(g); err == nil {
			if n, ok := r.number(e, "tombstoneLifetime"); ok && n >= 2 {
				days = n
			}
		}
	}
	if errors.Is(err, rows.ErrNotFound) {
		err = nil
	}
	return time.Duration(days) * 24 * time.Hour, err
}

// purge removes a tombstone.
func (w *Writer) purge(g dtyp.GUID) error {
	e, err := w.Get(g)
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.Delete(e)
}
