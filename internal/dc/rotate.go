package dc

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5"
)

// KeyOwner is an account whose random keys the controller itself keeps.
type KeyOwner string

// The owners.
const (
	// OwnerKrbtgt's keys encrypt TGTs and sign PACs.
	OwnerKrbtgt KeyOwner = "krbtgt"
	// OwnerController's keys encrypt the tickets for the directory.
	OwnerController KeyOwner = "controller"
)

// Rotation is how the keys of an owner stand after a rotation was asked for.
type Rotation struct {
	// Done says that there are new ones.
	Done    bool   `json:"done"`
	Account string `json:"account"`
	KVNO    uint32 `json:"kvno"`
	// Until is when the last ticket under the keys before ends. To rotate again before
	// then makes tickets worthless that are in use.
	Until time.Time `json:"until"`
}

// rotateParams are those of the method rotate-keys.
type rotateParams struct {
	Owner KeyOwner `json:"owner"`
	Force bool     `json:"force"`
}

// RotateKeys gives an owner new keys. Those before stay good for the tickets that were
// issued under them, and those before these do not: so it does nothing, unless forced,
// while such tickets can be alive. Rotated twice, the owner takes no ticket from before,
// which is what is to be done after krbtgt's keys were stolen.
func (c *Controller) RotateKeys(ctx context.Context, owner KeyOwner, force bool) (Rotation, error) {
	acct, err := c.keyOwner(ctx, owner)
	if err != nil {
		return Rotation{}, err
	}
	sets, err := c.accounts.TicketKeys(acct, dtyp.FiletimeOf(c.cfg.Now()))
	if err != nil {
		return Rotation{}, err
	}
	life := c.cfg.Kerberos.TicketLifetime()
	r := Rotation{Account: acct.Name, KVNO: sets[0].KVNO, Until: acct.PasswordSet.Add(life).Time()}
	if len(sets) > 1 && c.cfg.Now().Before(r.Until) && !force {
		return r, nil
	}
	err = c.directory.Update(ctx, func(w *directory.Writer) error {
		e, err := w.Get(acct.GUID)
		if err != nil {
			return err
		}
		if err := (&account.Passwords{Rand: c.cfg.Rand}).RandomKeys(w, e); err != nil {
			return err
		}
		return w.Replace(e)
	})
	if err != nil {
		return Rotation{}, fmt.Errorf("rotate the keys of %s: %w", acct.Name, err)
	}
	c.cfg.Audit.Record(audit.Event{Time: c.cfg.Now(), Kind: audit.KindRotateKeys, Name: `NT AUTHORITY\SYSTEM`, SID: dtyp.LocalSystem,
		Object: acct.Name, GUID: acct.GUID})
	r.Done, r.KVNO, r.Until = true, r.KVNO+1, c.cfg.Now().Add(life)
	return r, nil
}

// keyOwner is the account of an owner.
func (c *Controller) keyOwner(ctx context.Context, owner KeyOwner) (*account.Account, error) {
	switch owner {
	case OwnerKrbtgt:
		return c.accounts.Krbtgt(ctx)
	case OwnerController:
		return c.accounts.Server(ctx, krb5.NewName(krb5.NamePrincipal, strings.ToUpper(c.directory.Domain().Host)+"$"))
	}
	return nil, fmt.Errorf("no keys of %q: there are those of %s and of %s", owner, OwnerKrbtgt, OwnerController)
}

// rotateKeys is the method of the control socket.
func (c *Controller) rotateKeys(ctx context.Context, params json.RawMessage) (Rotation, error) {
	var p rotateParams
	if err := json.Unmarshal(params, &p); err != nil {
		return Rotation{}, fmt.Errorf("%s: %w", methodRotate, err)
	}
	return c.RotateKeys(ctx, p.Owner, p.Force)
}

// RotateKeys is [Controller.RotateKeys] of the data directory, whether its controller runs
// or not.
func (d Data) RotateKeys(ctx context.Context, cfg Config, owner KeyOwner, force bool) (r Rotation, err error) {
	if ok, err := d.call(ctx, methodRotate, rotateParams{owner, force}, &r); ok || err != nil {
		return r, err
	}
	err = d.with(ctx, cfg, func(c *Controller) error {
		r, err = c.RotateKeys(ctx, owner, force)
		return err
	})
	return r, err
}
