package cmdlet

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Object is a result with properties in an order, as PowerShell's objects are.
type Object struct {
	class string
	names []string
	value map[string]any // by the name in small letters
}

func newObject(class string) *Object { return &Object{class: class, value: map[string]any{}} }

// set gives the object a property.
func (o *Object) set(name string, v any) *Object {
	key := strings.ToLower(name)
	if _, ok := o.value[key]; !ok {
		o.names = append(o.names, name)
	}
	o.value[key] = v
	return o
}

// get is a property's value; nil for one that the object does not have.
func (o *Object) get(name string) any { return o.value[strings.ToLower(name)] }

// MarshalJSON writes the properties in their order.
func (o *Object) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, n := range o.names {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(o.get(n))
		if err != nil {
			return nil, err
		}
		b.WriteString(strconv.Quote(n) + ":" + string(value))
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// hashTable is a hash table: keys in the order in which they were written.
type hashTable struct {
	keys   []string
	values map[string]any // by the key in small letters
}

func (h *hashTable) get(key string) (any, bool) {
	v, ok := h.values[strings.ToLower(key)]
	return v, ok
}

// str is a value as PowerShell turns it into a string.
func str(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case bool:
		if x {
			return "True"
		}
		return "False"
	case time.Time:
		return x.Local().Format("01/02/2006 15:04:05")
	case []any:
		parts := make([]string, len(x))
		for i, item := range x {
			parts[i] = str(item)
		}
		return strings.Join(parts, " ")
	case *Object:
		if dn, ok := x.get("DistinguishedName").(string); ok {
			return dn
		}
		return x.class
	case *hashTable:
		return "System.Collections.Hashtable"
	}
	return fmt.Sprint(v)
}

// flat is a value as the items that a pipeline passes on.
func flat(v any) []any {
	switch x := v.(type) {
	case nil:
		return nil
	case []any:
		return x
	}
	return []any{v}
}

// unflat is the value that a pipeline's results are: nothing, one thing, or an
// array.
func unflat(list []any) any {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return list
}

// cell is a property's value in a list: arrays stand in braces.
func cell(v any) string {
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, item := range list {
			parts[i] = str(item)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return str(v)
}

// write prints results as PowerShell's list format does: objects as aligned
// properties with an empty line around them, everything else on a line.
func write(w io.Writer, list []any) error {
	var b strings.Builder
	afterObject := false
	for _, v := range list {
		o, ok := v.(*Object)
		if !ok {
			b.WriteString(printable(str(v)) + "\n")
			afterObject = false
			continue
		}
		if !afterObject {
			b.WriteByte('\n')
		}
		width := 0
		for _, n := range o.names {
			width = max(width, utf8.RuneCountInString(n))
		}
		for _, n := range o.names {
			b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s : %s", width, n, printable(cell(o.get(n)))), " ") + "\n")
		}
		b.WriteByte('\n')
		afterObject = true
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable keeps what a directory says from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
