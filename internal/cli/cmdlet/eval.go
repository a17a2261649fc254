package cmdlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// interpreter runs one script.
type interpreter struct {
	host Host
	vars map[string]any
	// negative says that the last statement was a test that failed.
	negative bool
	// action is -ErrorAction of the statement's last cmdlet; failed is the last error
	// after which the script went on.
	action string
	failed error
}

// run does the statements in their order, and prints what they give. An error ends its
// statement and is shown, and the script goes on, as PowerShell does, unless
// $ErrorActionPreference or the cmdlet's -ErrorAction is Stop. The last error that did
// not end the script is in failed.
func (in *interpreter) run(ctx context.Context, list []statement) error {
	for _, s := range list {
		in.negative, in.action = false, ""
		out, err := in.statement(ctx, s)
		if answer, ok := errors.AsType[*answerError](err); ok {
			err = in.host.print([]any{answer.text})
		} else if err == nil {
			err = in.host.print(out)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("line %d: %w", s.line, err)
		switch action := in.errorAction(); {
		case ctx.Err() != nil || strings.EqualFold(action, "Stop"):
			return err
		case strings.EqualFold(action, "SilentlyContinue") || strings.EqualFold(action, "Ignore"):
		default:
			in.host.Fail(err)
			in.failed = err
		}
	}
	return nil
}

// errorAction is what to do about an error of the statement: what its last cmdlet was
// told, else the preference of the script, else nothing but to show it.
func (in *interpreter) errorAction() string {
	return cmp.Or(in.action, str(in.vars["erroractionpreference"]), "Continue")
}

// statement gives what it puts out; an assignment puts out nothing.
func (in *interpreter) statement(ctx context.Context, s statement) ([]any, error) {
	out, err := in.pipeline(ctx, s.pipeline)
	if err != nil || s.variable == "" {
		return out, err
	}
	in.vars[s.variable] = unflat(out)
	return nil, nil
}

func (in *interpreter) pipeline(ctx context.Context, pl pipeline) ([]any, error) {
	var out []any
	commands := pl.commands
	if pl.expr != nil {
		v, err := in.eval(ctx, pl.expr)
		if err != nil {
			return nil, err
		}
		out = flat(v)
	} else {
		var err error
		if out, err = in.command(ctx, commands[0], nil, false); err != nil {
			return nil, err
		}
		commands = commands[1:]
	}
	for _, c := range commands {
		var err error
		if out, err = in.command(ctx, c, out, true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// body evaluates what stands in parentheses.
func (in *interpreter) body(ctx context.Context, g group) ([]any, error) {
	var all []any
	for _, s := range g.body {
		out, err := in.statement(ctx, s)
		if err != nil {
			return nil, err
		}
		all = append(all, out...)
	}
	return all, nil
}

func (in *interpreter) eval(ctx context.Context, n node) (any, error) {
	switch x := n.(type) {
	case literal:
		return x.value, nil
	case variable:
		return in.lookup(x)
	case text:
		var b strings.Builder
		for _, part := range x.parts {
			v, err := in.eval(ctx, part)
			if err != nil {
				return nil, err
			}
			b.WriteString(str(v))
		}
		return b.String(), nil
	case array:
		list := make([]any, len(x.items))
		for i, item := range x.items {
			v, err := in.eval(ctx, item)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case group:
		out, err := in.body(ctx, x)
		return unflat(out), err
	case arrayOf:
		out, err := in.body(ctx, x.body)
		if out == nil {
			out = []any{}
		}
		return out, err
	case hash:
		return in.evalHash(ctx, x)
	case property:
		of, err := in.eval(ctx, x.of)
		if err != nil {
			return nil, err
		}
		return propertyOf(of, x.name), nil
	case call:
		return in.evalCall(ctx, x)
	case index:
		return in.evalIndex(ctx, x)
	case unary:
		return in.evalUnary(ctx, x)
	case binary:
		return in.evalBinary(ctx, x)
	}
	return nil, fmt.Errorf("%w: no expression", ErrSyntax)
}

func (in *interpreter) lookup(v variable) (any, error) {
	if v.scope == "env" {
		if strings.EqualFold(v.name, "computername") {
			return in.host.computerName(), nil
		}
		return in.host.Getenv(v.name), nil
	}
	switch v.name {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "null":
		return nil, nil
	}
	value, ok := in.vars[v.name]
	if !ok {
		return nil, fmt.Errorf("the variable $%s has no value", v.name)
	}
	return value, nil
}

func (in *interpreter) evalHash(ctx context.Context, x hash) (any, error) {
	h := &hashTable{values: map[string]any{}}
	for i := range x.keys {
		k, err := in.eval(ctx, x.keys[i])
		if err != nil {
			return nil, err
		}
		v, err := in.eval(ctx, x.values[i])
		if err != nil {
			return nil, err
		}
		key := str(k)
		if _, twice := h.get(key); twice {
			return nil, fmt.Errorf("the key %q is twice in a hash table", key)
		}
		h.keys = append(h.keys, key)
		h.values[strings.ToLower(key)] = v
	}
	return h, nil
}

// propertyOf is a property of an object, or of each object of an array.
func propertyOf(of any, name string) any {
	switch x := of.(type) {
	case *Object:
		return x.get(name)
	case *hashTable:
		v, _ := x.get(name)
		return v
	case []any:
		if strings.EqualFold(name, "count") || strings.EqualFold(name, "length") {
			return int64(len(x))
		}
		var list []any
		for _, item := range x {
			list = append(list, flat(propertyOf(item, name))...)
		}
		return unflat(list)
	case string:
		if strings.EqualFold(name, "length") {
			return int64(len([]rune(x)))
		}
	}
	return nil
}

// evalCall knows the methods of times that guides use, and some of strings.
func (in *interpreter) evalCall(ctx context.Context, x call) (any, error) {
	of, err := in.eval(ctx, x.of)
	if err != nil {
		return nil, err
	}
	args := make([]any, len(x.args))
	for i, a := range x.args {
		if args[i], err = in.eval(ctx, a); err != nil {
			return nil, err
		}
	}
	name := strings.ToLower(x.name)
	switch v := of.(type) {
	case time.Time:
		units := map[string]time.Duration{"addseconds": time.Second, "addminutes": time.Minute, "addhours": time.Hour, "adddays": 24 * time.Hour}
		unit, known := units[name]
		if known && len(args) == 1 {
			n, err := integer(args[0])
			return v.Add(time.Duration(n) * unit), err
		}
	case string:
		switch {
		case name == "tolower" && len(args) == 0:
			return strings.ToLower(v), nil
		case name == "toupper" && len(args) == 0:
			return strings.ToUpper(v), nil
		case name == "trimend" && len(args) == 1:
			return strings.TrimRight(v, str(args[0])), nil
		}
	}
	return nil, fmt.Errorf("the method %s is not known here", x.name)
}

func (in *interpreter) evalIndex(ctx context.Context, x index) (any, error) {
	of, err := in.eval(ctx, x.of)
	if err != nil {
		return nil, err
	}
	at, err := in.eval(ctx, x.at)
	if err != nil {
		return nil, err
	}
	if h, ok := of.(*hashTable); ok {
		v, _ := h.get(str(at))
		return v, nil
	}
	n, err := integer(at)
	list := flat(of)
	if n < 0 {
		n += int64(len(list))
	}
	if err != nil || n < 0 || n >= int64(len(list)) {
		return nil, err
	}
	return list[n], nil
}

func (in *interpreter) evalUnary(ctx context.Context, x unary) (any, error) {
	v, err := in.eval(ctx, x.of)
	if err != nil {
		return nil, err
	}
	switch x.op {
	case "-not", "!":
		return !truth(v), nil
	case "-bnot":
		n, err := integer(v)
		return ^n, err
	}
	n, err := integer(v)
	return -n, err
}

func (in *interpreter) evalBinary(ctx context.Context, x binary) (any, error) {
	left, err := in.eval(ctx, x.left)
	if err != nil {
		return nil, err
	}
	switch x.op {
	case "-and":
		if !truth(left) {
			return false, nil
		}
	case "-or":
		if truth(left) {
			return true, nil
		}
	}
	right, err := in.eval(ctx, x.right)
	if err != nil {
		return nil, err
	}
	return operate(x.op, left, right)
}

func operate(op string, left, right any) (any, error) {
	switch op {
	case "-and", "-or":
		return truth(right), nil
	case "-xor":
		return truth(left) != truth(right), nil
	case "-eq":
		return equal(left, right), nil
	case "-ne":
		return !equal(left, right), nil
	case "-like":
		return matches(str(left), str(right)), nil
	case "-notlike":
		return !matches(str(left), str(right)), nil
	case "-contains", "-notcontains":
		return holds(left, right) == (op == "-contains"), nil
	case "-in", "-notin":
		return holds(right, left) == (op == "-in"), nil
	case "+":
		if s, ok := left.(string); ok {
			return s + str(right), nil
		}
		if list, ok := left.([]any); ok {
			return append(append([]any{}, list...), flat(right)...), nil
		}
	}
	a, err := integer(left)
	if err != nil {
		return nil, err
	}
	b, err := integer(right)
	if err != nil {
		return nil, err
	}
	switch op {
	case "-band":
		return a & b, nil
	case "-bor":
		return a | b, nil
	case "-bxor":
		return a ^ b, nil
	case "-gt":
		return a > b, nil
	case "-ge":
		return a >= b, nil
	case "-lt":
		return a < b, nil
	case "-le":
		return a <= b, nil
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	}
	return nil, fmt.Errorf("the operator %s is not known here", op)
}

func holds(list, item any) bool {
	for _, x := range flat(list) {
		if equal(x, item) {
			return true
		}
	}
	return false
}

// equal compares as -eq does: by the left operand's type, strings without regard to
// case.
func equal(left, right any) bool {
	if left == nil || right == nil {
		return left == nil && right == nil
	}
	switch l := left.(type) {
	case bool:
		return l == truth(right)
	case int64:
		n, err := integer(right)
		return err == nil && l == n
	}
	return strings.EqualFold(str(left), str(right))
}

// matches compares with * and ?, without regard to case.
func matches(s, pattern string) bool {
	// What the pattern language of path.Match has beyond these two is literal here,
	// and a slash is a character like others.
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "/", "\x00")
	ok, err := path.Match(strings.ToLower(escape.Replace(pattern)), strings.ToLower(strings.ReplaceAll(s, "/", "\x00")))
	return err == nil && ok
}

// truth is a value as a condition.
func truth(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case int64:
		return x != 0
	case string:
		return x != ""
	case []any:
		return len(x) > 1 || len(x) == 1 && truth(x[0])
	}
	return true
}

func integer(v any) (int64, error) {
	switch x := v.(type) {
	case nil:
		return 0, nil
	case int64:
		return x, nil
	case bool:
		if x {
			return 1, nil
		}
		return 0, nil
	case string:
		if n, ok := number(strings.TrimSpace(x)); ok {
			return n, nil
		}
		return 0, fmt.Errorf("%s is no number", strconv.Quote(x))
	}
	return 0, fmt.Errorf("%T is no number", v)
}
