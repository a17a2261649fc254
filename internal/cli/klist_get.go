package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
)

// ticketTimeout bounds a request for one ticket.
const ticketTimeout = 20 * time.Second

func (a *app) klistGet() *cobra.Command {
	var o domainOptions
	c := &cobra.Command{
		Use:   "get SPN",
		Short: "Get a ticket for a service, and list the tickets",
		Long: `get asks the KDC for a ticket: krbtgt for a new ticket-granting ticket, a service
principal name (HTTP/app.contoso.com), or the name of an account. The ticket is
added to the credential cache it was asked from, where that can be written.`,
		Example: `  gmsa klist get krbtgt
  gmsa klist get MSSQLSvc/db1.contoso.com:1433
  gmsa klist get HTTP/app.contoso.com --keytab /etc/krb5.keytab`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.getTicket(c.Context(), &o, args[0]) },
	}
	o.addFlags(c)
	a.addOutputFlag(c)
	return c
}

func (a *app) getTicket(ctx context.Context, o *domainOptions, spn string) error {
	creds, err := a.credentials(o)
	if err != nil {
		return err
	}
	d, err := a.openDomain(o, creds)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	ctx, cancel := context.WithTimeout(ctx, ticketTimeout)
	defer cancel()
	server, err := serverName(spn, d.Realm())
	if err != nil {
		return err
	}
	session, err := ad.Open(d, creds.identity)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	tgt, err := session.TGT(ctx)
	if err != nil {
		return err
	}
	res, err := d.Kerberos().TGS(ctx, kclient.TGSRequest{TGT: tgt, Server: server, Options: inherited(tgt.Flags)})
	if err != nil {
		return err
	}
	cache := creds.cache
	if creds.cachePath == "" {
		cache = ccache.Cache{Principal: tgt.Client, Credentials: []krb5.Credential{tgt}}
	} else if err := keepTicket(creds.cachePath, res); err != nil {
		return err
	}
	cache.Credentials = putFirst(cache.Credentials, res.Credential)
	list := a.ticketsOf(cache)
	list.Cache, list.retrieved = creds.cachePath, spn
	list.Tickets[0].KDC = res.KDC.Host
	return a.print(list, list.write)
}

// inherited asks for the flags that the ticket-granting ticket has, as Windows
// does: a ticket that may be renewed or forwarded gives one that may.
func inherited(f krb5.TicketFlags) krb5.KDCOptions {
	var o krb5.KDCOptions
	if f.Has(krb5.FlagForwardable) {
		o |= krb5.OptForwardable
	}
	if f.Has(krb5.FlagRenewable) {
		o |= krb5.OptRenewable
	}
	return o
}

// serverName is the service that a name means: krbtgt is that of the realm, a
// name with a slash is a service principal name, any other is an account.
func serverName(s, realm string) (krb5.PrincipalName, error) {
	if at := strings.LastIndexByte(s, '@'); at > 0 {
		if !strings.EqualFold(s[at+1:], realm) {
			return krb5.PrincipalName{}, failure(Usage, fmt.Errorf("%s is of another realm than %s", s, realm)).hint("name its domain: --domain %s", strings.ToLower(s[at+1:]))
		}
		s = s[:at]
	}
	parts := strings.Split(s, "/")
	if slices.Contains(parts, "") {
		return krb5.PrincipalName{}, failure(Usage, fmt.Errorf("%q is no service principal name", s)).hint("write it as SERVICE/HOST, such as HTTP/app.contoso.com")
	}
	switch {
	case strings.EqualFold(parts[0], "krbtgt") && len(parts) == 1:
		return krb5.NewName(krb5.NameSrvInst, "krbtgt", realm), nil
	case len(parts) == 1:
		return krb5.NewName(krb5.NamePrincipal, s), nil
	}
	return krb5.NewName(krb5.NameSrvInst, parts...), nil
}

// keepTicket appends a ticket, and who issued it, to a credential cache file
// under the lock that MIT's library takes. A cache that is not to be written,
// such as that of a lease, stays as it is; for root only the mode says so.
func keepTicket(path string, res kclient.Result) error {
	if strings.HasPrefix(path, "KCM:") {
		return nil // a manager's caches are only read
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o200 == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrPermission) || isReadOnly(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("credential cache: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := lockFile(f); err != nil {
		return fmt.Errorf("credential cache %s: lock: %w", path, err)
	}
	b := ccache.AppendCredential(nil, res.Credential)
	b = ccache.AppendConfig(b, res.Credential.Client, ccache.Config{
		Key: lease.SettingKDC, Principal: res.Credential.Server.String(), Value: []byte(res.KDC.Host),
	})
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("credential cache: %w", err)
	}
	return f.Close()
}
