package credspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is what a JSON value is.
type kind uint8

const (
	absent kind = iota // not in the file, or null
	object
	array
	text
	number
	boolean
)

func (k kind) String() string {
	return [...]string{"nothing", "an object", "a list", "a string", "a number", "a boolean"}[k]
}

// value is a JSON value with everything that a map would lose.
type value struct {
	kind    kind
	text    string // of a string, or the literal of a number or boolean
	members []member
	items   []value
	raw     []byte
}

type member struct {
	key string
	val value
}

// decode reads one JSON document. It reports what is wrong with it as a
// finding; the value is then absent.
func (r *reader) decode(b []byte) value {
	switch {
	case len(b) > MaxSize:
		r.fault("$", fmt.Sprintf("the file has %d bytes, more than %d", len(b), MaxSize), "")
		return value{}
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}) || bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		r.fault("$", "the file is UTF-16", "save it as UTF-8, in PowerShell with Out-File -Encoding ascii")
		return value{}
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(b) {
		r.fault("$", "the file is not UTF-8", "save it as UTF-8")
		return value{}
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		r.syntax(b, err)
		return value{}
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return r.value(dec, b, "$", 0)
}

// syntax reports where and why b is no JSON.
func (r *reader) syntax(b []byte, err error) {
	at := len(b)
	// The offset counts the bytes read, the offending one included.
	if e, ok := errors.AsType[*json.SyntaxError](err); ok && !strings.HasPrefix(e.Error(), "unexpected end") {
		at = min(max(int(e.Offset)-1, 0), len(b))
	}
	line := 1 + bytes.Count(b[:at], []byte("\n"))
	column := 1 + utf8.RuneCount(b[bytes.LastIndexByte(b[:at], '\n')+1:at])
	remedy := ""
	switch rest := bytes.TrimLeft(b[at:], " \t\r\n"); {
	case len(b) == 0:
		remedy = "the file is empty"
	case bytes.HasPrefix(rest, []byte("/")) || bytes.HasPrefix(rest, []byte("#")):
		remedy = "remove the comment: JSON has none"
	case len(rest) > 0 && (rest[0] == '}' || rest[0] == ']'):
		remedy = "a comma before the end of a list or object is not allowed, and none may be left open"
	case at == len(b):
		remedy = "the end of the file is missing"
	}
	// The decoder's own text quotes one character at most, so no secret.
	r.fault("$", fmt.Sprintf("not JSON: line %d, column %d: %s", line, column, strings.TrimPrefix(err.Error(), "json: ")), remedy)
}

// value reads the next value of dec, whose input is b and valid.
func (r *reader) value(dec *json.Decoder, b []byte, path string, depth int) value {
	tok, err := dec.Token()
	if err != nil || depth > maxDepth {
		if !r.tooDeep {
			r.tooDeep = true
			r.fault(path, fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
		}
		return value{}
	}
	start := dec.InputOffset() - 1
	switch t := tok.(type) {
	case json.Delim:
		v := value{kind: array}
		if t == '{' {
			v.kind = object
		}
		for dec.More() && !r.tooDeep {
			if t == '[' {
				v.items = append(v.items, r.value(dec, b, fmt.Sprintf("%s[%d]", path, len(v.items)), depth+1))
				continue
			}
			key, err := dec.Token()
			if err != nil {
				return value{}
			}
			name := key.(string)
			at := join(path, name)
			for _, m := range v.members {
				if m.key == name {
					r.fault(at, "the key is there twice", "remove one: which of them counts is not defined")
					break
				}
			}
			v.members = append(v.members, member{name, r.value(dec, b, at, depth+1)})
		}
		if r.tooDeep {
			return value{}
		}
		if _, err := dec.Token(); err != nil {
			return value{}
		}
		v.raw = b[start:dec.InputOffset()]
		return v
	case string:
		return value{kind: text, text: t}
	case json.Number:
		return value{kind: number, text: t.String()}
	case bool:
		return value{kind: boolean, text: strconv.FormatBool(t)}
	}
	return value{} // null is as good as absent
}

// join appends a member to a JSON path of RFC 9535.
func join(path, key string) string {
	plain := key != "" && len(key) <= maxQuoted && strings.IndexFunc(key, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) < 0
	if plain {
		return path + "." + key
	}
	return path + "[" + quote(key) + "]"
}

// quote is s in quotes, cut to a length that suits a message.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return strconv.Quote(s)
}
