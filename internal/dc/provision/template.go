package provision

import (
	_ "embed" // the objects
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

//go:embed objects.ldif
var objectTemplate string

//go:embed groups.tsv
var groupTable string

//go:embed rights.tsv
var rightTable string

// object is an object as the tables have it: values are text, descriptors SDDL.
type object struct {
	dn         adproto.DN
	attributes []attribute
}

type attribute struct{ name, value string }

func (o *object) add(name, value string) { o.attributes = append(o.attributes, attribute{name, value}) }

// value is the first value of an attribute.
func (o object) value(name string) string {
	for _, a := range o.attributes {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// domainObjects are all objects of the tables, parents first.
func domainObjects(d directory.Domain, variables *strings.Replacer) ([]object, error) {
	objects, err := parseTemplate(variables.Replace(objectTemplate))
	if err != nil {
		return nil, err
	}
	groups, err := groupObjects(d)
	if err != nil {
		return nil, err
	}
	return append(append(objects, groups...), rightObjects(d)...), nil
}

// parseTemplate reads entries of RFC 2849 without base64 and changes.
func parseTemplate(text string) ([]object, error) {
	var objects []object
	text = strings.ReplaceAll(text, "\n ", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok || name != "dn" && len(objects) == 0 {
			return nil, fmt.Errorf("template: no attribute in %q", line)
		}
		if name == "dn" {
			dn, err := adproto.ParseDN(value)
			if err != nil {
				return nil, fmt.Errorf("template: %w", err)
			}
			objects = append(objects, object{dn: dn})
			continue
		}
		objects[len(objects)-1].add(name, value)
	}
	return objects, nil
}

func tableRows(table string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(table) {
			if line[0] != '#' && !yield(strings.Split(strings.TrimSuffix(line, "\n"), "\t")) {
				return
			}
		}
	}
}

// scope is groupType by the name that groups.tsv has for it.
func scope(name string) (adproto.GroupType, error) {
	switch name {
	case "builtin":
		return adproto.GroupSecurity | adproto.GroupDomainLocal | adproto.GroupBuiltin, nil
	case "local":
		return adproto.GroupSecurity | adproto.GroupDomainLocal, nil
	case "global":
		return adproto.GroupSecurity | adproto.GroupGlobal, nil
	case "universal":
		return adproto.GroupSecurity | adproto.GroupUniversal, nil
	}
	return 0, fmt.Errorf("no scope %q", name)
}

// groupObjects are the groups, and the foreign security principals that are members of
// them.
func groupObjects(d directory.Domain) ([]object, error) {
	users := adproto.NewDN("CN", "Users", d.DN())
	builtin := adproto.NewDN("CN", "Builtin", d.DN())
	foreign := adproto.NewDN("CN", "ForeignSecurityPrincipals", d.DN())
	var objects, principals []object
	seen := map[string]bool{}
	for f := range tableRows(groupTable) {
		typ, err := scope(f[1])
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", f[0], err)
		}
		rid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", f[0], err)
		}
		o := object{dn: adproto.NewDN("CN", f[0], users)}
		sid := d.SID
		if typ&adproto.GroupBuiltin != 0 {
			o.dn, sid = adproto.NewDN("CN", f[0], builtin), dtyp.Builtin
			o.add("systemFlags", "-1946157056")
		}
		o.add("objectClass", "group")
		o.add("sAMAccountName", f[0])
		o.add("objectSid", sid.Child(uint32(rid)).String())
		o.add("groupType", strconv.Itoa(int(int32(typ))))
		o.add("isCriticalSystemObject", "TRUE")
		o.add("showInAdvancedViewOnly", "FALSE")
		if f[3] == "A" {
			o.add("adminCount", "1")
		}
		for _, m := range members(f[4]) {
			if !strings.HasPrefix(m, "S-1-") {
				o.add("member", m)
				continue
			}
			dn := adproto.NewDN("CN", m, foreign)
			o.add("member", dn.String())
			if !seen[m] {
				seen[m] = true
				principals = append(principals, object{dn: dn, attributes: []attribute{
					{"objectClass", "foreignSecurityPrincipal"}, {"objectSid", m}}})
			}
		}
		objects = append(objects, o)
	}
	return append(principals, objects...), nil
}

func members(list string) []string {
	if list == "-" {
		return nil
	}
	return strings.Split(list, ",")
}

// rightObjects are the control access rights, by which tools name what descriptors grant.
func rightObjects(d directory.Domain) (objects []object) {
	parent := adproto.NewDN("CN", "Extended-Rights", d.ConfigurationDN())
	for f := range tableRows(rightTable) {
		o := object{dn: adproto.NewDN("CN", f[0], parent), attributes: []attribute{
			{"objectClass", "controlAccessRight"}, {"rightsGuid", f[1]}, {"validAccesses", f[2]}, {"displayName", f[3]}}}
		for class := range strings.SplitSeq(f[4], ",") {
			o.add("appliesTo", class)
		}
		objects = append(objects, o)
	}
	return objects
}
