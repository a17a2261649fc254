package secdesc

import (
	"errors"
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
)

func TestGroupMSAMembership(t *testing.T) {
	sd := GroupMSAMembership(web1, web2, web1)
	if got, err := sd.SDDL(); err != nil || got != "O:SYD:(A;;RP;;;"+web1.String()+")(A;;RP;;;"+web2.String()+")" {
		t.Errorf("SDDL %s, error %v", got, err)
	}
	if got := sd.Trustees(ReadManagedPassword); !slices.Equal(got, []dtyp.SID{web1, web2}) {
		t.Errorf("readers %v", got)
	}
	if _, err := Check(&sd, Token{SIDs: []dtyp.SID{web1}}, ReadManagedPassword); err != nil {
		t.Error(err)
	}
	if _, err := Check(&sd, Token{SIDs: []dtyp.SID{domain.Child(512)}}, ReadManagedPassword); !errors.Is(err, ErrDenied) {
		t.Errorf("an administrator must not read: %v", err)
	}
	none := GroupMSAMembership()
	if got := none.Trustees(ReadManagedPassword); len(got) != 0 {
		t.Errorf("nobody may read, but %v", got)
	}
	b, err := none.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if sd, err := Parse(b); err != nil || sd.DACL == nil {
		t.Errorf("an empty list must not become a null one: %+v, error %v", sd, err)
	}
}

func TestTrustees(t *testing.T) {
	one, two := web1.String(), web2.String()
	for name, c := range map[string]struct {
		sddl string
		want []dtyp.SID
	}{
		"as Windows' own cmdlets write it": {"O:BAD:(A;;0xf01ff;;;" + one + ")", []dtyp.SID{web1}},
		"each once":                        {"D:(A;;RP;;;" + one + ")(A;;RPWP;;;" + one + ")", []dtyp.SID{web1}},
		"in order":                         {"D:(A;;RP;;;" + two + ")(A;;GR;;;" + one + ")", []dtyp.SID{web2, web1}},
		"denied before":                    {"D:(D;;RP;;;" + one + ")(A;;RP;;;" + one + ")(A;;RP;;;" + two + ")", []dtyp.SID{web2}},
		"another right":                    {"D:(A;;WP;;;" + one + ")", nil},
		"for children only":                {"D:(A;CIIO;RP;;;" + one + ")", nil},
		"for one property":                 {"D:(OA;;RP;" + phone.String() + ";;" + one + ")", nil},
		"no list":                          {"O:SY", []dtyp.SID{dtyp.Everyone}},
		"owner and audit do not count":     {"O:BAD:S:(AU;SA;RP;;;WD)", nil},
	} {
		if got := mustSDDL(t, c.sddl).Trustees(ReadManagedPassword); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAllow(t *testing.T) {
	one := web1.String()
	g := phone.String()
	for name, c := range map[string]struct {
		before, after string
		changed       bool
	}{
		"an empty list":            {"D:", "D:(A;;RP;;;" + one + ")", true},
		"already there":            {"D:(A;;RPWP;;;" + one + ")", "D:(A;;RPWP;;;" + one + ")", false},
		"a right more":             {"D:(A;;WP;;;" + one + ")", "D:(A;;RPWP;;;" + one + ")", true},
		"an inherited one is left": {"D:(A;ID;RP;;;" + one + ")", "D:(A;;RP;;;" + one + ")(A;ID;RP;;;" + one + ")", true},
		"a deny is left":           {"D:(D;;RP;;;" + one + ")", "D:(D;;RP;;;" + one + ")(A;;RP;;;" + one + ")", true},
		"after what denies, before parts and what is inherited": {
			"D:(D;;WP;;;WD)(OD;;WP;" + g + ";;WD)(A;;RP;;;SY)(OA;;RP;" + g + ";;WD)(D;ID;WP;;;WD)(A;ID;RP;;;WD)",
			"D:(D;;WP;;;WD)(OD;;WP;" + g + ";;WD)(A;;RP;;;SY)(A;;RP;;;" + one + ")(OA;;RP;" + g + ";;WD)(D;ID;WP;;;WD)(A;ID;RP;;;WD)", true},
		"foreign disorder stays": {
			"D:(A;ID;RP;;;WD)(D;;WP;;;WD)",
			"D:(A;;RP;;;" + one + ")(A;ID;RP;;;WD)(D;;WP;;;WD)", true},
	} {
		sd := mustSDDL(t, c.before)
		if got := sd.DACL.Allow(web1, ReadProperty); got != c.changed {
			t.Errorf("%s: changed %v", name, got)
		}
		if got, err := sd.SDDL(); err != nil || got != c.after {
			t.Errorf("%s: got %s, error %v, want %s", name, got, err, c.after)
		}
	}
}

func TestRevoke(t *testing.T) {
	one := web1.String()
	for name, c := range map[string]struct {
		before, after string
		rights        Mask
		changed       bool
	}{
		"the only one":           {"D:(A;;RP;;;" + one + ")", "D:", ReadProperty, true},
		"nobody":                 {"D:(A;;RP;;;SY)", "D:(A;;RP;;;SY)", FullControl, false},
		"one of two rights":      {"D:(A;;RPWP;;;" + one + ")", "D:(A;;WP;;;" + one + ")", ReadProperty, true},
		"all rights":             {"D:(A;;RPWP;;;" + one + ")", "D:", FullControl, true},
		"another right":          {"D:(A;;WP;;;" + one + ")", "D:(A;;WP;;;" + one + ")", ReadProperty, false},
		"a generic right":        {"D:(A;;GR;;;" + one + ")", "D:(A;;LCLORC;;;" + one + ")", ReadProperty, true},
		"what denies stays":      {"D:(D;;RP;;;" + one + ")", "D:(D;;RP;;;" + one + ")", FullControl, false},
		"what is inherited":      {"D:(A;ID;RP;;;" + one + ")", "D:(A;ID;RP;;;" + one + ")", FullControl, false},
		"object entries":         {"D:(OA;;RP;" + phone.String() + ";;" + one + ")(A;;RP;;;SY)", "D:(A;;RP;;;SY)", FullControl, true},
		"others stay in order":   {"D:(A;;RP;;;SY)(A;;RP;;;" + one + ")(A;;WP;;;WD)(A;;RP;;;" + one + ")(D;;WP;;;AU)", "D:(A;;RP;;;SY)(A;;WP;;;WD)(D;;WP;;;AU)", FullControl, true},
		"an empty entry remains": {"D:(A;;;;;" + one + ")", "D:(A;;;;;" + one + ")", FullControl, false},
	} {
		sd := mustSDDL(t, c.before)
		if got := sd.DACL.Revoke(web1, c.rights); got != c.changed {
			t.Errorf("%s: changed %v", name, got)
		}
		if got, err := sd.SDDL(); err != nil || got != c.after {
			t.Errorf("%s: got %s, error %v, want %s", name, got, err, c.after)
		}
	}
}

// TestEditsKeepForeignBytes edits a list that has entries of every kept kind.
func TestEditsKeepForeignBytes(t *testing.T) {
	sd := SecurityDescriptor{DACL: &ACL{Revision: RevisionDS}}
	for _, c := range keptACEs {
		sd.DACL.ACEs = append(sd.DACL.ACEs, c.want)
	}
	before := slices.Clone(sd.DACL.ACEs)
	sd.DACL.Allow(web1, ReadProperty)
	if !slices.ContainsFunc(sd.DACL.ACEs, func(a ACE) bool { return a.SID == web1 }) {
		t.Fatal("nothing was added")
	}
	sd.DACL.Revoke(web1, ReadProperty)
	if !slices.EqualFunc(sd.DACL.ACEs, before, ACE.Equal) {
		t.Errorf("got %+v, want %+v", sd.DACL.ACEs, before)
	}
}

func TestCanonical(t *testing.T) {
	g := phone.String()
	for sddl, canonical := range map[string]bool{
		"D:": true,
		"D:(D;;RP;;;WD)(A;;RP;;;WD)(D;ID;RP;;;WD)(A;ID;RP;;;WD)":                             true,
		"D:(D;;RP;;;WD)(OD;;RP;" + g + ";;WD)(OA;;RP;" + g + ";;WD)(A;;RP;;;WD)":             true,
		"D:(A;ID;RP;;;WD)(D;ID;RP;;;WD)":                                                     true, // of two ancestors
		"D:(A;;RP;;;WD)(D;;RP;;;WD)":                                                         false,
		"D:(A;ID;RP;;;WD)(A;;RP;;;WD)":                                                       false,
		"D:(A;;RP;;;WD)(A;ID;WP;;;WD)(D;;RP;;;WD)(OD;;WP;" + g + ";;WD)(OA;;RP;;;WD)":        false,
		"D:(OA;;CR;" + g + ";;SY)(D;;RP;;;WD)(OD;;WP;" + g + ";;WD)(A;;RP;;;WD)(A;;WP;;;AU)": false,
	} {
		sd := mustSDDL(t, sddl)
		if got := sd.DACL.IsCanonical(); got != canonical {
			t.Errorf("%s: canonical %v", sddl, got)
		}
		n := len(sd.DACL.ACEs)
		sd.DACL.Canonicalise()
		if !sd.DACL.IsCanonical() || len(sd.DACL.ACEs) != n {
			after, _ := sd.SDDL()
			t.Errorf("%s canonicalised is %s", sddl, after)
		}
	}
}
