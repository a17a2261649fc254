package directory_test

import (
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/secdesc"
)

// exchange deletes one descriptor by its value and adds another in the same request.
func (d *domain) exchange(c directory.Caller, dn string, flags int, values ...secdesc.SecurityDescriptor) error {
	d.t.Helper()
	q := directory.ModifyRequest{DN: dn, HasSDFlags: true, SDFlags: flags}
	for i, sd := range values {
		b, err := sd.Append(nil)
		if err != nil {
			d.t.Fatal(err)
		}
		op := directory.ChangeDelete
		if i == 1 {
			op = directory.ChangeAdd
		}
		q.Changes = append(q.Changes, directory.Change{Op: op, Attribute: directory.Attribute{Name: "nTSecurityDescriptor", Values: [][]byte{b}}})
	}
	return d.Modify(d.t.Context(), c, q)
}

// TestADescriptorIsExchanged: of two who edit what they read, the second is told that it
// is another by now; and who cannot read it cannot ask so what it is.
func TestADescriptorIsExchanged(t *testing.T) {
	d := people(t)
	bobs := d.Caller(t, "bob")
	list := func(sd secdesc.SecurityDescriptor) secdesc.SecurityDescriptor { // as a search for the DACL gives it
		return secdesc.SecurityDescriptor{Control: sd.Control & (secdesc.SelfRelative | secdesc.DACLPresent | secdesc.DACLAutoInherited | secdesc.DACLProtected), DACL: sd.DACL}
	}
	grant := func(right secdesc.Mask) secdesc.SecurityDescriptor {
		sd := d.descriptor(alice)
		sd.DACL.Allow(bobs.SID, right)
		return sd
	}
	read := d.descriptor(alice)
	first, second := grant(secdesc.Delete), grant(secdesc.ReadControl|secdesc.WriteDAC)
	if err := d.exchange(d.admin, alice, adproto.SDDACL, list(read), list(first)); err != nil {
		t.Fatal(err)
	}
	if got := result(d.exchange(d.admin, alice, adproto.SDDACL, list(read), list(second))); got != "16 200A" {
		t.Errorf("what was read before: %s", got)
	}
	if got := d.descriptor(alice); !slices.ContainsFunc(got.DACL.ACEs, func(e secdesc.ACE) bool { return e.SID == bobs.SID && e.Mask == secdesc.Delete }) {
		t.Errorf("the second overwrote the first: %v", got.DACL.ACEs)
	}
	if got := result(d.exchange(d.admin, alice, adproto.SDDACL, list(d.descriptor(alice)))); got != "53 2035" {
		t.Errorf("without another: %s", got)
	}
	// Bob may write the list now, and not read it.
	d.changeDescriptor(alice, func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = []secdesc.ACE{{Mask: secdesc.WriteDAC, SID: bobs.SID}}
		sd.Control |= secdesc.DACLProtected
	})
	for name, guess := range map[string]secdesc.SecurityDescriptor{"right": list(d.descriptor(alice)), "wrong": list(read)} {
		if got := result(d.exchange(bobs, alice, adproto.SDDACL, guess, list(second))); got != "50 2098" && got != "32 208D" {
			t.Errorf("a %s guess: %s", name, got)
		}
	}
}
