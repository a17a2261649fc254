package rows

import (
	"bytes"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// A reference is a stored value that names an object and is no link: of an attribute
// whose syntax is a name and that has no link ID. It begins with a zero byte, which no
// value in the form of LDAP does, and the object's GUID; so the name that is shown can
// be the one that the object has now, however often it was renamed or moved. Behind that
// stands the value as it was written, for when the object is gone.
//
// Names of the schema partition are no references: they have no rows and never change.

// Refers reports whether values of a are stored as references.
func Refers(a *schema.Attribute) bool {
	return a.Syntax.IsDN() && a.LinkID < 0 && !a.Constructed() && a.Name != "distinguishedName"
}

const referenceHeader = 1 + dtyp.GUIDSize

// Reference is a value that names the object g.
func Reference(g dtyp.GUID, value []byte) []byte {
	return slices.Concat([]byte{0}, g[:], value)
}

// ParseReference takes a stored value apart: the object that it names, where ok, and
// the value as it was written. Both share the memory of stored.
func ParseReference(stored []byte) (g dtyp.GUID, value []byte, ok bool) {
	if len(stored) < referenceHeader || stored[0] != 0 {
		return g, stored, false
	}
	return dtyp.GUID(stored[1:referenceHeader]), stored[referenceHeader:], true
}

// AsWritten are stored values without what makes references of them: with the names that
// objects had when the values were written.
func AsWritten(a *schema.Attribute, stored [][]byte) [][]byte {
	if !Refers(a) {
		return stored
	}
	values := make([][]byte, len(stored))
	for i, v := range stored {
		_, values[i], _ = ParseReference(v)
	}
	return values
}

// referenceKey is what references compare by: the object and what stands before its
// name in a DN-binary or DN-string value.
func referenceKey(a *schema.Attribute, g dtyp.GUID, value []byte) ([]byte, error) {
	key := Reference(g, nil)
	if a.Syntax == schema.DN {
		return key, nil
	}
	data, _, err := a.Syntax.SplitDN(value)
	return append(key, bytes.ToUpper([]byte(data))...), err
}

// Key is what a stored value compares by.
func Key(a *schema.Attribute, stored []byte) ([]byte, error) {
	if g, value, ok := ParseReference(stored); ok && Refers(a) {
		return referenceKey(a, g, value)
	}
	return a.Syntax.Key(stored)
}
