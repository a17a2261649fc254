package ldapmsg

import (
	"fmt"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Limits of what a request may hold beside the size of its message: a slice's header
// takes twelve times the two bytes of an empty value.
const (
	MaxValues    = 1 << 16 // values and attributes of an add or a modify
	MaxSelection = 1 << 12 // attributes that a search names
)

// Authentication is the choice of a bind: RFC 4511, Section 4.2.
type Authentication byte

// The choices. The three of Sicily are Windows' own: [MS-ADTS] 5.1.1.1.3.
const (
	AuthSimple           Authentication = 0x80
	AuthSASL             Authentication = 0xa3
	AuthSicilyDiscovery  Authentication = 0x89
	AuthSicilyNegotiate  Authentication = 0x8a
	AuthSicilyResponse   Authentication = 0x8b
	maxMechanism                        = 64 // bytes; the names of RFC 4422 have at most 20
	maxBindName                         = adproto.MaxDNSize
	minBindVersion       int64          = 1
	maxBindVersion       int64          = 127
	maxExtendedNameBytes                = 256
)

// BindRequest is RFC 4511, Section 4.2. Password and Credentials share the memory of
// the message.
type BindRequest struct {
	Version int
	Name    string
	Auth    Authentication
	// Password is that of AuthSimple.
	Password []byte
	// Mechanism and Credentials are those of AuthSASL; Credentials is nil where there
	// are none.
	Mechanism   string
	Credentials []byte
}

// Bind reads the body of a bind request.
func (m Message) Bind() (q BindRequest, err error) {
	r := reader{b: m.Body}
	version := r.integer(tagInteger)
	name := r.octets()
	tag, auth := r.any()
	r.end()
	q = BindRequest{Version: int(version), Name: string(name), Auth: Authentication(tag)}
	switch {
	case r.err != nil:
	case version < minBindVersion || version > maxBindVersion:
		r.fail("version %d", version)
	case len(name) > maxBindName:
		r.fail("name of %d bytes, limit %d", len(name), maxBindName)
	case q.Auth == AuthSimple:
		q.Password = auth
	case q.Auth == AuthSASL:
		q.parseSASL(&r, auth)
	}
	return q, wrap("bind request", r.err)
}

func (q *BindRequest) parseSASL(r *reader, auth []byte) {
	s := reader{b: auth}
	mechanism := s.octets()
	if s.has(tagOctetString) {
		q.Credentials = s.octets()
	}
	s.end()
	if len(mechanism) > maxMechanism {
		s.fail("mechanism's name of %d bytes, limit %d", len(mechanism), maxMechanism)
	}
	q.Mechanism, r.err = string(mechanism), s.err
}

// wrap says in which request a fault was found.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ldapmsg: %s: %w", what, err)
}

// SearchRequest is RFC 4511, Section 4.5.1. It has memory of its own.
type SearchRequest struct {
	Base       string
	Scope      int
	SizeLimit  int
	TimeLimit  int // seconds
	TypesOnly  bool
	Filter     adproto.Filter
	Attributes []string
}

// Search reads the body of a search request. Aliases, and so the way to dereference
// them, do not exist in Active Directory.
func (m Message) Search() (q SearchRequest, err error) {
	r := reader{b: m.Body}
	base := r.octets()
	scope, deref := r.integer(tagEnumerated), r.integer(tagEnumerated)
	size, time := r.integer(tagInteger), r.integer(tagInteger)
	q = SearchRequest{Base: string(base), Scope: int(scope), SizeLimit: int(size), TimeLimit: int(time)}
	q.TypesOnly = r.boolean(tagBoolean)
	before := r.b
	r.any()
	filter := before[:len(before)-len(r.b)]
	selection := r.element(tagSequence)
	r.end()
	switch {
	case r.err != nil:
	case scope < 0 || scope > 2:
		r.fail("scope %d, want 0 to 2", scope)
	case deref < 0 || deref > 3:
		r.fail("derefAliases %d, want 0 to 3", deref)
	case size < 0 || time < 0:
		r.fail("size limit %d, time limit %d", size, time)
	}
	if r.err == nil {
		q.Filter, r.err = adproto.ParseFilterBER(filter)
	}
	q.Attributes = parseSelection(&r, selection)
	return q, wrap("search request", r.err)
}

// parseSelection reads the list of attributes. The names share one string.
func parseSelection(r *reader, list []byte) []string {
	n := 0
	for s := (reader{b: list, err: r.err}); len(s.b) > 0; n++ {
		if s.octets(); s.err != nil {
			r.err = s.err
			return nil
		}
	}
	if n > MaxSelection {
		r.fail("%d attributes, limit %d", n, MaxSelection)
	}
	if n == 0 || r.err != nil {
		return nil
	}
	all, out := string(list), make([]string, 0, n)
	for s := (reader{b: list}); len(s.b) > 0; {
		name := s.octets()
		end := len(all) - len(s.b)
		out = append(out, all[end-len(name):end])
	}
	return out
}

// Attribute is an attribute with its values, which share the memory of the message.
type Attribute struct {
	Name   string
	Values [][]byte
}

// attribute reads a PartialAttribute: RFC 4511, Section 4.1.7. budget is how many
// more values and attributes the message may have.
func (r *reader) attribute(budget *int) Attribute {
	a := reader{b: r.element(tagSequence), err: r.err}
	out := Attribute{Name: string(a.octets())}
	values := reader{b: a.element(tagSet), err: a.err}
	a.end()
	values.err = a.err
	for values.err == nil {
		if *budget--; *budget < 0 {
			values.fail("more than %d values and attributes", MaxValues)
		}
		if len(values.b) == 0 {
			break
		}
		out.Values = append(out.Values, values.octets())
	}
	if values.err != nil {
		r.fail("%w", values.err)
	}
	return out
}

// AddRequest is RFC 4511, Section 4.7.
type AddRequest struct {
	DN         string
	Attributes []Attribute
}

// Add reads the body of an add request.
func (m Message) Add() (q AddRequest, err error) {
	r := reader{b: m.Body}
	q.DN = string(r.octets())
	list := reader{b: r.element(tagSequence)}
	r.end()
	list.err = r.err
	for budget := MaxValues; len(list.b) > 0 && list.err == nil; {
		q.Attributes = append(q.Attributes, list.attribute(&budget))
	}
	return q, wrap("add request", list.err)
}

// Change is a change of one attribute; Op is 0 to add, 1 to delete, 2 to replace.
type Change struct {
	Op int
	Attribute
}

// ModifyRequest is RFC 4511, Section 4.6.
type ModifyRequest struct {
	DN      string
	Changes []Change
}

// Modify reads the body of a modify request.
func (m Message) Modify() (q ModifyRequest, err error) {
	r := reader{b: m.Body}
	q.DN = string(r.octets())
	list := reader{b: r.element(tagSequence)}
	r.end()
	list.err = r.err
	for budget := MaxValues; len(list.b) > 0 && list.err == nil; {
		one := reader{b: list.element(tagSequence), err: list.err}
		op := one.integer(tagEnumerated)
		if op < 0 || op > 2 {
			one.fail("change %d, want 0 to 2", op)
		}
		q.Changes = append(q.Changes, Change{Op: int(op), Attribute: one.attribute(&budget)})
		one.end()
		list.err = one.err
	}
	return q, wrap("modify request", list.err)
}

// Delete reads the body of a delete request, which is a name: RFC 4511, Section 4.8.
func (m Message) Delete() (dn string) { return string(m.Body) }

// ModifyDNRequest is RFC 4511, Section 4.9; HasNewSuperior tells an empty name from
// none.
type ModifyDNRequest struct {
	DN, NewRDN     string
	DeleteOldRDN   bool
	NewSuperior    string
	HasNewSuperior bool
}

// ModifyDN reads the body of a modify DN request.
func (m Message) ModifyDN() (q ModifyDNRequest, err error) {
	r := reader{b: m.Body}
	q.DN, q.NewRDN = string(r.octets()), string(r.octets())
	q.DeleteOldRDN = r.boolean(tagBoolean)
	if q.HasNewSuperior = r.has(context); q.HasNewSuperior {
		q.NewSuperior = string(r.element(context))
	}
	r.end()
	return q, wrap("modify DN request", r.err)
}

// CompareRequest is RFC 4511, Section 4.10.
type CompareRequest struct {
	DN, Attribute string
	Value         []byte
}

// Compare reads the body of a compare request.
func (m Message) Compare() (q CompareRequest, err error) {
	r := reader{b: m.Body}
	q.DN = string(r.octets())
	ava := reader{b: r.element(tagSequence)}
	r.end()
	ava.err = r.err
	q.Attribute, q.Value = string(ava.octets()), ava.octets()
	ava.end()
	return q, wrap("compare request", ava.err)
}

// Abandon reads the body of an abandon request, which is the id of a message: RFC
// 4511, Section 4.11.
func (m Message) Abandon() (id int32, err error) {
	r := reader{b: adproto.AppendElement(nil, tagInteger, m.Body)}
	n := r.integer(tagInteger)
	return int32(n), wrap("abandon request", r.err)
}

// ExtendedRequest is RFC 4511, Section 4.12; Value is nil where there is none.
type ExtendedRequest struct {
	Name  string
	Value []byte
}

// Extended reads the body of an extended request.
func (m Message) Extended() (q ExtendedRequest, err error) {
	r := reader{b: m.Body}
	name := r.element(context)
	if r.has(context | 1) {
		q.Value = r.element(context | 1)
	}
	r.end()
	if len(name) > maxExtendedNameBytes {
		r.fail("name of %d bytes, limit %d", len(name), maxExtendedNameBytes)
	}
	q.Name = string(name)
	return q, wrap("extended request", r.err)
}
