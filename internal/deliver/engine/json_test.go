package engine

import (
	"encoding/json"
	"testing"
)

const daemonJSON = `{
  "log-driver": "journald",
  "features": {"buildkit": true},
  "debug":   false
}
`

func TestSettingsAreAddedToAnObjectThatStaysAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		text, value string
		path        []string
		want        string
	}{
		"no file":              {"", "true", []string{"features", "cdi"}, "{\n    \"features\": {\"cdi\": true}\n}\n"},
		"an empty object":      {"{}", "true", []string{"debug"}, "{\n    \"debug\": true\n}"},
		"beside another":       {daemonJSON, "true", []string{"features", "cdi"}, "{\n  \"log-driver\": \"journald\",\n  \"features\": {\"buildkit\": true, \"cdi\": true},\n  \"debug\":   false\n}\n"},
		"at the end":           {daemonJSON, `{"path": "/x"}`, []string{"runtimes", "gmsa"}, "{\n  \"log-driver\": \"journald\",\n  \"features\": {\"buildkit\": true},\n  \"debug\":   false,\n  \"runtimes\": {\"gmsa\": {\"path\": \"/x\"}}\n}\n"},
		"another value":        {daemonJSON, "true", []string{"debug"}, "{\n  \"log-driver\": \"journald\",\n  \"features\": {\"buildkit\": true},\n  \"debug\":   true\n}\n"},
		"quotes in other text": {`{"a": "}, \"b\": 1", "c": [{"b": 2}]}`, "3", []string{"b"}, `{"a": "}, \"b\": 1", "c": [{"b": 2}], "b": 3}`},
	} {
		got, err := setJSON([]byte(c.text), json.RawMessage(c.value), c.path...)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
		if v, err := getJSON(got, c.path...); err != nil || !equalJSON(v, json.RawMessage(c.value)) {
			t.Errorf("%s: read back %s, %v", name, v, err)
		}
	}
}

func TestSettingsAreTakenOutAgain(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		path []string
		want string
	}{
		"the first":                {`{"a": 1, "b": 2}`, []string{"a"}, `{"b": 2}`},
		"the last":                 {"{\n  \"a\": 1,\n  \"b\": 2\n}\n", []string{"b"}, "{\n  \"a\": 1\n}\n"},
		"one between":              {`{"a": 1, "b": 2, "c": 3}`, []string{"b"}, `{"a": 1, "c": 3}`},
		"the only one":             {"{\n  \"a\": 1\n}", []string{"a"}, "{}"},
		"an object that is empty":  {`{"features": {"cdi": true}, "a": 1}`, []string{"features", "cdi"}, `{"a": 1}`},
		"an object that has more":  {`{"features": {"x": 1, "cdi": true}}`, []string{"features", "cdi"}, `{"features": {"x": 1}}`},
		"one that is not there":    {`{"a": 1}`, []string{"b", "c"}, `{"a": 1}`},
		"one that is not in there": {`{"a": {"x": 1}}`, []string{"a", "c"}, `{"a": {"x": 1}}`},
	} {
		if got, err := removeJSON([]byte(c.text), c.path...); err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

func TestWhatIsNoObjectIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"a list": "[]", "half an object": `{"a": 1`, "two objects": "{} {}", "a comment": "{} // mine", "a member twice": `{"b": 1, "b": 2}`, "an object's place taken": `{"b": 1}`,
	} {
		if got, err := setJSON([]byte(text), json.RawMessage("1"), "b", "c"); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func FuzzSetJSON(f *testing.F) {
	for _, text := range []string{daemonJSON, "", "{}", `{"a": "}, \"b\": 1", "features": {}}`, "{\t}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := setJSON(text, json.RawMessage("true"), "features", "cdi")
		if err != nil {
			return
		}
		if v, err := getJSON(got, "features", "cdi"); err != nil || string(v) != "true" {
			t.Fatalf("%q became %q: %s, %v", text, got, v, err)
		}
		var before, after map[string]any
		if len(text) > 0 && json.Unmarshal(text, &before) != nil || json.Unmarshal(got, &after) != nil {
			return // an editor of bytes is stricter than Unmarshal about nothing that matters here
		}
		for k := range before {
			if _, ok := after[k]; !ok {
				t.Fatalf("%q became %q: %q is gone", text, got, k)
			}
		}
	})
}
