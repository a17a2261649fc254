//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// A figure is one line of the report.
type figure struct {
	name string
	// rounds are the same quantity, measured again and again.
	rounds sample
	unit   string
	// aim is what the median should reach; zero where there is none, as for a
	// peer's figure.
	aim aim
	// note says what else there is to know, such as the rate of operations.
	note string
}

// with is the figure with an aim.
func (f figure) with(a aim) figure {
	f.aim = a
	return f
}

// missed says whether there is an aim and the median does not reach it.
func (f figure) missed() bool { return f.aim.bound != 0 && !f.aim.reached(f.rounds.median()) }

// An aim is a bound for a median.
type aim struct {
	bound   float64
	atLeast bool // else at most
}

func atMost(x float64) aim  { return aim{bound: x} }
func atLeast(x float64) aim { return aim{bound: x, atLeast: true} }

func (a aim) reached(x float64) bool {
	if a.atLeast {
		return x >= a.bound
	}
	return x <= a.bound
}

func (a aim) String() string {
	switch {
	case a.bound == 0:
		return "-"
	case a.atLeast:
		return ">= " + number(a.bound)
	}
	return "<= " + number(a.bound)
}

// A sample is a list of measurements of the same quantity.
type sample []float64

// quantile is the value below which the share q of the sample lies: nearest rank.
func (s sample) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(i, 0)]
}

func (s sample) median() float64 { return s.quantile(0.5) }

func (s sample) spread() string {
	if len(s) < 2 {
		return "-"
	}
	return number(slices.Min(s)) + " to " + number(slices.Max(s))
}

// number prints three significant digits, and no fewer than all before the point.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1000:
		return thousands(int64(math.Round(x)))
	case a >= 100 || x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// printFigures prints one section's table.
func printFigures(w io.Writer, figures []figure) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  \tmedian\tleast to greatest\tn\taim\t\t")
	for _, f := range figures {
		verdict := ""
		switch {
		case f.missed():
			verdict = "MISSED"
		case f.aim.bound != 0:
			verdict = "ok"
		}
		line := fmt.Sprintf("  %s\t%s %s\t%s\t%d\t%s\t%s\t%s", f.name, number(f.rounds.median()), f.unit,
			f.rounds.spread(), len(f.rounds), f.aim, verdict, f.note)
		fmt.Fprintln(tw, strings.TrimRight(line, "\t "))
	}
	tw.Flush()
}
