package directory

import (
	"errors"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// newLink is link for a value that is to be written. What names nothing is told of a member
// otherwise than of every other attribute, as by AD's account manager.
func (d *draft) newLink(a *schema.Attribute, value []byte) (rows.Link, *rows.Entry, error) {
	l, target, err := d.link(a, d.e, value)
	if isNotFound(err) && a.Name != "member" {
		err = Errorf(ConstraintViolation, Win32NameReference, "%s names an object that does not exist", a.Name)
	}
	return l, target, err
}

// addLinks writes links from the object; permissive lets those pass that are there.
func (d *draft) addLinks(a *schema.Attribute, values [][]byte, permissive bool) error {
	for _, v := range values {
		l, target, err := d.newLink(a, v)
		if err != nil {
			return err
		}
		if err := d.checkLink(a, target); err != nil {
			return err
		}
		err = d.Link(a, l)
		if errors.Is(err, rows.ErrExists) {
			err = d.linkExists(a)
			if permissive {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkLink judges a link before it is written.
func (d *draft) checkLink(a *schema.Attribute, target *rows.Entry) error {
	if a.SingleValued {
		for _, err := range d.Links(a, d.e.GUID) {
			if err != nil {
				return err
			}
			return singleValued(a, 2)
		}
	}
	if a.Name == "member" {
		return d.checkMember(target)
	}
	return nil
}

// linkExists is the error of a link that is there: AD says of members what its account
// manager says.
func (d *draft) linkExists(a *schema.Attribute) error {
	if a.Name == "member" && d.isGroup() {
		return Errorf(EntryAlreadyExists, Win32IsMember, "a member of the group already")
	}
	return Errorf(AttributeOrValueExists, Win32ValueExists, "%s has the value already", a.Name)
}

func (d *draft) linkMissing(a *schema.Attribute) error {
	if a.Name == "member" && d.isGroup() {
		return Errorf(UnwillingToPerform, Win32NotMember, "not a member of the group")
	}
	return Errorf(NoSuchAttribute, Win32NoSuchAttribute, "%s has no such value", a.Name)
}

// removeLinks removes links from the object: those of values, or all where there is
// none.
func (d *draft) removeLinks(a *schema.Attribute, values [][]byte, permissive bool) error {
	if len(values) == 0 {
		links, err := d.linksOf(a)
		if err == nil && len(links) == 0 && !permissive {
			err = Errorf(NoSuchAttribute, Win32NoSuchAttribute, "%s has no value", a.Name)
		}
		if err != nil {
			return err
		}
		return d.unlink(a, links)
	}
	for _, v := range values {
		err := d.removeLink(a, v)
		if isNotFound(err) {
			err = d.linkMissing(a)
			if permissive {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *draft) removeLink(a *schema.Attribute, value []byte) error {
	l, _, err := d.link(a, d.e, value)
	if err != nil {
		return err
	}
	return d.Unlink(a, l)
}

// linksOf are the links of an attribute.
func (d *draft) linksOf(a *schema.Attribute) (map[rows.Link]bool, error) {
	links := map[rows.Link]bool{}
	for l, err := range d.Links(a, d.e.GUID) {
		if err != nil {
			return nil, err
		}
		links[l] = true
	}
	return links, nil
}

func (d *draft) unlink(a *schema.Attribute, links map[rows.Link]bool) error {
	for l := range links {
		if err := d.Unlink(a, l); err != nil {
			return err
		}
	}
	return nil
}

// replaceLinks makes values the links of an attribute. What stays is not written.
func (d *draft) replaceLinks(a *schema.Attribute, values [][]byte) error {
	if err := singleValued(a, len(values)); err != nil {
		return err
	}
	gone, err := d.linksOf(a)
	if err != nil {
		return err
	}
	var come [][]byte
	seen := map[rows.Link]bool{}
	for _, v := range values {
		l, _, err := d.newLink(a, v)
		if err != nil {
			return err
		}
		if seen[l] {
			return Errorf(AttributeOrValueExists, Win32ValueExists, "%s has a value twice", a.Name)
		}
		seen[l] = true
		if !gone[l] {
			come = append(come, v)
		}
		delete(gone, l)
	}
	if err := d.unlink(a, gone); err != nil {
		return err
	}
	return d.addLinks(a, come, false)
}

// onlySelf reports whether all of values name the caller's own object.
func (d *draft) onlySelf(a *schema.Attribute, values [][]byte) (bool, error) {
	for _, v := range values {
		_, target, err := d.link(a, d.e, v)
		if err != nil {
			return false, err
		}
		if d.caller.SID == (dtyp.SID{}) || d.sid(target) != d.caller.SID {
			return false, nil
		}
	}
	return len(values) > 0, nil
}
