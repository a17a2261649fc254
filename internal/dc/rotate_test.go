package dc

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

// TestKeysAreRotated: tickets of before are good after one rotation of krbtgt's keys, to
// use and to renew, and after two they are not. The second is refused while there are any.
func TestKeysAreRotated(t *testing.T) {
	c := newClocked(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	logOn := func() krb5.Credential {
		t.Helper()
		res, err := c.kerberos().AS(t.Context(), kclient.ASRequest{Client: administrator, RenewLifetime: 7 * 24 * time.Hour,
			Secret: kclient.Password(secret.New([]byte(dctest.AdminPassword)))})
		if err != nil {
			t.Fatal(err)
		}
		return res.Credential
	}
	use := func(tgt krb5.Credential) (krb5.Credential, error) {
		res, err := c.kerberos().TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: ldapService})
		return res.Credential, err
	}
	rotate := func(owner KeyOwner, force, done bool, kvno uint32) Rotation {
		t.Helper()
		r, err := c.RotateKeys(t.Context(), owner, force)
		if err != nil || r.Done != done || r.KVNO != kvno {
			t.Fatalf("%s: %+v, %v, want done %t, version %d", owner, r, err, done, kvno)
		}
		return r
	}
	first := logOn()
	ticket, err := use(first)
	if err != nil {
		t.Fatal(err)
	}
	if r := rotate(OwnerKrbtgt, false, true, 2); !r.Until.Equal(c.clock.Now().Add(10 * time.Hour)) {
		t.Errorf("tickets of before end by %v", r.Until)
	}
	if _, err := use(first); err != nil {
		t.Errorf("a TGT of before: %v", err)
	}
	if err := c.sealed(ticket); err != nil {
		t.Errorf("a service ticket of before, whose PAC krbtgt signed: %v", err)
	}
	renewed, err := c.kerberos().Renew(t.Context(), first)
	if err != nil {
		t.Fatalf("a TGT of before, renewed: %v", err)
	}
	second := logOn()
	c.clock.Advance(9 * time.Hour)
	rotate(OwnerKrbtgt, false, false, 2)
	rotate(OwnerKrbtgt, true, true, 3)
	if _, err := use(first); !errors.Is(err, krb5.ErrBadKeyVersion) {
		t.Errorf("a TGT of two keys before: %v", err)
	}
	for what, tgt := range map[string]krb5.Credential{"one that was renewed": renewed.Credential, "one of the key before": second} {
		if _, err := use(tgt); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	c.clock.Advance(11 * time.Hour)
	rotate(OwnerKrbtgt, false, true, 4)

	if ticket, err = use(logOn()); err != nil {
		t.Fatal(err)
	}
	rotate(OwnerController, false, true, 2)
	if err := c.sealed(ticket); err != nil {
		t.Errorf("a ticket for the controller's keys of before: %v", err)
	}
	rotate(OwnerController, true, true, 3)
	if err := c.sealed(ticket); !invalidCredentials(err) {
		t.Errorf("a ticket for the controller's keys of two before: %v", err)
	}
	var told []string
	for _, e := range c.audit.Take() {
		if e.Kind == audit.KindRotateKeys {
			told = append(told, e.Object)
		}
	}
	if !slices.Equal(told, []string{"krbtgt", "krbtgt", "krbtgt", "DC1$", "DC1$"}) {
		t.Errorf("the audit log has rotations of %v", told)
	}
	if _, err := c.RotateKeys(t.Context(), "alice", false); err == nil {
		t.Error("keys of somebody else")
	}
}
