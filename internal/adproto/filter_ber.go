package adproto

import (
	"errors"
	"fmt"
	"slices"
)

// Append writes the filter's BER: RFC 4511, Section 4.5.1.7.
func (f Filter) Append(dst []byte) []byte {
	tag := contextClass | constructed | byte(f.Kind)
	var body []byte
	switch f.Kind {
	case FilterAnd, FilterOr, FilterNot:
		for _, c := range f.Children {
			body = c.Append(body)
		}
	case FilterPresent:
		tag, body = contextClass|byte(f.Kind), []byte(f.Attr)
	case FilterSubstrings:
		body = f.appendSubstringsBER()
	case FilterExtensible:
		body = f.appendExtensibleBER()
	default:
		body = AppendElement(body, tagOctetString, []byte(f.Attr))
		body = AppendElement(body, tagOctetString, f.Value)
	}
	return AppendElement(dst, tag, body)
}

func (f Filter) appendSubstringsBER() []byte {
	var parts []byte
	if f.Initial != nil {
		parts = AppendElement(parts, contextClass, f.Initial)
	}
	for _, a := range f.Any {
		parts = AppendElement(parts, contextClass|1, a)
	}
	if f.Final != nil {
		parts = AppendElement(parts, contextClass|2, f.Final)
	}
	return AppendElement(AppendElement(nil, tagOctetString, []byte(f.Attr)), tagSequence, parts)
}

func (f Filter) appendExtensibleBER() []byte {
	var body []byte
	if f.Rule != "" {
		body = AppendElement(body, contextClass|1, []byte(f.Rule))
	}
	if f.Attr != "" {
		body = AppendElement(body, contextClass|2, []byte(f.Attr))
	}
	body = AppendElement(body, contextClass|3, f.Value)
	if f.DNAttrs {
		body = AppendElement(body, contextClass|4, []byte{0xff})
	}
	return body
}

var errManyParts = fmt.Errorf("more than %d parts", MaxFilterParts)

// ParseFilterBER reads one filter that fills b: RFC 4511, Section 4.5.1.7.
func ParseFilterBER(b []byte) (Filter, error) {
	if len(b) > MaxFilterSize {
		return Filter{}, fmt.Errorf("adproto: filter of %d bytes, limit %d", len(b), MaxFilterSize)
	}
	parts := MaxFilterParts
	f, rest, err := parseFilterBER(b, 1, &parts)
	if err != nil {
		return Filter{}, fmt.Errorf("adproto: filter: %w", err)
	}
	if len(rest) != 0 {
		return Filter{}, fmt.Errorf("adproto: %d bytes after the filter", len(rest))
	}
	return f, nil
}

// parseFilterBER reads the first filter of b; parts is how many more may come.
func parseFilterBER(b []byte, depth int, parts *int) (f Filter, rest []byte, err error) {
	if depth > MaxFilterDepth {
		return f, nil, fmt.Errorf("deeper than %d", MaxFilterDepth)
	}
	if *parts--; *parts < 0 {
		return f, nil, errManyParts
	}
	tag, body, rest, err := ReadElement(b)
	if err != nil {
		return f, nil, err
	}
	f.Kind = FilterKind(tag & 0x1f)
	want := byte(contextClass | constructed)
	if f.Kind == FilterPresent {
		want = contextClass
	}
	if tag&^0x1f != want || f.Kind > FilterExtensible {
		return f, nil, fmt.Errorf("tag %#02x is no filter", tag)
	}
	switch f.Kind {
	case FilterAnd, FilterOr, FilterNot:
		err = f.parseChildren(body, depth, parts)
	case FilterPresent:
		f.Attr = string(body)
	case FilterSubstrings:
		err = f.parseSubstringsBER(body, parts)
	case FilterExtensible:
		err = f.parseExtensibleBER(body)
	default:
		err = f.parseComparison(body)
	}
	if err == nil && f.Kind > FilterNot && f.Kind != FilterExtensible && !ValidAttribute(f.Attr) {
		err = fmt.Errorf("bad attribute description %q", f.Attr)
	}
	return f, rest, err
}

func (f *Filter) parseChildren(body []byte, depth int, parts *int) error {
	for len(body) > 0 {
		c, rest, err := parseFilterBER(body, depth+1, parts)
		if err != nil {
			return err
		}
		f.Children, body = append(f.Children, c), rest
	}
	if f.Kind == FilterNot && len(f.Children) != 1 {
		return fmt.Errorf("not has %d operands, want 1", len(f.Children))
	}
	return nil
}

// octets reads one element that must have the tag.
func octets(b []byte, want byte) (body, rest []byte, err error) {
	tag, body, rest, err := ReadElement(b)
	if err == nil && tag != want {
		err = fmt.Errorf("tag %#02x, want %#02x", tag, want)
	}
	return body, rest, err
}

func (f *Filter) parseComparison(body []byte) error {
	attr, rest, err := octets(body, tagOctetString)
	if err != nil {
		return err
	}
	value, rest, err := octets(rest, tagOctetString)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes after the assertion value", len(rest))
	}
	f.Attr, f.Value = string(attr), slices.Clone(value)
	return nil
}

func (f *Filter) parseSubstringsBER(body []byte, budget *int) error {
	attr, rest, err := octets(body, tagOctetString)
	if err != nil {
		return err
	}
	parts, rest, err := octets(rest, tagSequence)
	if err != nil {
		return err
	}
	if len(rest) != 0 || len(parts) == 0 {
		return errors.New("substrings filter without parts, or with bytes after them")
	}
	f.Attr = string(attr)
	last := -1
	for len(parts) > 0 {
		tag, v, rest, err := ReadElement(parts)
		if err != nil {
			return err
		}
		if *budget--; *budget < 0 {
			return errManyParts
		}
		n := int(tag) - contextClass
		if len(v) == 0 || n < 0 || n > 2 || last == 2 || n == 0 && last >= 0 {
			return fmt.Errorf("substring with tag %#02x and %d bytes out of place", tag, len(v))
		}
		last = n
		switch v = slices.Clone(v); n {
		case 0:
			f.Initial = v
		case 1:
			f.Any = append(f.Any, v)
		case 2:
			f.Final = v
		}
		parts = rest
	}
	return nil
}

func (f *Filter) parseExtensibleBER(body []byte) error {
	last := byte(0)
	for len(body) > 0 {
		tag, v, rest, err := ReadElement(body)
		if err != nil {
			return err
		}
		if tag <= last {
			return fmt.Errorf("extensible match with tag %#02x after %#02x", tag, last)
		}
		switch last = tag; tag {
		case contextClass | 1:
			f.Rule = string(v)
		case contextClass | 2:
			f.Attr = string(v)
		case contextClass | 3:
			f.Value = append([]byte{}, v...)
		case contextClass | 4:
			if len(v) != 1 {
				return fmt.Errorf("dnAttributes of %d bytes, want 1", len(v))
			}
			f.DNAttrs = v[0] != 0
		default:
			return fmt.Errorf("extensible match with tag %#02x", tag)
		}
		body = rest
	}
	if f.Value == nil || f.Rule == "" && f.Attr == "" ||
		f.Rule != "" && !ValidAttribute(f.Rule) || f.Attr != "" && !ValidAttribute(f.Attr) {
		return errors.New("extensible match without a value, or without rule and attribute")
	}
	return nil
}
