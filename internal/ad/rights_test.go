package ad_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestWhoMayNotIsToldWhichRightIsMissing: for each thing that an administrator does, a
// user without rights is told which one it takes, on what, and how it is had.
func TestWhoMayNotIsToldWhichRightIsMissing(t *testing.T) { onBoth(t, testMissingRights) }

func testMissingRights(t *testing.T, dc *lab.DC) {
	dc.AddUser(t, "powerless", "Wonder-land-1!")
	t.Cleanup(func() { dc.Delete(t, "powerless") })
	s := session(t, domain(t, config(t, dc)), passwordOf(t, "powerless", "Wonder-land-1!"))
	admin := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
	keys, err := admin.RootKeys(t.Context(), false)
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d root keys, %v", len(keys), err)
	}
	const (
		users     = "CN=Users," + lab.BaseDN
		computers = "CN=Computers," + lab.BaseDN
		webapp01  = "CN=webapp01," + serviceAccounts
		web1      = "CN=web1," + computers
		webHosts  = "CN=WebHosts," + users
	)
	ctx, description := t.Context(), "x"
	no := func(_ any, err error) error { return err }
	for name, c := range map[string]struct {
		do            func() error
		right, object string
		grant         string // in the hint
	}{
		"make a gMSA": {func() error {
			_, _, err := s.CreateServiceAccount(ctx, ad.NewServiceAccount{Name: "never1", OutboundOnly: true})
			return err
		}, "create msDS-GroupManagedServiceAccount objects", serviceAccounts, "gmsa account delegate --to powerless"},
		"make an sMSA": {func() error {
			_, _, err := s.CreateServiceAccount(ctx, ad.NewServiceAccount{Name: "never2", Standalone: true})
			return err
		}, "create msDS-ManagedServiceAccount objects", serviceAccounts, "gmsa account delegate"},
		"change an account": {func() error {
			_, err := s.SetServiceAccount(ctx, "webapp01", ad.ServiceAccountEdit{Changes: []ad.Change{ad.Replace("description", description)}})
			return err
		}, "write the properties of the account", webapp01, "-U NAME"},
		"delete an account": {func() error { return no(s.RemoveServiceAccount(ctx, "webapp01")) }, "delete the object", webapp01, "-U NAME"},
		"add a reader": {func() error {
			_, _, err := s.AddReaders(ctx, "webapp01", "evil1$")
			return err
		}, "write msDS-GroupMSAMembership", webapp01, "-U NAME"},
		"delegate": {func() error { return no(s.Delegate(ctx, "powerless", "")) }, "change the permissions", serviceAccounts, "-U NAME"},
		"make a group": {func() error {
			return no(s.CreateGroup(ctx, ad.NewGroup{Name: "never3", Type: adproto.GroupSecurity | adproto.GroupGlobal}))
		}, "create group objects", users, "-U NAME"},
		"add a member":   {func() error { return no(s.AddMembers(ctx, "WebHosts", "web2$")) }, "write the members of the group", webHosts, "-U NAME"},
		"delete a group": {func() error { return no(s.RemoveGroup(ctx, "WebHosts")) }, "delete the object", webHosts, "-U NAME"},
		"delete a host":  {func() error { return no(s.RemoveComputer(ctx, "web1")) }, "delete the object", web1, "-U NAME"},
		"link an sMSA":   {func() error { return no(s.LinkServiceAccounts(ctx, "web1", "smsa01")) }, "write msDS-HostServiceAccount", web1, "-U NAME"},
		"add an SPN": {func() error {
			_, _, err := s.AddSPNs(ctx, "webapp01", "http/never")
			return err
		}, "write servicePrincipalName", webapp01, "-U NAME"},
		"change an object": {func() error { return no(s.SetObject(ctx, "web1$", ad.Replace("description", description))) }, "write the object's attributes", web1, "-U NAME"},
		"make a root key": {func() error {
			_, _, err := s.AddRootKey(ctx, time.Time{})
			return err
		}, "create msKds-ProvRootKey objects", "CN=Master Root Keys", "-U NAME"},
	} {
		err := c.do()
		e, ok := errors.AsType[*ad.AccessError](err)
		if !ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(e.Right, c.right) || !strings.Contains(strings.ToLower(e.Object), strings.ToLower(c.object)) || !strings.Contains(e.Hint(), c.grant) {
			t.Errorf("%s: right %q, object %q, hint %q; want %q, %q, %q", name, e.Right, e.Object, e.Hint(), c.right, c.object, c.grant)
		}
	}
	if _, err := s.RemoveRootKey(ctx, keys[0].ID, true); !errors.Is(err, ad.ErrNoRootKeyWithID) || !strings.Contains(err.Error(), "administrator") {
		t.Errorf("remove a root key: %v", err)
	}
}
