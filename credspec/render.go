package credspec

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// Render is s as a file: the keys in the order of Microsoft's guides, four
// spaces a level, LF, a final newline, every value a string, and ASCII alone,
// which any reader's encoding agrees on. HostAccountConfig is left out if s
// has none. The result holds the plug-in input in clear.
func (s Spec) Render() []byte {
	var w writer
	w.open("{")
	w.key("CmsPlugins").open("[")
	for _, p := range s.CmsPlugins {
		w.item().string(p)
	}
	w.close("]")
	d := s.DomainJoinConfig
	w.key("DomainJoinConfig").object(
		"Sid", d.Sid,
		"MachineAccountName", d.MachineAccountName,
		"Guid", d.Guid,
		"DnsTreeName", d.DnsTreeName,
		"DnsName", d.DnsName,
		"NetBiosName", d.NetBiosName,
	)
	w.key("ActiveDirectoryConfig").open("{")
	w.key("GroupManagedServiceAccounts").open("[")
	for _, e := range s.ActiveDirectoryConfig.GroupManagedServiceAccounts {
		w.item().object("Name", e.Name, "Scope", e.Scope)
	}
	w.close("]")
	if h := s.ActiveDirectoryConfig.HostAccountConfig; h != nil {
		w.key("HostAccountConfig").object(
			"PortableCcgVersion", h.PortableCcgVersion,
			"PluginGUID", h.PluginGUID,
			"PluginInput", string(h.PluginInput.Reveal()),
		)
	}
	w.close("}")
	w.close("}")
	return append(w.b, '\n')
}

// writer writes indented JSON.
type writer struct {
	b     []byte
	depth int
	empty bool // the innermost object or list has nothing in it yet
}

func (w *writer) open(bracket string) {
	w.b = append(w.b, bracket...)
	w.depth++
	w.empty = true
}

func (w *writer) close(bracket string) {
	w.depth--
	if !w.empty {
		w.newline()
	}
	w.b = append(w.b, bracket...)
	w.empty = false
}

func (w *writer) newline() {
	w.b = append(w.b, '\n')
	w.b = append(w.b, strings.Repeat("    ", w.depth)...)
}

// item begins the next item of a list.
func (w *writer) item() *writer {
	if !w.empty {
		w.b = append(w.b, ',')
	}
	w.newline()
	w.empty = false
	return w
}

// key begins the next member of an object.
func (w *writer) key(name string) *writer {
	w.item().string(name)
	w.b = append(w.b, ": "...)
	return w
}

// object writes an object of strings, given as names and values in turn.
func (w *writer) object(pairs ...string) {
	w.open("{")
	for i := 0; i < len(pairs); i += 2 {
		w.key(pairs[i]).string(pairs[i+1])
	}
	w.close("}")
}

// string writes a string in ASCII (RFC 8259, Section 7). What is not UTF-8
// becomes U+FFFD.
func (w *writer) string(s string) {
	w.b = append(w.b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', byte(c))
		case c >= 0x20 && c < 0x7f:
			w.b = append(w.b, byte(c))
		default:
			for _, u := range utf16.AppendRune(nil, c) {
				w.b = fmt.Appendf(w.b, `\u%04x`, u)
			}
		}
	}
	w.b = append(w.b, '"')
}
