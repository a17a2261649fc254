package lint

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/opengmsa/opengmsa/credspec"
)

// maxReplicas is how many containers of one service are looked at: two are as many as a
// thousand to the rules.
const maxReplicas = 2

// workload is what is started several times, or beside others, as one account.
type workload struct {
	name      string
	identity  string // the reference to the credential spec, in lower case
	line      int
	hostname  string
	replicas  int
	isWindows bool // or else it is not known
	windows   Windows
}

// compose checks a Compose file.
func (c *checker) compose(content []byte) {
	docs, err := parseYAML(content)
	c.unreadable("yaml", err)
	for _, doc := range docs {
		var list []workload
		services := pairs(child(doc, "services"))
		for _, s := range services {
			if w, ok := c.composeService(s.key, s.value); ok {
				list = append(list, w)
			}
		}
		if len(list) == 0 && len(services) > 0 && !c.hasFindings() {
			c.add(services[0].key.Line, Warning, "no-identity", "1:305", "no service has a credential spec: none runs as a gMSA",
				"credential_spec: {file: DOMAIN_ACCOUNT.json}", "devices: [gmsa.dev/credentialspec=NAME]  # Linux, by CDI")
		}
		c.together(list)
	}
}

// hasFindings reports whether something was found in this file.
func (c *checker) hasFindings() bool { return c.ofFile > 0 }

// composeService checks one service, and says whether it has an identity.
func (c *checker) composeService(key, service *yaml.Node) (workload, bool) {
	identity, at := c.composeIdentity(service)
	if identity == "" {
		return workload{}, false
	}
	img := imageOf(text(child(service, "image")))
	isolation := strings.ToLower(text(child(service, "isolation")))
	platform := strings.ToLower(text(child(service, "platform")))
	w := workload{
		name: key.Value, identity: strings.ToLower(identity), line: at, hostname: text(child(service, "hostname")), replicas: 1,
		isWindows: img.windows || isolation != "" || strings.HasPrefix(platform, "windows"),
		windows:   Windows{Version: c.version(img.version), HyperV: isolation == "hyperv", User: text(child(service, "user"))},
	}
	for _, n := range []*yaml.Node{child(service, "scale"), child(service, "deploy", "replicas")} {
		if n != nil {
			w.replicas = number(n)
		}
	}
	if n := child(service, "hostname"); n != nil {
		w.line = n.Line
	}
	if w.isWindows || strings.HasPrefix(serviceUser(w.windows.User), "container") {
		c.addFaults(line(child(service, "user"), key), Error, inYAML(w.windows.judgeUser()))
		c.addFaults(line(child(service, "isolation"), key), Error, inYAML(w.windows.judgeIsolation()))
	}
	c.composeLinux(service)
	return w, true
}

// version is that of the container host: as given, or of the image.
func (c *checker) version(ofImage string) string {
	if c.o.Windows != "" {
		return c.o.Windows
	}
	return ofImage
}

// composeIdentity is the reference to the service's credential spec, and its line; empty
// without one. It may be written in four places.
func (c *checker) composeIdentity(service *yaml.Node) (string, int) {
	spec := child(service, "credential_spec")
	for _, key := range []string{"file", "config", "registry"} {
		if v := child(spec, key); text(v) != "" {
			return strings.TrimPrefix(text(v), key+"://"), v.Line
		}
	}
	if spec != nil {
		c.add(spec.Line, Error, "credential-spec-reference", "1:305", "credential_spec names no file, config or registry", "credential_spec: {file: DOMAIN_ACCOUNT.json}")
		return "", 0
	}
	for _, opt := range items(child(service, "security_opt")) {
		if strings.HasPrefix(strings.ToLower(opt.Value), "credentialspec") {
			return c.securityOpt(opt.Value, opt.Line), opt.Line
		}
	}
	for _, d := range items(child(service, "devices")) {
		if name, ok := strings.CutPrefix(text(d), "gmsa.dev/credentialspec="); ok {
			name, _, _ = strings.Cut(name, ":")
			return name, d.Line
		}
	}
	for _, v := range items(child(service, "volumes")) {
		if source, target := volume(v); strings.HasSuffix(source, ".json") && (target == leasePath || target == leasePath+"/keytab") {
			return source, v.Line
		}
	}
	return "", 0
}

// securityOpt is the reference of a --security-opt; it is checked as Docker checks it.
func (c *checker) securityOpt(opt string, at int) string {
	ref, err := credspec.ParseSecurityOpts([]string{opt}, false)
	if err != nil {
		c.add(at, Error, "credential-spec-reference", "5:153", err.Error(), "credentialspec=file://DOMAIN_ACCOUNT.json")
		return ""
	}
	return ref.Value
}

// volume is source and target of a volume, in either form.
func volume(v *yaml.Node) (source, target string) {
	if v.Kind == yaml.MappingNode {
		return text(child(v, "source")), text(child(v, "target"))
	}
	parts := strings.Split(text(v), ":")
	if len(parts) < 2 {
		return "", text(v)
	}
	return parts[0], parts[1]
}

// composeLinux looks for what hides a lease.
func (c *checker) composeLinux(service *yaml.Node) {
	env := child(service, "environment")
	for _, p := range pairs(env) {
		c.variable(p.key.Line, p.key.Value, text(p.value))
	}
	for _, item := range items(env) {
		if name, value, ok := strings.Cut(text(item), "="); ok {
			c.variable(item.Line, name, value)
		}
	}
	for _, v := range items(child(service, "volumes")) {
		if source, target := volume(v); !strings.HasSuffix(source, ".json") {
			c.mount(v.Line, target)
		}
	}
	for _, v := range items(child(service, "tmpfs")) {
		target, _, _ := strings.Cut(text(v), ":")
		c.mount(v.Line, target)
	}
}

// unreadable notes why a file cannot be read to its end, in the line that its parser names.
func (c *checker) unreadable(rule string, err error) {
	if err == nil {
		return
	}
	at := 1
	if m := lineInError.FindStringSubmatch(err.Error()); m != nil {
		at, _ = strconv.Atoi(m[1]) // six digits at most
	}
	c.add(at, Error, rule, "", "it cannot be read: "+err.Error())
}

var lineInError = regexp.MustCompile(`line (\d{1,6})`)

// together judges what runs at the same time as one account.
func (c *checker) together(list []workload) {
	done := map[string]bool{}
	for _, w := range list {
		if done[w.identity] {
			continue
		}
		done[w.identity] = true
		var group []workload
		for _, other := range list {
			if other.identity == w.identity {
				group = append(group, other)
			}
		}
		c.group(group)
	}
}

// group judges the host names of the containers of one account. Where nothing says that
// they are Windows', a fault is a warning: the rules are those of NETLOGON in Windows.
func (c *checker) group(group []workload) {
	together := Windows{}
	severity, at := Warning, group[0].line
	for _, w := range group {
		if w.isWindows || c.o.Windows != "" {
			severity = Error
		}
		if together.Version == "" {
			together.Version = w.windows.Version
		}
		for range min(w.replicas, maxReplicas) {
			together.Hostnames = append(together.Hostnames, w.hostname)
		}
		if w.hostname != "" || w.replicas > 1 {
			at = w.line
		}
	}
	account := c.accountOf(group[0].identity)
	faults := inYAML(together.judgeHostnames(account))
	slices.SortStableFunc(faults, func(a, b Fault) int { return strings.Compare(a.Problem, b.Problem) })
	faults = slices.CompactFunc(faults, func(a, b Fault) bool { return a.Problem == b.Problem })
	if len(group) > 1 {
		var names []string
		for _, w := range group {
			names = append(names, w.name)
		}
		for i := range faults {
			faults[i].Problem += " (" + strings.Join(names, ", ") + ")"
		}
	}
	c.addFaults(at, severity, faults)
}

// inYAML has the fixes in the words of Compose files and manifests in place of docker run's.
func inYAML(faults []Fault) []Fault {
	spelling := strings.NewReplacer("--hostname ", "hostname: ", "leave --hostname out", "leave hostname out", "--isolation=", "isolation: ",
		userLine+"  # in the Dockerfile, or docker run --user", `user: 'NT AUTHORITY\NETWORK SERVICE'`)
	for _, f := range faults {
		for i, fix := range f.Fixes {
			f.Fixes[i] = spelling.Replace(fix)
		}
	}
	return faults
}
