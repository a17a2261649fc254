package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrClass is wrapped when classes cannot make an object together
	// (objectClassViolation, LDAP 65).
	ErrClass = errors.New("object class violation")
	// ErrNaming is wrapped when an object cannot have that name or place
	// (namingViolation, LDAP 64).
	ErrNaming = errors.New("naming violation")
)

// ObjectClass is the classes of one object.
type ObjectClass struct {
	// Classes is what the attribute objectClass says: top first, auxiliary
	// classes that the object was given, then the chain of superclasses down to
	// the most specific structural class, which is last ([MS-ADTS] 3.1.1.2.4.6).
	Classes []*Class
	// all is Classes and the auxiliary classes that these bring with them.
	all []*Class
}

// Structural is the most specific structural class.
func (o ObjectClass) Structural() *Class { return o.Classes[len(o.Classes)-1] }

// Has reports whether the object is of the class, auxiliary ones that its
// classes bring with them included.
func (o ObjectClass) Has(class string) bool {
	return slices.ContainsFunc(o.all, func(c *Class) bool { return strings.EqualFold(c.Name, class) })
}

// Names are the values of objectClass.
func (o ObjectClass) Names() []string {
	out := make([]string, len(o.Classes))
	for i, c := range o.Classes {
		out[i] = c.Name
	}
	return out
}

// Expand completes the classes that a client named, in any order and often only
// the most specific one, to those of the object ([MS-ADTS] 3.1.1.5.2.2). All
// structural classes among them must lie on one chain of superclasses; an
// abstract class may be named only if it lies on it. Errors wrap ErrClass.
func (s *Schema) Expand(names ...string) (ObjectClass, error) {
	var leaf *Class
	var auxiliary, named []*Class
	for _, n := range names {
		c, ok := s.Class(n)
		if !ok {
			return ObjectClass{}, fmt.Errorf("%w: no class %q", ErrClass, n)
		}
		switch {
		case c.Category == Auxiliary:
			if !slices.Contains(auxiliary, c) {
				auxiliary = append(auxiliary, c)
			}
			continue
		case c.Category != Abstract && (leaf == nil || slices.Contains(s.chain(c), leaf)):
			leaf = c
		}
		named = append(named, c)
	}
	if leaf == nil {
		return ObjectClass{}, fmt.Errorf("%w: no structural class among %q", ErrClass, names)
	}
	chain := s.chain(leaf)
	for _, c := range named {
		if !slices.Contains(chain, c) {
			return ObjectClass{}, fmt.Errorf("%w: %s is not a superclass of %s", ErrClass, c.Name, leaf.Name)
		}
	}
	slices.Reverse(chain)
	var o ObjectClass
	o.Classes = append(append(append(o.Classes, chain[0]), auxiliary...), chain[1:]...)
	for _, c := range o.Classes {
		s.withAuxiliary(&o.all, c)
	}
	return o, nil
}

// chain is c and its superclasses, top last. Only top is its own superclass.
func (s *Schema) chain(c *Class) []*Class {
	out := []*Class{c}
	for !strings.EqualFold(c.SubClassOf, c.Name) {
		c, _ = s.Class(c.SubClassOf)
		out = append(out, c)
	}
	return out
}

// withAuxiliary adds c, its superclasses and all auxiliary classes that these
// bring, each once.
func (s *Schema) withAuxiliary(all *[]*Class, c *Class) {
	if slices.Contains(*all, c) {
		return
	}
	*all = append(*all, c)
	for _, n := range append([]string{c.SubClassOf}, c.Auxiliary...) {
		if aux, ok := s.Class(n); ok {
			s.withAuxiliary(all, aux)
		}
	}
}

// Must are the names of the attributes that the object must have, sorted. The
// directory fills in those that are its own.
func (o ObjectClass) Must() []string {
	return o.collect(func(c *Class) []string { return c.Must })
}

// May are the names of all other attributes that it may have, sorted.
func (o ObjectClass) May() []string {
	may := o.collect(func(c *Class) []string { return c.May })
	must := o.Must()
	return slices.DeleteFunc(may, func(n string) bool { _, ok := slices.BinarySearchFunc(must, n, compareFold); return ok })
}

func (o ObjectClass) collect(of func(*Class) []string) []string {
	var out []string
	for _, c := range o.all {
		out = append(out, of(c)...)
	}
	slices.SortFunc(out, compareFold)
	return slices.CompactFunc(out, strings.EqualFold)
}

func compareFold(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }

// Allows reports whether the object may have the attribute.
func (o ObjectClass) Allows(a *Attribute) bool {
	is := func(n string) bool { return strings.EqualFold(n, a.Name) }
	return slices.ContainsFunc(o.all, func(c *Class) bool {
		return slices.ContainsFunc(c.Must, is) || slices.ContainsFunc(c.May, is)
	})
}

// RDN is the name of the naming attribute: that of the nearest class on the
// chain that has one, "cn" for most.
func (o ObjectClass) RDN() string {
	for _, c := range slices.Backward(o.Classes) {
		if c.RDN != "" {
			return c.RDN
		}
	}
	return "cn"
}

// CheckClasses reports whether a client may make an object of these classes
// below a parent, and name it with the attribute rdn: the most specific class is
// not the directory's own, one of the classes of the parent is a possible
// superior of it or of its superclasses ([MS-ADTS] 3.1.1.5.2.2), and rdn is its
// naming attribute. Errors wrap ErrClass or ErrNaming.
func (s *Schema) CheckClasses(child, parent ObjectClass, rdn string) error {
	leaf := child.Structural()
	if leaf.SystemOnly {
		return fmt.Errorf("%w: only the directory makes objects of %s", ErrClass, leaf.Name)
	}
	if a, ok := s.Attribute(rdn); !ok || !strings.EqualFold(a.Name, child.RDN()) {
		return fmt.Errorf("%w: the name of a %s begins with %s=, not %s=", ErrNaming, leaf.Name, child.RDN(), rdn)
	}
	if !s.MayLieBelow(leaf, parent) {
		return fmt.Errorf("%w: a %s cannot lie below a %s", ErrNaming, leaf.Name, parent.Structural().Name)
	}
	return nil
}

// MayLieBelow reports whether one of the classes of the parent is a possible superior
// of c or of its superclasses.
func (s *Schema) MayLieBelow(c *Class, parent ObjectClass) bool {
	return slices.ContainsFunc(s.chain(c), func(c *Class) bool { return slices.ContainsFunc(c.Superiors, parent.isOrExtends) })
}

// isOrExtends reports whether the class of that name is on the structural
// chain: an object of a class can hold what its superclasses can.
func (o ObjectClass) isOrExtends(class string) bool {
	return slices.ContainsFunc(o.Classes, func(c *Class) bool {
		return c.Category != Auxiliary && strings.EqualFold(c.Name, class)
	})
}

// CheckPresent reports mandatory attributes that are missing and present ones
// that are not allowed. The error
// wraps ErrClass and names the first.
func (o ObjectClass) CheckPresent(present []*Attribute) error {
	for _, must := range o.Must() {
		if !slices.ContainsFunc(present, func(a *Attribute) bool { return strings.EqualFold(a.Name, must) }) {
			return fmt.Errorf("%w: a %s must have %s", ErrClass, o.Structural().Name, must)
		}
	}
	for _, a := range present {
		if !o.Allows(a) {
			return fmt.Errorf("%w: a %s cannot have %s", ErrClass, o.Structural().Name, a.Name)
		}
	}
	return nil
}
