package dc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// ExportKeytab is a keytab with the keys of principals, present and previous, which is what
// takes to decrypt a capture. It is for whoever owns the data directory, who could read the
// keys there anyway; each account is told to the audit log. It fails with account.ErrUnknown
// for a principal that is none, and then exports nothing.
func (c *Controller) ExportKeytab(ctx context.Context, principals []string) (secret.Bytes, error) {
	var kt keytab.Keytab
	var exported []*account.Account
	for _, name := range principals {
		acct, entries, err := c.keysOf(ctx, name)
		if err != nil {
			return secret.Bytes{}, err
		}
		kt.Entries = append(kt.Entries, entries...)
		exported = append(exported, acct)
	}
	b, err := kt.Append(nil)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("export keytab: %w", err)
	}
	for _, acct := range exported {
		c.cfg.Audit.Record(audit.Event{Time: c.cfg.Now(), Kind: audit.KindExport, Name: `NT AUTHORITY\SYSTEM`, SID: dtyp.LocalSystem,
			Object: acct.Name, GUID: acct.GUID})
	}
	return secret.New(b), nil
}

// keysOf finds a principal as a client or a service, and makes entries of its keys.
func (c *Controller) keysOf(ctx context.Context, name string) (*account.Account, []keytab.Entry, error) {
	realm := c.directory.Domain().Realm()
	principal, in, ok := strings.Cut(name, "@")
	if ok && !strings.EqualFold(in, realm) {
		return nil, nil, fmt.Errorf("%s: %w: the realm here is %s", name, account.ErrUnknown, realm)
	}
	p := krb5.Principal{Realm: realm, Name: krb5.NewName(krb5.NamePrincipal, strings.Split(principal, "/")...)}
	acct, err := c.accounts.Server(ctx, p.Name)
	if errors.Is(err, account.ErrUnknown) {
		acct, err = c.accounts.Client(ctx, p.Name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	sets, err := c.accounts.TicketKeys(acct, dtyp.FiletimeOf(c.cfg.Now()))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	var entries []keytab.Entry
	for _, set := range sets {
		for _, key := range set.Keys {
			entries = append(entries, keytab.Entry{Principal: p, KVNO: set.KVNO, Key: key, Timestamp: c.cfg.Now()})
		}
	}
	if len(entries) == 0 {
		return nil, nil, fmt.Errorf("%s has no keys", name)
	}
	return acct, entries, nil
}

// ExportKeytab is [Controller.ExportKeytab] of the data directory, whether its controller
// runs or not.
func (d Data) ExportKeytab(ctx context.Context, cfg Config, principals []string) (kt secret.Bytes, err error) {
	var b []byte
	if ok, err := d.call(ctx, methodExport, principals, &b); ok || err != nil {
		return secret.New(b), err
	}
	err = d.with(ctx, cfg, func(c *Controller) error {
		kt, err = c.ExportKeytab(ctx, principals)
		return err
	})
	return kt, err
}
