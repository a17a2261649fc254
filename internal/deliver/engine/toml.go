package engine

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// getTOML is the value at a path of keys; nil where there is none.
func getTOML(text []byte, path ...string) (any, error) {
	var v any
	root := map[string]any{}
	if err := toml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	v = root
	for _, key := range path {
		table, ok := v.(map[string]any)
		if !ok {
			return nil, nil
		}
		v = table[key]
	}
	return v, nil
}

// setTOML puts a value, given as TOML, at a path of keys. Comments and all other text stay as they are.
// It edits lines, and afterwards has the library read both texts: what it cannot edit
// it refuses, and a text that means anything else than the old one with the value set
// never leaves it.
func setTOML(text []byte, literal string, path ...string) ([]byte, error) {
	return editTOML(text, path, literal)
}

// removeTOML takes away what is at a path of keys. A table's heading stays.
func removeTOML(text []byte, path ...string) ([]byte, error) {
	return editTOML(text, path, "")
}

func editTOML(text []byte, path []string, literal string) ([]byte, error) {
	table, key := path[:len(path)-1], path[len(path)-1]
	lines := slices.Collect(strings.Lines(string(text)))
	heading, at := locate(lines, table, key)
	switch {
	case literal == "":
		if at >= 0 {
			lines = slices.Delete(lines, at, at+1)
		}
	case at >= 0:
		lines[at] = withValue(lines[at], literal)
	case heading >= 0:
		indent := lines[heading][:strings.IndexByte(lines[heading], '[')] + "  "
		lines = slices.Insert(lines, heading+1, fmt.Sprintf("%s%s = %s\n", indent, key, literal))
	default:
		if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
			lines[n-1] += "\n"
		}
		if len(lines) > 0 {
			lines = append(lines, "\n")
		}
		lines = append(lines, fmt.Sprintf("[%s]\n  %s = %s\n", dotted(table), key, literal))
	}
	edited := []byte(strings.Join(lines, ""))
	if err := checkEdit(text, edited, path, literal); err != nil {
		return nil, err
	}
	return edited, nil
}

// dotted is a path as a heading has it.
func dotted(path []string) string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = p
		if strings.ContainsAny(p, `. "'`) {
			out[i] = fmt.Sprintf("%q", p)
		}
	}
	return strings.Join(out, ".")
}

// locate finds the line of a table's heading and that of a key in it, -1 for none. What stands in a
// text of several lines may deceive it; checkEdit notices.
func locate(lines []string, table []string, key string) (heading, at int) {
	heading, at = -1, -1
	here := len(table) == 0
	for i, line := range lines {
		if path, ok := tablePath(line); ok {
			here = slices.Equal(path, table)
			if here {
				heading = i
			}
			continue
		}
		if !here {
			continue
		}
		entry := map[string]any{}
		if err := toml.Unmarshal([]byte(line), &entry); err != nil {
			continue
		}
		if _, ok := entry[key]; ok {
			at = i
		}
	}
	return heading, at
}

// tablePath is the table that a line begins. Elements of an array of tables have none.
func tablePath(line string) ([]string, bool) {
	if !strings.HasPrefix(strings.TrimSpace(line), "[") {
		return nil, false
	}
	v := map[string]any{}
	if err := toml.Unmarshal([]byte(line), &v); err != nil {
		return nil, false
	}
	var path []string
	for len(v) == 1 {
		for k, inner := range v {
			path = append(path, k)
			v, _ = inner.(map[string]any)
		}
	}
	return path, true
}

// withValue replaces the value of a line "key = value # comment".
func withValue(line, literal string) string {
	name, rest, _ := strings.Cut(line, "=")
	end := "\n"
	var quote rune
	for i, c := range rest {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#':
			return name + "= " + literal + " " + rest[i:]
		}
	}
	return name + "= " + literal + end
}

var errCannotEdit = errors.New("it is written in a way that cannot be edited line by line")

// checkEdit refuses an edited text that means anything else than the old one with the
// value set, or without it.
func checkEdit(before, after []byte, path []string, literal string) error {
	old, now := map[string]any{}, map[string]any{}
	if err := toml.Unmarshal(before, &old); err != nil {
		return err
	}
	if err := toml.Unmarshal(after, &now); err != nil {
		return fmt.Errorf("%w: %w", errCannotEdit, err)
	}
	var value any
	if literal != "" {
		one := map[string]any{}
		if err := toml.Unmarshal([]byte("v = "+literal), &one); err != nil {
			return err
		}
		value = one["v"]
	}
	if !put(old, path, value) || !reflect.DeepEqual(old, now) {
		return fmt.Errorf("%w: %s", errCannotEdit, dotted(path))
	}
	return nil
}

// put sets a value in nested tables, or deletes it where it is nil; it reports false
// where something else than a table is in the way.
func put(table map[string]any, path []string, value any) bool {
	for _, key := range path[:len(path)-1] {
		next, ok := table[key].(map[string]any)
		if !ok {
			if table[key] != nil {
				return false
			}
			if value == nil {
				return true
			}
			next = map[string]any{}
			table[key] = next
		}
		table = next
	}
	key := path[len(path)-1]
	if value == nil {
		delete(table, key)
	} else {
		table[key] = value
	}
	return true
}

// equalTOML tells whether a text of one value means what another one does.
func equalTOML(a, b string) bool {
	x, errA := getTOML([]byte("v = "+a), "v")
	y, errB := getTOML([]byte("v = "+b), "v")
	return errA == nil && errB == nil && reflect.DeepEqual(x, y)
}

// literalTOML is a value as TOML.
func literalTOML(v any) (string, error) {
	b, err := toml.Marshal(map[string]any{"v": v})
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(bytes.TrimPrefix(b, []byte("v = ")))), nil
}
