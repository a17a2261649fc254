package directory

import (
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Names of objects in requests are texts as they came: a distinguished name, or one of
// the forms <GUID=…>, <SID=…> and <WKGUID=…,DN> ([MS-ADTS] 3.1.1.3.1.2.4). Names of
// attributes are texts too, with their options.

// Attribute is an attribute with its values in the form that LDAP carries.
type Attribute struct {
	Name   string
	Values [][]byte
}

// Scope is how far a search goes: RFC 4511, Section 4.5.1.2.
type Scope int

// The scopes.
const (
	ScopeBase    Scope = 0
	ScopeOne     Scope = 1
	ScopeSubtree Scope = 2
)

// ExtendedDN is how names of objects are written in an answer: LDAP_SERVER_EXTENDED_DN
// of [MS-ADTS] 3.1.1.3.4.1.5.
type ExtendedDN int

// The forms of names.
const (
	PlainDN       ExtendedDN = iota
	ExtendedHex              // <GUID=8c…>;<SID=01…>;CN=…
	ExtendedTexts            // <GUID=4d1b…-…>;<SID=S-1-…>;CN=…
)

// SearchRequest is a search.
type SearchRequest struct {
	Base       string
	Scope      Scope
	Filter     adproto.Filter
	Attributes []string // none, "*" and "+" as RFC 4511, Section 4.5.1.8 has them
	TypesOnly  bool
	SizeLimit  int // of entries; 0: the directory's own
	TimeLimit  time.Duration

	// SDFlags are the parts of nTSecurityDescriptor that are wanted, adproto.SDOwner and
	// its like; HasSDFlags says that the client said so.
	SDFlags    int
	HasSDFlags bool
	ExtendedDN ExtendedDN
	// ShowDeleted lets tombstones be found ([MS-ADTS] 3.1.1.3.4.1.14).
	ShowDeleted bool
	// GlobalCatalog answers as the global catalog does: all naming contexts, and only
	// attributes that are in it.
	GlobalCatalog bool
	// Sort is one attribute to sort by, empty for none; LDAP_SERVER_SORT of [MS-ADTS]
	// 3.1.1.3.4.1.13.
	Sort    string
	Reverse bool
	// PageSize asks for at most so many entries and a cookie for the rest, which Cookie
	// brings back with the same request; 0: no pages.
	PageSize int
	Cookie   []byte
}

// SearchEntry is an object as a search gives it.
type SearchEntry struct {
	DN         string
	Attributes []Attribute
}

// SearchResult is what is said after the entries.
type SearchResult struct {
	// Cookie continues a search in pages; empty: there is no more.
	Cookie []byte
}

// AddRequest makes an object.
type AddRequest struct {
	DN         string
	Attributes []Attribute
}

// ChangeOp is what a change does: RFC 4511, Section 4.6.
type ChangeOp int

// The operations.
const (
	ChangeAdd     ChangeOp = 0
	ChangeDelete  ChangeOp = 1
	ChangeReplace ChangeOp = 2
)

// Change is a change of one attribute.
type Change struct {
	Op ChangeOp
	Attribute
}

// ModifyRequest changes an object: all changes or none.
type ModifyRequest struct {
	DN      string
	Changes []Change
	// Permissive lets adding what is there and deleting what is not pass:
	// LDAP_SERVER_PERMISSIVE_MODIFY of [MS-ADTS] 3.1.1.3.4.1.8.
	Permissive bool
	// SDFlags and HasSDFlags are as in a SearchRequest, for a descriptor that is written.
	SDFlags    int
	HasSDFlags bool
}

// DeleteRequest deletes an object.
type DeleteRequest struct {
	DN string
	// Tree deletes all below it too: LDAP_SERVER_TREE_DELETE of [MS-ADTS] 3.1.1.3.4.1.15.
	Tree bool
}

// ModifyDNRequest renames or moves an object: RFC 4511, Section 4.9.
type ModifyDNRequest struct {
	DN string
	// NewRDN is the new name, such as CN=alice.
	NewRDN string
	// DeleteOldRDN must be true: an object has one name ([MS-ADTS] 3.1.1.5.4.1).
	DeleteOldRDN bool
	// NewSuperior is the new parent, empty for the present one.
	NewSuperior string
}
