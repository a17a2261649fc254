package cli

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/cli/demo"
	"github.com/opengmsa/opengmsa/internal/dc"
	"github.com/opengmsa/opengmsa/internal/dc/auditlog"
	"github.com/opengmsa/opengmsa/internal/deliver/engine"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/doctor/audit"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/explain"
	"github.com/opengmsa/opengmsa/internal/lint"
)

// jsonAnswer is what commands print with -o json: an object of the view, or a list of them.
type jsonAnswer struct {
	commands string // without gmsa, with commas between them
	view     any    // a struct, a message of the agent's protocol, or a list of fields
}

// jsonAnswers are those of all commands.
func jsonAnswers() []jsonAnswer {
	return []jsonAnswer{
		{"kds add, kds list, kds show", rootKeyView{}}, {"kds reach", dependentView{}}, {"kds test, account test", outcome{}},
		{"account create, account list, account show, account set, account rotate", serviceAccountView{}}, {"account hosts list", readerView{}},
		{"account install, account uninstall", installed{}},
		{"group create, group list, group show", groupView{}}, {"computer list, computer show", computerView{}},
		{"computer join, account keys", joinedView{}}, {"object find", foundObject{}}, {"*an object in another answer*", objectView{}},
		{"credspec create", writtenSpec{}}, {"credspec check, credspec list, credspec show", specView{}}, {"credspec convert", []string{"format", "text"}},
		{"spn list", []string{"*texts*"}}, {"spn duplicates", duplicateView{}},
		{"account delegate, account hosts add, account hosts remove, account link, account unlink, account remove, computer remove, " +
			"group add-member, group remove-member, group remove, kds remove, object set, spn add, spn remove", changed{}},
		{"pwsh", []string{"*the properties of each object that the script prints*"}},
		{"verify, nltest", verification{}}, {"klist, klist get", ticketList{}}, {"*a ticket of klist*", ticketView{}},
		{"events", event.Event{}}, {"doctor", doctor.Report{}}, {"*a result of doctor*", doctor.Result{}},
		{"audit", audit.Report{}}, {"*an account of audit*", audit.Account{}}, {"*a finding of audit*", audit.Finding{}}, {"version", versionInfo{}}, {"explain", explain.Entry{}},
		{"lint", lint.Report{}}, {"*a finding of lint*", lint.Finding{}}, {"*a file of lint*", lint.Checked{}},
		{"agent status", &agentapi.StatusResponse{}}, {"agent check-config", []string{"config", "valid"}},
		{"lease create, lease show", &agentapi.Lease{}}, {"lease list", &agentapi.ListLeasesResponse{}}, {"*an account of the agent*", &agentapi.Account{}},
		{"runtime status", engine.State{}}, {"demo", demo.Report{}},
		{"dc init", madeDomain{}}, {"dc status", dc.Status{}}, {"dc audit", auditlog.Line{}},
	}
}

// fields are the names that the answer has in JSON.
func (a jsonAnswer) fields() []string {
	switch v := a.view.(type) {
	case []string:
		return v
	case proto.Message:
		var names []string
		for i := range v.ProtoReflect().Descriptor().Fields().Len() {
			names = append(names, v.ProtoReflect().Descriptor().Fields().Get(i).JSONName())
		}
		return names
	}
	return jsonFields(reflect.TypeOf(a.view))
}

func (a jsonAnswer) row() string {
	return fmt.Sprintf("| %s | %s |\n", a.commands, strings.Join(a.fields(), ", "))
}

// jsonFields are the names that a view has in JSON.
func jsonFields(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		switch name, _, _ := strings.Cut(f.Tag.Get("json"), ","); {
		case f.Anonymous && name == "":
			names = append(names, jsonFields(f.Type)...)
		case f.IsExported() && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// TestEveryAnswerIsDocumented: each command that has -o json has a row of fields, with a
// name for each.
func TestEveryAnswerIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, a := range jsonAnswers() {
		for c := range strings.SplitSeq(a.commands, ", ") {
			if documented[c] {
				t.Errorf("%s has two answers", c)
			}
			documented[c] = true
		}
		if slices.Contains(a.fields(), "") {
			t.Errorf("%s: a field without a name in JSON: %q", a.commands, a.fields())
		}
	}
	for _, c := range commands((&app{output: outputText}).root()) {
		name := strings.TrimPrefix(c.CommandPath(), "gmsa ")
		if c.Flags().Lookup("output") == nil || c.HasSubCommands() && !c.Runnable() {
			continue
		}
		if !documented[name] {
			t.Errorf("the answer of %s is not documented", c.CommandPath())
		}
		delete(documented, name)
	}
	for name := range documented {
		if name[0] != '*' {
			t.Errorf("there is no command %s with -o json", name)
		}
	}
}

// TestFieldsAreNeverTakenAway compares with what was documented before, which
// GMSA_UPDATE=1 does not change the verdict of.
func TestFieldsAreNeverTakenAway(t *testing.T) {
	const file = "testdata/json_fields.txt"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	now := map[string][]string{}
	var text strings.Builder
	for _, a := range jsonAnswers() {
		for c := range strings.SplitSeq(a.commands, ", ") {
			now[c] = a.fields()
		}
	}
	for line := range strings.Lines(string(b)) {
		command, list, _ := strings.Cut(strings.TrimSpace(line), ": ")
		for field := range strings.SplitSeq(list, ", ") {
			if !slices.Contains(now[command], field) {
				t.Errorf("%s has no field %s any more, on which scripts rely", command, field)
			}
		}
	}
	for _, a := range jsonAnswers() {
		for c := range strings.SplitSeq(a.commands, ", ") {
			fmt.Fprintf(&text, "%s: %s\n", c, strings.Join(a.fields(), ", "))
		}
	}
	if !t.Failed() {
		golden(t, file, text.String())
	}
}
