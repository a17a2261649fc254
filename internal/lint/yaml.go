package lint

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDocuments bounds the documents of one file.
const maxDocuments = 1000

// documents are the roots of a YAML file; those behind a fault are left out.
func documents(content []byte) []*yaml.Node {
	list, _ := parseYAML(content)
	return list
}

// parseYAML reads all documents, up to the first fault.
func parseYAML(content []byte) ([]*yaml.Node, error) {
	if len(content) > MaxSize {
		return nil, errTooLarge
	}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	var list []*yaml.Node
	for len(list) < maxDocuments {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			if errors.Is(err, io.EOF) {
				return list, nil
			}
			return list, err
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			list = append(list, doc.Content[0])
		}
	}
	return list, nil
}

// resolve follows aliases, a few times at most: they may lead in a circle.
func resolve(n *yaml.Node) *yaml.Node {
	for range 10 {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// child is the value of a path of keys; nil where there is none. Keys that are merged in
// by << count after a mapping's own.
func child(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		n = lookup(n, key, 0)
	}
	return n
}

func lookup(n *yaml.Node, key string, depth int) *yaml.Node {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode || depth > 10 {
		return nil
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k := n.Content[i]; {
		case k.Value == key:
			return resolve(n.Content[i+1])
		case k.Value == "<<":
			merged = append(merged, n.Content[i+1])
		}
	}
	for _, m := range merged {
		if found := lookup(m, key, depth+1); found != nil {
			return found
		}
	}
	return nil
}

// text is a scalar's value; empty for what is none.
func text(n *yaml.Node) string {
	if n = resolve(n); n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// line is where a node stands, else where another does.
func line(n, otherwise *yaml.Node) int {
	switch {
	case n != nil:
		return n.Line
	case otherwise != nil:
		return otherwise.Line
	}
	return 1
}

// pair is a key of a mapping and its value.
type pair struct{ key, value *yaml.Node }

// pairs are a mapping's keys and values, in their order; items are those of a sequence.
func pairs(n *yaml.Node) []pair {
	if n = resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var found []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		found = append(found, pair{n.Content[i], resolve(n.Content[i+1])})
	}
	return found
}

func items(n *yaml.Node) []*yaml.Node {
	if n = resolve(n); n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	list := make([]*yaml.Node, 0, len(n.Content))
	for _, item := range n.Content {
		if item = resolve(item); item != nil {
			list = append(list, item)
		}
	}
	return list
}

// number is a scalar's, or 1: how many containers there are.
func number(n *yaml.Node) int {
	if v, err := strconv.Atoi(text(n)); err == nil {
		return v
	}
	return 1
}

// lineOfPath is the line of a JSON path such as $.CmsPlugins[0] below n; where a part is
// missing, that of the last that is there.
func lineOfPath(n *yaml.Node, jsonPath string) int {
	n = resolve(n)
	if n == nil {
		return 1
	}
	at := n.Line
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(jsonPath, "$"), func(r rune) bool { return strings.ContainsRune(".[]'\"", r) }) {
		next := child(n, part)
		if i, err := strconv.Atoi(part); err == nil && next == nil {
			if list := items(n); i >= 0 && i < len(list) {
				next = list[i]
			}
		}
		if next == nil {
			return at
		}
		n, at = next, next.Line
	}
	return at
}
