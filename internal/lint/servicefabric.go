package lint

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxElements bounds a manifest.
const maxElements = 50_000

// element is one of an XML file, as it opens or closes.
type element struct {
	name  string
	open  bool
	line  int
	attrs map[string]string
	text  string // what stands ahead of where it closes
}

// elements reads an XML file without building it up; entities that it defines itself are
// refused by the parser.
func elements(content []byte) ([]element, error) {
	if len(content) > MaxSize {
		return nil, errTooLarge
	}
	dec := xml.NewDecoder(bytes.NewReader(content))
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var list []element
	chars, at, counted := "", 1, int64(0)
	for len(list) < maxElements {
		at += bytes.Count(content[counted:dec.InputOffset()], []byte("\n"))
		counted = dec.InputOffset()
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return list, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			e := element{name: t.Name.Local, open: true, line: at, attrs: map[string]string{}}
			for _, a := range t.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			list, chars = append(list, e), ""
		case xml.CharData:
			chars = string(t)
		case xml.EndElement:
			list = append(list, element{name: t.Name.Local, line: at, text: strings.TrimSpace(chars)})
		}
	}
	return list, nil
}

// imageVersions are the versions of Windows of the images of a service manifest.
func imageVersions(content []byte) []string {
	list, _ := elements(content)
	var versions []string
	for _, e := range list {
		if v := imageOf(e.text).version; !e.open && e.name == "ImageName" && v != "" {
			versions = append(versions, v)
		}
	}
	return versions
}

// fabric is what an application manifest says of its containers.
type fabric struct {
	*checker
	policy     *element // the ContainerHostPolicies that is open
	named      string   // its credential spec
	defaults   map[string]string
	containers []workload
	instances  int
}

// serviceFabric checks an application manifest; a service manifest has images alone, which
// were taken from it before.
func (c *checker) serviceFabric(content []byte) {
	list, err := elements(content)
	c.unreadable("xml", err)
	f := &fabric{checker: c, defaults: map[string]string{}, instances: 1}
	for i := range list {
		e := &list[i]
		if e.open {
			f.opens(e)
		} else if e.name == "ContainerHostPolicies" && f.policy != nil {
			f.closes()
		}
	}
	for i := range f.containers {
		f.containers[i].replicas = f.instances
	}
	f.together(f.containers)
}

func (f *fabric) opens(e *element) {
	switch e.name {
	case "Parameter":
		f.defaults["["+e.attrs["Name"]+"]"] = e.attrs["DefaultValue"]
	case "ContainerHostPolicies":
		f.policy, f.named = e, ""
	case "SecurityOption":
		if strings.HasPrefix(strings.ToLower(e.attrs["Value"]), "credentialspec") {
			f.named = f.securityOpt(f.value(e.attrs["Value"]), e.line)
		}
	case "StatelessService", "StatefulService":
		f.counts(e)
	case "User":
		f.user(e)
	}
}

// value is an attribute's, or the default of the parameter that it names.
func (f *fabric) value(s string) string {
	if v, ok := f.defaults[s]; ok {
		return v
	}
	return s
}

// counts takes the number of instances: -1 is one on every node.
func (f *fabric) counts(e *element) {
	n, err := strconv.Atoi(f.value(e.attrs["InstanceCount"]))
	if err == nil && (n < 0 || n > 1) {
		f.instances = maxReplicas
	}
}

// closes judges the policy of one container.
func (f *fabric) closes() {
	p := f.policy
	f.policy = nil
	if f.named == "" {
		if !f.hasFindings() {
			f.add(p.line, Warning, "no-identity", "1:305", "the container "+p.attrs["CodePackageRef"]+" has no credential spec", `<SecurityOption Value="credentialspec=file://DOMAIN_ACCOUNT.json"/>`)
		}
		return
	}
	w := workload{
		name: p.attrs["CodePackageRef"], identity: strings.ToLower(f.named), line: p.line, hostname: f.value(p.attrs["Hostname"]), isWindows: true,
		windows: Windows{Version: f.o.Windows, HyperV: strings.EqualFold(f.value(p.attrs["Isolation"]), "hyperv")},
	}
	if w.windows.Version == "" && len(f.versions) == 1 {
		w.windows.Version = f.versions[0]
	}
	f.addFaults(p.line, Error, inYAML(w.windows.judgeIsolation()))
	f.containers = append(f.containers, w)
}

// user judges whom services without a container run as.
func (f *fabric) user(e *element) {
	name := f.value(e.attrs["AccountName"])
	switch kind := e.attrs["AccountType"]; {
	case strings.EqualFold(kind, "DomainUser"):
		f.add(e.line, Error, "static-credentials", "4:24", "the user "+name+" has a password in the manifest; a gMSA takes its place",
			fmt.Sprintf(`<User Name=%q AccountType="ManagedServiceAccount" AccountName="DOMAIN\ACCOUNT$"/>`, e.attrs["Name"]))
	case strings.EqualFold(kind, "ManagedServiceAccount") && !strings.HasSuffix(name, "$") && !strings.HasPrefix(name, "["):
		f.add(e.line, Error, "account-name", "1:305", "the account's name lacks its $", `AccountName="`+name+`$"`)
	}
}
