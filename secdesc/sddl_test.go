package secdesc

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opengmsa/opengmsa/dtyp"
)

// The default descriptor of the class user in the published schema of Active
// Directory ([MS-ADSC]), with a part of its object entries.
const userDefault = "D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;SY)" +
	"(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;AO)(A;;RPLCLORC;;;PS)(OA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;PS)" +
	"(OA;;RPWP;77B5B886-944A-11d1-AEBD-0000F80367C1;;PS)(A;;RC;;;AU)(OA;;RP;59ba2f42-79a2-11d0-9020-00c04fc2d3cf;;AU)" +
	"(OA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)(OA;;RP;4c164200-20c0-11d0-a768-00aa006e0529;;RS)" +
	"(OA;;RP;46a9b11d-60ae-405a-b7e8-ff8a58d456d2;;S-1-5-32-560)"

func TestUserDefault(t *testing.T) {
	sd, err := ParseSDDL(userDefault, domain, root)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(sd.DACL.ACEs); n != 11 || sd.DACL.Revision != RevisionDS {
		t.Errorf("%d entries of revision %d", n, sd.DACL.Revision)
	}
	if a := sd.DACL.ACEs[0]; a.Mask != FullControl || a.SID != domain.Child(512) {
		t.Errorf("first entry %+v", a)
	}
	want := strings.ReplaceAll(userDefault, "RPWPCRCCDCLCLORCWOWDSDDTSW", "CCDCLCSWRPWPDTLOCRSDRCWDWO")
	want = strings.ReplaceAll(want, "RPLCLORC", "LCRPLORC")
	want = strings.ReplaceAll(want, "77B5B886-944A-11d1-AEBD-0000F80367C1", "77b5b886-944a-11d1-aebd-0000f80367c1")
	if got, err := sd.SDDLIn(domain, root); err != nil || got != want {
		t.Errorf("error %v:\n%s", err, cmp.Diff(want, got))
	}
	plain, err := sd.SDDL()
	if err != nil || !strings.Contains(plain, ";;;S-1-5-21-1-2-3-512)") || strings.Contains(plain, ";DA)") {
		t.Errorf("without a domain: %s, error %v", plain, err)
	}
}

func TestRights(t *testing.T) {
	for text, want := range map[string]Mask{
		"":           0,
		"GA":         GenericAll,
		"GR":         GenericRead,
		"0x12019f":   0x12019f,
		"FRFW":       0x12019f,
		"FA":         0x1f01ff,
		"FX":         0x1200a0,
		"KA":         0xf003f,
		"KR":         0x20019,
		"KW":         0x20006,
		"KX":         0x20019,
		"RPKRFR":     0x1200b9&^0x20 | 0x10,
		"16":         ReadProperty,
		"020":        ReadProperty, // octal, as C reads it
		"0x0":        0,
		"0xffffffff": 0xffffffff,
	} {
		sd, err := ParseSDDL("D:(A;;"+text+";;;SY)", domain, root)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := sd.DACL.ACEs[0].Mask; got != want {
			t.Errorf("%q = %#x, want %#x", text, got, want)
		}
	}
	for mask, want := range map[Mask]string{
		0:                          "0x0",
		0x12019f:                   "0x12019f",
		0x120089:                   "FR",
		0x1f01ff:                   "FA",
		0xf003f:                    "CCDCLCSWRPWPSDRCWDWO",
		FullControl:                "CCDCLCSWRPWPDTLOCRSDRCWDWO",
		Synchronize:                "0x100000",
		Synchronize | ReadProperty: "0x100010",
		GenericRead | ReadControl:  "RCGR",
	} {
		if got := mask.String(); got != want {
			t.Errorf("%#x prints as %s, want %s", uint32(mask), got, want)
		}
	}
	sd, err := ParseSDDL("S:(ML;;NWNRNX;;;HI)", domain, root)
	if err != nil || sd.SACL.ACEs[0].Mask != 7 {
		t.Errorf("mandatory label: %+v, error %v", sd.SACL, err)
	}
	if got, err := sd.SDDL(); err != nil || got != "S:(ML;;NWNRNX;;;HI)" {
		t.Errorf("mandatory label prints as %s, error %v", got, err)
	}
}

func TestAliases(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range sidAliases {
		if seen[a.text] {
			t.Errorf("%s is there twice", a.text)
		}
		seen[a.text] = true
		sid, err := ParseSID(a.text, domain, root)
		if err != nil || sid != a.resolve(domain, root) {
			t.Errorf("%s = %v, error %v", a.text, sid, err)
		}
		f := formatter{domain: domain, root: root}
		if got := f.sid(sid); got != a.text {
			t.Errorf("%s prints as %s", a.text, got)
		}
	}
	for text, want := range map[string]string{
		"SY": "S-1-5-18", "BA": "S-1-5-32-544", "ED": "S-1-5-9", "PS": "S-1-5-10", "OW": "S-1-3-4", "WD": "S-1-1-0",
		"AU": "S-1-5-11", "RU": "S-1-5-32-554", "DA": domain.String() + "-512", "DC": domain.String() + "-515",
		"DD": domain.String() + "-516", "LA": domain.String() + "-500", "EA": root.String() + "-519", "SA": root.String() + "-518",
		"RO": root.String() + "-498", "HI": "S-1-16-12288",
	} {
		if sid, err := ParseSID(text, domain, root); err != nil || sid.String() != want {
			t.Errorf("%s = %v, error %v, want %s", text, sid, err, want)
		}
	}
	for _, text := range []string{"DA", "EA"} {
		if sid, err := ParseSID(text, dtyp.SID{}, dtyp.SID{}); !errors.Is(err, ErrSDDL) {
			t.Errorf("%s without a domain = %v, error %v", text, sid, err)
		}
	}
}

func TestParseSDDLLayout(t *testing.T) {
	const plain = "O:SYG:BAD:PARAI(A;CI;RP;;;AU)(D;OICINPIOIDSAFA;WP;;;WD)S:PAI(AU;SAFA;WP;;;WD)"
	for name, text := range map[string]string{
		"as Windows writes it": plain,
		"another order":        "S:PAI(AU;SAFA;WP;;;WD)D:PARAI(A;CI;RP;;;AU)(D;OICINPIOIDSAFA;WP;;;WD)G:BAO:SY",
		"white space":          "O:SY G:BA\n D:PARAI\t(A;CI;RP;;;AU) (D;OICINPIOIDSAFA;WP;;;WD)\nS:PAI (AU;SAFA;WP;;;WD) ",
		"whole SIDs":           "O:S-1-5-18G:S-1-5-32-544D:PARAI(A;CI;RP;;;S-1-5-11)(D;OICINPIOIDSAFA;WP;;;S-1-1-0)S:PAI(AU;SAFA;WP;;;WD)",
	} {
		sd, err := ParseSDDL(text, domain, root)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := sd.SDDL(); err != nil || got != plain {
			t.Errorf("%s: got %s, error %v, want %s", name, got, err, plain)
		}
	}
}

func TestParseSDDLRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no part":                       "SY",
		"an unknown part":               "X:SY",
		"a part twice":                  "O:SYO:SY",
		"no owner":                      "O:",
		"no owner before a group":       "O:G:SY",
		"an unknown alias":              "O:ZZ",
		"a malformed SID":               "O:S-1-5",
		"an open entry":                 "D:(A;;RP;;;SY",
		"text between entries":          "D:(A;;RP;;;SY)x",
		"five fields":                   "D:(A;;RP;;SY)",
		"seven fields":                  "D:(A;;RP;;;SY;x)",
		"an unknown kind":               "D:(Q;;RP;;;SY)",
		"an unknown flag":               "D:(A;XX;RP;;;SY)",
		"an unknown right":              "D:(A;;XX;;;SY)",
		"half a right":                  "D:(A;;R;;;SY)",
		"a right in small letters":      "D:(A;;rp;;;SY)",
		"rights over 32 bits":           "D:(A;;0x100000000;;;SY)",
		"rights with an underscore":     "D:(A;;0x1_0;;;SY)",
		"an object type in a plain one": "D:(A;;RP;bf967aba-0de6-11d0-a285-00aa003049e2;;SY)",
		"an inherited type in one":      "D:(A;;RP;;bf967aba-0de6-11d0-a285-00aa003049e2;SY)",
		"half a GUID":                   "D:(OA;;RP;bf967aba-0de6;;SY)",
		"no trustee":                    "D:(A;;RP;;;)",
		"an unknown control flag":       "D:Q(A;;RP;;;SY)",
		"too many entries":              "D:" + strings.Repeat("(A;;RP;;;S-1-5-21-1-2-3-4)", 1821),
		"a megabyte of space":           strings.Repeat(" ", maxSDDL+1),
	} {
		if sd, err := ParseSDDL(text, domain, root); !errors.Is(err, ErrSDDL) {
			t.Errorf("%s: %q = %+v, error %v, want ErrSDDL", name, clip(text), sd, err)
		}
	}
	for _, text := range []string{
		`D:(XA;;FX;;;S-1-1-0;(@User.Title=="PM"))`,
		`D:(XD;;FX;;;S-1-1-0;(Member_of {SID(BA)}))`,
		`D:(ZA;;RP;;;WD;(@User.x))`,
		`S:(RA;;;;;WD;("Project",TS,0,"Windows"))`,
	} {
		if _, err := ParseSDDL(text, domain, root); !errors.Is(err, ErrNoSDDL) || !errors.Is(err, ErrSDDL) {
			t.Errorf("%s: error %v, want ErrNoSDDL", text, err)
		}
	}
}

// TestSDDLPrefixes cuts a string that has each kind of part: a prefix is
// refused unless it ends where a part or an entry does.
func TestSDDLPrefixes(t *testing.T) {
	const text = "O:S-1-5-18G:BAD:PAI(OA;CI;RP;bf967aba-0de6-11d0-a285-00aa003049e2;;PS)(A;;RP;;;SY)S:AI(AU;SA;WP;;;WD)"
	whole := map[string]bool{"": true}
	for _, end := range []string{"O:S-1-5-1", "O:S-1-5-18", "O:S-1-5-18G:BA", "D:", "D:P", "D:PAI", ";PS)", ";SY)", "S:", "S:AI"} {
		whole[text[:strings.Index(text, end)+len(end)]] = true
	}
	for n := range text {
		if _, err := ParseSDDL(text[:n], domain, root); (err == nil) != whole[text[:n]] {
			t.Errorf("%q: error %v", text[:n], err)
		}
	}
}

func FuzzParseSDDL(f *testing.F) {
	f.Add(userDefault)
	for sddl := range binaryForms {
		f.Add(sddl)
	}
	f.Add(`D:(XA;;FX;;;S-1-1-0;(@User.Title=="PM"))`)
	f.Fuzz(func(t *testing.T, text string) {
		sd, err := ParseSDDL(text, domain, root)
		if err != nil {
			return
		}
		b, err := sd.Append(nil)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := Parse(b)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		one, err1 := sd.SDDLIn(domain, root)
		two, err2 := again.SDDLIn(domain, root)
		if err1 != nil || err2 != nil || one != two {
			t.Fatalf("%q (%v) through bytes becomes %q (%v)", one, err1, two, err2)
		}
		if third, err := ParseSDDL(one, domain, root); err != nil {
			t.Fatalf("%q: %v", one, err)
		} else if diff := cmp.Diff(sd, third, sameDescriptor); diff != "" {
			t.Fatalf("%q: the second reading differs:\n%s", one, diff)
		}
	})
}
