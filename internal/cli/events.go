package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/event"
)

// defaultEventLog is where the agent of a host writes its events.
const defaultEventLog = "/var/log/gmsa/ccg.jsonl"

// followInterval is how often gmsa events --follow looks for news.
const followInterval = 250 * time.Millisecond

// eventOptions are the flags of gmsa events.
type eventOptions struct {
	log, file    string
	ids          []int
	account      string
	since, until string
	follow       bool
}

func (a *app) events() *cobra.Command {
	var o eventOptions
	c := &cobra.Command{
		Use:   "events",
		Short: "Show the log of the Container Credential Guard",
		Long: `events prints what the credential guard of this host logged: the events that
Windows writes to Microsoft-Windows-Containers-CCG/Admin, with the same numbers
and texts.

Times are moments (2026-11-20T12:00:00Z, 2026-11-20 12:00, 2026-11-20) or ages
(90s, 15m, 12h, 7d).`,
		Example: `  gmsa events
  gmsa events --id 4,8 --since 1h
  gmsa events --account webapp01 --follow
  gmsa events --file ccg-from-node7.jsonl -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.showEvents(c.Context(), o) },
	}
	c.Flags().StringVar(&o.log, "log", defaultEventLog, "the log of this host's agent")
	c.Flags().StringVar(&o.file, "file", "", "read this exported file instead")
	c.Flags().IntSliceVar(&o.ids, "id", nil, "only these numbers")
	c.Flags().StringVar(&o.account, "account", "", "only this account: NAME, DOMAIN\\NAME or NAME@domain")
	c.Flags().StringVar(&o.since, "since", "", "only from this moment on, or as old as this")
	c.Flags().StringVar(&o.until, "until", "", "only before this moment")
	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with what is logged from now on")
	c.MarkFlagsMutuallyExclusive("log", "file")
	c.MarkFlagsMutuallyExclusive("follow", "file")
	a.addOutputFlag(c)
	return c
}

func (a *app) showEvents(ctx context.Context, o eventOptions) error {
	filter, err := o.filter(a.env.Now())
	if err != nil {
		return err
	}
	var events iter.Seq2[event.Event, error]
	switch {
	case o.file != "":
		events = event.ReadFile(o.file, filter)
	case o.follow:
		events = event.Follow(ctx, o.log, filter, followInterval)
	default:
		events = event.Read(o.log, filter)
	}
	bad := 0
	for e, err := range events {
		var line *event.LineError
		switch {
		case errors.As(err, &line):
			bad++
			_, _ = fmt.Fprintf(a.env.Stderr, "gmsa: %s\n", oneLine(err.Error()))
		case err != nil && ctx.Err() != nil && o.follow:
			return nil // how one ends --follow
		case err != nil:
			return err
		default:
			if err := a.printEvent(e); err != nil {
				return err
			}
		}
	}
	if bad > 0 {
		return failure(Failed, fmt.Errorf("%d lines of the log are no events", bad)).
			hint("a line may be cut off where its writer was killed; the others were shown")
	}
	return nil
}

func (o eventOptions) filter(now time.Time) (event.Filter, error) {
	f := event.Filter{Account: o.account}
	for _, id := range o.ids {
		f.IDs = append(f.IDs, event.ID(id))
	}
	var err error
	if f.Since, err = parseMoment(o.since, now); err != nil {
		return f, failure(Usage, fmt.Errorf("--since: %w", err))
	}
	if f.Until, err = parseMoment(o.until, now); err != nil {
		return f, failure(Usage, fmt.Errorf("--until: %w", err))
	}
	return f, nil
}

// printEvent prints one event at once, so that --follow shows it when it
// happens: JSON has one object a line, YAML one document each.
func (a *app) printEvent(e event.Event) error {
	switch a.output {
	case outputJSON:
		enc := json.NewEncoder(a.env.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	case outputYAML:
		_, _ = io.WriteString(a.env.Stdout, "---\n")
		return a.print(e, nil)
	}
	_, err := fmt.Fprintf(a.env.Stdout, "%s  %4d  %-11s  %s\n",
		e.Time.Local().Format("2006-01-02 15:04:05"), e.ID, e.Level, printable(e.Message))
	return err
}

// parseMoment reads a moment or an age; the empty string is the zero time.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	age, err := time.ParseDuration(s)
	if err != nil || age < 0 {
		return time.Time{}, fmt.Errorf("%q is neither a moment nor an age", s)
	}
	return now.Add(-age), nil
}
