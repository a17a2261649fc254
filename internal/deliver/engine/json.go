package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A member is one of a JSON object, as offsets into its text.
type member struct {
	name     string
	start    int // of the name
	value    int // of the value
	valueEnd int
}

// members lists those of the object that is the whole text, and gives the offset behind
// its opening brace.
func members(text []byte) (list []member, open int, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil {
		return nil, 0, err
	} else if t != json.Delim('{') {
		return nil, 0, errors.New("it is no object")
	}
	open = int(d.InputOffset())
	for d.More() {
		before := int(d.InputOffset())
		t, err := d.Token()
		if err != nil {
			return nil, 0, err
		}
		name := t.(string) // the decoder lets nothing else stand there
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, 0, err
		}
		end := int(d.InputOffset())
		// What separates it from the one before is no part of a member.
		start := before + strings.IndexByte(string(text[before:]), '"')
		list = append(list, member{name, start, end - len(value), end})
	}
	if _, err := d.Token(); err != nil {
		return nil, 0, err
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, 0, errors.New("there is more behind the object")
	}
	return list, open, nil
}

// find gives the only member of a name. Who reads a file with two of them cannot be known.
func find(list []member, name string) (*member, error) {
	var found *member
	for i := range list {
		if list[i].name != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("it has %q twice", name)
		}
		found = &list[i]
	}
	return found, nil
}

// getJSON is the value at a path of names; nil where there is none.
func getJSON(text []byte, path ...string) (json.RawMessage, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	for _, name := range path {
		list, _, err := members(text)
		if err != nil {
			return nil, err
		}
		m, err := find(list, name)
		if err != nil || m == nil {
			return nil, err
		}
		text = text[m.value:m.valueEnd]
	}
	return bytes.Clone(text), nil
}

// setJSON puts a value at a path of names, and makes the objects on the way that are
// missing. All other text stays as it is.
func setJSON(text []byte, value json.RawMessage, path ...string) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{}\n")
	}
	list, open, err := members(text)
	if err != nil {
		return nil, err
	}
	m, err := find(list, path[0])
	if err != nil {
		return nil, err
	}
	if m == nil {
		return insertMember(text, list, open, path[0], nest(value, path[1:])), nil
	}
	if len(path) > 1 {
		if value, err = setJSON(text[m.value:m.valueEnd], value, path[1:]...); err != nil {
			return nil, fmt.Errorf("%s: %w", path[0], err)
		}
	}
	return splice(text, m.value, m.valueEnd, value), nil
}

// nest wraps a value into objects.
func nest(value json.RawMessage, names []string) json.RawMessage {
	for _, name := range slices.Backward(names) {
		value = fmt.Appendf(nil, `{%q: %s}`, name, value)
	}
	return value
}

// insertMember adds a member behind the last one, on a line of its own where that one is.
func insertMember(text []byte, list []member, open int, name string, value json.RawMessage) []byte {
	entry := fmt.Sprintf("%q: %s", name, value)
	if len(list) == 0 {
		end := open + bytes.IndexByte(text[open:], '}')
		return splice(text, open, end, []byte("\n    "+entry+"\n"))
	}
	last := list[len(list)-1]
	return splice(text, last.valueEnd, last.valueEnd, []byte(","+lead(text, last.start)+entry))
}

// lead is the white space that a member stands behind.
func lead(text []byte, at int) string {
	i := at
	for i > 0 && strings.IndexByte(" \t\r\n", text[i-1]) >= 0 {
		i--
	}
	if i == at {
		return " "
	}
	return string(text[i:at])
}

// removeJSON takes away what is at a path of names, and objects on the way that become empty by
// it. What is not there is no error.
func removeJSON(text []byte, path ...string) ([]byte, error) {
	list, open, err := members(text)
	if err != nil {
		return nil, err
	}
	m, err := find(list, path[0])
	if err != nil || m == nil {
		return text, err
	}
	if len(path) > 1 {
		inner, err := removeJSON(text[m.value:m.valueEnd], path[1:]...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path[0], err)
		}
		if left, _, err := members(inner); err != nil || len(left) > 0 {
			return splice(text, m.value, m.valueEnd, inner), err
		}
	}
	for i := range list {
		switch {
		case &list[i] != m:
		case i > 0: // with the comma before it
			return splice(text, list[i-1].valueEnd, m.valueEnd, nil), nil
		case len(list) > 1: // with the one behind it
			return splice(text, m.start, list[1].start, nil), nil
		default:
			return splice(text, open, m.valueEnd+bytes.IndexByte(text[m.valueEnd:], '}'), nil), nil
		}
	}
	return text, nil
}

func splice(text []byte, from, to int, with []byte) []byte {
	out := append([]byte(nil), text[:from]...)
	return append(append(out, with...), text[to:]...)
}

// equalJSON tells whether two values are the same but for white space.
func equalJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
