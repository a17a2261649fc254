package lint

import (
	"encoding/json"
	"regexp"
	"strings"
)

// maxInstructions bounds a Dockerfile.
const maxInstructions = 10_000

// instruction is one of a Dockerfile, with its continued lines joined and its here-documents
// behind them.
type instruction struct {
	line int
	name string // in capitals
	args string
}

// dockerfile is what is read of a Dockerfile.
type dockerfile struct {
	instructions []instruction
	escape       byte // \ or `
}

var (
	escapeDirective = regexp.MustCompile("^#[ \t]*(?i:escape)[ \t]*=[ \t]*([`\\\\])[ \t]*$")
	anyDirective    = regexp.MustCompile(`^#[ \t]*[A-Za-z]+[ \t]*=`)
	hereDocument    = regexp.MustCompile(`<<-?\s*["']?([A-Za-z_][A-Za-z0-9_]*)["']?`)
)

// readDockerfile takes a Dockerfile apart as Docker does: directives ahead of everything, lines
// continued by the escape character, comments between them, here-documents of RUN, COPY
// and ADD. It has no opinion about what it reads.
func readDockerfile(content []byte) dockerfile {
	d := dockerfile{escape: '\\'}
	if len(content) > MaxSize {
		return d
	}
	lines := strings.Split(strings.ReplaceAll(strings.TrimPrefix(string(content), "\ufeff"), "\r\n", "\n"), "\n")
	i := d.directives(lines)
	for i < len(lines) && len(d.instructions) < maxInstructions {
		if blank(lines[i]) {
			i++
			continue
		}
		start := i
		var text string
		text, i = d.joined(lines, i)
		name, args, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(text, "\t", " ")), " ")
		in := instruction{start + 1, strings.ToUpper(name), strings.TrimSpace(args)}
		if in.name == "ONBUILD" {
			continue // for images that are built on this one
		}
		if in.name == "RUN" || in.name == "COPY" || in.name == "ADD" {
			i = in.takeHereDocuments(lines, i)
		}
		d.instructions = append(d.instructions, in)
	}
	return d
}

func blank(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// directives reads what stands ahead of the first comment, empty line or instruction.
func (d *dockerfile) directives(lines []string) (next int) {
	for i, l := range lines {
		if !anyDirective.MatchString(l) {
			return i
		}
		if m := escapeDirective.FindStringSubmatch(l); m != nil {
			d.escape = m[1][0]
		}
	}
	return len(lines)
}

// joined is an instruction's text from line i on, and the line behind it.
func (d *dockerfile) joined(lines []string, i int) (string, int) {
	var b strings.Builder
	for continued := true; continued && i < len(lines); i++ {
		l := lines[i]
		if b.Len() > 0 && blank(l) {
			continue
		}
		trimmed := strings.TrimRight(l, " \t")
		continued = strings.HasSuffix(trimmed, string(d.escape))
		b.WriteString(strings.TrimSuffix(trimmed, string(d.escape)))
	}
	return b.String(), i
}

// takeHereDocuments appends the here-documents that the instruction begins.
func (in *instruction) takeHereDocuments(lines []string, i int) (next int) {
	for _, m := range hereDocument.FindAllStringSubmatch(in.args, 8) {
		for i < len(lines) {
			l := lines[i]
			i++
			if strings.TrimLeft(l, "\t") == m[1] {
				break
			}
			in.args += "\n" + l
		}
	}
	return i
}

// words are the arguments of an instruction that takes some, in the form of a shell or of
// JSON; options (--from=x) are left out.
func (in instruction) words() []string {
	if args := strings.TrimSpace(in.args); strings.HasPrefix(args, "[") {
		var list []string
		if json.Unmarshal([]byte(args), &list) == nil {
			return list
		}
	}
	var list []string
	for w := range strings.FieldsSeq(in.args) {
		if !strings.HasPrefix(w, "--") || len(list) > 0 {
			list = append(list, strings.Trim(w, `"'`))
		}
	}
	return list
}

// option is the value of an option such as --platform.
func (in instruction) option(name string) string {
	for w := range strings.FieldsSeq(in.args) {
		if v, ok := strings.CutPrefix(w, "--"+name+"="); ok {
			return v
		}
	}
	return ""
}

// commandLine is what a RUN, CMD or ENTRYPOINT has run, as one text.
func (in instruction) commandLine() string {
	if strings.HasPrefix(in.args, "[") {
		return strings.Join(in.words(), " ")
	}
	return in.args
}

// stage is one FROM and what follows, with what the stages below it say ahead of it.
type stage struct {
	from         instruction
	image        string
	platform     string
	instructions []instruction
}

var variable = regexp.MustCompile(`\$(?:\{([A-Za-z_]\w*)(?::?-([^}]*))?\}|([A-Za-z_]\w*))`)

// expand puts the defaults of ARG in; what has none stays.
func expand(s string, args map[string]string) string {
	return variable.ReplaceAllStringFunc(s, func(v string) string {
		m := variable.FindStringSubmatch(v)
		if value, ok := args[m[1]+m[3]]; ok {
			return value
		}
		if m[2] != "" {
			return m[2]
		}
		return v
	})
}

// last is the stage that the image is made of; nil where there is none.
func (d dockerfile) last() *stage {
	args := map[string]string{}
	byName := map[string]*stage{}
	var current *stage
	for _, in := range d.instructions {
		switch {
		case in.name == "FROM":
			current = newStage(in, args, byName)
		case in.name == "ARG" && current == nil:
			if name, value, ok := strings.Cut(in.args, "="); ok {
				args[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
			}
		case current != nil:
			current.instructions = append(current.instructions, in)
		}
	}
	return current
}

// newStage begins a stage, on an image or on a stage above.
func newStage(in instruction, args map[string]string, byName map[string]*stage) *stage {
	s := &stage{from: in, platform: expand(in.option("platform"), args)}
	w := in.words()
	if len(w) > 0 {
		s.image = expand(w[0], args)
	}
	if base, ok := byName[strings.ToLower(s.image)]; ok {
		s.image = base.image
		s.instructions = append(s.instructions, base.instructions...)
		if s.platform == "" {
			s.platform = base.platform
		}
	}
	if len(w) > 2 && strings.EqualFold(w[1], "as") {
		byName[strings.ToLower(w[2])] = s
	}
	return s
}
