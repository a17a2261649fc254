package directory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/secdesc"
)

// units is a domain with more objects below OU=web than one transaction rewrites.
func units(t testing.TB) *domain {
	d := people(t)
	d.mustAdd(web, "objectClass: organizationalUnit")
	d.mustAdd("OU=deep,"+web, "objectClass: organizationalUnit")
	for i := range 60 {
		d.mustAdd(fmt.Sprintf("CN=u%d,OU=deep,%s", i, web), "objectClass: user")
	}
	return d
}

func inheritable(sid dtyp.SID) func(*secdesc.SecurityDescriptor) {
	return func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Flags: secdesc.ContainerInherit, Mask: secdesc.Delete, SID: sid})
	}
}

// heirs counts the users below OU=deep that inherited a right.
func (d *domain) heirs(sid dtyp.SID) (n int) {
	d.t.Helper()
	for i := range 60 {
		if grants(d.descriptor(fmt.Sprintf("CN=u%d,OU=deep,%s", i, web)), sid, secdesc.Delete) {
			n++
		}
	}
	return n
}

func TestInheritanceReachesAllBelow(t *testing.T) {
	d := units(t)
	sid := d.Caller(t, "bob").SID
	d.changeDescriptor("CN=u0,OU=deep,"+web, func(sd *secdesc.SecurityDescriptor) { sd.Control |= secdesc.DACLProtected })
	d.changeDescriptor(web, inheritable(sid))
	if n := d.heirs(sid); n != 59 {
		t.Errorf("%d of 60 inherited, want all but the one that is protected", n)
	}
	d.changeDescriptor(web, func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = sd.DACL.ACEs[:len(sd.DACL.ACEs)-1]
		sd.DACL.Revoke(sid, secdesc.Delete)
	})
	if n := d.heirs(sid); n != 0 {
		t.Errorf("%d still have what was taken away", n)
	}
}

// failing is a store whose updates fail from some moment on.
type failing struct {
	store.Store
	after int
}

var errPower = errors.New("power loss")

func (f *failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f.after == 0 {
		return errPower
	}
	f.after--
	return f.Store.Update(ctx, fn)
}

// TestInheritanceSurvivesACrash: at whatever transaction the controller ends, the next
// one completes what was begun before it serves anybody.
func TestInheritanceSurvivesACrash(t *testing.T) {
	d := units(t)
	sid := d.Caller(t, "bob").SID
	sd := d.descriptor(web)
	inheritable(sid)(&sd)
	for after := 1; ; after++ {
		cfg := d.config
		cfg.Store = &failing{Store: d.store, after: after}
		crashing, err := directory.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		whole := d.Directory
		d.Directory = crashing
		err = d.writeDescriptor(d.admin, web, sd, adproto.SDDACL)
		d.Directory = whole
		if err == nil {
			if after < 3 {
				t.Fatalf("all was done in %d transactions", after)
			}
			break
		}
		if !errors.Is(err, errPower) {
			t.Fatal(err)
		}
		if d.Directory, err = directory.Open(t.Context(), d.config); err != nil {
			t.Fatal(err)
		}
		if n := d.heirs(sid); n != 60 {
			t.Fatalf("after %d transactions and a new start %d of 60 inherited", after, n)
		}
		d.changeDescriptor(web, func(sd *secdesc.SecurityDescriptor) { sd.DACL.Revoke(sid, secdesc.Delete) })
	}
}

// TestDescriptorParts: who may write which part, and what a request without flags
// means.
//
// It holds security 19: a new owner or DACL of a gMSA is audited as a reading.
func TestDescriptorParts(t *testing.T) {
	d := people(t)
	caller := d.Caller(t, "bob")
	is := d.descriptor(webapp)
	owned := is
	owned.Owner = caller.SID
	listed := is
	listed.DACL = &secdesc.ACL{Revision: 4, ACEs: append([]secdesc.ACE{{Type: secdesc.Allow, Mask: secdesc.WriteDAC, SID: caller.SID}}, is.DACL.ACEs...)}
	write := func(c directory.Caller, sd secdesc.SecurityDescriptor, flags int, want string) {
		t.Helper()
		if got := result(d.writeDescriptor(c, webapp, sd, flags)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	write(caller, listed, adproto.SDDACL, "50 2098")
	write(caller, owned, adproto.SDOwner, "50 2098")
	shown := is
	shown.SACL = nil
	write(caller, shown, 0, "0")    // nothing changes of what the caller can read
	write(caller, is, 0, "50 2098") // nor of the rest, which is not told
	write(d.admin, owned, adproto.SDOwner, "50 2098")
	d.log.take()
	write(d.admin, listed, adproto.SDDACL, "0")
	if got := kinds(d.log.take()); len(got) != 2 || got[1] != audit.KindReaders {
		t.Errorf("the audit was told %v", got)
	}
	write(caller, is, adproto.SDDACL, "0")
	if sd := d.descriptor(webapp); sd.Owner != is.Owner || len(sd.DACL.ACEs) != len(is.DACL.ACEs) {
		t.Errorf("the descriptor is %+v", sd)
	}
	write(d.admin, secdesc.SecurityDescriptor{Owner: is.Owner, Group: is.Group, Control: secdesc.SelfRelative}, adproto.SDDACL, "19 202F")
	// Whoever can read nothing of a descriptor learns nothing by writing what they guess.
	closed := is
	closed.Control |= secdesc.DACLProtected
	closed.DACL = &secdesc.ACL{Revision: 4, ACEs: []secdesc.ACE{{Type: secdesc.Allow, Mask: secdesc.ReadProperty, SID: dtyp.AuthenticatedUsers},
		{Type: secdesc.Allow, Mask: secdesc.MapGeneric(secdesc.GenericAll), SID: contoso.SID.Child(dtyp.RIDDomainAdmins)}}}
	write(d.admin, closed, adproto.SDDACL, "0")
	write(caller, closed, adproto.SDDACL, "50 2098")
	write(caller, is, adproto.SDOwner, "50 2098")
}

// TestEveryWayToOtherReadersIsAudited: what a gMSA is made with, a move, and what it
// inherits can let somebody rewrite who reads its password.
//
// It holds security 19.
func TestEveryWayToOtherReadersIsAudited(t *testing.T) {
	d := people(t)
	const ou = "OU=accounts,DC=contoso,DC=com"
	d.mustAdd(ou, "objectClass: organizationalUnit")
	sid := d.Caller(t, "bob").SID
	given, err := secdesc.GroupMSAMembership(sid).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.log.take()
	told := func(what, dn string, want ...audit.Kind) {
		t.Helper()
		events := d.log.take()
		if got := kinds(events); !slices.Equal(got, want) {
			t.Errorf("%s: the audit was told %v, want %v", what, got, want)
		}
		for _, e := range events {
			if e.Kind == audit.KindReaders && (!strings.EqualFold(e.Object, dn) || e.SID != d.admin.SID || e.Error != "") {
				t.Errorf("%s: the audit was told %+v", what, e)
			}
		}
	}
	d.mustAdd("CN=plain,"+managed, "objectClass: msDS-GroupManagedServiceAccount")
	told("made with nothing", "", audit.KindAdd)
	d.mustAdd("CN=read,"+managed, "objectClass: msDS-GroupManagedServiceAccount", "msDS-GroupMSAMembership: "+string(given))
	told("made with readers", "CN=read,"+managed, audit.KindAdd, audit.KindReaders)
	sd := d.descriptor("CN=plain," + managed)
	sd.SACL = nil
	whole, err := sd.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.mustAdd("CN=owned,"+managed, "objectClass: msDS-GroupManagedServiceAccount", "nTSecurityDescriptor: "+string(whole))
	told("made with a descriptor", "CN=owned,"+managed, audit.KindAdd, audit.KindReaders)
	if err := d.rename(d.admin, "CN=plain,"+managed, "CN=renamed", ""); err != nil {
		t.Fatal(err)
	}
	told("renamed", "", audit.KindRename)
	d.changeDescriptor(ou, func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Flags: secdesc.ContainerInherit, Mask: secdesc.WriteDAC, SID: sid})
	})
	d.log.take()
	if err := d.rename(d.admin, "CN=renamed,"+managed, "CN=moved", ou); err != nil {
		t.Fatal(err)
	}
	told("moved below other entries", "CN=renamed,"+managed, audit.KindRename, audit.KindReaders)
	d.changeDescriptor(ou, func(sd *secdesc.SecurityDescriptor) { sd.DACL.Revoke(sid, secdesc.WriteDAC) })
	told("an entry above it goes", "CN=moved,"+ou, audit.KindModify, audit.KindReaders)
	d.mustModify(ou, "replace: description: x")
	told("something else above it", "", audit.KindModify)
}
