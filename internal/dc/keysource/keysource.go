// Package keysource reads the key-encryption key of a controller's store from where it is
// kept: a file, a credential of the systemd unit, or what a program prints, such as the
// client of a key management service. The key is 32 random bytes, as they are or in base64.
//
// Read [Source] first.
package keysource

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	// ErrUnsafe: somebody else may read or change the key, or the program that prints it.
	ErrUnsafe = errors.New("not for its owner alone")
	// ErrNoKey: what was found is no key.
	ErrNoKey = errors.New("no key-encryption key")
)

// commandTimeout is how long a program may take.
const commandTimeout = 30 * time.Second

// maxKeyText bounds what is read for a key, in bytes: base64 of it, and a newline.
const maxKeyText = 64

// Source is where the key is kept: one of the fields.
type Source struct {
	// File is a file that its owner alone may access.
	File string
	// Credential is the name of a credential of the unit: LoadCredentialEncrypted= of
	// systemd.exec(5).
	Credential string
	// Command is the absolute path of a program that prints the key to its standard output.
	// It gets no arguments, nothing of our environment, and 30 s.
	Command string
}

// String says where the key is kept.
func (s Source) String() string {
	switch {
	case s.Credential != "":
		return "systemd credential " + s.Credential
	case s.Command != "":
		return "program " + s.Command
	}
	return "file " + s.File
}

// Read reads the key. getenv is os.Getenv or its like: systemd says in
// CREDENTIALS_DIRECTORY where credentials are. Errors wrap ErrUnsafe, ErrNoKey, and those
// of the file system.
func (s Source) Read(ctx context.Context, getenv func(string) string) (secret.Bytes, error) {
	key, err := s.read(ctx, getenv)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("key-encryption key from %s: %w", s, err)
	}
	return key, nil
}

func (s Source) read(ctx context.Context, getenv func(string) string) (secret.Bytes, error) {
	switch {
	case s.Credential != "":
		return readCredential(s.Credential, getenv("CREDENTIALS_DIRECTORY"))
	case s.Command != "":
		return readCommand(ctx, s.Command)
	}
	return readFile(s.File)
}

func readCredential(name, directory string) (secret.Bytes, error) {
	if directory == "" {
		return secret.Bytes{}, fmt.Errorf("%w: systemd gave this process no credentials", ErrNoKey)
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return secret.Bytes{}, fmt.Errorf("%w: %q is no name of a credential", ErrNoKey, name)
	}
	return readFile(filepath.Join(directory, name))
}

// readFile reads a key from a file that belongs to its owner alone.
func readFile(path string) (secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, err
	}
	// Windows has no such modes: there a file is its owner's by the directory's list.
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
		return secret.Bytes{}, fmt.Errorf("%w: %s has mode %04o, want 0600", ErrUnsafe, path, mode.Perm())
	}
	text := make([]byte, maxKeyText+1)
	defer clear(text)
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return secret.Bytes{}, err
	}
	return parse(text[:n])
}

// readCommand runs a program, whose file nobody else may change.
func readCommand(ctx context.Context, path string) (secret.Bytes, error) {
	if !filepath.IsAbs(path) {
		return secret.Bytes{}, fmt.Errorf("%w: %q is no absolute path", ErrNoKey, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return secret.Bytes{}, fmt.Errorf("%w: others may write to %s", ErrUnsafe, path)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Dir = filepath.VolumeName(path) + string(filepath.Separator)
	cmd.WaitDelay = time.Second
	out := limited{b: make([]byte, 0, maxKeyText)} // at full size, so that growing leaves no copy
	defer func() { clear(out.b) }()
	var stderr limitedText
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err = cmd.Run()
	if out.over {
		return secret.Bytes{}, fmt.Errorf("%w: more output than a key has", ErrNoKey)
	}
	if err != nil {
		return secret.Bytes{}, errors.Join(err, stderr.err())
	}
	return parse(out.b)
}

// limited keeps what may be a key, and fails for more.
type limited struct {
	b    []byte
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	if len(l.b)+len(b) > maxKeyText {
		l.over = true
		return 0, io.ErrShortWrite
	}
	l.b = append(l.b, b...)
	return len(b), nil
}

// limitedText keeps the beginning of what a program says of its failure.
type limitedText struct{ bytes.Buffer }

// maxStderr is how much of it is kept, in bytes.
const maxStderr = 1024

func (l *limitedText) Write(b []byte) (int, error) {
	l.Buffer.Write(b[:min(len(b), max(0, maxStderr-l.Len()))])
	return len(b), nil
}

func (l *limitedText) err() error {
	if text := strings.Join(strings.Fields(l.String()), " "); text != "" {
		return errors.New(text)
	}
	return nil
}

// parse takes a key as bytes or in base64.
func parse(text []byte) (secret.Bytes, error) {
	if len(text) == atrest.KeySize {
		return secret.Copy(text), nil
	}
	text = bytes.TrimSpace(text)
	key := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(key, text)
	if err != nil || n != atrest.KeySize {
		clear(key)
		return secret.Bytes{}, fmt.Errorf("%w: want %d bytes, as they are or in base64", ErrNoKey, atrest.KeySize)
	}
	return secret.New(key[:n]), nil
}

// CreateFile makes a file with a new key, in base64. It fails with fs.ErrExist where there
// is a file.
func CreateFile(path string, rand io.Reader) error {
	if err := createFile(path, rand); err != nil {
		return fmt.Errorf("create key-encryption key: %w", err)
	}
	return nil
}

func createFile(path string, rand io.Reader) error {
	key := make([]byte, atrest.KeySize)
	defer clear(key)
	if _, err := io.ReadFull(rand, key); err != nil {
		return err
	}
	text := append(base64.StdEncoding.AppendEncode(nil, key), '\n')
	defer clear(text)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
