package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
	"github.com/opengmsa/opengmsa/internal/ldapc"
)

// adminTimeout bounds one operation of an administrator; lists of many thousand
// accounts take seconds.
const adminTimeout = 5 * time.Minute

// session opens the domain of the options as their identity, for as long as do
// runs.
func (a *app) session(ctx context.Context, o *domainOptions, do func(ctx context.Context, s *ad.Session) error) error {
	creds, err := a.credentials(o)
	if err != nil {
		return err
	}
	d, err := a.openDomain(o, creds)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	s, err := ad.Open(d, creds.identity)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	return judged(do(ctx, s))
}

// judged gives what an administrator does wrong its exit code and a hint.
func judged(err error) error {
	var own *Error
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case isAny(err, adproto.ErrAccountName, ad.ErrNameLength, ad.ErrLoop, ad.ErrIntervalFixed, cmdlet.ErrFilter):
		return failure(Usage, err)
	case errors.Is(err, ad.ErrDNSHostName):
		return failure(Usage, err).hint("--dns NAME.DOMAIN, --outbound-only or --single-computer")
	case errors.Is(err, ad.ErrNoRootKeyWithID):
		return failure(NotFound, err).hint("gmsa kds list")
	case errors.Is(err, ldapc.ErrExists):
		return failure(Failed, err)
	}
	return err
}

// verb is a command of an administrator: options of the domain, -o, and what it does
// in a session.
type verb struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	// complete has a completer for each argument; the last is for all that follow where
	// use ends with "…".
	complete []completer
	flags    func(c *cobra.Command)
	run      func(ctx context.Context, s *ad.Session, args []string) error
}

// command makes the cobra command of a verb.
func (a *app) command(v verb) *cobra.Command {
	var o domainOptions
	c := &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example, Args: v.args,
		RunE: func(c *cobra.Command, args []string) error {
			return a.session(c.Context(), &o, func(ctx context.Context, s *ad.Session) error { return v.run(ctx, s, args) })
		},
	}
	o.addFlags(c)
	a.addOutputFlag(c)
	c.ValidArgsFunction = cobra.NoFileCompletions
	if len(v.complete) > 0 {
		c.ValidArgsFunction = a.completeArgs(&o, strings.HasSuffix(v.use, "…"), v.complete)
	}
	if v.flags != nil {
		v.flags(c)
	}
	return c
}

// noun is a command with commands below it.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(verbs...)
	return c
}

// when is a time as text, empty for none.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// jsonTime is a time for programs: RFC 3339 in UTC, nil for none.
func jsonTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC().Truncate(time.Second)
	return &u
}

// fields writes names and values in turn, leaving out what is empty.
func fields(w io.Writer, pairs ...string) error {
	var rows [][]string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			rows = append(rows, []string{pairs[i], pairs[i+1]})
		}
	}
	return table(w, rows)
}

// parseFilter reads a filter of LDAP or of PowerShell; empty and * mean everything.
func parseFilter(text string) (adproto.Filter, error) {
	f, err := cmdlet.ParseFilter(text)
	if err != nil {
		return adproto.Filter{}, failure(Usage, err).hint(`such as '(sAMAccountName=web*)' or 'sAMAccountName -like "web*"'`)
	}
	return f, nil
}

// parseUseTime reads a time: RFC 3339, a local date with or without a time, or a
// span before or after now, such as -10h.
func parseUseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, failure(Usage, fmt.Errorf("%q is no time", text)).hint("such as 2026-12-01T08:00:00Z, '2026-12-01 08:00:00', or -10h for ten hours ago")
	}
	return t, nil
}

// parseEncTypes reads a list of encryption types in PowerShell's names.
func parseEncTypes(list []string) (*adproto.EncryptionTypes, error) {
	if len(list) == 0 {
		return nil, nil //nolint:nilnil // nothing was said
	}
	e, err := cmdlet.ParseEncryptionTypes(list)
	if err != nil {
		return nil, failure(Usage, err)
	}
	return &e, nil
}

// warnRC4 says what RC4 costs.
func (a *app) warnRC4(e *adproto.EncryptionTypes) {
	if e != nil && *e&adproto.EncRC4 != 0 {
		a.warn("RC4 lets tickets be cracked offline, and current domains refuse it: leave it out unless a host needs it")
	}
}

// objectView is an object for programs.
type objectView struct {
	DN   string `json:"distinguishedName"`
	Name string `json:"sAMAccountName,omitempty"`
	Kind string `json:"kind"`
	SID  string `json:"objectSid,omitempty"`
	GUID string `json:"objectGUID,omitempty"`
}

func viewObject(o ad.Object) objectView {
	v := objectView{DN: o.DN, Name: o.Name, Kind: o.Kind.String(), GUID: o.GUID.String()}
	if !o.SID.IsZero() {
		v.SID = o.SID.String()
	}
	return v
}

func viewObjects(list []ad.Object) []objectView {
	views := make([]objectView, len(list))
	for i, o := range list {
		views[i] = viewObject(o)
	}
	return views
}

func writeObjects(w io.Writer, list []objectView) error {
	rows := [][]string{{"NAME", "KIND", "DISTINGUISHED NAME"}}
	for _, o := range list {
		rows = append(rows, []string{o.Name, o.Kind, o.DN})
	}
	return table(w, rows)
}

// changed is what a command reports that changed something.
type changed struct {
	Object  string   `json:"object"`
	Done    string   `json:"done"`
	Changed []string `json:"changed"`
}

// printChanged reports names that were changed; without any, that nothing was to
// do.
func (a *app) printChanged(object, done string, names []string) error {
	if names == nil {
		names = []string{}
	}
	return a.print(changed{object, done, names}, func(w io.Writer) error {
		if len(names) == 0 {
			_, err := fmt.Fprintf(w, "%s: nothing to do\n", printable(object))
			return err
		}
		_, err := fmt.Fprintf(w, "%s: %s %s\n", printable(object), done, printable(strings.Join(names, ", ")))
		return err
	})
}

// sortedKeys are the keys of m in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
