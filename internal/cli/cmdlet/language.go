package cmdlet

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// languageCmdlets are those that have nothing to do with a domain.
func languageCmdlets() []*definition {
	return []*definition{
		{
			name: "Select-Object", synopsis: "Picks properties of objects", example: "Get-ADServiceAccount WebApp01 -Properties * | Select-Object Name, SID",
			params: []parameter{
				{name: "Property", kind: texts, position: 1}, {name: "ExpandProperty", kind: text1}, {name: "First", kind: integer1},
				{name: "InputObject", kind: objects, piped: true},
			},
			run: selectObject,
		},
		{
			name: "Get-Date", synopsis: "Is the time", example: "(Get-Date).AddHours(-10)", params: []parameter{{name: "Date", kind: moment, position: 1}},
			run: func(_ context.Context, c *invocation) ([]any, error) {
				if t, ok := c.values["date"]; ok {
					return []any{t}, nil
				}
				return []any{c.in.host.Now()}, nil
			},
		},
		{
			name: "Get-Help", synopsis: "Explains a cmdlet", example: "Get-Help New-CredentialSpec",
			params: []parameter{
				{name: "Name", kind: text1, position: 1}, {name: "Full", kind: flag}, {name: "Detailed", kind: flag}, {name: "Examples", kind: flag}, {name: "Online", kind: flag},
			},
			run: getHelp,
		},
	}
}

func selectObject(_ context.Context, c *invocation) ([]any, error) {
	input := flat(c.values["inputobject"])
	if n, ok := c.values["first"].(int64); ok && n >= 0 && n < int64(len(input)) {
		input = input[:n]
	}
	if name := c.text("ExpandProperty"); name != "" {
		var list []any
		for _, v := range input {
			list = append(list, flat(propertyOf(v, name))...)
		}
		return list, nil
	}
	names := c.list("Property")
	if len(names) == 0 || slices.Contains(names, "*") {
		return input, nil
	}
	var list []any
	for _, v := range input {
		o := newObject("Selected")
		for _, name := range names {
			o.set(name, propertyOf(v, name))
		}
		list = append(list, o)
	}
	return list, nil
}

func getHelp(_ context.Context, c *invocation) ([]any, error) {
	name := c.text("Name")
	if name == "" {
		var b strings.Builder
		for _, n := range Names() {
			synopsis, _ := Synopsis(n)
			fmt.Fprintf(&b, "%-34s %s\n", n, synopsis)
		}
		return []any{strings.TrimSuffix(b.String(), "\n")}, nil
	}
	d := find(name)
	if d == nil {
		if text := answerTo(name); text != "" {
			return []any{text}, nil
		}
		return nil, fmt.Errorf("%w: there is no help about %s", ErrParameter, name)
	}
	return []any{d.help()}, nil
}

// help is what Get-Help says of a cmdlet.
func (d *definition) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "NAME\n    %s\n\nSYNOPSIS\n    %s\n\nSYNTAX\n    %s", d.name, d.synopsis, d.name)
	for _, p := range slices.Concat(d.params, []parameter{{name: "Server", kind: text1}}) {
		name := "-" + p.name
		if p.position > 0 {
			name = "[" + name + "]"
		}
		usage := strings.TrimSpace(name + " " + kindNames[p.kind])
		if !p.required {
			usage = "[" + usage + "]"
		}
		fmt.Fprintf(&b, " %s", usage)
	}
	if d.changes {
		b.WriteString(" [-WhatIf]")
	}
	fmt.Fprintf(&b, "\n\nEXAMPLE\n    %s\n", d.example)
	return b.String()
}
