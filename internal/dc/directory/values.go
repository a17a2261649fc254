package directory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// described finds the attribute that a client names. The option ";binary" says what
// every value is anyway; others change what is asked for and stand in no write.
func (d *Directory) described(name string) (*schema.Attribute, error) {
	base, option, _ := strings.Cut(name, ";")
	a, ok := d.cfg.Schema.Attribute(base)
	if !ok || option != "" && !strings.EqualFold(option, "binary") {
		return nil, Errorf(NoSuchAttribute, Win32InvalidParameter, "there is no attribute %.64q", name)
	}
	return a, nil
}

// attributeNames are the names of attributes as the client wrote them, for the audit.
func attributeNames(attributes []Attribute) []string {
	names := make([]string, len(attributes))
	for i, a := range attributes {
		names[i] = a.Name
	}
	return names
}

// systemOnly refuses an attribute that only the directory itself writes: [MS-ADTS]
// 3.1.1.5.3.2, with the two that clients write although the schema says otherwise.
func systemOnly(a *schema.Attribute) error {
	switch a.Name {
	case "msDS-AdditionalDnsHostName", "msDS-AllowedToActOnBehalfOfOtherIdentity":
		return nil
	}
	if a.SystemOnly || a.Constructed() || a.BackLink() {
		return Errorf(ConstraintViolation, Win32SystemOnly, "only the directory writes %s", a.Name)
	}
	if ownedBySAM(a) {
		return Errorf(UnwillingToPerform, Win32OwnedBySAM, "only the directory writes %s", a.Name)
	}
	if a.Secret() && a.Name != "unicodePwd" && a.Name != "msKds-RootKeyData" {
		return unwilling("%s cannot be written here", a.Name)
	}
	return nil
}

// ownedBySAM reports whether an attribute is the account manager's alone, although the
// schema lets clients write it ([MS-SAMR] 3.1.1.8): what follows from the kind of an
// account, what is counted of its logons, and SIDs that an account would have beside
// its own.
func ownedBySAM(a *schema.Attribute) bool {
	switch a.Name {
	case "sAMAccountType", "isCriticalSystemObject", "sIDHistory", "badPwdCount", "badPasswordTime",
		"logonCount", "lastLogon", "lastLogoff", "lastLogonTimestamp":
		return true
	}
	return false
}

// values are the values of an attribute in the form in which they are stored: checked
// against syntax and range, each once. Those of links are names in any form.
func (c *change) values(a *schema.Attribute, given [][]byte) ([][]byte, error) {
	if len(given) == 0 {
		return nil, constraint("%s without a value", a.Name)
	}
	if a.ForwardLink() {
		return given, singleValued(a, len(given))
	}
	if len(given) > maxValuesStored {
		return nil, tooMuch("%s has %d values at most", a.Name, maxValuesStored)
	}
	out := make([][]byte, 0, len(given))
	seen := map[string]bool{}
	for _, v := range given {
		stored, err := c.stored(a, v)
		if err != nil {
			return nil, err
		}
		key, err := keyOf(a, stored)
		if err != nil {
			return nil, err
		}
		if seen[key] {
			return nil, Errorf(AttributeOrValueExists, Win32ValueExists, "%s has a value twice", a.Name)
		}
		seen[key] = true
		out = append(out, stored)
	}
	return out, singleValued(a, len(out))
}

func singleValued(a *schema.Attribute, n int) error {
	if a.SingleValued && n > 1 {
		return Errorf(ConstraintViolation, Win32SingleValue, "%s has one value at most", a.Name)
	}
	return nil
}

// keyOf is what a value is compared by.
func keyOf(a *schema.Attribute, v []byte) (string, error) {
	key, err := rows.Key(a, v)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.Name, err)
	}
	return string(key), nil
}

// keyOfGiven is keyOf for a value that a client names, which may be spelled otherwise
// than it is stored.
func (c *change) keyOfGiven(a *schema.Attribute, v []byte) (string, error) {
	if rows.Refers(a) {
		_, name, err := nameIn(a, v)
		if err != nil {
			return "", err
		}
		g, err := c.ResolveTarget(name)
		if err == nil {
			return keyOf(a, rows.Reference(g, v))
		}
		if !isNotFound(err) {
			return "", err
		}
	}
	return keyOf(a, v)
}

// keysOf are the keys of values: an attribute may have thousands, of which a request
// names as many. One that is stored and has no key is equal to none.
func keysOf(a *schema.Attribute, values [][]byte) map[string]bool {
	keys := make(map[string]bool, len(values))
	for _, v := range values {
		if key, err := keyOf(a, v); err == nil {
			keys[key] = true
		}
	}
	return keys
}

// stored checks a value and writes it as it is kept: numbers in plain decimal, names
// as references.
func (c *change) stored(a *schema.Attribute, v []byte) ([]byte, error) {
	if rows.Refers(a) {
		return c.storedName(a, v)
	}
	if err := a.Check(v); err != nil {
		return nil, err
	}
	if !a.Syntax.IsNumber() {
		return slices.Clone(v), nil
	}
	bits := 32
	if a.Syntax == schema.LargeInteger {
		bits = 64
	}
	n, err := schema.ParseNumber(v, bits)
	return strconv.AppendInt(nil, n, 10), err
}

// storedName is a name of another object as it is kept. Objects of the schema partition
// are not rows, and are taken as they are named.
func (c *change) storedName(a *schema.Attribute, v []byte) ([]byte, error) {
	data, name, err := nameIn(a, v)
	if err != nil {
		return nil, err
	}
	dn, err := adproto.ParseDN(name)
	if err == nil && dn.Within(c.domain.SchemaDN()) {
		return nameValue(a, data, dn.String()), nil
	}
	e, err := c.live(name)
	if isNotFound(err) || err == nil && a == c.known.objectCategory {
		return nil, Errorf(ConstraintViolation, Win32NameReference, "%s names an object that does not exist, or is none for it", a.Name)
	}
	if err != nil {
		return nil, err
	}
	return c.reference(a, data, e)
}

// reference is a value that names e, with the data that stands before the name.
func (r *Reader) reference(a *schema.Attribute, data string, e *rows.Entry) ([]byte, error) {
	dn, err := r.DN(e)
	return rows.Reference(e.GUID, nameValue(a, data, dn.String())), err
}

// nameIn is the name in a value of an attribute that names objects, and what stands
// before it.
func nameIn(a *schema.Attribute, v []byte) (data, name string, err error) {
	if a.Syntax == schema.DN {
		return "", string(v), nil
	}
	if data, name, err = a.Syntax.SplitDN(v); err != nil {
		return "", "", fmt.Errorf("%s: %w", a.Name, err)
	}
	return data, name, nil
}

// nameValue is a name, and what stands before it, as a value of the attribute's syntax:
// [MS-ADTS] 3.1.1.2.2.2.3.
func nameValue(a *schema.Attribute, data, dn string) []byte {
	switch a.Syntax {
	case schema.DNBinary:
		return fmt.Appendf(nil, "B:%d:%s:%s", len(data), data, dn)
	case schema.DNString:
		return fmt.Appendf(nil, "S:%d:%s:%s", len(data), data, dn)
	}
	return []byte(dn)
}

// link is the link that a value of a forward link attribute stands for.
func (c *change) link(a *schema.Attribute, e *rows.Entry, value []byte) (rows.Link, *rows.Entry, error) {
	data, name, err := nameIn(a, value)
	l := rows.Link{Source: e.GUID, Data: data}
	if err != nil {
		return l, nil, err
	}
	target, err := c.live(name)
	if err != nil {
		return l, nil, err
	}
	l.Target = target.GUID
	return l, target, nil
}
