package directory

import (
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// selection is which attributes a search gives of each entry: RFC 4511, Section 4.5.1.8.
type selection struct {
	user, operational bool
	list              []wanted
}

// wanted is one attribute that was asked for by its name.
type wanted struct {
	*schema.Attribute
	// name is how it is answered: as the schema spells it, with the option binary where
	// the client gave that, without a range.
	name string
	// low and high are the range that was asked for, high negative for "*": [MS-ADTS]
	// 3.1.1.3.1.3.3.
	low, high int
	ranged    bool
}

// selection reads the attributes of a request. Unknown ones, and unknown options, name
// nothing that an entry has.
func (d *Directory) selection(attributes []string) selection {
	s := selection{user: len(attributes) == 0}
	for _, text := range attributes {
		switch text {
		case "*":
			s.user = true
		case "+":
			s.operational = true
		default:
			if w, ok := d.wanted(text); ok && !s.has(w) {
				s.list = append(s.list, w)
			}
		}
	}
	return s
}

// has reports whether the attribute is in the list already: two ranges of one are two.
func (s *selection) has(w wanted) bool { return slices.Contains(s.list, w) }

// names reports whether the attribute was asked for by its name.
func (s *selection) names(a *schema.Attribute) bool {
	return slices.ContainsFunc(s.list, func(w wanted) bool { return w.Attribute == a })
}

func (d *Directory) wanted(text string) (w wanted, ok bool) {
	name, options, _ := strings.Cut(text, ";")
	if w.Attribute, ok = d.cfg.Schema.Attribute(name); !ok {
		return w, false
	}
	w.name = w.Name
	for options != "" {
		var option string
		option, options, _ = strings.Cut(options, ";")
		switch {
		case strings.EqualFold(option, "binary"):
			w.name += ";binary"
		case len(option) > len("range=") && strings.EqualFold(option[:len("range=")], "range=") && !w.ranged:
			if !w.parseRange(option[len("range="):]) {
				return w, false
			}
		default:
			return w, false
		}
	}
	return w, true
}

// parseRange reads low-high; both count from 0, and high may be "*".
func (w *wanted) parseRange(s string) bool {
	low, high, ok := strings.Cut(s, "-")
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(low, 10, 31)
	if err != nil {
		return false
	}
	w.low, w.high, w.ranged = int(n), -1, true
	if high == "*" {
		return true
	}
	n, err = strconv.ParseUint(high, 10, 31)
	w.high = int(n)
	return err == nil && w.high >= w.low
}
