package directory

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/secret"
)

// Writer changes the directory without access control, and without the rules that
// [Directory.Add] and its like hold clients to. It holds for the call that it was made
// for, and sees what it wrote.
type Writer struct {
	Reader
	tx store.Tx
	// rootKeys says that a root key was written or deleted.
	rootKeys bool
	// heirs says that objects are to inherit descriptors anew: see Directory.Inherit.
	heirs bool
	// counts says that something was written besides counters of logons.
	counts bool
}

// Insert writes a new object. It fails as rows.Table.Insert does.
func (w *Writer) Insert(e *rows.Entry) error {
	w.notice(e)
	return w.table.Insert(w.tx, e)
}

// Replace writes an object in the place of what is stored of it. It fails as
// rows.Table.Replace does.
func (w *Writer) Replace(e *rows.Entry) error {
	w.notice(e)
	return w.table.Replace(w.tx, e)
}

// Delete removes an object that has no children and no links.
func (w *Writer) Delete(e *rows.Entry) error {
	w.notice(e)
	return w.table.Delete(w.tx, e.GUID)
}

func (w *Writer) notice(e *rows.Entry) {
	w.counts = true
	for _, class := range e.Values[w.known.objectClass] {
		w.rootKeys = w.rootKeys || string(class) == "msKds-ProvRootKey"
	}
}

// Link writes a link. It fails as rows.Table.Link does.
func (w *Writer) Link(a *schema.Attribute, l rows.Link) error {
	w.counts = true
	return w.table.Link(w.tx, a, l)
}

// Unlink removes a link. It fails with rows.ErrNotFound.
func (w *Writer) Unlink(a *schema.Attribute, l rows.Link) error {
	w.counts = true
	return w.table.Unlink(w.tx, a, l)
}

// UnlinkAll removes at most limit links to and from an object and reports whether there
// are more.
func (w *Writer) UnlinkAll(g dtyp.GUID, limit int) (more bool, err error) {
	w.counts = true
	return w.table.UnlinkAll(w.tx, g, limit)
}

// SetPrivate encrypts and writes a private row of an object; a value of no bytes
// removes it.
func (w *Writer) SetPrivate(g dtyp.GUID, name string, value secret.Bytes) error {
	w.counts = w.counts || name != PrivateLogon
	w.rootKeys = w.rootKeys || name == PrivateRootKey || name == PrivateFounding
	if value.Len() == 0 {
		return w.table.SetPrivate(w.tx, g, name, nil)
	}
	sealed, err := w.cfg.Seal.Seal(nil, value.Reveal(), g, name)
	if err != nil {
		return fmt.Errorf("seal %s of %s: %w", name, g, err)
	}
	return w.table.SetPrivate(w.tx, g, name, sealed)
}

// ClearPrivate removes all private rows of an object.
func (w *Writer) ClearPrivate(g dtyp.GUID) error { return w.table.ClearPrivate(w.tx, g) }

// metaNextRID is the name of the row with the RID that the next account gets.
const metaNextRID = "nextRID"

// NextSID gives out a SID of the domain that no object has had.
func (w *Writer) NextSID() (dtyp.SID, error) {
	rid := uint32(dtyp.RIDFirstAllocated)
	b, err := rows.Meta(w.tx, metaNextRID)
	switch {
	case err == nil && len(b) == 4:
		rid = binary.BigEndian.Uint32(b)
	case err == nil:
		return dtyp.SID{}, fmt.Errorf("%w: %s of %d bytes", rows.ErrCorrupt, metaNextRID, len(b))
	case !errors.Is(err, rows.ErrNotFound):
		return dtyp.SID{}, err
	}
	// RIDs come from a range of the domain's own ([MS-SAMR] 3.1.1.9.2.1), which in AD ends at
	// 2^30 until an administrator unlocks another bit.
	if rid >= 1<<30 {
		return dtyp.SID{}, errors.New("the domain has no more RIDs to give")
	}
	w.counts = true
	return w.domain.SID.Child(rid), rows.SetMeta(w.tx, metaNextRID, binary.BigEndian.AppendUint32(nil, rid+1))
}
