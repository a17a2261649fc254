package directory

import (
	"fmt"
	"net/url"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// The directory holds objects of other domains of the forest as the global catalog has
// them: copies with some of their attributes, which others write. The searches of the
// global catalog find them; everything else is referred to the domain where they are at
// home, and no account of theirs can log on here. How they come into the store is the
// affair of package provision: there is no replication.

// refer refers a client to the domain of an object, or of the nearest one above what it
// names, if that is another domain and the client did not ask the global catalog.
func (s *session) refer(g dtyp.GUID, name string) error {
	if s.globalCatalog || g.IsZero() {
		return nil
	}
	if o, err := s.object(g); err == nil && rows.Replica(o.Entry) {
		return s.referral(o.Entry, name)
	}
	return nil // whoever needs the object tells what is wrong with it
}

// own finds an object by its name in any form, to be changed here. One of another domain
// is changed there.
func (c *change) own(name string) (*rows.Entry, error) {
	e, err := c.live(name)
	if err == nil && rows.Replica(e) {
		return nil, c.referral(e, name)
	}
	return e, err
}

// referral is the result for an object of another domain: [MS-ADTS] 3.1.1.4.6. name is
// what the client asked for.
func (r *Reader) referral(e *rows.Entry, name string) error {
	dn, err := r.DN(e)
	if err != nil {
		return err
	}
	domain := dn.DNSDomain()
	at := url.URL{Scheme: "ldap", Host: domain, Path: "/" + name}
	return &Error{Code: Referral, Win32: Win32Referral, Referral: at.String(),
		Message: fmt.Sprintf("RefErr: data 0, 1 access points\n\tref 1: '%s'\n", domain)}
}

// replicaWith is a replica that has a value of an attribute that no two accounts of the
// forest may have; nil for none.
func (r *Reader) replicaWith(attribute, value string) (*rows.Entry, error) {
	a := r.mustAttribute(attribute)
	key, err := a.Syntax.Key([]byte(value))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", attribute, err)
	}
	for g, err := range r.table.FindBuried(r.r, a, key, dtyp.GUID{}) {
		if err != nil {
			return nil, err
		}
		e, err := r.Get(g)
		if err != nil || rows.Replica(e) {
			return e, err
		}
	}
	return nil, nil
}
