package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

func (a *app) computer() *cobra.Command {
	return noun("computer", "Host accounts",
		a.computerJoin(), a.computerList(), a.computerShow(), a.computerRemove())
}

// joinOptions are the flags of gmsa computer join.
type joinOptions struct {
	join ad.Join
	// out is where the keytab goes; --keytab is what the caller logs on with.
	out string
}

func (a *app) computerJoin() *cobra.Command {
	var o joinOptions
	return a.command(verb{
		use: "join [NAME]", short: "Join this host to the domain", args: cobra.MaximumNArgs(1),
		long: `join makes the account of a host, gives it a random password, and writes the keys
to a keytab, with which the host can log on from then on; no other tool is needed.
The name is this host's unless one is given. An account that is there gets new
keys, so that join may be run again; keys that it had are void then. Keys of other
principals in the keytab stay.`,
		example: `  gmsa computer join -U Administrator@contoso.com
  gmsa computer join ContainerHost01 --out /tmp/host.keytab -U Administrator@contoso.com`,
		flags: func(c *cobra.Command) {
			f := c.Flags()
			f.StringVar(&o.out, "out", hostKeytab, "the keytab to write")
			f.StringVar(&o.join.DNSHostName, "dns", "", "the host's DNS name (default: NAME.DOMAIN)")
			f.StringVar(&o.join.Path, "path", "", "distinguished name of the container (default: Computers)")
			f.StringVar(&o.join.Description, "description", "", "what it is for")
			f.StringSliceVar(&o.join.SPNs, "spn", nil, "service principal names in place of those of HOST and RestrictedKrbHost")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error { return a.join(ctx, s, o, args) },
	})
}

// joinedView is what join reports.
type joinedView struct {
	Account string `json:"account"`
	DN      string `json:"distinguishedName"`
	KVNO    uint32 `json:"kvno"`
	Keytab  string `json:"keytab"`
	Created bool   `json:"created"`
}

func (a *app) join(ctx context.Context, s *ad.Session, o joinOptions, args []string) error {
	o.join.Name, o.join.OperatingSystem = strings.Join(args, ""), runtime.GOOS
	if o.join.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("this host's name: %w", err)
		}
		o.join.Name, _, _ = strings.Cut(host, ".")
	}
	old, err := readKeytab(o.out) // before anything is changed
	if err != nil {
		return err
	}
	if err := writable(o.out); err != nil {
		return err
	}
	j, err := s.JoinComputer(ctx, o.join)
	if err != nil {
		return err
	}
	kt := mergeKeys(old, s.Domain().Realm(), j, a.env.Now())
	if err := writeKeytab(o.out, kt); err != nil {
		return fmt.Errorf("the account %s has new keys, but they are not in a keytab: %w", j.Account.Name, err)
	}
	v := joinedView{j.Account.Name, j.Account.DN, j.KVNO, o.out, j.Made}
	return a.print(v, func(w io.Writer) error {
		what := "given new keys"
		if v.Created {
			what = "made"
		}
		_, err := fmt.Fprintf(w, "%s was %s; its keys are in %s\n", printable(v.DN), what, printable(v.Keytab))
		return err
	})
}

// readKeytab reads a keytab that may not exist yet.
func readKeytab(path string) (keytab.Keytab, error) {
	b, err := readLimited(path, keytab.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return keytab.Keytab{}, nil
	}
	if err != nil {
		return keytab.Keytab{}, err
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		return keytab.Keytab{}, fmt.Errorf("%s: %w", path, err)
	}
	return kt, nil
}

// writable finds out whether a file can be written beside path, before an account is
// changed whose keys would be lost otherwise.
func writable(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".gmsa-*")
	if err != nil {
		return fmt.Errorf("keytab: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// mergeKeys puts the account's new keys before those of other principals; it keeps
// the one generation before, for tickets that are still out.
func mergeKeys(old keytab.Keytab, realm string, j ad.Joined, now time.Time) keytab.Keytab {
	principals := []krb5.Principal{{Realm: realm, Name: krb5.NewName(krb5.NamePrincipal, j.Account.Name)}}
	for _, spn := range j.Account.SPNs {
		principals = append(principals, krb5.Principal{Realm: realm, Name: krb5.NewName(krb5.NameSrvInst, strings.Split(spn, "/")...)})
	}
	var kt keytab.Keytab
	for _, p := range principals {
		for _, k := range j.Keys {
			kt.Entries = append(kt.Entries, keytab.Entry{Principal: p, Timestamp: now, KVNO: j.KVNO, Key: k})
		}
	}
	for _, e := range old.Entries {
		own := slices.ContainsFunc(principals, func(p krb5.Principal) bool { return p.String() == e.Principal.String() })
		if !own || e.KVNO+1 == j.KVNO {
			kt.Entries = append(kt.Entries, e)
		}
	}
	return kt
}

// writeKeytab replaces a keytab: nobody sees half of it, and nobody but the owner
// reads it.
func writeKeytab(path string, kt keytab.Keytab) error {
	b, err := kt.Append(nil)
	if err != nil {
		return err
	}
	defer clear(b)
	return writeFile(path, b, 0o600)
}

// writeFile writes a file beside path and puts it in its place.
func writeFile(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".gmsa-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// computerView is a host account for programs.
type computerView struct {
	objectView
	DNSHostName string       `json:"dNSHostName,omitempty"`
	Description string       `json:"description,omitempty"`
	Enabled     bool         `json:"enabled"`
	SPNs        []string     `json:"servicePrincipalNames,omitempty"`
	PasswordSet *time.Time   `json:"passwordLastSet,omitempty"`
	Created     *time.Time   `json:"whenCreated,omitempty"`
	Groups      []objectView `json:"memberOf,omitempty"`
}

func accountObject(x ad.Account) ad.Object {
	return ad.Object{DN: x.DN, Kind: x.Kind, Name: x.Name, SID: x.SID, GUID: x.GUID}
}

func viewComputer(x ad.Account, groups []ad.Object) computerView {
	return computerView{
		objectView: viewObject(accountObject(x)), DNSHostName: x.DNSHostName, Description: x.Description, Enabled: !x.Control.Disabled(),
		SPNs: x.SPNs, PasswordSet: jsonTime(x.PasswordSet), Created: jsonTime(x.WhenCreated), Groups: viewObjects(groups),
	}
}

func (a *app) computerList() *cobra.Command {
	var base string
	return a.command(verb{
		use: "list [FILTER]", short: "List host accounts", args: cobra.MaximumNArgs(1),
		long:    "list shows the host accounts that satisfy a filter of LDAP or PowerShell.",
		example: `  gmsa computer list 'name -like "ContainerHost*"'`,
		flags:   func(c *cobra.Command) { c.Flags().StringVar(&base, "base", "", "search below this object only") },
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			f, err := parseFilter(strings.Join(args, ""))
			if err != nil {
				return err
			}
			list, err := s.Computers(ctx, f, base)
			if err != nil {
				return err
			}
			views := make([]computerView, len(list))
			rows := [][]string{{"NAME", "DNS NAME", "ENABLED", "PASSWORD SET"}}
			for i, x := range list {
				views[i] = viewComputer(x, nil)
				rows = append(rows, []string{x.Name, x.DNSHostName, yesNo(views[i].Enabled), when(x.PasswordSet)})
			}
			return a.print(views, func(w io.Writer) error { return table(w, rows) })
		},
	})
}

func (a *app) computerShow() *cobra.Command {
	return a.command(verb{
		use: "show NAME", short: "Show a host account and its groups", args: cobra.ExactArgs(1), complete: []completer{completeComputer},
		long:    "show prints a host account and the groups that it is in, through other groups too.",
		example: "  gmsa computer show ContainerHost01",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			x, err := s.Computer(ctx, args[0])
			if err != nil {
				return err
			}
			groups, err := s.Memberships(ctx, x.DN, true)
			if err != nil {
				return err
			}
			v := viewComputer(x, groups)
			return a.print(v, func(w io.Writer) error {
				err := fields(w, "computer", v.Name, "DNS name", v.DNSHostName, "description", v.Description, "enabled", yesNo(v.Enabled),
					"SPNs", strings.Join(v.SPNs, ", "), "password set", when(x.PasswordSet), "object", v.DN, "SID", v.SID)
				if err != nil || len(v.Groups) == 0 {
					return err
				}
				return writeObjects(w, v.Groups)
			})
		},
	})
}

func (a *app) computerRemove() *cobra.Command {
	return a.command(verb{
		use: "remove NAME", short: "Delete a host account", args: cobra.ExactArgs(1), complete: []completer{completeComputer},
		long:    "remove deletes a host account. Passwords of gMSAs that the host has read are good until they change: see gmsa account show.",
		example: "  gmsa computer remove ContainerHost03",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			x, err := s.RemoveComputer(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printChanged("computers", "removed", []string{x.Name})
		},
	})
}
