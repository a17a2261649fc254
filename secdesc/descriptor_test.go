package secdesc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opengmsa/opengmsa/dtyp"
	"pgregory.net/rapid"
)

var (
	domain = dtyp.NewSID(dtyp.AuthorityNT, 21, 1, 2, 3)
	root   = dtyp.NewSID(dtyp.AuthorityNT, 21, 7, 8, 9)
	web1   = domain.Child(1104)
	web2   = domain.Child(1105)
)

// sameDescriptor lets cmp compare descriptors.
var sameDescriptor = cmp.Options{
	cmp.Comparer(func(a, b dtyp.SID) bool { return a == b }),
	cmp.Comparer(func(a, b []ACE) bool { return slices.EqualFunc(a, b, ACE.Equal) }),
}

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// binaryForms pairs descriptors with their SDDL. The first is the constant by
// which the Key Distribution Service protects the keys of gMSAs in every
// domain; the others were laid out by hand from the tables of [MS-DTYP] 2.4.
var binaryForms = map[string]string{
	"O:SYD:(A;;0x12019f;;;ED)": "01000480 30000000 00000000 00000000 14000000" +
		"02001c00 01000000 00001400 9f011200 0101000000000005 09000000 0101000000000005 12000000",

	"": "01000080 00000000 00000000 00000000 00000000",

	"D:NO_ACCESS_CONTROL": "01000480 00000000 00000000 00000000 00000000",

	"D:PAI": "01000494 00000000 00000000 00000000 14000000" + "02000800 00000000",

	"G:BAD:(OA;CIID;RP;bf967aba-0de6-11d0-a285-00aa003049e2;4c164200-20c0-11d0-a768-00aa006e0529;PS)" +
		"(OD;;WP;;;WD)S:AR(OU;SAFA;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;AU)": "" +
		"01001482 00000000 9c000000 14000000 44000000" +
		// The SACL at 0x14.
		"04003000 01000000" +
		"07c02800 00010000 01000000 531a72ab2f1ed011981900aa0040529b 0101000000000005 0b000000" +
		// The DACL at 0x44.
		"04005800 02000000" +
		"05123800 10000000 03000000 ba7a96bfe60dd011a28500aa003049e2 0042164cc020d011a76800aa006e0529" +
		"0101000000000005 0a000000" +
		"06001800 20000000 00000000 0101000000000001 00000000" +
		// The group at 0x9c.
		"0102000000000005 20000000 20020000",
}

func TestBinaryForms(t *testing.T) {
	for sddl, form := range binaryForms {
		b := mustHex(t, form)
		sd, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		if got, err := sd.SDDL(); err != nil || got != sddl {
			t.Errorf("SDDL %s, error %v, want %s", got, err, sddl)
		}
		if got, err := sd.Append([]byte("before")); err != nil || !bytes.Equal(got, append([]byte("before"), b...)) {
			t.Errorf("%s: encodes as %x, error %v", sddl, got, err)
		}
		parsed, err := ParseSDDL(sddl, domain, root)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		if diff := cmp.Diff(sd, parsed, sameDescriptor); diff != "" {
			t.Errorf("%s: the string differs from the bytes (-bytes +string):\n%s", sddl, diff)
		}
		for n := range b {
			if _, err := Parse(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: prefix of %d bytes: error %v, want ErrMalformed", sddl, n, err)
			}
		}
		if _, err := Parse(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a trailing byte: error %v, want ErrMalformed", sddl, err)
		}
	}
}

// TestParseAnyOrder reads a descriptor with the owner first and unused memory
// in its list, as programs other than Windows' own write them.
func TestParseAnyOrder(t *testing.T) {
	b := mustHex(t, "01000480 14000000 00000000 00000000 20000000"+"0101000000000005 12000000"+
		"02002000 01000000 00001400 10000000 0101000000000005 09000000"+"deadbeef")
	sd, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sd.SDDL(); err != nil || got != "O:SYD:(A;;RP;;;ED)" {
		t.Errorf("SDDL %s, error %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	const good = "01000480 00000000 00000000 00000000 14000000" +
		"02001c00 01000000 00001400 10000000 0101000000000005 09000000"
	if _, err := Parse(mustHex(t, good)); err != nil {
		t.Fatalf("the unchanged descriptor: %v", err)
	}
	for name, change := range map[string]struct {
		offset int
		bytes  string
	}{
		"another revision":                  {0, "02"},
		"absolute form":                     {2, "0400"},
		"a DACL that control denies":        {2, "0080"},
		"a part inside the header":          {16, "10000000"},
		"a part behind the end":             {16, "30000000"},
		"an offset of 2^31":                 {16, "00000080"},
		"ACL revision 1":                    {20, "01"},
		"ACL revision 5":                    {20, "05"},
		"an ACL larger than the descriptor": {22, "2000"},
		"an ACL smaller than its header":    {22, "0400"},
		"an ACL smaller than its entry":     {22, "1800"},
		"two entries where one is":          {24, "0200"},
		"65535 entries":                     {24, "ffff"},
		"an entry of size 0":                {30, "0000"},
		"an entry of size 18":               {30, "1200"},
		"an entry larger than the list":     {30, "1800"},
		"an object entry with stray flags":  {28, "0500 1400 10000000 04000000"},
		"an object entry without its GUID":  {28, "0500 1400 10000000 01000000"},
		"a trustee of revision 2":           {36, "02"},
		"a trustee too large":               {37, "02"},
	} {
		b := mustHex(t, good)
		copy(b[change.offset:], mustHex(t, change.bytes))
		if _, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, want ErrMalformed", name, err)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too large: error %v, want ErrMalformed", err)
	}
}

// keptACEs have kinds or data that this package does not understand.
var keptACEs = map[string]struct {
	bytes string
	want  ACE
}{
	"a conditional entry": {
		"09001c00 10000000 0101000000000005 09000000 61727478 f8000000",
		ACE{Type: AllowCallback, Mask: ReadProperty, SID: dtyp.EnterpriseDomainControllers, Data: []byte("artx\xf8\x00\x00\x00")},
	},
	"a conditional object entry": {
		"0b002c00 10000000 02000000 ba7a96bfe60dd011a28500aa003049e2 0101000000000005 09000000 61727478",
		ACE{Type: AllowCallbackObject, Mask: ReadProperty, SID: dtyp.EnterpriseDomainControllers, Data: []byte("artx"),
			InheritedObjectType: &dtyp.GUID{0xba, 0x7a, 0x96, 0xbf, 0xe6, 0x0d, 0xd0, 0x11, 0xa2, 0x85, 0, 0xaa, 0, 0x30, 0x49, 0xe2}},
	},
	"a resource attribute": {
		"12401800 00000000 0101000000000001 00000000 01020304",
		ACE{Type: ResourceAttribute, Flags: AuditSuccess, SID: dtyp.Everyone, Data: []byte{1, 2, 3, 4}},
	},
	"a compound entry": {
		"04000c00 01020304 05060708",
		ACE{Type: AllowCompound, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
	},
	"a kind of the future": {
		"ff800800 0a0b0c0d",
		ACE{Type: 0xff, Flags: AuditFailure, Data: []byte{10, 11, 12, 13}},
	},
	"a plain entry with data": {
		"00001800 10000000 0101000000000005 09000000 cafecafe",
		ACE{Type: Allow, Mask: ReadProperty, SID: dtyp.EnterpriseDomainControllers, Data: []byte{0xca, 0xfe, 0xca, 0xfe}},
	},
}

func TestKeptACEs(t *testing.T) {
	for name, c := range keptACEs {
		ace := mustHex(t, c.bytes)
		b := mustHex(t, "01000480 00000000 00000000 00000000 14000000"+"0400")
		b = binary.LittleEndian.AppendUint16(b, uint16(aclHeader+len(ace)))
		b = append(append(b, 1, 0, 0, 0), ace...)
		sd, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := sd.DACL.ACEs[0]; !got.Equal(c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		if got, err := sd.Append(nil); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: encodes as %x, error %v, want %x", name, got, err, b)
		}
		if s, err := sd.SDDL(); !errors.Is(err, ErrNoSDDL) {
			t.Errorf("%s: SDDL %q, error %v, want ErrNoSDDL", name, s, err)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	allow := ACE{Type: Allow, Mask: ReadProperty, SID: web1}
	for name, acl := range map[string]*ACL{
		"an entry without trustee":   {ACEs: []ACE{{Type: Allow, Mask: ReadProperty}}},
		"an object type in A":        {ACEs: []ACE{{Type: Allow, SID: web1, ObjectType: &dtyp.GUID{}}}},
		"a list over 64 KiB":         {ACEs: slices.Repeat([]ACE{allow}, 1821)},
		"one entry of 64 KiB":        {ACEs: []ACE{{Type: 0xff, Data: make([]byte, 65532)}}},
		"an inherited type in D":     {ACEs: []ACE{{Type: Deny, SID: web1, InheritedObjectType: &dtyp.GUID{}}}},
		"one entry of a gigabyte":    {ACEs: []ACE{{Type: Allow, SID: web1, Data: make([]byte, 1<<20)}}},
		"an object entry of nobody":  {ACEs: []ACE{{Type: AllowObject}}},
		"a second entry of 65 bytes": {ACEs: []ACE{allow, {Type: 0xff, Data: make([]byte, 65500)}}},
	} {
		if b, err := (SecurityDescriptor{DACL: acl}).Append(nil); err == nil {
			t.Errorf("DACL with %s: encodes as %d bytes", name, len(b))
		}
		if b, err := (SecurityDescriptor{SACL: acl}).Append(nil); err == nil {
			t.Errorf("SACL with %s: encodes as %d bytes", name, len(b))
		}
	}
	largest := SecurityDescriptor{DACL: &ACL{ACEs: slices.Repeat([]ACE{allow}, 1820)}}
	b, err := largest.Append(nil)
	if err != nil {
		t.Fatalf("1820 hosts must fit: %v", err)
	}
	if sd, err := Parse(b); err != nil || len(sd.DACL.ACEs) != 1820 {
		t.Errorf("1820 hosts: %v", err)
	}
}

// genDescriptor draws descriptors of every shape that can be encoded.
func genDescriptor(t *rapid.T) SecurityDescriptor {
	sids := []dtyp.SID{web1, web2, dtyp.LocalSystem, dtyp.Everyone, domain.Child(512), root.Child(519), dtyp.NewSID(1<<40, 1, 2)}
	guid := func(label string) *dtyp.GUID {
		if !rapid.Bool().Draw(t, label) {
			return nil
		}
		return &dtyp.GUID{rapid.Byte().Draw(t, label+" byte"), 15: 1}
	}
	acl := func(label string, kinds []ACEType) *ACL {
		if !rapid.Bool().Draw(t, label) {
			return nil
		}
		l := &ACL{ACEs: []ACE{}}
		for range rapid.IntRange(0, 5).Draw(t, "entries") {
			a := ACE{
				Type:  rapid.SampledFrom(kinds).Draw(t, "kind"),
				Flags: ACEFlags(rapid.Byte().Draw(t, "flags")),
				Mask:  Mask(rapid.Uint32().Draw(t, "mask")),
				SID:   rapid.SampledFrom(sids).Draw(t, "trustee"),
			}
			if a.Type.IsObject() {
				a.ObjectType, a.InheritedObjectType = guid("object"), guid("inherited object")
			}
			l.ACEs = append(l.ACEs, a)
		}
		l.Revision = l.revision()
		return l
	}
	sd := SecurityDescriptor{
		Control: SelfRelative | Control(rapid.Uint16().Draw(t, "control"))&(DACLProtected|DACLAutoInherited|SACLInheritReq|SACLProtected),
		DACL:    acl("DACL", []ACEType{Allow, Deny, AllowObject, DenyObject}),
		SACL:    acl("SACL", []ACEType{Audit, AuditObject, Alarm}),
	}
	if sd.DACL != nil {
		sd.Control |= DACLPresent
	} else {
		sd.Control &^= DACLProtected | DACLAutoInherited
	}
	if sd.SACL != nil {
		sd.Control |= SACLPresent
	} else {
		sd.Control &^= SACLInheritReq | SACLProtected
	}
	if rapid.Bool().Draw(t, "owner") {
		sd.Owner = rapid.SampledFrom(sids).Draw(t, "owner SID")
	}
	if rapid.Bool().Draw(t, "group") {
		sd.Group = rapid.SampledFrom(sids).Draw(t, "group SID")
	}
	return sd
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sd := genDescriptor(t)
		b, err := sd.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sd, got, sameDescriptor); diff != "" {
			t.Fatalf("bytes (-want +got):\n%s", diff)
		}
		for n := range b {
			if _, err := Parse(b[:n]); err == nil {
				t.Fatalf("prefix of %d of %d bytes parses", n, len(b))
			}
		}
		s, err := sd.SDDLIn(domain, root)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = ParseSDDL(s, domain, root); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sd, got, sameDescriptor); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", s, diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, form := range binaryForms {
		f.Add(mustHex(f, form))
	}
	for _, c := range keptACEs {
		ace := mustHex(f, c.bytes)
		b := mustHex(f, "01000480 00000000 00000000 00000000 14000000"+"0400")
		b = binary.LittleEndian.AppendUint16(b, uint16(aclHeader+len(ace)))
		f.Add(append(append(b, 1, 0, 0, 0), ace...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sd, err := Parse(b)
		if err != nil {
			return
		}
		again, err := sd.Append(nil)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		sd2, err := Parse(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(sd, sd2, sameDescriptor); diff != "" {
			t.Fatalf("the second reading differs:\n%s", diff)
		}
		if s, err := sd.SDDLIn(domain, root); err == nil {
			if _, err := ParseSDDL(s, domain, root); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		_, _ = Check(&sd, Token{SIDs: []dtyp.SID{web1}}, MaximumAllowed)
		sd.Trustees(ReadManagedPassword)
	})
}
