package credspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/secret"
)

const (
	// MaxSize is the largest credential spec in bytes, 64 KiB: the limit that
	// Kubernetes sets for gmsaCredentialSpec.
	MaxSize = 64 << 10

	maxDepth    = 32  // of nested values; the format itself has 4
	maxAccounts = 128 // entries of GroupManagedServiceAccounts
	maxNetBIOS  = 15  // characters of a NetBIOS name
	maxQuoted   = 64  // bytes of the file's text in a message
)

// Finding is something wrong with a credential spec.
type Finding struct {
	Path    string // where: a JSON path (RFC 9535), "$" for the whole file
	Problem string // what is wrong, in words
	Remedy  string // what to do; may be empty
	Warning bool   // the spec can be used all the same
}

// String is the finding on one line. It never contains plug-in input.
func (f Finding) String() string {
	s := f.Path + ": " + f.Problem
	if f.Remedy != "" {
		s += " (" + f.Remedy + ")"
	}
	return s
}

// Error is returned for a credential spec that cannot be used. It is what
// event 3 of the CCG log reports.
type Error struct {
	Faults []Finding // at least one, none of them a warning
}

// Error lists all faults on one line.
func (e *Error) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = f.String()
	}
	return "credential spec: " + strings.Join(parts, "; ")
}

// faultsOf is an *Error of the findings that are no warnings, or nil.
func faultsOf(findings []Finding) error {
	var e Error
	for _, f := range findings {
		if !f.Warning {
			e.Faults = append(e.Faults, f)
		}
	}
	if len(e.Faults) == 0 {
		return nil
	}
	return &e
}

// reader collects findings.
type reader struct {
	findings []Finding
	tooDeep  bool
	// bad holds the paths that have a fault already, so that Check does not
	// report them again as missing.
	bad map[string]bool
}

func (r *reader) fault(path, problem, remedy string) {
	if r.bad == nil {
		r.bad = make(map[string]bool)
	}
	r.bad[path] = true
	r.findings = append(r.findings, Finding{Path: path, Problem: problem, Remedy: remedy})
}

func (r *reader) warn(path, problem, remedy string) {
	r.findings = append(r.findings, Finding{Path: path, Problem: problem, Remedy: remedy, Warning: true})
}

// Parse reads a credential spec of at most MaxSize bytes and checks it. It
// accepts keys in any order, a UTF-8 byte order mark, a missing CmsPlugins and
// a PluginInput that is an object. Fields that are not of the format are
// ignored with a warning. Findings are all that is wrong, faults and warnings,
// in the order of discovery; if one of them is a fault, the error is an
// *Error with the faults.
func Parse(b []byte) (Spec, []Finding, error) {
	r := new(reader)
	root := r.decode(b)
	if root.kind == absent {
		if len(r.findings) == 0 {
			r.fault("$", "null is not a credential spec", "")
		}
		return Spec{}, r.findings, faultsOf(r.findings)
	}
	s := r.spec(root)
	if !r.bad["$"] {
		r.check(s)
	}
	return s, r.findings, faultsOf(r.findings)
}

// spec reads the whole.
func (r *reader) spec(v value) Spec {
	var s Spec
	m := r.members(v, "$", "CmsPlugins", "DomainJoinConfig", "ActiveDirectoryConfig")
	for i, item := range r.list(m[0], "$.CmsPlugins", `"CmsPlugins": ["ActiveDirectory"]`) {
		s.CmsPlugins = append(s.CmsPlugins, r.text(item, fmt.Sprintf("$.CmsPlugins[%d]", i)))
	}
	const djc = "$.DomainJoinConfig"
	d := r.members(m[1], djc, "Sid", "MachineAccountName", "Guid", "DnsTreeName", "DnsName", "NetBiosName")
	s.DomainJoinConfig = DomainJoinConfig{
		Sid:                r.text(d[0], djc+".Sid"),
		MachineAccountName: r.text(d[1], djc+".MachineAccountName"),
		Guid:               r.text(d[2], djc+".Guid"),
		DnsTreeName:        r.text(d[3], djc+".DnsTreeName"),
		DnsName:            r.text(d[4], djc+".DnsName"),
		NetBiosName:        r.text(d[5], djc+".NetBiosName"),
	}
	const adc = "$.ActiveDirectoryConfig"
	a := r.members(m[2], adc, "GroupManagedServiceAccounts", "HostAccountConfig")
	const gmsas = adc + ".GroupManagedServiceAccounts"
	for i, item := range r.list(a[0], gmsas, `"GroupManagedServiceAccounts": [{"Name": …, "Scope": …}]`) {
		if i == maxAccounts {
			r.fault(gmsas, fmt.Sprintf("%d entries, more than %d", len(a[0].items), maxAccounts), "")
			break
		}
		path := fmt.Sprintf("%s[%d]", gmsas, i)
		if item.kind == absent {
			r.fault(path, "null, want an object", "")
		}
		e := r.members(item, path, "Name", "Scope")
		s.ActiveDirectoryConfig.GroupManagedServiceAccounts = append(s.ActiveDirectoryConfig.GroupManagedServiceAccounts,
			GroupManagedServiceAccount{r.text(e[0], path+".Name"), r.text(e[1], path+".Scope")})
	}
	if a[1].kind != absent {
		s.ActiveDirectoryConfig.HostAccountConfig = r.hostAccount(a[1], hostPath)
	}
	return s
}

const hostPath = "$.ActiveDirectoryConfig.HostAccountConfig"

// hostAccount reads the part that only portable identities have.
func (r *reader) hostAccount(v value, path string) *HostAccountConfig {
	m := r.members(v, path, "PortableCcgVersion", "PluginGUID", "PluginInput")
	if m[0].kind == number {
		r.warn(path+".PortableCcgVersion", "a number, want a string", `write "1"`)
		m[0].kind = text
	}
	h := &HostAccountConfig{
		PortableCcgVersion: r.text(m[0], path+".PortableCcgVersion"),
		PluginGUID:         r.text(m[1], path+".PluginGUID"),
	}
	if m[2].kind == object {
		var compact bytes.Buffer
		// The value came out of a valid document.
		if err := json.Compact(&compact, m[2].raw); err != nil {
			panic("credspec: compact: " + err.Error())
		}
		h.PluginInput = secret.New(compact.Bytes())
		return h
	}
	h.PluginInput = secret.New([]byte(r.text(m[2], path+".PluginInput")))
	return h
}

// members picks the members of those names out of an object, in that order;
// what is not there is absent. It reports members that are not of the format,
// spelled in another case or there twice.
func (r *reader) members(v value, path string, names ...string) []value {
	out := make([]value, len(names))
	if v.kind != object {
		if v.kind != absent {
			r.fault(path, fmt.Sprintf("%v, want an object", v.kind), "")
		}
		return out
	}
	exact := make([]bool, len(names))
	seen := make([]bool, len(names))
	for _, m := range v.members {
		i := 0
		for i < len(names) && !strings.EqualFold(m.key, names[i]) {
			i++
		}
		if i == len(names) {
			r.warn(join(path, m.key), "not a field of credential specs; ignored", "known here: "+strings.Join(names, ", "))
			continue
		}
		if m.key != names[i] {
			if seen[i] {
				r.fault(join(path, m.key), fmt.Sprintf("%s is there twice, in different spelling", names[i]), "remove one")
			} else {
				r.warn(join(path, m.key), fmt.Sprintf("spelled otherwise than %s", names[i]), "Kubernetes distinguishes the case")
			}
		} else if seen[i] && !exact[i] {
			r.fault(join(path, m.key), fmt.Sprintf("%s is there twice, in different spelling", names[i]), "remove one")
		}
		if !seen[i] || m.key == names[i] && !exact[i] {
			out[i] = m.val
		}
		seen[i], exact[i] = true, exact[i] || m.key == names[i]
	}
	return out
}

// text is the string v, or "" if it is absent or reported.
func (r *reader) text(v value, path string) string {
	if v.kind != text && v.kind != absent {
		r.fault(path, fmt.Sprintf("%v, want a string", v.kind), "")
	}
	if v.kind != text {
		return ""
	}
	return v.text
}

// list is the items of v; example shows how to write one.
func (r *reader) list(v value, path, example string) []value {
	if v.kind != array && v.kind != absent {
		r.fault(path, fmt.Sprintf("%v, want a list", v.kind), "write "+example)
	}
	return v.items
}
