package lint

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// podAnnotation is by which a pod of Linux names its credential spec to the guard.
const podAnnotation = "dev.gmsa.credentialspec"

// alphaAnnotations were those of Kubernetes 1.14 and 1.15; since 1.16 nothing reads them.
const alphaAnnotations = "alpha.windows.kubernetes.io/gmsa-credential-spec"

// kubernetes checks manifests.
func (c *checker) kubernetes(content []byte) {
	docs, err := parseYAML(content)
	c.unreadable("yaml", err)
	workloads, withIdentity, first := 0, 0, (*yaml.Node)(nil)
	for _, doc := range docs {
		for _, object := range append([]*yaml.Node{doc}, items(child(doc, "items"))...) {
			if text(child(object, "kind")) == "GMSACredentialSpec" {
				c.embeddedSpec(object)
				continue
			}
			if meta, spec := podOf(object); spec != nil {
				workloads++
				if first == nil {
					first = spec
				}
				if c.pod(object, meta, spec) {
					withIdentity++
				}
			}
		}
	}
	if workloads > 0 && withIdentity == 0 && !c.hasFindings() {
		c.add(first.Line, Warning, "no-identity", "1:321", "no pod has a credential spec: none runs as a gMSA",
			"securityContext: {windowsOptions: {gmsaCredentialSpecName: NAME}}", "metadata: {annotations: {"+podAnnotation+": NAME}}  # Linux, by the guard")
	}
}

// podOf is the pod that an object is, or makes: its metadata and spec.
func podOf(object *yaml.Node) (meta, spec *yaml.Node) {
	switch text(child(object, "kind")) {
	case "Pod":
		return child(object, "metadata"), child(object, "spec")
	case "CronJob":
		object = child(object, "spec", "jobTemplate")
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job":
	default:
		return nil, nil
	}
	return child(object, "spec", "template", "metadata"), child(object, "spec", "template", "spec")
}

// pod checks one, and says whether it has an identity.
func (c *checker) pod(object, meta, spec *yaml.Node) bool {
	for _, p := range pairs(child(meta, "annotations")) {
		if strings.Contains(p.key.Value, alphaAnnotations) {
			c.add(p.key.Line, Error, "alpha-annotation", "1:321", "annotations named the credential spec in Kubernetes 1.14 and 1.15 only: nothing reads this one",
				"securityContext: {windowsOptions: {gmsaCredentialSpecName: NAME}}")
		}
	}
	containers := slices.Concat(items(child(spec, "containers")), items(child(spec, "initContainers")))
	byWindows, version := c.windowsPod(spec, containers)
	byGuard := slices.ContainsFunc(pairs(child(meta, "annotations")), func(p pair) bool {
		return strings.HasPrefix(p.key.Value, podAnnotation)
	})
	if byGuard {
		for _, container := range containers {
			c.podLinux(container)
		}
	}
	if byWindows != nil {
		c.podOS(spec, byWindows)
		c.podReplicas(object, spec, byWindows, version)
	}
	return byWindows != nil || byGuard
}

// windowsPod judges the windowsOptions of a pod and its containers. It returns the node that
// names the first credential spec, nil without one, and the images' version.
func (c *checker) windowsPod(spec *yaml.Node, containers []*yaml.Node) (named *yaml.Node, version string) {
	ofPod := child(spec, "securityContext", "windowsOptions")
	named = gmsaOption(ofPod)
	for _, container := range containers {
		if v := imageOf(text(child(container, "image"))).version; v != "" {
			version = v
		}
		if n := gmsaOption(child(container, "securityContext", "windowsOptions")); named == nil {
			named = n
		}
	}
	if named == nil {
		return nil, version
	}
	version = c.version(version)
	for _, owner := range append([]*yaml.Node{spec}, containers...) {
		if user := child(owner, "securityContext", "windowsOptions", "runAsUserName"); user != nil {
			faults := Windows{Version: version, User: text(user)}.judgeUser()
			for i := range faults {
				faults[i].Fixes = []string{`runAsUserName: 'NT AUTHORITY\NETWORK SERVICE'`}
			}
			c.addFaults(user.Line, Error, faults)
		}
	}
	return named, version
}

// gmsaOption is the node that names or holds a credential spec.
func gmsaOption(options *yaml.Node) *yaml.Node {
	for _, key := range []string{"gmsaCredentialSpecName", "gmsaCredentialSpec"} {
		if n := child(options, key); text(n) != "" {
			return n
		}
	}
	return nil
}

// podOS wants a pod of Windows on nodes of Windows.
func (c *checker) podOS(spec, named *yaml.Node) {
	name, selector := child(spec, "os", "name"), child(spec, "nodeSelector", "kubernetes.io/os")
	for _, n := range []*yaml.Node{name, selector} {
		if n != nil && text(n) != "windows" {
			c.add(n.Line, Error, "pod-os", "1:321", "windowsOptions do nothing on "+text(n)+": the pod has no identity",
				"metadata: {annotations: {"+podAnnotation+": NAME}}", "kubernetes.io/os: windows")
			return
		}
	}
	if name == nil && selector == nil && child(spec, "affinity") == nil {
		c.add(named.Line, Warning, "pod-os", "1:321", "nothing keeps the pod on nodes of Windows", "nodeSelector: {kubernetes.io/os: windows}")
	}
}

// podReplicas applies the rules about several containers of one account.
func (c *checker) podReplicas(object, spec, named *yaml.Node, version string) {
	w := workload{
		name: text(child(object, "metadata", "name")), identity: strings.ToLower(text(named)), line: named.Line, replicas: 1,
		hostname: text(child(spec, "hostname")), isWindows: true, windows: Windows{Version: version},
	}
	if n := child(object, "spec", "replicas"); n != nil {
		w.replicas, w.line = number(n), n.Line
	}
	if n := child(spec, "hostname"); n != nil {
		w.line = n.Line
	}
	c.group([]workload{w})
}

// podLinux looks for what hides a lease.
func (c *checker) podLinux(container *yaml.Node) {
	for _, e := range items(child(container, "env")) {
		c.variable(e.Line, text(child(e, "name")), text(child(e, "value")))
	}
	for _, m := range items(child(container, "volumeMounts")) {
		c.mount(m.Line, text(child(m, "mountPath")))
	}
}
