package directory

import (
	"errors"
	"fmt"
	"iter"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/secret"
)

// The names of private rows that the directory itself reads. What other packages keep
// beside an account has names of theirs.
const (
	// PrivateTimeline is the timeline of a gMSA, kds.Timeline.Append.
	PrivateTimeline = "timeline"
	// PrivateRootKey is msKds-RootKeyData of a root key.
	PrivateRootKey = "msKds-RootKeyData"
	// PrivateFounding marks the root key with which a domain began: its value is one
	// byte. See kds.RootKey.
	PrivateFounding = "founding"
	// PrivateLogon is what package account counts of an account's logons. Writing it is no
	// change of the directory: see Directory.Changes. To unlock an account is to remove it.
	PrivateLogon = "logon"
)

// Reader reads one state of the directory without access control. It holds for the
// call that it was made for.
type Reader struct {
	*Directory
	r store.Reader
}

// HighestUSN is the update sequence number of the last update that this state contains.
func (r *Reader) HighestUSN() uint64 { return r.r.Revision() }

// Get reads an object. It fails with rows.ErrNotFound.
func (r *Reader) Get(g dtyp.GUID) (*rows.Entry, error) { return r.table.Get(r.r, g) }

// Resolve finds an object by its name. Where there is none it fails with
// rows.ErrNotFound and gives the nearest one above that exists, or the zero GUID.
func (r *Reader) Resolve(dn adproto.DN) (dtyp.GUID, error) { return r.table.Resolve(r.r, dn) }

// DN is the name of an object.
func (r *Reader) DN(e *rows.Entry) (adproto.DN, error) { return r.table.DN(r.r, e) }

// Lookup finds the one object that has a value of an attribute for which rows.Unique
// holds: objectSid, sAMAccountName, servicePrincipalName, userPrincipalName. It fails
// with rows.ErrNotFound.
func (r *Reader) Lookup(a *schema.Attribute, value []byte) (*rows.Entry, error) {
	key, err := a.Syntax.Key(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name, err)
	}
	for g, err := range r.table.Find(r.r, a, key) {
		if err != nil {
			return nil, err
		}
		return r.Get(g)
	}
	return nil, fmt.Errorf("%s %q: %w", a.Name, value, rows.ErrNotFound)
}

// Find yields the objects that have a value of an indexed attribute.
func (r *Reader) Find(a *schema.Attribute, value []byte) iter.Seq2[dtyp.GUID, error] {
	key, err := a.Syntax.Key(value)
	if err != nil {
		return func(yield func(dtyp.GUID, error) bool) { yield(dtyp.GUID{}, fmt.Errorf("%s: %w", a.Name, err)) }
	}
	return r.table.Find(r.r, a, key)
}

// Children are the objects directly below one.
func (r *Reader) Children(g dtyp.GUID) iter.Seq2[dtyp.GUID, error] { return r.table.Children(r.r, g) }

// Links yields the links of an object by attribute a: those from it for a forward link,
// those to it for a back link.
func (r *Reader) Links(a *schema.Attribute, g dtyp.GUID) iter.Seq2[rows.Link, error] {
	return r.table.Links(r.r, a, g)
}

// Reachable is every object that the links of a lead to from g, in one step or more. It
// fails with rows.ErrTooWide after limit objects.
func (r *Reader) Reachable(a *schema.Attribute, g dtyp.GUID, limit int) ([]dtyp.GUID, error) {
	return r.table.Reachable(r.r, a, g, limit)
}

// Private reads and opens a private row of an object. It fails with rows.ErrNotFound.
func (r *Reader) Private(g dtyp.GUID, name string) (secret.Bytes, error) {
	sealed, err := r.table.Private(r.r, g, name)
	if err != nil {
		return secret.Bytes{}, err
	}
	plain, err := r.cfg.Seal.Open(sealed, g, name)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%s of %s: %w", name, g, err)
	}
	return plain, nil
}

// Timeline is the timeline of a gMSA. It fails with rows.ErrNotFound for every other
// object.
func (r *Reader) Timeline(g dtyp.GUID) (kds.Timeline, error) {
	b, err := r.Private(g, PrivateTimeline)
	if err != nil {
		return kds.Timeline{}, err
	}
	return kds.Parse(b.Reveal())
}

// RootKeys are the root keys of the domain. An object that no key can be made of is
// left out: whoever wrote it was told so, and no account may stop working for it.
func (r *Reader) RootKeys() ([]kds.RootKey, error) {
	var keys []kds.RootKey
	for g, err := range r.Find(r.known.objectClass, []byte("msKds-ProvRootKey")) {
		if err != nil {
			return nil, err
		}
		key, err := r.rootKey(g)
		if errors.Is(err, kds.ErrAttribute) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (r *Reader) rootKey(g dtyp.GUID) (kds.RootKey, error) {
	e, err := r.Get(g)
	if err != nil {
		return kds.RootKey{}, err
	}
	data, err := r.Private(g, PrivateRootKey)
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		return kds.RootKey{}, err
	}
	p, err := kds.ParseProvRootKey(func(name string) [][]byte {
		a, ok := r.Schema().Attribute(name)
		switch {
		case ok && a == r.known.rootKeyData && data.Len() > 0:
			return [][]byte{data.Reveal()}
		case ok && a == r.known.cn:
			return [][]byte{[]byte(e.Name)}
		case ok:
			return rows.AsWritten(a, e.Values[a])
		}
		return nil
	})
	if err != nil {
		return kds.RootKey{}, err
	}
	_, err = r.Private(g, PrivateFounding)
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		return kds.RootKey{}, err
	}
	return kds.RootKey{RootKey: p.RootKey, WhenCreated: e.WhenCreated, Founding: err == nil}, nil
}
