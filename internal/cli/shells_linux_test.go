package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestShellsComplete lets each shell run the script that is made for it, and asks it how
// a line goes on. Of zsh the function that draws the answers is replaced by one that
// prints them.
func TestShellsComplete(t *testing.T) {
	lab.Need(t, "bash-completion", "fish", "zsh")
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := "#!/bin/sh\n" + asGMSA + "=1 exec '" + self + "' \"$@\"\n"
	specs := filepath.Join(dir, "specs")
	if err := os.WriteFile(filepath.Join(dir, "gmsa"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(specs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(specs, "contoso_webapp01.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "GMSA_CREDENTIALSPECS=" + specs}
	for shell, ask := range map[string]func(words ...string) (program string, args []string){
		"bash": func(words ...string) (string, []string) {
			return "bash", []string{"-c", `source /usr/share/bash-completion/bash_completion
source <(gmsa completion bash)
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
__start_gmsa; printf '%s\n' "${COMPREPLY[@]}"`, "bash"}
		},
		"zsh": func(words ...string) (string, []string) {
			return "zsh", []string{"-f", "-c", `compdef() { :; }
_describe() { print -l -- "${completions[@]}"; }
_arguments() { :; }
source <(gmsa completion zsh)
words=("$@") CURRENT=$#; _gmsa`, "zsh"}
		},
		"fish": func(words ...string) (string, []string) {
			return "fish", []string{"--no-config", "-c", `gmsa completion fish | source; complete -C "` + strings.Join(words, " ") + `"`}
		},
	} {
		for want, words := range map[string][]string{
			"show":               {"gmsa", "account", "sh"},
			"--interval":         {"gmsa", "account", "create", "x", "--inter"},
			"contoso_webapp01":   {"gmsa", "credspec", "convert", "con"},
			"New-CredentialSpec": {"gmsa", "New-Cred"},
		} {
			name, args := ask(words...)
			if shell != "fish" {
				args = append(args, words...)
			}
			out, err := lab.Try(env, "", name, args...)
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s completes %q: %v\n%s", shell, words, err, out)
			}
		}
	}
}

// TestManualPages lets groff format the page of every command: it has nothing to complain
// about, and the page shows what the command says of itself.
func TestManualPages(t *testing.T) {
	lab.Need(t, "groff")
	dir := t.TempDir()
	if r := gmsa(t, nil, "man", dir); r.code != 0 {
		t.Fatal(r.stderr)
	}
	for _, c := range commands((&app{output: outputText}).root()) {
		if c.Hidden {
			continue
		}
		page := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
		text, err := lab.Try(nil, "", "groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-P-cbou", "-rLL=1000n", page)
		if err != nil {
			t.Errorf("%s: %v", c.CommandPath(), err)
			continue
		}
		for _, want := range []string{c.Short, "NAME", "SYNOPSIS", strings.TrimSpace(strings.SplitN(c.Example, "\n", 2)[0])} {
			if !strings.Contains(text, want) {
				t.Errorf("the page of %s lacks %q:\n%s", c.CommandPath(), want, text)
			}
		}
		if strings.Contains(text, "warning:") {
			t.Errorf("%s:\n%s", c.CommandPath(), text)
		}
	}
}
