package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Report is a story for programs: -o json.
type Report struct {
	Steps []*Step `json:"steps"`
	// OK says that all steps were made and their evidence was there.
	OK bool `json:"ok"`
	// Workload is what the workload is: a container, or a process and why.
	Workload string  `json:"workload"`
	Seconds  float64 `json:"seconds"`
	// Kept is where to use what is kept running from: the file for a shell to read.
	Kept string `json:"kept,omitempty"`
}

// Step is one step of a story.
type Step struct {
	Title    string     `json:"title"`
	What     string     `json:"what"`
	Commands []*Command `json:"commands"`
	OK       bool       `json:"ok"`
	Error    string     `json:"error,omitempty"`
	Seconds  float64    `json:"seconds"`
	// Time is what the demo's clock says at the end of the step.
	Time time.Time `json:"time"`
}

// Command is a command line and what it printed; or, with File set, a file that was
// written.
type Command struct {
	Line   string `json:"command,omitempty"`
	File   string `json:"file,omitempty"`
	Output string `json:"output"`
}

// narrator tells a story to a person while it happens.
type narrator struct {
	out    io.Writer
	colour bool
}

// The styles of a terminal: ECMA-48, Section 8.3.117.
const (
	bold  = "\x1b[1m"
	faint = "\x1b[2m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

func (n narrator) styled(style, text string) string {
	if !n.colour {
		return text
	}
	return style + text + plain
}

func (n narrator) printf(format string, args ...any) { _, _ = fmt.Fprintf(n.out, format, args...) }

func (n narrator) step(number int, s *Step) {
	n.printf("\n%s\n", n.styled(bold, fmt.Sprintf("%2d. %s", number, s.Title)))
	n.say("%s", s.What)
}

// width is how long a line of prose is, in characters.
const width = 84

// say tells a sentence, in lines of that width.
func (n narrator) say(format string, args ...any) {
	line := "   "
	for word := range strings.FieldsSeq(fmt.Sprintf(format, args...)) {
		if len(line)+1+len(word) > width {
			n.printf("%s\n", line)
			line = "   "
		}
		line += " " + word
	}
	if strings.TrimSpace(line) != "" {
		n.printf("%s\n", line)
	}
}

func (n narrator) command(c *Command) {
	if c.File != "" {
		n.printf("    %s:\n", c.File)
		n.output(c.Output)
		return
	}
	n.printf("    %s\n", n.styled(bold, "$ "+c.Line))
}

func (n narrator) output(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		n.printf("        %s\n", strings.TrimRight(line, "\r\n"))
	}
}

func (n narrator) end(s *Step) {
	mark := n.styled(green, "ok")
	if !s.OK {
		mark = n.styled(red, "failed")
	}
	n.printf("    %s %s\n", mark, n.styled(faint, fmt.Sprintf("%.2f s", s.Seconds)))
}

// seconds are those since start, in hundredths.
func seconds(start time.Time) float64 {
	return time.Since(start).Round(10 * time.Millisecond).Seconds()
}
