package engine

import (
	"errors"
	"testing"
)

const containerdTOML = `version = 2 # as Debian has it

[plugins]
  # Ours, do not touch.
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause#1:3" # not a comment
    enable_cdi = false   # one day
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
`

var criTable = []string{"plugins", "io.containerd.grpc.v1.cri"}

func TestASettingIsChangedAndCommentsStay(t *testing.T) {
	for name, c := range map[string]struct {
		text, literal string
		path          []string
		want          string
	}{
		"another value": {containerdTOML, "true", append(criTable, "enable_cdi"), `version = 2 # as Debian has it

[plugins]
  # Ours, do not touch.
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause#1:3" # not a comment
    enable_cdi = true # one day
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
`},
		"a text with a number sign": {containerdTOML, `"mine"`, append(criTable, "sandbox_image"), `version = 2 # as Debian has it

[plugins]
  # Ours, do not touch.
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "mine" # not a comment
    enable_cdi = false   # one day
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
`},
		"a new one of a table":            {"[a]\n  [a.'x.y'] # it\nb = 1\n[c]\n", "false", []string{"a", "x.y", "disable"}, "[a]\n  [a.'x.y'] # it\n    disable = false\nb = 1\n[c]\n"},
		"a new table":                     {"version = 2", `["a", "b"]`, []string{"plugins", "io.x", "dirs"}, "version = 2\n\n[plugins.\"io.x\"]\n  dirs = [\"a\", \"b\"]\n"},
		"no file":                         {"", "true", []string{"a", "b"}, "[a]\n  b = true\n"},
		"a table without its own heading": {"[a.b.c]\nx = 1\n", "true", []string{"a", "b", "y"}, "[a.b.c]\nx = 1\n\n[a.b]\n  y = true\n"},
	} {
		got, err := setTOML([]byte(c.text), c.literal, c.path...)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
	got, err := removeTOML([]byte("[a]\n# mine\nb = 1\nc = 2 # stays\n"), "a", "b")
	if err != nil || string(got) != "[a]\n# mine\nc = 2 # stays\n" {
		t.Errorf("removed: %v\n%s", err, got)
	}
}

// A file that is written in another way is refused and not spoiled.
func TestWhatCannotBeEditedIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a key with dots":         "[plugins]\n\"io.containerd.grpc.v1.cri\".enable_cdi = false\n",
		"an inline table":         "[plugins]\n\"io.containerd.grpc.v1.cri\" = {enable_cdi = false}\n",
		"something in the way":    "plugins = 1\n",
		"the key in a long text":  "[plugins.\"io.containerd.grpc.v1.cri\"]\nx = \"\"\"\nenable_cdi = false\n\"\"\"\n",
		"the head in a long text": "x = \"\"\"\n[plugins.\"io.containerd.grpc.v1.cri\"]\n\"\"\"\n",
		"a value of two lines":    "[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = [\n]\n",
	} {
		if got, err := setTOML([]byte(text), "true", append(criTable, "enable_cdi")...); !errors.Is(err, errCannotEdit) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	if _, err := setTOML([]byte("x = \n"), "true", "a"); err == nil {
		t.Error("a file that does not parse was edited")
	}
}
