package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// faults collects what is wrong, in the order of the file's keys.
type faults []error

func (f *faults) add(path, format string, a ...any) {
	*f = append(*f, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, a...)))
}

// absolute demands an absolute path, or none where optional.
func (f *faults) absolute(path, value string, optional bool) {
	if value == "" && optional {
		return
	}
	if !filepath.IsAbs(value) || filepath.Clean(value) != value {
		f.add(path, "%q is not an absolute path", value)
	}
}

// Validate reports all faults at once, each with its key path.
func (c Config) Validate() error {
	var f faults
	f.absolute("socket", c.Socket, false)
	f.absolute("leases.directory", c.Leases.Directory, true)
	f.absolute("leases.units", c.Leases.Units, true)
	if c.Leases.Size < 0 {
		f.add("leases.size", "%d is negative", c.Leases.Size)
	}
	c.Quotas.validate(&f)
	for i, dir := range c.CredentialSpecs {
		f.absolute(fmt.Sprintf("credential_specs[%d]", i), dir, false)
	}
	f.absolute("state_directory", c.StateDirectory, false)
	seen := map[string]string{}
	for _, name := range sortedKeys(c.Domains) {
		if other, ok := seen[strings.ToLower(name)]; ok {
			f.add("domains."+name, "is %s in another spelling", other)
		}
		seen[strings.ToLower(name)] = name
		c.Domains[name].validate(&f, name, c.Plugins)
	}
	f = append(f, plugin.Check(c.Plugins)...)
	c.Containers.validate(&f)
	c.ECS.validate(&f)
	if err := (policy.Policy{Rules: c.Rules, Containers: c.Containers.Rules, Tasks: c.ECS.Accounts}).Validate(); err != nil {
		f = append(f, err)
	}
	for _, name := range sortedKeys(c.OnRotate) {
		c.OnRotate[name].validate(&f, "on_rotate."+name)
	}
	c.EventLog.validate(&f)
	if c.Tickets.Lifetime < 0 || c.Tickets.DomainMaximum <= 0 {
		f.add("tickets", "lifetimes must be positive")
	}
	if c.Tickets.InFlight <= 0 {
		f.add("tickets.in_flight", "want at least 1")
	}
	return errors.Join(f...)
}

var userIDs = regexp.MustCompile(`^([0-9]{1,10}(:[0-9]{1,10})?)?$`)

func (c Containers) validate(f *faults) {
	f.absolute("containers.hook_socket", c.HookSocket, true)
	f.absolute("containers.hook", c.Hook, false)
	if c.CDIDirectory != "none" {
		f.absolute("containers.cdi_directory", c.CDIDirectory, false)
	}
	if c.NRISocket != "none" {
		f.absolute("containers.nri_socket", c.NRISocket, false)
	}
	if !userIDs.MatchString(c.NetworkService) {
		f.add("containers.network_service", "%q is no UID and no UID:GID", c.NetworkService)
	}
}

func (e ECS) validate(f *faults) {
	f.absolute("ecs.socket", e.Socket, true)
	f.absolute("ecs.directory", e.Directory, false)
	if e.Socket != "" && len(e.Accounts) == 0 {
		f.add("ecs.accounts", "the ECS agent may use no account: name some")
	}
	if err := (lease.Owner{UID: e.UID, GID: e.GID, Mode: fs.FileMode(e.Mode)}).Validate(); err != nil {
		f.add("ecs", "%v", err)
	}
}

func (q Quotas) validate(f *faults) {
	for _, v := range []struct {
		name string
		n    int
	}{
		{"connections", q.Connections}, {"requests", q.Requests}, {"leases", q.Leases}, {"all_leases", q.AllLeases},
	} {
		if v.n <= 0 {
			f.add("quotas."+v.name, "want at least 1")
		}
	}
	if q.RequestTimeout <= 0 {
		f.add("quotas.request_timeout", "must be positive")
	}
}

// dnsName is a domain's or a host's name; a domain has two labels or more in
// practice, but one is legal.
var dnsName = regexp.MustCompile(`^(?i)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

func (d Domain) validate(f *faults, name string, plugins map[string]Plugin) {
	path := "domains." + name
	if !dnsName.MatchString(name) || len(name) > 253 {
		f.add(path, "%q is no DNS name", name)
	}
	if !dnsName.MatchString(d.Realm) {
		f.add(path+".realm", "%q is no realm", d.Realm)
	}
	if len(d.NetBIOS) > 15 || strings.ContainsAny(d.NetBIOS, `\/:*?"<>|.@ `) {
		f.add(path+".netbios", "%q is no NetBIOS name", d.NetBIOS)
	}
	for i, s := range d.Servers {
		if s == "" || strings.ContainsAny(s, " \t\n/{}=") {
			f.add(fmt.Sprintf("%s.servers[%d]", path, i), "%q is no host name or address", s)
		}
	}
	if !slices.Contains([]string{ProtectionGSSAPI, ProtectionSPNEGO, ProtectionLDAPS, ProtectionStartTLS}, d.Protection) {
		f.add(path+".protection", "%q: want gssapi, gss-spnego, ldaps or starttls", d.Protection)
	}
	f.absolute(path+".ca", d.CA, true)
	for i, spn := range d.PrefetchSPNs {
		if !strings.Contains(spn, "/") {
			f.add(fmt.Sprintf("%s.prefetch_spns[%d]", path, i), "%q is no service principal name such as MSSQLSvc/db1.%s", spn, name)
		}
	}
	if d.Host != nil {
		d.Host.validate(f, path+".host", plugins)
	}
}

func (h Host) validate(f *faults, path string, plugins map[string]Plugin) {
	kinds := 0
	for _, s := range []string{h.Keytab, h.User, h.Plugin} {
		if s != "" {
			kinds++
		}
	}
	if kinds != 1 {
		f.add(path, "want exactly one of keytab, user and plugin, got %d", kinds)
	}
	f.absolute(path+".keytab", h.Keytab, true)
	f.absolute(path+".password_file", h.PasswordFile, true)
	if (h.User == "") != (h.PasswordFile == "") {
		f.add(path, "user and password_file go together")
	}
	if h.Plugin != "" {
		if _, ok := plugins[h.Plugin]; !ok {
			f.add(path+".plugin", "%q is not among plugins", h.Plugin)
		}
	}
	if h.Input != "" && h.Plugin == "" {
		f.add(path+".input", "goes with plugin alone")
	}
	if h.Keytab == "" && (h.Principal != "" || h.RotatePassword != "") {
		f.add(path, "principal and rotate_password go with keytab alone")
	}
	if !slices.Contains([]string{"", RotateAuto, RotateAlways, RotateNever}, h.RotatePassword) {
		f.add(path+".rotate_password", "%q: want auto, always or never", h.RotatePassword)
	}
}

func (c Command) validate(f *faults, path string) {
	if len(c.Command) == 0 {
		f.add(path+".command", "is missing")
	} else {
		f.absolute(path+".command[0]", c.Command[0], false)
	}
	if c.Timeout < 0 {
		f.add(path+".timeout", "is negative")
	}
}

func (e EventLog) validate(f *faults) {
	if e.Path != "none" {
		f.absolute("event_log.path", e.Path, false)
	}
	if e.MaxSize <= 0 || e.MaxFiles <= 0 {
		f.add("event_log", "max_size and max_files must be positive")
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// unknownKeys lists the keys of a document that no field of [Config] takes,
// each with its path and line. The decoder could refuse them too, but names
// neither the path nor more than the Go type.
func unknownKeys(doc *yaml.Node) []error {
	var f faults
	for _, n := range doc.Content {
		walk(&f, n, reflect.TypeFor[Config](), "")
	}
	return f
}

// walk compares a node with the type that it will be decoded into. A node of
// the wrong kind is left to the decoder.
func walk(f *faults, n *yaml.Node, t reflect.Type, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for i, item := range n.Content {
			walk(f, item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for i := 0; i+1 < len(n.Content); i += 2 {
			walk(f, n.Content[i+1], t.Elem(), join(path, n.Content[i].Value))
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		known := fieldsOf(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			field, ok := known[key.Value]
			if !ok {
				f.add(join(path, key.Value), "unknown key in line %d; known are %s", key.Line, strings.Join(sortedKeys(known), ", "))
				continue
			}
			walk(f, n.Content[i+1], field, join(path, key.Value))
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fieldsOf maps the keys of a struct to the types of their fields; an inlined
// struct's are its own.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if options == "inline" {
			maps.Copy(fields, fieldsOf(field.Type))
		} else if name != "" && name != "-" {
			fields[name] = field.Type
		}
	}
	return fields
}
