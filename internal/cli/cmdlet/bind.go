package cmdlet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
)

// ErrParameter is wrapped by every error about a cmdlet's name or parameters.
var ErrParameter = errors.New("wrong use of a cmdlet")

// kind is what a parameter takes.
type kind int

const (
	text1   kind = iota // one string
	texts               // strings with commas between them
	flag                // a switch
	boolean             // $true or $false
	integer1
	moment
	table   // @{…}
	objects // anything
)

// kindNames are what Get-Help calls the kinds.
var kindNames = [...]string{"<string>", "<string[]>", "", "<bool>", "<int>", "<DateTime>", "<hashtable>", "<object[]>"}

// parameter is one parameter of a cmdlet.
type parameter struct {
	name     string
	kind     kind
	position int  // from 1; 0 for none
	required bool // or from the pipeline, if piped
	piped    bool
	aliases  []string
}

// definition is a cmdlet.
type definition struct {
	name, synopsis, example string
	params                  []parameter
	// changes says that -WhatIf has a meaning.
	changes bool
	run     func(ctx context.Context, c *invocation) ([]any, error)
}

// common are the parameters of every cmdlet.
var common = []parameter{
	{name: "Server", kind: text1}, {name: "Credential", kind: objects}, {name: "AuthType", kind: text1}, {name: "Partition", kind: text1},
	{name: "WhatIf", kind: flag}, {name: "Confirm", kind: flag}, {name: "Verbose", kind: flag}, {name: "Debug", kind: flag},
	{name: "ErrorAction", kind: text1}, {name: "WarningAction", kind: text1},
}

// invocation is a cmdlet with the values of its parameters.
type invocation struct {
	in     *interpreter
	def    *definition
	values map[string]any // by the parameter's name in small letters
}

// argvText is an argument of the command line, whose quotes the shell has taken:
// whether a comma in it separates depends on what the parameter takes.
type argvText string

// bind gives the parameters their values.
func (in *interpreter) bind(ctx context.Context, def *definition, args []argument) (*invocation, error) {
	c := &invocation{in: in, def: def, values: map[string]any{}}
	var loose []any
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a.param == "" {
			v, err := in.eval(ctx, a.value)
			if err != nil {
				return nil, err
			}
			loose = append(loose, v)
			continue
		}
		p, err := def.parameter(a.param)
		if err != nil {
			return nil, err
		}
		if _, twice := c.values[strings.ToLower(p.name)]; twice {
			return nil, fmt.Errorf("%w: %s: -%s is given twice", ErrParameter, def.name, p.name)
		}
		value := a.value
		switch {
		case value == nil && p.kind == flag:
			value = literal{true}
		case value == nil && (i+1 == len(args) || args[i+1].param != ""):
			return nil, fmt.Errorf("%w: %s: -%s wants a value", ErrParameter, def.name, p.name)
		case value == nil:
			i++
			value = args[i].value
		}
		v, err := in.eval(ctx, value)
		if err != nil {
			return nil, err
		}
		if err := c.set(ctx, p, v); err != nil {
			return nil, err
		}
	}
	return c, c.position(ctx, loose)
}

// parameter finds a parameter by its name, an alias or an unambiguous beginning.
func (d *definition) parameter(name string) (parameter, error) {
	var found []parameter
	for _, p := range slices.Concat(d.params, common) {
		for _, n := range append([]string{p.name}, p.aliases...) {
			if strings.EqualFold(n, name) {
				return p, nil
			}
			if len(name) <= len(n) && strings.EqualFold(n[:len(name)], name) && !slices.ContainsFunc(found, func(q parameter) bool { return q.name == p.name }) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 0:
		return parameter{}, fmt.Errorf("%w: %s has no parameter -%s", ErrParameter, d.name, name)
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, p := range found {
		names[i] = "-" + p.name
	}
	return parameter{}, fmt.Errorf("%w: %s: -%s may mean %s", ErrParameter, d.name, name, strings.Join(names, " or "))
}

// position gives values without a name to the parameters that have a position.
func (c *invocation) position(ctx context.Context, loose []any) error {
	params := slices.Clone(c.def.params)
	slices.SortStableFunc(params, func(a, b parameter) int { return a.position - b.position })
	for _, p := range params {
		if _, given := c.values[strings.ToLower(p.name)]; given || p.position == 0 || len(loose) == 0 {
			continue
		}
		if err := c.set(ctx, p, loose[0]); err != nil {
			return err
		}
		loose = loose[1:]
	}
	if len(loose) > 0 {
		return fmt.Errorf("%w: %s has no place for %q", ErrParameter, c.def.name, str(plain(loose[0])))
	}
	return nil
}

// plain makes values of the script's language of arguments of the command line.
func plain(v any) any {
	if t, ok := v.(argvText); ok {
		return string(t)
	}
	return v
}

// set converts a value to what the parameter takes.
func (c *invocation) set(ctx context.Context, p parameter, v any) error {
	v, err := c.argv(ctx, p, v)
	if err != nil {
		return err
	}
	switch p.kind {
	case text1:
		v = str(v)
	case texts:
		var list []any
		for _, item := range flat(v) {
			list = append(list, str(item))
		}
		v = list
	case objects:
		v = flat(v)
	case flag, boolean:
		if _, ok := v.(bool); !ok {
			if _, isNumber := v.(int64); !isNumber {
				err = fmt.Errorf("want $true or $false, got %q", str(v))
			}
			v = truth(v)
		}
	case integer1:
		v, err = integer(v)
	case moment:
		v, err = toTime(v)
	case table:
		if _, ok := v.(*hashTable); !ok {
			err = fmt.Errorf("want a hash table @{Name = Value}, got %q", str(v))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s: -%s: %w", ErrParameter, c.def.name, p.name, err)
	}
	c.values[strings.ToLower(p.name)] = v
	return nil
}

// argv reads an argument of the command line: an expression where it looks like one,
// else text, which commas split where the parameter takes several.
func (c *invocation) argv(ctx context.Context, p parameter, v any) (any, error) {
	if list, ok := v.([]any); ok {
		var all []any
		for _, item := range list {
			x, err := c.argv(ctx, p, item)
			if err != nil {
				return nil, err
			}
			all = append(all, flat(x)...)
		}
		return all, nil
	}
	t, ok := v.(argvText)
	if !ok {
		return v, nil
	}
	word := string(t)
	for _, begin := range []string{"@{", "@(", "(Get-Date", "(get-date"} {
		if strings.HasPrefix(word, begin) {
			return c.in.expression(ctx, word)
		}
	}
	switch strings.ToLower(word) {
	case "$null", "$true", "$false":
		return c.in.expression(ctx, word)
	}
	if p.kind != texts && p.kind != objects || isDN(word) {
		return word, nil
	}
	var list []any
	for item := range strings.SplitSeq(word, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return unflat(list), nil
}

// isDN reports whether the text is one distinguished name.
func isDN(s string) bool {
	name, err := adproto.ParseAccountName(s)
	return err == nil && name.Form == adproto.FormDN
}

// expression evaluates the text of an expression.
func (in *interpreter) expression(ctx context.Context, src string) (any, error) {
	list, err := parseScript(src)
	if err != nil {
		return nil, err
	}
	out, err := in.body(ctx, group{list})
	return unflat(out), err
}

func toTime(v any) (time.Time, error) {
	if t, ok := v.(time.Time); ok {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly, "01/02/2006 15:04:05", "01/02/2006", "1/2/2006"} {
		if t, err := time.ParseInLocation(layout, str(v), time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", str(v))
}

// take gives the cmdlet what came through the pipeline: the parameter that takes it
// gets each object in turn.
func (c *invocation) take(p parameter, v any) {
	key := strings.ToLower(p.name)
	switch p.kind {
	case objects:
		c.values[key] = flat(v)
	case texts:
		c.values[key] = []any{str(v)}
	default:
		c.values[key] = str(v)
	}
}

// missing names the parameters that must be there and are not.
func (c *invocation) missing() error {
	for _, p := range c.def.params {
		if _, given := c.values[strings.ToLower(p.name)]; p.required && !given {
			return fmt.Errorf("%w: %s needs -%s", ErrParameter, c.def.name, p.name)
		}
	}
	return nil
}

// command runs a cmdlet, with what came through the pipeline if it stands in one, or
// a program.
func (in *interpreter) command(ctx context.Context, cmd command, input []any, piped bool) ([]any, error) {
	def := find(cmd.name)
	if def == nil {
		return in.program(ctx, cmd)
	}
	c, err := in.bind(ctx, def, cmd.args)
	if err != nil {
		return nil, err
	}
	if p := def.pipedParameter(); piped && p.name != "" {
		if p.kind == objects && p.name == "InputObject" {
			c.values["inputobject"] = input
			return c.invoke(ctx)
		}
		var all []any
		for _, v := range input {
			c.take(p, v)
			out, err := c.invoke(ctx)
			if err != nil {
				return nil, err
			}
			all = append(all, out...)
		}
		return all, nil
	}
	return c.invoke(ctx)
}

// pipedParameter is the parameter that takes the pipeline's objects.
func (d *definition) pipedParameter() parameter {
	for _, p := range d.params {
		if p.piped {
			return p
		}
	}
	return parameter{}
}

func (c *invocation) invoke(ctx context.Context) ([]any, error) {
	c.in.action = c.text("ErrorAction")
	if err := c.missing(); err != nil {
		return nil, err
	}
	if c.has("Credential") {
		return nil, fmt.Errorf("%w: -Credential: say who asks with gmsa's own options, -U NAME@DOMAIN", ErrParameter)
	}
	if c.def.changes && c.flag("WhatIf") {
		target := c.text("Identity")
		if target == "" {
			target = c.text("Name")
		}
		return []any{fmt.Sprintf(`What if: Performing the operation "%s" on target "%s".`, c.def.name, target)}, nil
	}
	return c.def.run(ctx, c)
}

// session is the domain.
func (c *invocation) session(ctx context.Context) (*ad.Session, error) {
	return c.in.host.Session(ctx, c.text("Server"))
}

func (c *invocation) has(name string) bool {
	_, ok := c.values[strings.ToLower(name)]
	return ok
}

func (c *invocation) text(name string) string { return str(c.values[strings.ToLower(name)]) }

func (c *invocation) list(name string) []string {
	var list []string
	for _, v := range flat(c.values[strings.ToLower(name)]) {
		list = append(list, str(v))
	}
	return list
}

func (c *invocation) flag(name string) bool { return truth(c.values[strings.ToLower(name)]) }

// choice is a boolean that may be left out.
func (c *invocation) choice(name string) *bool {
	if !c.has(name) {
		return nil
	}
	b := c.flag(name)
	return &b
}

func (c *invocation) hash(name string) *hashTable {
	h, _ := c.values[strings.ToLower(name)].(*hashTable)
	return h
}
