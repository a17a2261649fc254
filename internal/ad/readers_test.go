package ad

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Whatever is done for hosts, the entries of everybody else stay, in their order.
func TestEditsOfReadersKeepForeignEntries(t *testing.T) {
	domain := dtyp.NewSID(5, 21, 1, 2, 3)
	hosts := []dtyp.SID{domain.Child(1101), domain.Child(1102), domain.Child(1103)}
	foreign := []dtyp.SID{domain.Child(512), dtyp.AuthenticatedUsers, domain.Child(1200)}
	entry := rapid.Custom(func(t *rapid.T) secdesc.ACE {
		a := secdesc.ACE{
			Type: rapid.SampledFrom([]secdesc.ACEType{secdesc.Allow, secdesc.Deny, secdesc.AllowCallback}).Draw(t, "type"),
			Mask: secdesc.Mask(rapid.Uint32Range(1, 0x1ff).Draw(t, "mask")),
			SID:  rapid.SampledFrom(append(append([]dtyp.SID{}, hosts...), foreign...)).Draw(t, "sid"),
		}
		if rapid.Bool().Draw(t, "inherited") {
			a.Flags = secdesc.Inherited
		}
		return a
	})
	rapid.Check(t, func(t *rapid.T) {
		l := &secdesc.ACL{Revision: secdesc.RevisionDS, ACEs: rapid.SliceOfN(entry, 0, 12).Draw(t, "entries")}
		// Foreign is who is none of the hosts, and what is none of ours to change.
		others := func() (list []secdesc.ACE) {
			for _, a := range l.ACEs {
				if own := a.SID == hosts[0] || a.SID == hosts[1] || a.SID == hosts[2]; !own || a.Type == secdesc.Deny || a.Flags != 0 {
					list = append(list, a)
				}
			}
			return list
		}
		before := others()
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			host := rapid.SampledFrom(hosts).Draw(t, "host")
			if rapid.Bool().Draw(t, "add") {
				l.Allow(host, secdesc.ReadManagedPassword)
			} else {
				l.Revoke(host, secdesc.ReadManagedPassword)
			}
		}
		after := others()
		if len(after) != len(before) {
			t.Fatalf("%d foreign entries, then %d", len(before), len(after))
		}
		for i := range before {
			if !before[i].Equal(after[i]) {
				t.Fatalf("entry %d: %+v, then %+v", i, before[i], after[i])
			}
		}
	})
}

// Naming the readers anew keeps what denies, what is inherited, and other rights.
func TestSetTrustees(t *testing.T) {
	domain := dtyp.NewSID(5, 21, 1, 2, 3)
	a, b, c := domain.Child(1101), domain.Child(1102), domain.Child(1103)
	l := &secdesc.ACL{Revision: secdesc.RevisionDS, ACEs: []secdesc.ACE{
		{Type: secdesc.Deny, Mask: secdesc.ReadProperty, SID: a},
		{Type: secdesc.Allow, Mask: secdesc.ReadProperty | secdesc.WriteProperty, SID: a},
		{Type: secdesc.Allow, Mask: secdesc.ReadProperty, SID: b},
		{Type: secdesc.Allow, Flags: secdesc.Inherited, Mask: secdesc.ReadProperty, SID: b},
	}}
	SetTrustees(l, secdesc.ReadManagedPassword, []dtyp.SID{c})
	want := []secdesc.ACE{
		{Type: secdesc.Deny, Mask: secdesc.ReadProperty, SID: a},
		{Type: secdesc.Allow, Mask: secdesc.WriteProperty, SID: a},
		{Type: secdesc.Allow, Mask: secdesc.ReadProperty, SID: c},
		{Type: secdesc.Allow, Flags: secdesc.Inherited, Mask: secdesc.ReadProperty, SID: b},
	}
	if len(l.ACEs) != len(want) {
		t.Fatalf("%+v", l.ACEs)
	}
	for i := range want {
		if !l.ACEs[i].Equal(want[i]) {
			t.Errorf("entry %d: %+v, want %+v", i, l.ACEs[i], want[i])
		}
	}
}
