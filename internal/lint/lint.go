// Package lint reads the files that containers are made and started from, and says what in
// them would not use a group Managed Service Account, with the line to write instead:
// Dockerfiles, Compose files, manifests of Kubernetes and of Service Fabric, and
// credential specs.
//
// It looks at text and asks nobody: whether accounts and controllers are in order is
// what package doctor finds out, which applies the rules for Windows from here.
// Everything it reads may be hostile; sizes have limits, and nothing named in a file is
// opened.
//
// Start with [Check].
package lint

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// MaxSize is the largest file that is read, in bytes: manifests are smaller by far.
const MaxSize = 1 << 20

// maxFindings bounds what is said of one file.
const maxFindings = 200

// Kind is what a file is.
type Kind string

// The kinds of files.
const (
	Dockerfile    Kind = "Dockerfile"
	Compose       Kind = "Compose"
	Kubernetes    Kind = "Kubernetes"
	ServiceFabric Kind = "Service Fabric"
	CredSpec      Kind = "credential spec"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Dockerfile, Compose, Kubernetes, ServiceFabric, CredSpec} }

// Severity says whether the account would not be used.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the account is not used, or fails now and then
	Warning Severity = "warning" // it depends on what the file does not say
)

// Finding is one thing to change.
type Finding struct {
	File     string   `json:"file"`
	Line     int      `json:"line"` // from 1
	Severity Severity `json:"severity"`
	// Rule is the name of what was looked at; it does not change.
	Rule    string `json:"rule"`
	Problem string `json:"problem"`
	// Fixes are lines to write instead; the first is the simplest.
	Fixes []string `json:"fixes,omitempty"`
	// Guide is where the guides advise it, as document and line of docs/coverage.md.
	Guide string `json:"guide,omitempty"`
}

// File is what is looked at. Its name is for people, and says what it may be.
type File struct {
	Name    string
	Content []byte
}

// Options are what files do not say.
type Options struct {
	// Windows is the version of the container host, one of [WindowsVersions]; empty
	// takes it from the images' tags.
	Windows string
	// Account is the account's name; empty takes it from the credential spec's.
	Account string
}

// Report is what was found in some files.
type Report struct {
	// Files are those that were understood, with their kinds.
	Files    []Checked `json:"files"`
	Findings []Finding `json:"findings"`
}

// Checked is a file that was looked at.
type Checked struct {
	File string `json:"file"`
	Kind Kind   `json:"kind"`
}

// Errors is how many findings are errors.
func (r Report) Errors() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// checker is one run over some files.
type checker struct {
	o        Options
	accounts map[string]string // of credential specs among the files, by base name
	versions []string          // of Windows, in images of Service Fabric's service manifests
	file     string
	ofFile   int // findings of that file
	findings []Finding
}

// Check looks at files, together: the credential specs among them tell the accounts, the
// service manifests the images. Files of no known kind are left out.
func Check(files []File, o Options) Report {
	c := &checker{o: o, accounts: map[string]string{}}
	var r Report
	for _, f := range files {
		if kind, ok := KindOf(f); ok {
			r.Files = append(r.Files, Checked{f.Name, kind})
			c.collect(f, kind)
		}
	}
	for _, f := range files {
		kind, ok := KindOf(f)
		if !ok {
			continue
		}
		c.file, c.ofFile = f.Name, 0
		switch kind {
		case Dockerfile:
			c.dockerfile(f.Content)
		case Compose:
			c.compose(f.Content)
		case Kubernetes:
			c.kubernetes(f.Content)
		case ServiceFabric:
			c.serviceFabric(f.Content)
		case CredSpec:
			c.credSpec(f.Content)
		}
	}
	slices.SortStableFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Severity, b.Severity))
	})
	r.Findings = c.findings
	return r
}

// collect takes from a file what others are judged by.
func (c *checker) collect(f File, kind Kind) {
	switch kind {
	case CredSpec:
		if name := specAccount(f.Content); name != "" {
			c.accounts[strings.ToLower(path.Base(strings.ReplaceAll(f.Name, `\`, "/")))] = name
		}
	case ServiceFabric:
		c.versions = append(c.versions, imageVersions(f.Content)...)
	}
}

// add notes a finding.
func (c *checker) add(line int, severity Severity, rule, guide, problem string, fixes ...string) {
	if c.ofFile++; c.ofFile <= maxFindings {
		c.findings = append(c.findings, Finding{c.file, max(line, 1), severity, rule, problem, fixes, guide})
	}
}

// addFaults notes what the rules for Windows say.
func (c *checker) addFaults(line int, severity Severity, faults []Fault) {
	for _, f := range faults {
		problem := f.Problem
		if f.Evidence != "" {
			problem += ": " + f.Evidence
		}
		c.add(line, severity, f.Rule, f.Guide, problem, f.Fixes...)
	}
}

// accountOf is the name of the account that a reference to a credential spec means: the one
// that was given, that of the spec among the files, or the one that the file's name ends
// with, as CredentialSpec's cmdlets call it (domain_account.json). Empty if it is none of them.
func (c *checker) accountOf(reference string) string {
	if c.o.Account != "" {
		return bareName(c.o.Account)
	}
	name := strings.ToLower(path.Base(strings.ReplaceAll(reference, `\`, "/")))
	if account, ok := c.accounts[name]; ok {
		return bareName(account)
	}
	name = strings.TrimSuffix(name, ".json")
	if _, account, ok := strings.Cut(name, "_"); ok {
		return bareName(account)
	}
	return ""
}

// KindOf is what a file is, by its name and by what it has.
func KindOf(f File) (Kind, bool) {
	name := strings.ToLower(path.Base(strings.ReplaceAll(f.Name, `\`, "/")))
	text := bytes.TrimSpace(bytes.TrimPrefix(f.Content, []byte("\ufeff")))
	switch {
	case name == "dockerfile" || name == "containerfile" || strings.HasPrefix(name, "dockerfile.") || strings.HasSuffix(name, ".dockerfile"):
		return Dockerfile, true
	case bytes.HasPrefix(text, []byte("<")) && (bytes.Contains(text, []byte("<ApplicationManifest")) || bytes.Contains(text, []byte("<ServiceManifest"))):
		return ServiceFabric, true
	case bytes.HasPrefix(text, []byte("{")) && bytes.Contains(text, []byte(`"apiVersion"`)):
		return Kubernetes, true
	case bytes.HasPrefix(text, []byte("{")) && (bytes.Contains(text, []byte("CmsPlugins")) || bytes.Contains(text, []byte("DomainJoinConfig"))):
		return CredSpec, true
	}
	if kind, ok := kindOfYAML(f.Content); ok {
		return kind, true
	}
	if composeName.MatchString(name) {
		return Compose, true
	}
	return "", false
}

// composeName are the names that Compose looks for by itself: what is called so is one even
// where it cannot be read.
var composeName = regexp.MustCompile(`^(docker-)?compose(\.[\w-]+)?\.ya?ml$`)

// kindOfYAML tells Compose files from manifests, and, as the last guess, a Dockerfile that has
// another name.
func kindOfYAML(content []byte) (Kind, bool) {
	for _, doc := range documents(content) {
		switch {
		case child(doc, "apiVersion") != nil && child(doc, "kind") != nil:
			return Kubernetes, true
		case child(doc, "services") != nil:
			return Compose, true
		}
	}
	for _, in := range readDockerfile(content).instructions {
		switch in.name {
		case "FROM":
			return Dockerfile, true
		case "ARG":
		default:
			return "", false
		}
	}
	return "", false
}

// UnknownKind says of a file of no known kind which kinds there are.
func UnknownKind(name string) error {
	var kinds []string
	for _, k := range Kinds() {
		kinds = append(kinds, string(k))
	}
	return fmt.Errorf("%s is none of: %s", name, strings.Join(kinds, ", "))
}
