package lab

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// An Entry is an object that a search of the domain's database found.
type Entry struct {
	DN    string
	attrs map[string][]string // by lower-case name
}

// Value is the attribute's first value, or nothing.
func (e Entry) Value(attr string) string {
	if v := e.Values(attr); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Values are the attribute's values, binary ones as they are.
func (e Entry) Values(attr string) []string { return e.attrs[strings.ToLower(attr)] }

// ldbSearch searches a database. Samba's own is searched as its system, whether or not
// the controller runs.
func ldbSearch(db []string, conf, base, filter string, attrs ...string) ([]Entry, error) {
	out, err := run([]string{"SMB_CONF_PATH=" + conf}, "", "ldbsearch", slices.Concat(db, []string{"-b", base, filter}, attrs)...)
	if err != nil {
		return nil, err
	}
	return parseLDIF(out)
}

// parseLDIF reads what ldbsearch prints: RFC 2849 content records, comments and referrals.
func parseLDIF(text string) ([]Entry, error) {
	text = strings.ReplaceAll(text, "\n ", "") // folded lines
	var entries []Entry
	for block := range strings.SplitSeq(text, "\n\n") {
		e := Entry{attrs: map[string][]string{}}
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			name, value, ok := strings.Cut(line, ":")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			if b64, binary := strings.CutPrefix(value, ":"); binary {
				raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(b64))
				if err != nil {
					return nil, fmt.Errorf("value of %s: %w", name, err)
				}
				value = string(raw)
			} else {
				value = strings.TrimPrefix(value, " ")
			}
			if name == "dn" {
				e.DN = value
				continue
			}
			e.attrs[strings.ToLower(name)] = append(e.attrs[strings.ToLower(name)], value)
		}
		if e.DN != "" {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
