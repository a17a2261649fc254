package lint

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/opengmsa/opengmsa/credspec"
)

var errTooLarge = fmt.Errorf("the file is larger than %d bytes", MaxSize)

// specAccount is the account of a credential spec; empty if it cannot be read.
func specAccount(content []byte) string {
	spec, _, _ := credspec.Parse(content)
	return spec.DomainJoinConfig.MachineAccountName
}

// credSpec checks a credential spec.
func (c *checker) credSpec(content []byte) {
	var root *yaml.Node
	if docs := documents(content); len(docs) > 0 { // JSON is YAML, and that parser tells lines
		root = docs[0]
	}
	c.specFindings(content, root)
}

func (c *checker) specFindings(content []byte, root *yaml.Node) {
	_, findings, err := credspec.Parse(content)
	for _, f := range findings {
		severity := Error
		if f.Warning {
			severity = Warning
		}
		var fixes []string
		if f.Remedy != "" {
			fixes = []string{f.Remedy}
		}
		c.add(lineOfPath(root, f.Path), severity, "credential-spec", "5:73", f.Path+": "+f.Problem, fixes...)
	}
	if err != nil && len(findings) == 0 {
		c.add(line(root, nil), Error, "credential-spec", "5:73", err.Error(), "gmsa credspec create ACCOUNT")
	}
}

// embeddedSpec checks the credspec of a GMSACredentialSpec.
func (c *checker) embeddedSpec(doc *yaml.Node) {
	spec := child(doc, "credspec")
	if spec == nil {
		c.add(line(doc, nil), Error, "credential-spec", "1:321", "the GMSACredentialSpec has no credspec, which stands beside metadata and not below spec",
			"gmsa credspec convert NAME --to kubernetes")
		return
	}
	var v map[string]any
	err := spec.Decode(&v)
	var b []byte
	if err == nil {
		b, err = json.Marshal(v)
	}
	if err != nil {
		c.add(spec.Line, Error, "credential-spec", "5:73", fmt.Sprintf("the credspec cannot be read: %v", err), "gmsa credspec convert NAME --to kubernetes")
		return
	}
	c.specFindings(b, spec)
}
