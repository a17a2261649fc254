package cmdlet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// ErrSyntax is wrapped by every error about a script that cannot be read.
var ErrSyntax = errors.New("syntax error")

// maxNesting bounds the recursion of the parser: a script is somebody's input.
const maxNesting = 100

// A script is statements; each is an assignment or a pipeline.
type statement struct {
	line     int
	variable string // assigned to; empty for none
	pipeline pipeline
}

// pipeline passes the results of each stage to the next. The first stage may be an
// expression.
type pipeline struct {
	expr     node // the first stage, or nil
	commands []command
}

// command is a cmdlet or program with its arguments.
type command struct {
	line int
	name string
	args []argument
}

// argument is a parameter's name, a value, or both (-Confirm:$false).
type argument struct {
	param string // without its dash
	value node   // nil for a bare parameter
	raw   string // as it was written, for programs
}

// node is an expression.
type node any

type (
	literal  struct{ value any }
	variable struct{ scope, name string }
	text     struct{ parts []node } // a string in double quotes
	array    struct{ items []node }
	hash     struct{ keys, values []node }
	group    struct{ body []statement } // ( … ), $( … ) and @( … )
	arrayOf  struct{ body group }
	property struct {
		of   node
		name string
	}
	call struct {
		of   node
		name string
		args []node
	}
	index struct{ of, at node }
	unary struct {
		op string
		of node
	}
	binary struct {
		op          string
		left, right node
	}
)

// parser reads a script from its text.
type parser struct {
	src   []rune
	at    int
	line  int
	depth int
}

// parseScript reads the statements of a script.
func parseScript(src string) ([]statement, error) {
	p := &parser{src: []rune(strings.ReplaceAll(src, "\r\n", "\n")), line: 1}
	list, err := p.statements(0)
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("line %d: %w: %s", p.line, ErrSyntax, fmt.Sprintf(format, args...))
}

func (p *parser) peek() rune { return p.peekAt(0) }

func (p *parser) peekAt(n int) rune {
	if p.at+n < len(p.src) {
		return p.src[p.at+n]
	}
	return 0
}

func (p *parser) done() bool { return p.at >= len(p.src) }

func (p *parser) has(s string) bool {
	for i, r := range []rune(s) {
		if p.peekAt(i) != r {
			return false
		}
	}
	return true
}

func (p *parser) advance(n int) {
	for range n {
		if p.peek() == '\n' {
			p.line++
		}
		p.at++
	}
}

// space skips blanks, comments and continued lines; with lines also line ends.
func (p *parser) space(lines bool) {
	for !p.done() {
		switch c := p.peek(); {
		case c == '\n' && lines, c == ' ' || c == '\t' || c == '\u00a0':
			p.advance(1)
		case c == '`' && p.continued() > 0:
			p.advance(p.continued())
		case c == '#':
			for !p.done() && p.peek() != '\n' {
				p.advance(1)
			}
		case p.has("<#"):
			for !p.done() && !p.has("#>") {
				p.advance(1)
			}
			p.advance(2)
		default:
			return
		}
	}
}

// continued is the length of a backtick and the end of its line, 0 if there is
// something else on the line.
func (p *parser) continued() int {
	for i := 1; ; i++ {
		switch p.peekAt(i) {
		case ' ', '\t':
		case '\n':
			return i + 1
		default:
			return 0
		}
	}
}

// statements reads up to the closing rune, 0 for the end of the script, which it
// takes.
func (p *parser) statements(closing rune) ([]statement, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail("nested deeper than %d levels", maxNesting)
	}
	defer func() { p.depth-- }()
	var list []statement
	for {
		p.space(true)
		for p.peek() == ';' {
			p.advance(1)
			p.space(true)
		}
		switch {
		case p.done() && closing == 0:
			return list, nil
		case p.done():
			return nil, p.fail("%q is missing", closing)
		case p.peek() == closing:
			p.advance(1)
			return list, nil
		}
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		p.space(false)
		if c := p.peek(); !p.done() && c != '\n' && c != ';' && c != closing {
			return nil, p.fail("%q does not belong here", string(c))
		}
	}
}

func (p *parser) statement() (statement, error) {
	p.prompt()
	s := statement{line: p.line}
	start, line := p.at, p.line
	if p.peek() == '$' {
		if v, ok := p.variable(); ok && v.scope == "" {
			p.space(false)
			if p.peek() == '=' {
				p.advance(1)
				p.space(true)
				s.variable = v.name
			}
		}
		if s.variable == "" {
			p.at, p.line = start, line
		}
	}
	var err error
	s.pipeline, err = p.pipeline()
	return s, err
}

// prompt skips what documents show before a command: PS C:\>.
func (p *parser) prompt() {
	if !p.has("PS ") {
		return
	}
	for i := 3; p.peekAt(i) != 0 && p.peekAt(i) != '\n'; i++ {
		if p.peekAt(i) == '>' {
			p.advance(i + 1)
			p.space(false)
			return
		}
	}
}

func (p *parser) pipeline() (pipeline, error) {
	var pl pipeline
	var err error
	if p.startsCommand() {
		pl.commands, err = p.appendCommand(pl.commands)
	} else {
		pl.expr, err = p.expression()
	}
	for err == nil {
		p.space(false)
		if p.peek() != '|' {
			return pl, nil
		}
		p.advance(1)
		p.space(true)
		pl.commands, err = p.appendCommand(pl.commands)
	}
	return pl, err
}

// startsCommand reports whether a command, not an expression, begins here.
func (p *parser) startsCommand() bool {
	c := p.peek()
	return unicode.IsLetter(c) || c == '%' || c == '&' || c == '.' && p.peekAt(1) == '\\'
}

func (p *parser) appendCommand(list []command) ([]command, error) {
	if p.peek() == '&' {
		p.advance(1)
		p.space(false)
	}
	c := command{line: p.line}
	for !p.done() && !p.endsWord(p.peek()) {
		c.name += string(p.peek())
		p.advance(1)
	}
	if c.name == "" {
		return nil, p.fail("a command is missing")
	}
	for {
		p.space(false)
		if p.done() || strings.ContainsRune("\n;|)}", p.peek()) {
			return append(list, c), nil
		}
		a, err := p.argument()
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, a)
	}
}

// endsWord reports whether a bare word ends before c.
func (p *parser) endsWord(c rune) bool {
	return unicode.IsSpace(c) || strings.ContainsRune(";|(){}\"'", c)
}

func (p *parser) argument() (argument, error) {
	start := p.at
	var a argument
	var err error
	if p.peek() == '-' && (unicode.IsLetter(p.peekAt(1)) || p.peekAt(1) == '-') {
		p.advance(1)
		for !p.done() && !p.endsWord(p.peek()) && p.peek() != ':' && p.peek() != ',' {
			a.param += string(p.peek())
			p.advance(1)
		}
		if p.peek() == ':' {
			p.advance(1)
			p.space(false)
			a.value, err = p.list()
		}
	} else {
		a.value, err = p.list()
	}
	a.raw = string(p.src[start:min(p.at, len(p.src))])
	return a, err
}

// list reads values with commas between them.
func (p *parser) list() (node, error) {
	first, err := p.value()
	if err != nil {
		return nil, err
	}
	items := []node{first}
	for {
		back, line := p.at, p.line
		p.space(false)
		if p.peek() != ',' {
			p.at, p.line = back, line
			break
		}
		p.advance(1)
		p.space(true)
		next, err := p.value()
		if err != nil {
			return nil, err
		}
		items = append(items, next)
	}
	if len(items) == 1 {
		return first, nil
	}
	return array{items}, nil
}

// value reads one value where an argument stands: an expression in parentheses, a
// variable, a quoted string, a hash table, or a bare word.
func (p *parser) value() (node, error) {
	switch c := p.peek(); {
	case c == '(' || c == '"' || c == '\'' || p.has("@(") || p.has("@{"), c == '$' && p.isVariable():
		return p.postfix()
	case c == '{':
		return p.block()
	}
	return p.word()
}

// block reads { … }, which cmdlets take as the text of a filter.
func (p *parser) block() (node, error) {
	p.advance(1)
	start, open := p.at, 1
	for ; !p.done(); p.advance(1) {
		switch p.peek() {
		case '{':
			open++
		case '}':
			open--
		}
		if open == 0 {
			body := string(p.src[start:p.at])
			p.advance(1)
			return literal{strings.TrimSpace(body)}, nil
		}
	}
	return nil, p.fail("} is missing")
}

// isVariable tells $name and $(…) from a dollar that is only itself.
func (p *parser) isVariable() bool {
	c := p.peekAt(1)
	return c == '(' || c == '_' || c == '{' || unicode.IsLetter(c)
}

// word reads a bare word. A dollar at its end, as accounts have, is itself.
func (p *parser) word() (node, error) {
	var b strings.Builder
	start := p.at
	for !p.done() {
		c := p.peek()
		if c == '`' && p.peekAt(1) != 0 && p.continued() == 0 {
			b.WriteRune(p.peekAt(1))
			p.advance(2)
			continue
		}
		if c == ',' || p.endsWord(c) && !(c == '{' || c == '}' && strings.Contains(b.String(), "{")) {
			break
		}
		b.WriteRune(c)
		p.advance(1)
	}
	if p.at == start {
		return nil, p.fail("a value is missing before %q", string(p.peek()))
	}
	word := b.String()
	if n, ok := number(word); ok {
		return literal{n}, nil
	}
	return literal{word}, nil
}

func number(word string) (int64, bool) {
	if word == "" || !unicode.IsDigit(rune(word[0])) && word[0] != '-' {
		return 0, false
	}
	digits, base := word, 10
	if len(word) > 2 && strings.EqualFold(word[:2], "0x") {
		digits, base = word[2:], 16
	}
	n, err := strconv.ParseInt(digits, base, 64)
	return n, err == nil
}

// variable reads $name or $scope:name.
func (p *parser) variable() (variable, bool) {
	if p.peek() != '$' || !p.isVariable() || p.peekAt(1) == '(' {
		return variable{}, false
	}
	p.advance(1)
	braced := p.peek() == '{'
	if braced {
		p.advance(1)
	}
	var name strings.Builder
	for c := p.peek(); unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' || c == ':' && unicode.IsLetter(p.peekAt(1)); c = p.peek() {
		name.WriteRune(c)
		p.advance(1)
	}
	if braced && p.peek() == '}' {
		p.advance(1)
	}
	if scope, rest, ok := strings.Cut(name.String(), ":"); ok {
		return variable{strings.ToLower(scope), rest}, true
	}
	return variable{"", strings.ToLower(name.String())}, true
}

// operators by how tightly they bind, the loosest first.
var operators = [][]string{
	{"-and", "-or", "-xor"},
	{"-band", "-bor", "-bxor"},
	{"-eq", "-ne", "-like", "-notlike", "-gt", "-ge", "-lt", "-le", "-contains", "-notcontains", "-in", "-notin", "-match"},
	{"+", "-"},
}

// expression reads an expression with operators; commas make arrays of operands.
func (p *parser) expression() (node, error) { return p.binary(0) }

func (p *parser) binary(level int) (node, error) {
	if level == len(operators) {
		return p.operands()
	}
	left, err := p.binary(level + 1)
	for err == nil {
		p.space(false)
		op := p.operator(operators[level])
		if op == "" {
			return left, nil
		}
		p.advance(len(op))
		p.space(true)
		var right node
		right, err = p.binary(level + 1)
		left = binary{op, left, right}
	}
	return nil, err
}

// operator is the operator that begins here.
func (p *parser) operator(of []string) string {
	for _, op := range of {
		word := string(p.src[min(p.at, len(p.src)):min(p.at+len(op), len(p.src))])
		if !strings.EqualFold(word, op) {
			continue
		}
		next := p.peekAt(len(op))
		if word != "+" && word != "!" && unicode.IsLetter(next) || len(op) > 1 && unicode.IsDigit(next) {
			continue // a longer word: -like is no minus
		}
		return op
	}
	return ""
}

func (p *parser) operands() (node, error) {
	first, err := p.operand()
	if err != nil {
		return nil, err
	}
	items := []node{first}
	for {
		back, line := p.at, p.line
		p.space(false)
		if p.peek() != ',' {
			p.at, p.line = back, line
			break
		}
		p.advance(1)
		p.space(true)
		next, err := p.operand()
		if err != nil {
			return nil, err
		}
		items = append(items, next)
	}
	if len(items) == 1 {
		return first, nil
	}
	return array{items}, nil
}

func (p *parser) operand() (node, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail("nested deeper than %d levels", maxNesting)
	}
	defer func() { p.depth-- }()
	for _, op := range []string{"-bnot", "-not", "!", "-"} {
		if p.operator([]string{op}) == "" || op == "-" && unicode.IsDigit(p.peekAt(1)) {
			continue
		}
		p.advance(len(op))
		p.space(false)
		of, err := p.operand()
		return unary{op, of}, err
	}
	return p.postfix()
}

// postfix reads a primary with what follows it: .Name, .Name(…) and […].
func (p *parser) postfix() (node, error) {
	n, err := p.primary()
	for err == nil {
		switch {
		case p.peek() == '.' && (unicode.IsLetter(p.peekAt(1)) || p.peekAt(1) == '_'):
			p.advance(1)
			n, err = p.member(n)
		case p.peek() == '[':
			p.advance(1)
			var at node
			if at, err = p.expression(); err == nil {
				p.space(true)
				if p.peek() != ']' {
					return nil, p.fail("] is missing")
				}
				p.advance(1)
				n = index{n, at}
			}
		default:
			return n, nil
		}
	}
	return nil, err
}

func (p *parser) member(of node) (node, error) {
	var name strings.Builder
	for c := p.peek(); unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_'; c = p.peek() {
		name.WriteRune(c)
		p.advance(1)
	}
	if p.peek() != '(' {
		return property{of, name.String()}, nil
	}
	p.advance(1)
	c := call{of: of, name: name.String()}
	p.space(true)
	for p.peek() != ')' {
		if p.done() {
			return nil, p.fail(") is missing")
		}
		a, err := p.operand()
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, a)
		p.space(true)
		if p.peek() == ',' {
			p.advance(1)
			p.space(true)
		}
	}
	p.advance(1)
	return c, nil
}

func (p *parser) primary() (node, error) {
	switch c := p.peek(); {
	case c == '(' || p.has("$(") || p.has("@("):
		p.advance(1)
		if c != '(' {
			p.advance(1)
		}
		body, err := p.statements(')')
		if c == '@' {
			return arrayOf{group{body}}, err
		}
		return group{body}, err
	case p.has("@{"):
		p.advance(2)
		return p.hash()
	case c == '\'':
		s, err := p.single()
		return literal{s}, err
	case c == '"':
		return p.double()
	case c == '$':
		if v, ok := p.variable(); ok {
			return v, nil
		}
	case unicode.IsDigit(c), c == '-' && unicode.IsDigit(p.peekAt(1)):
		var b strings.Builder
		for b.WriteRune(c); unicode.IsLetter(p.peekAt(1)) || unicode.IsDigit(p.peekAt(1)); p.advance(1) {
			b.WriteRune(p.peekAt(1))
		}
		p.advance(1)
		if n, ok := number(b.String()); ok {
			return literal{n}, nil
		}
		return nil, p.fail("%q is no number", b.String())
	}
	return nil, p.fail("a value is missing before %q", string(p.peek()))
}

// single reads a string in single quotes, of which two stand for one.
func (p *parser) single() (string, error) {
	var b strings.Builder
	for p.advance(1); !p.done(); p.advance(1) {
		if p.peek() != '\'' {
			b.WriteRune(p.peek())
			continue
		}
		if p.peekAt(1) != '\'' {
			p.advance(1)
			return b.String(), nil
		}
		p.advance(1)
		b.WriteRune('\'')
	}
	return "", p.fail("the quote ' is never closed")
}

// double reads a string in double quotes, with variables in it.
func (p *parser) double() (node, error) {
	var t text
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			t.parts = append(t.parts, literal{b.String()})
			b.Reset()
		}
	}
	p.advance(1)
	for !p.done() {
		switch c := p.peek(); {
		case c == '"' && p.peekAt(1) == '"':
			b.WriteRune('"')
			p.advance(2)
		case c == '"':
			p.advance(1)
			flush()
			return t, nil
		case c == '`':
			b.WriteRune(escaped(p.peekAt(1)))
			p.advance(2)
		case p.has("$("):
			flush()
			g, err := p.primary()
			if err != nil {
				return nil, err
			}
			t.parts = append(t.parts, g)
		case c == '$' && p.isVariable():
			flush()
			v, _ := p.variable()
			t.parts = append(t.parts, v)
		default:
			b.WriteRune(c)
			p.advance(1)
		}
	}
	return nil, p.fail(`the quote " is never closed`)
}

// escaped is what a backtick makes of c.
func escaped(c rune) rune {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	}
	return c
}

func (p *parser) hash() (node, error) {
	var h hash
	for {
		p.space(true)
		for p.peek() == ';' {
			p.advance(1)
			p.space(true)
		}
		if p.done() {
			return nil, p.fail("} is missing")
		}
		if p.peek() == '}' {
			p.advance(1)
			return h, nil
		}
		key, err := p.hashKey()
		if err != nil {
			return nil, err
		}
		p.space(true)
		if p.peek() != '=' {
			return nil, p.fail("= is missing in a hash table")
		}
		p.advance(1)
		p.space(true)
		value, err := p.hashValue()
		if err != nil {
			return nil, err
		}
		h.keys, h.values = append(h.keys, key), append(h.values, value)
	}
}

func (p *parser) hashKey() (node, error) {
	if c := p.peek(); c == '\'' || c == '"' || c == '$' {
		return p.primary()
	}
	var b strings.Builder
	for c := p.peek(); unicode.IsLetter(c) || unicode.IsDigit(c) || c == '-' || c == '_'; c = p.peek() {
		b.WriteRune(c)
		p.advance(1)
	}
	if b.Len() == 0 {
		return nil, p.fail("a key is missing in a hash table")
	}
	return literal{b.String()}, nil
}

// hashValue reads a value of a hash table: an expression, or a command.
func (p *parser) hashValue() (node, error) {
	if p.startsCommand() {
		line := p.line
		pl, err := p.pipeline()
		return group{[]statement{{line: line, pipeline: pl}}}, err
	}
	return p.expression()
}
