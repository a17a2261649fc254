package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opengmsa/opengmsa/secret"
)

// maxPassword bounds a password that is typed or read from a file, in bytes.
const maxPassword = 64 << 10

// readAllLimited reads r to its end, which must come within limit bytes.
func readAllLimited(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, nil
}

// readFile reads a file that the user named; "-" is standard input.
func (a *app) readFile(path string, limit int64) ([]byte, error) {
	if path == "-" {
		return readAllLimited(a.env.Stdin, "standard input", limit)
	}
	return readLimited(path, limit)
}

// passwordFrom reads a password: the first line of the file, or what a person
// types when path is empty.
func (a *app) passwordFrom(path, question string) (secret.Bytes, error) {
	if path == "" {
		if a.env.Prompt == nil {
			return secret.Bytes{}, failure(Usage, errors.New("no terminal to ask for the password on")).
				hint("put the password into a file that only you can read: --password-file FILE (or - for standard input)")
		}
		b, err := a.env.Prompt(question)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("password: %w", err)
		}
		return secret.New(b), nil
	}
	if err := refuseShared(path); err != nil {
		return secret.Bytes{}, err
	}
	b, err := a.readFile(path, maxPassword)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("password file: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return secret.Bytes{}, failure(Usage, fmt.Errorf("password file %s: the first line is empty", path))
	}
	clear(b[len(line):])
	return secret.New(line), nil
}

// refuseShared refuses a password file that everybody on the system can read.
func refuseShared(path string) error {
	if path == "-" {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("password file: %w", err)
	}
	if info.Mode().IsRegular() && worldReadable(info) {
		return failure(Usage, fmt.Errorf("password file %s can be read by everybody (mode %04o)", path, info.Mode().Perm())).
			hint("chmod 600 %s", path)
	}
	return nil
}
