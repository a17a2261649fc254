package krb5

import (
	"slices"
	"strings"
)

// NameType says what kind of name a [PrincipalName] is: RFC 4120, Section 6.2,
// and [MS-KILE] 3.1.5.2 for the enterprise name. It is a hint: two names whose
// components agree are the same principal.
type NameType int32

// The name types that Active Directory and its clients use.
const (
	NameUnknown    NameType = 0  // NT-UNKNOWN
	NamePrincipal  NameType = 1  // NT-PRINCIPAL: a user or a computer
	NameSrvInst    NameType = 2  // NT-SRV-INST: krbtgt, kadmin/changepw
	NameSrvHst     NameType = 3  // NT-SRV-HST: service/host
	NameEnterprise NameType = 10 // NT-ENTERPRISE: user@suffix in one component (RFC 6806, Section 5)
	NameWellKnown  NameType = 11 // NT-WELLKNOWN (RFC 8062)
)

// PrincipalName is a name within a realm: RFC 4120, Section 5.2.2.
type PrincipalName struct {
	Type       NameType
	Components []string
}

// Principal is a name and the realm it belongs to.
type Principal struct {
	Realm string
	Name  PrincipalName
}

// NewName makes a name of its components.
func NewName(t NameType, components ...string) PrincipalName {
	return PrincipalName{Type: t, Components: components}
}

// Equal compares the components and ignores the type: RFC 4120, Section 6.2
// calls the type a hint.
func (n PrincipalName) Equal(o PrincipalName) bool {
	return slices.Equal(n.Components, o.Components)
}

// EqualFold is [PrincipalName.Equal] without regard to case, as Active
// Directory compares names.
func (n PrincipalName) EqualFold(o PrincipalName) bool {
	return slices.EqualFunc(n.Components, o.Components, strings.EqualFold)
}

// String joins the components with '/', quoting as RFC 1964, Section 2.1.3
// does: a backslash before '/', '@' and itself.
func (n PrincipalName) String() string {
	var b strings.Builder
	for i, c := range n.Components {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(nameQuoter.Replace(c))
	}
	return b.String()
}

var nameQuoter = strings.NewReplacer(`\`, `\\`, `/`, `\/`, `@`, `\@`, "\n", `\n`, "\t", `\t`, "\b", `\b`, "\x00", `\0`)

// Equal compares realm and name exactly.
func (p Principal) Equal(o Principal) bool { return p.Realm == o.Realm && p.Name.Equal(o.Name) }

// String is name@REALM.
func (p Principal) String() string { return p.Name.String() + "@" + p.Realm }
