package keysource

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/secret"
)

var key = bytes.Repeat([]byte("k!"), 16)

func write(t *testing.T, name string, b []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func noEnvironment(string) string { return "" }

func TestAKeyIsReadAsBytesAndInBase64(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString(key)
	for name, text := range map[string]string{"bytes": string(key), "base64": encoded, "base64 and a newline": encoded + "\n"} {
		got, err := Source{File: write(t, "key", []byte(text), 0o600)}.Read(t.Context(), noEnvironment)
		if err != nil || !got.Equal(secret.Copy(key)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"empty": "", "short": encoded[:40], "long": strings.Repeat("A", 1000),
		"not base64": strings.Repeat("!", 44), "another size": base64.StdEncoding.EncodeToString(key[:16])} {
		if _, err := (Source{File: write(t, "key", []byte(text), 0o600)}).Read(t.Context(), noEnvironment); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAFileThatOthersMayReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if _, err := (Source{File: write(t, "key", key, mode)}).Read(t.Context(), noEnvironment); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%04o: got %v", mode, err)
		}
	}
}

func TestACredentialOfSystemd(t *testing.T) {
	path := write(t, "store-key", key, 0o400)
	env := func(name string) string {
		if name == "CREDENTIALS_DIRECTORY" {
			return filepath.Dir(path)
		}
		return ""
	}
	got, err := Source{Credential: "store-key"}.Read(t.Context(), env)
	if err != nil || !got.Equal(secret.Copy(key)) {
		t.Errorf("got %v", err)
	}
	for name, s := range map[string]Source{"another directory": {Credential: "../store-key"}, "none": {Credential: ".."}} {
		if _, err := s.Read(t.Context(), env); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := (Source{Credential: "store-key"}).Read(t.Context(), noEnvironment); !errors.Is(err, ErrNoKey) {
		t.Errorf("without systemd: got %v", err)
	}
}

func TestAProgramPrintsTheKey(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no shell")
	}
	t.Setenv("SECRET_OF_OURS", "visible")
	encoded := base64.StdEncoding.EncodeToString(key)
	script := func(text string, mode os.FileMode) Source {
		return Source{Command: write(t, "print-key", []byte("#!/bin/sh\n"+text+"\n"), mode)}
	}
	got, err := script(`[ -z "$SECRET_OF_OURS" ] && [ $# = 0 ] && echo `+encoded, 0o700).Read(t.Context(), noEnvironment)
	if err != nil || !got.Equal(secret.Copy(key)) {
		t.Errorf("got %v", err)
	}
	if _, err := script("echo the vault is sealed >&2; exit 3", 0o700).Read(t.Context(), noEnvironment); err == nil || !strings.Contains(err.Error(), "the vault is sealed") {
		t.Errorf("a program that fails: got %v", err)
	}
	if _, err := script("yes", 0o700).Read(t.Context(), noEnvironment); !errors.Is(err, ErrNoKey) {
		t.Errorf("a program that prints too much: got %v", err)
	}
	if _, err := script("echo "+encoded, 0o722).Read(t.Context(), noEnvironment); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a program that others may write: got %v", err)
	}
	if _, err := (Source{Command: "print-key"}).Read(t.Context(), noEnvironment); !errors.Is(err, ErrNoKey) {
		t.Errorf("a relative path: got %v", err)
	}
}

func TestANewFileIsReadAgainAndNeverReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := CreateFile(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	first, err := Source{File: path}.Read(t.Context(), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if again, err := (Source{File: path}).Read(t.Context(), noEnvironment); err != nil || !again.Equal(first) {
		t.Errorf("the key changed: %v", err)
	}
}
