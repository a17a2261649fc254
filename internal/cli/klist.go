package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
)

// ticketList is what gmsa klist prints.
type ticketList struct {
	Cache   string       `json:"cache"`
	Client  string       `json:"client"`
	Tickets []ticketView `json:"tickets"`
	// Skipped are tickets that cannot be used here.
	Skipped []skippedView `json:"skipped,omitempty"`
	// retrieved is the name that klist get was asked for.
	retrieved string
}

// ticketView is one ticket as klist shows it.
type ticketView struct {
	Client      string           `json:"client"`
	Server      string           `json:"server"`
	TicketEType string           `json:"ticketEncryptionType"`
	Flags       krb5.TicketFlags `json:"flags"`
	FlagNames   string           `json:"flagNames"`
	Start       time.Time        `json:"startTime"`
	End         time.Time        `json:"endTime"`
	Renew       time.Time        `json:"renewTime,omitzero"`
	KeyEType    string           `json:"sessionKeyType"`
	KDC         string           `json:"kdcCalled,omitempty"`
	Expired     bool             `json:"expired"`
}

type skippedView struct {
	Server string `json:"server"`
	Reason string `json:"reason"`
}

func (a *app) klist() *cobra.Command {
	var cache, leaseID string
	var all bool
	c := &cobra.Command{
		Use:   "klist",
		Short: "List the tickets of a credential cache",
		Long: `klist prints the tickets of the caller's credential cache in the words of
Windows' klist. The cache is that of --ccache, of KRB5CCNAME (FILE, DIR, or KCM: of
sssd-kcm or Heimdal's kcm, at kcm_socket of krb5.conf), or /tmp/krb5cc_UID; with --lease
that of a lease of the agent. --all prints all caches of the directory or manager. The
LogonId is the user's id, there being no other.`,
		Example: `  gmsa klist
  gmsa klist get krbtgt
  gmsa klist --ccache KCM: --all
  gmsa klist --lease 5f0c0f6e2b7a4c1d9e8f7a6b5c4d3e2f
  gmsa klist --ccache /run/gmsa/ccache -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			name := a.cacheName(cache)
			if leaseID != "" {
				var err error
				if name, err = a.leaseCache(c.Context(), leaseID); err != nil {
					return err
				}
			}
			if all {
				return a.klistAll(name)
			}
			list, err := a.klistOf(name)
			if err != nil {
				return err
			}
			return a.print(list, list.write)
		},
	}
	c.AddCommand(a.klistGet())
	c.Flags().StringVar(&cache, "ccache", "", "the credential cache (default: KRB5CCNAME)")
	c.Flags().StringVar(&leaseID, "lease", "", "the cache of this lease of the agent")
	c.Flags().BoolVar(&all, "all", false, "all caches of the directory or manager; with -o json a list")
	c.MarkFlagsMutuallyExclusive("ccache", "lease")
	_ = c.RegisterFlagCompletionFunc("lease", a.completeLease)
	a.addOutputFlag(c)
	return c
}

// leaseCache is the credential cache of a lease's primary account.
func (a *app) leaseCache(ctx context.Context, id string) (name string, err error) {
	err = a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		l, err := client.GetLease(ctx, &agentapi.GetLeaseRequest{Id: id})
		name = l.GetEnvironment()["KRB5CCNAME"]
		return err
	})
	return name, err
}

// klistOf lists the tickets of one cache.
func (a *app) klistOf(name string) (ticketList, error) {
	cache, path, err := a.openCache(name)
	if err != nil {
		return ticketList{}, err
	}
	list := a.ticketsOf(cache)
	list.Cache = path
	return list, nil
}

// klistAll prints all caches of a collection. One that cannot be read is told of, and does
// not hide the others.
func (a *app) klistAll(name string) error {
	names, err := a.cacheNames(name)
	if err != nil {
		return err
	}
	lists := []ticketList{}
	for _, n := range names {
		list, err := a.klistOf(n)
		if err != nil {
			a.warn(err.Error())
			continue
		}
		lists = append(lists, list)
	}
	return a.print(lists, func(w io.Writer) error {
		for _, l := range lists {
			if _, err := fmt.Fprintf(w, "\nCredential cache: %s, of %s\n", printable(l.Cache), printable(l.Client)); err != nil {
				return err
			}
			if err := l.write(w); err != nil {
				return err
			}
		}
		return nil
	})
}

// ticketsOf lists the tickets of a cache in its order.
func (a *app) ticketsOf(c ccache.Cache) ticketList {
	list := ticketList{Client: c.Principal.String(), Tickets: []ticketView{}}
	for _, cred := range c.Credentials {
		v := a.viewOf(cred)
		if kdc, ok := c.Setting(lease.SettingKDC, cred.Server.String()); ok {
			v.KDC = string(kdc)
		}
		list.Tickets = append(list.Tickets, v)
	}
	for _, s := range c.Skipped {
		list.Skipped = append(list.Skipped, skippedView{s.Server.String(), s.Reason})
	}
	return list
}

func (a *app) viewOf(cred krb5.Credential) ticketView {
	v := ticketView{
		Client:      nameAtRealm(cred.Client),
		Server:      nameAtRealm(cred.Server),
		TicketEType: "unknown",
		Flags:       cred.Flags,
		FlagNames:   cred.Flags.String(),
		Start:       cred.StartTime,
		End:         cred.EndTime,
		Renew:       cred.RenewTill,
		KeyEType:    cred.SessionKey.EType().WindowsName(),
		Expired:     !a.env.Now().Before(cred.EndTime),
	}
	if v.Start.IsZero() {
		v.Start = cred.AuthTime
	}
	if t, err := krb5.ParseTicket(cred.Ticket); err == nil {
		v.TicketEType = t.EncPart.EType.WindowsName()
	}
	return v
}

// nameAtRealm is how klist of Windows writes a principal.
func nameAtRealm(p krb5.Principal) string { return p.Name.String() + " @ " + p.Realm }

// write prints the list in the words of Windows' klist.
func (l ticketList) write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\nCurrent LogonId is 0:0x%x\n", max(os.Getuid(), 0))
	if l.retrieved != "" {
		fmt.Fprintf(&b, "A ticket to %s has been retrieved successfully.\n", printable(l.retrieved))
	}
	fmt.Fprintf(&b, "\nCached Tickets: (%d)\n", len(l.Tickets))
	for i, t := range l.Tickets {
		fmt.Fprintf(&b, `
#%d>     Client: %s
        Server: %s
        KerbTicket Encryption Type: %s
        Ticket Flags 0x%x -> %s
        Start Time: %s
        End Time:   %s
        Renew Time: %s
        Session Key Type: %s
        Cache Flags: 0
        Kdc Called: %s
`, i, printable(t.Client), printable(t.Server), t.TicketEType, uint32(t.Flags), t.FlagNames,
			klistTime(t.Start), klistTime(t.End), klistTime(t.Renew), t.KeyEType, printable(t.KDC))
	}
	for _, s := range l.Skipped {
		fmt.Fprintf(&b, "\nNot shown: %s (%s)\n", printable(s.Server), printable(s.Reason))
	}
	_, err := b.WriteTo(w)
	return err
}

// klistTime is a time as klist of Windows prints it: month first, 24 hours
// without a leading zero, the local zone; 0 for a ticket that cannot be renewed.
func klistTime(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	l := t.Local()
	return fmt.Sprintf("%d/%d/%d %d:%02d:%02d (local)", l.Month(), l.Day(), l.Year(), l.Hour(), l.Minute(), l.Second())
}

// putFirst is creds with one more before the others, in place of older
// tickets for the same server, the ticket of the logon itself excepted.
func putFirst(creds []krb5.Credential, cred krb5.Credential) []krb5.Credential {
	rest := slices.DeleteFunc(slices.Clone(creds), func(c krb5.Credential) bool {
		return c.Server.Equal(cred.Server) && !c.Flags.Has(krb5.FlagInitial)
	})
	return append([]krb5.Credential{cred}, rest...)
}
