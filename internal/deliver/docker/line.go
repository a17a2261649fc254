package docker

import (
	"fmt"
	"slices"
	"strings"
)

// line is a command line of docker in its parts.
type line struct {
	args   []string
	verb   string // "run", "service create", "compose"; empty for those of no interest
	at     int    // where what is behind the verb begins
	verbAt int    // where the verb begins
}

// grammar tells the options of a command that take no value; all others take one.
type grammar struct {
	long  []string
	short string
	// mixed: operands may stand between options.
	mixed bool
}

// The options without a value, of Docker 20.10 to 28 (docker COMMAND --help).
var grammars = map[string]grammar{
	"": {long: []string{"debug", "tls", "tlsverify", "version", "help"}, short: "Dv"},
	"run": {long: []string{"detach", "disable-content-trust", "help", "init", "interactive", "no-healthcheck", "oom-kill-disable", "privileged",
		"publish-all", "quiet", "read-only", "rm", "sig-proxy", "tty", "use-api-socket"}, short: "diPqt"},
	"exec":           {long: []string{"detach", "help", "interactive", "privileged", "tty"}, short: "dit"},
	"service create": {long: []string{"detach", "help", "init", "insecure", "no-healthcheck", "no-resolve-image", "quiet", "read-only", "tty", "with-registry-auth"}, short: "dqt"},
	"service update": {long: []string{"detach", "force", "help", "init", "insecure", "no-healthcheck", "no-resolve-image", "quiet", "read-only", "rollback", "tty", "with-registry-auth"}, short: "dqt", mixed: true},
	"compose":        {long: []string{"all-resources", "compatibility", "dry-run", "help", "verbose", "version"}, short: "v"},
	"stack deploy":   {long: []string{"detach", "help", "prune", "quiet", "with-registry-auth"}, short: "dq", mixed: true},
}

// longNames are the long names of the options that matter here.
var longNames = map[byte]string{'u': "user", 'h': "hostname", 'f': "file", 'c': "compose-file", 'H': "host", 'p': "project-name"}

// split finds the verb, behind the client's global options.
func split(args []string) line {
	l := line{args: args}
	i := grammars[""].operand(args, 0)
	l.verbAt = i
	if i < len(args) && (args[i] == "container" || args[i] == "service" || args[i] == "stack") {
		l.verb = args[i] + " "
		i++
	}
	if i == len(args) {
		return line{args: args}
	}
	l.verb = strings.TrimPrefix(l.verb+args[i], "container ")
	l.at = i + 1
	return l
}

// global are the options in front of the verb.
func (l line) global() []string { return l.args[:l.verbAt] }

// before is everything up to the verb, with it.
func (l line) before() []string { return l.args[:l.at] }

// engineError is an error of the engine, in the client's words.
func (l line) engineError(err error) error {
	if l.verb == "exec" {
		return &Error{Status: statusOther, Err: fmt.Errorf("Error response from daemon: %w", err)}
	}
	return &Error{Status: statusEngine, Err: fmt.Errorf("Error response from daemon: %w", err)}
}

func (l line) grammar() grammar {
	if l.verb == "create" {
		return grammars["run"]
	}
	return grammars[l.verb]
}

// rewrite goes through the options behind the verb. replace gets each that has a value, by
// its long name where one matters, and says what stands in its place. Rest is everything
// from the first operand on, which is not looked at.
func (l line) rewrite(replace func(name, value string) ([]string, bool)) (options, rest []string) {
	g := l.grammar()
	args := l.args[l.at:]
	for i := 0; i < len(args); {
		o, ok := g.option(args[i:])
		switch {
		case !ok && g.mixed && args[i] != "--":
			options = append(options, args[i])
			i++
			continue
		case !ok:
			return options, args[i:]
		}
		words := args[i : i+o.words]
		i += o.words
		if o.name != "" {
			if by, ok := replace(o.name, o.value); ok {
				if o.flags != "" {
					options = append(options, "-"+o.flags)
				}
				options = append(options, by...)
				continue
			}
		}
		options = append(options, words...)
	}
	return options, nil
}

// operand is the index of the first operand at or behind i.
func (g grammar) operand(args []string, i int) int {
	for i < len(args) {
		o, ok := g.option(args[i:])
		if !ok {
			break
		}
		i += o.words
	}
	return i
}

// option is one of a command line.
type option struct {
	words       int    // how many arguments it is
	flags       string // one-letter options in front of it, in the same argument
	name, value string // name is empty for one without a value
}

// option reads the option that args begin with, as the flag library of the client does;
// not ok is an operand.
func (g grammar) option(args []string) (option, bool) {
	a := args[0]
	if len(a) < 2 || a[0] != '-' || a == "--" {
		return option{}, false
	}
	if name, ok := strings.CutPrefix(a, "--"); ok {
		name, value, joined := strings.Cut(name, "=")
		switch {
		case joined:
			return option{words: 1, name: name, value: value}, true
		case slices.Contains(g.long, name) || len(args) == 1:
			return option{words: 1}, true
		}
		return option{words: 2, name: name, value: args[1]}, true
	}
	for i := 1; i < len(a); i++ {
		if strings.IndexByte(g.short, a[i]) >= 0 {
			continue
		}
		o := option{words: 1, flags: a[1:i], name: string(a[i]), value: strings.TrimPrefix(a[i+1:], "=")}
		if long, ok := longNames[a[i]]; ok {
			o.name = long
		}
		if i == len(a)-1 {
			if len(args) == 1 {
				return option{words: 1}, true
			}
			o.words, o.value = 2, args[1]
		}
		return o, true
	}
	return option{words: 1}, true
}
