package directory

import (
	"slices"
	"strconv"

	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// draft is an object as a change leaves it, before it is written: for [Directory.Add]
// and [Directory.Modify] alike, so that no rule can hold for one of them only.
type draft struct {
	*change
	old   *rows.Entry // what is stored; nil: the object is new
	e     *rows.Entry
	class schema.ObjectClass
}

// changed reports whether an attribute has other values than before.
func (d *draft) changed(name string) bool {
	a := d.mustAttribute(name)
	if d.old == nil {
		return len(d.e.Values[a]) > 0
	}
	return !slices.EqualFunc(d.old.Values[a], d.e.Values[a], slices.Equal)
}

// added are the values that an attribute did not have before.
func (d *draft) added(name string) (added [][]byte) {
	a := d.mustAttribute(name)
	var had map[string]bool
	if d.old != nil {
		had = keysOf(a, d.old.Values[a])
	}
	for _, v := range d.e.Values[a] {
		if key, err := keyOf(a, v); err != nil || !had[key] {
			added = append(added, v)
		}
	}
	return added
}

func (d *draft) setNumber(name string, n int64) { d.set(d.e, name, strconv.AppendInt(nil, n, 10)) }

// setDefault gives an attribute a value if it has none and the object can have it.
func (d *draft) setDefault(name, value string) {
	a := d.mustAttribute(name)
	if len(d.e.Values[a]) == 0 && d.class.Allows(a) {
		d.e.Values[a] = [][]byte{[]byte(value)}
	}
}

func (d *draft) isAccount() bool { return d.class.Has("user") }
func (d *draft) isMachine() bool { return d.class.Has("computer") }
func (d *draft) isGroup() bool   { return d.class.Has("group") }
func (d *draft) isGMSA() bool    { return d.class.Has(classGMSA) }
func (d *draft) isRootKey() bool { return d.class.Has(classRootKey) }

// settle judges the values of attributes that have rules of their own, and completes
// those that follow from others.
func (d *draft) settle() error {
	for _, rule := range []func() error{
		d.settleAccountName, d.settlePrincipalName, d.renameSPNs, d.settleSPNs, d.settleAccountControl,
		d.settleDelegation, d.settlePasswordTime, d.settleLockout, d.settleGroupType, d.settlePrimaryGroup, d.settleReaders,
	} {
		if err := rule(); err != nil {
			return err
		}
	}
	return nil
}
