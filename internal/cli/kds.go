package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/event"
)

func (a *app) kds() *cobra.Command {
	return noun("kds", "KDS root keys, from which the passwords of gMSAs are made",
		a.kdsAdd(), a.kdsList(), a.kdsShow(), a.kdsTest(), a.kdsRemove(), a.kdsReach())
}

// rootKeyView is a root key for programs.
type rootKeyView struct {
	ID             string     `json:"keyId"`
	Created        *time.Time `json:"creationTime,omitempty"`
	Effective      *time.Time `json:"effectiveTime,omitempty"`
	FirstUse       *time.Time `json:"firstUse,omitempty"`
	Usable         bool       `json:"usable"`
	Hash           string     `json:"hash,omitempty"`
	KDF            string     `json:"kdfAlgorithm,omitempty"`
	Agreement      string     `json:"secretAgreementAlgorithm,omitempty"`
	PrivateKeyBits uint32     `json:"privateKeyLength,omitempty"`
	PublicKeyBits  uint32     `json:"publicKeyLength,omitempty"`
	Maker          string     `json:"domainController,omitempty"`
	DN             string     `json:"distinguishedName,omitempty"`
	// KeyValue is the secret, in hexadecimal; only where it was asked for.
	KeyValue string `json:"keyValue,omitempty"`
}

func (a *app) viewRootKey(k ad.RootKey) rootKeyView {
	return rootKeyView{
		ID: k.ID.String(), Created: jsonTime(k.Created), Effective: jsonTime(k.UseStart), FirstUse: jsonTime(k.FirstUse()),
		Usable: !a.env.Now().Before(k.FirstUse()), Hash: k.Hash, KDF: k.KDF, Agreement: k.Agreement,
		PrivateKeyBits: k.PrivateKeyBits, PublicKeyBits: k.PublicKeyBits, Maker: k.DomainID, DN: k.DN,
	}
}

// addKeyOptions are the flags of gmsa kds add.
type addKeyOptions struct {
	immediately, testOnly bool
	effective, reason     string
	eventLog              string
}

func (a *app) kdsAdd() *cobra.Command {
	var o addKeyOptions
	return a.command(verb{
		use: "add", short: "Make a KDS root key", args: cobra.NoArgs,
		long: `add makes a root key. It takes effect in 10 days unless something else is asked
for, so that every controller has it by then. With --effective-immediately its use
time is now; because passwords change at the beginning of a key cycle of 10 hours
only, it is used up to 10 hours later, and the answer says when. One key is enough
for a forest and for ever, unless it leaked.`,
		example: `  gmsa kds add
  gmsa kds add --effective-immediately
  gmsa kds add --effective-time -11h     # a test domain with a single controller`,
		flags: func(c *cobra.Command) {
			f := c.Flags()
			f.BoolVar(&o.immediately, "effective-immediately", false, "the use time is now: used from the next key cycle on")
			f.StringVar(&o.effective, "effective-time", "", "the use time: 2026-12-01T08:00:00Z, or -11h for eleven hours ago")
			f.BoolVar(&o.testOnly, "local-test-only", false, "make a key in memory and derive from it; write nothing")
			f.StringVar(&o.reason, "reason", "", "why another key is needed where there is one: it is not warned of then")
			f.StringVar(&o.eventLog, "event-log", "", "also write event 4004 to this log (default: the host's, where it can be written)")
			c.MarkFlagsMutuallyExclusive("effective-immediately", "effective-time")
		},
		run: func(ctx context.Context, s *ad.Session, _ []string) error { return a.addRootKey(ctx, s, o) },
	})
}

// useTime is the use time that the options ask for; zero for the default.
func (o addKeyOptions) useTime(now time.Time) (time.Time, error) {
	switch {
	case o.immediately:
		return now, nil
	case o.effective != "":
		return parseUseTime(o.effective, now)
	}
	return time.Time{}, nil
}

func (a *app) addRootKey(ctx context.Context, s *ad.Session, o addKeyOptions) error {
	now := s.Domain().Kerberos().Now()
	use, err := o.useTime(now)
	if err != nil {
		return err
	}
	if o.testOnly {
		if err := s.TestNewRootKey(); err != nil {
			return err
		}
		return a.printOutcome(true, "a root key can be made and derived from; nothing was written")
	}
	key, others, err := s.AddRootKey(ctx, use)
	if err != nil {
		return err
	}
	for _, w := range ad.RootKeyWarnings(key, others, now, o.reason != "") {
		a.warn(w)
	}
	a.writeEvent(o.eventLog, event.RootKeyCreated(key.ID))
	return a.print(a.viewRootKey(key), func(w io.Writer) error {
		return fields(w, "key id", key.ID.String(), "effective", when(key.UseStart), "first used", when(key.FirstUse()))
	})
}

// writeEvent writes to the event log that is named, or to the host's if it can be
// written: whoever administers from elsewhere has none.
func (a *app) writeEvent(path string, e event.Event) {
	explicit := path != ""
	if _, err := os.Stat(defaultEventLog); !explicit && err != nil {
		return
	}
	log, err := event.Open(event.Config{Path: orElse(path, defaultEventLog), Now: a.env.Now})
	if err == nil {
		err = errors.Join(log.Write(e), log.Close())
	}
	if err != nil && explicit {
		a.warn(fmt.Sprintf("event %d is not in the log: %v", e.ID, err))
	}
}

// outcome is a check's result.
type outcome struct {
	Result bool   `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// printOutcome prints True or False, as the cmdlets do; False is exit code 6.
func (a *app) printOutcome(ok bool, detail string) error {
	err := a.print(outcome{ok, detail}, func(w io.Writer) error {
		word := "False"
		if ok {
			word = "True"
		}
		_, err := fmt.Fprintln(w, word)
		return err
	})
	switch {
	case err != nil:
		return err
	case !ok:
		if a.output == outputText && detail != "" {
			a.warn(detail)
		}
		e := failure(Negative, errors.New(orElse(detail, "the check came out negative")))
		e.Shown = true
		return e
	}
	return nil
}

func (a *app) kdsList() *cobra.Command {
	return a.command(verb{
		use: "list", short: "List the root keys", args: cobra.NoArgs,
		long:    "list shows the root keys of the forest, the oldest first, without their secrets.",
		example: "  gmsa kds list\n  gmsa kds list -o json",
		run: func(ctx context.Context, s *ad.Session, _ []string) error {
			keys, err := s.RootKeys(ctx, false)
			if err != nil {
				return err
			}
			views := make([]rootKeyView, len(keys))
			rows := [][]string{{"KEY ID", "CREATED", "EFFECTIVE", "FIRST USED", "USABLE"}}
			for i, k := range keys {
				views[i] = a.viewRootKey(k)
				rows = append(rows, []string{k.ID.String(), when(k.Created), when(k.UseStart), when(k.FirstUse()), yesNo(views[i].Usable)})
			}
			return a.print(views, func(w io.Writer) error { return table(w, rows) })
		},
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// parseKeyID reads the id of a root key.
func parseKeyID(text string) (dtyp.GUID, error) {
	id, err := dtyp.ParseGUID(text)
	if err != nil {
		return id, failure(Usage, fmt.Errorf("key id %q: %w", text, err)).hint("gmsa kds list")
	}
	return id, nil
}

func (a *app) kdsShow() *cobra.Command {
	var secrets bool
	return a.command(verb{
		use: "show KEY-ID", short: "Show a root key", args: cobra.ExactArgs(1), complete: []completer{completeRootKey},
		long: `show prints everything about a root key but the secret. With --show-secret it also
prints that: whoever has it knows the passwords of all gMSAs, past and to come.`,
		example: "  gmsa kds show 46e3ccfa-2eb4-4a3b-9a79-9e0a2c1dd1b3",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&secrets, "show-secret", false, "also print the key itself, in hexadecimal")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			id, err := parseKeyID(args[0])
			if err != nil {
				return err
			}
			k, err := s.RootKey(ctx, id, secrets)
			if err != nil {
				return err
			}
			v := a.viewRootKey(k)
			if secrets {
				if k.Key == nil {
					return fmt.Errorf("root key %v: %w", id, ad.ErrSecretWithheld)
				}
				defer k.Key.Key.Destroy()
				v.KeyValue = hex.EncodeToString(k.Key.Key.Reveal())
			}
			return a.print(v, func(w io.Writer) error {
				return fields(w, "key id", v.ID, "created", when(k.Created), "effective", when(k.UseStart), "first used", when(k.FirstUse()),
					"derivation", v.KDF+" "+v.Hash, "secret agreement", fmt.Sprintf("%s, %d and %d bits", v.Agreement, v.PrivateKeyBits, v.PublicKeyBits),
					"made at", v.Maker, "object", v.DN, "key", v.KeyValue)
			})
		},
	})
}

func (a *app) kdsTest() *cobra.Command {
	return a.command(verb{
		use: "test KEY-ID", short: "Check that passwords can be made from a root key", args: cobra.ExactArgs(1), complete: []completer{completeRootKey},
		long:    "test reads a root key with its secret, checks its parameters and derives a group key. It prints True or False and exits with 6 on False.",
		example: "  gmsa kds test 46e3ccfa-2eb4-4a3b-9a79-9e0a2c1dd1b3",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			id, err := parseKeyID(args[0])
			if err != nil {
				return err
			}
			reason, err := s.TestRootKey(ctx, id)
			if err != nil {
				return err
			}
			if reason != nil {
				return a.printOutcome(false, reason.Error())
			}
			return a.printOutcome(true, "")
		},
	})
}

// dependentView is an account that depends on a root key.
type dependentView struct {
	Name     string     `json:"sAMAccountName"`
	DN       string     `json:"distinguishedName"`
	Current  bool       `json:"current"`
	Previous bool       `json:"previous"`
	Until    *time.Time `json:"nextRollover,omitempty"`
}

func viewDependents(list []ad.Dependent) []dependentView {
	views := make([]dependentView, len(list))
	for i, d := range list {
		views[i] = dependentView{d.Account.Name, d.Account.DN, d.Current, d.Previous, jsonTime(d.Account.NextRollover())}
	}
	return views
}

func (a *app) kdsReach() *cobra.Command {
	return a.command(verb{
		use: "reach KEY-ID", short: "List the accounts that a root key gives away", args: cobra.ExactArgs(1), complete: []completer{completeRootKey},
		long: `reach lists the gMSAs of the domain whose current or previous password comes from a
root key: those that a leaked key gives away, and that its removal would break.
An account is out of reach once it has rolled over twice under a newer key.`,
		example: "  gmsa kds reach 46e3ccfa-2eb4-4a3b-9a79-9e0a2c1dd1b3",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			id, err := parseKeyID(args[0])
			if err != nil {
				return err
			}
			list, whole, err := s.Dependents(ctx, id)
			if err != nil {
				return err
			}
			if !whole {
				a.warn("the forest has other domains, whose accounts are not in this list: ask each with --domain")
			}
			return a.print(viewDependents(list), func(w io.Writer) error {
				rows := [][]string{{"ACCOUNT", "CURRENT", "PREVIOUS", "NEXT ROLLOVER"}}
				for _, d := range list {
					rows = append(rows, []string{d.Account.Name, yesNo(d.Current), yesNo(d.Previous), when(d.Account.NextRollover())})
				}
				return table(w, rows)
			})
		},
	})
}

func (a *app) kdsRemove() *cobra.Command {
	var force bool
	return a.command(verb{
		use: "remove KEY-ID", short: "Remove a root key that no account needs", args: cobra.ExactArgs(1), complete: []completer{completeRootKey},
		long: `remove deletes a root key. It refuses while the current or previous password of an
account comes from the key, and says which: without its key an account cannot be
used until its next rollover. In the ten minutes before an account rolls over it refuses
for the key that the next password comes from, which hosts may have been told.`,
		example: "  gmsa kds remove 46e3ccfa-2eb4-4a3b-9a79-9e0a2c1dd1b3",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&force, "force", false, "remove it although accounts stop working")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			id, err := parseKeyID(args[0])
			if err != nil {
				return err
			}
			broken, err := s.RemoveRootKey(ctx, id, force)
			if err != nil {
				return err
			}
			if len(broken) > 0 {
				names := make([]string, len(broken))
				for i, d := range broken {
					names[i] = d.Account.Name
				}
				a.warn("these accounts cannot be used until their next rollover: " + strings.Join(names, ", "))
			}
			return a.printChanged("root keys", "removed", []string{id.String()})
		},
	})
}
