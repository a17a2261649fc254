package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opengmsa/opengmsa/secret"
)

// maxStored bounds a stored identity in bytes.
const maxStored = 16 << 10

// filePlugin reads a file of the host. It holds one identity, is owned by root
// or the agent's user, and is accessible to its owner alone.
type filePlugin struct{ path, directory string }

func newFile(c Config, fault fault) Plugin {
	switch {
	case (c.Path == "") == (c.Directory == ""):
		fault("", "want either path or directory")
	case c.Path != "":
		checkAbsolute(".path", c.Path, fault)
	default:
		checkAbsolute(".directory", c.Directory, fault)
	}
	return filePlugin{c.Path, c.Directory}
}

func (p filePlugin) Fetch(_ context.Context, input secret.Bytes) (Credentials, error) {
	if err := unixOnly("owners and modes of files"); err != nil {
		return Credentials{}, err
	}
	if p.path != "" {
		f, err := os.OpenFile(p.path, os.O_RDONLY|nonblock, 0)
		if err != nil {
			return Credentials{}, storeError(err)
		}
		return readIdentity(f, checkPrivate)
	}
	return readEntry(p.directory, string(input.Reveal()), checkPrivate)
}

// systemdPlugin reads a credential of the agent's own unit: LoadCredential= or
// LoadCredentialEncrypted= of systemd.exec(5).
type systemdPlugin struct{ credential, directory string }

func newSystemd(c Config, host Host, fault fault) Plugin {
	if c.Credential != "" && checkEntry(c.Credential) != nil {
		fault(".credential", "%q is not the name of a credential", c.Credential)
	}
	return systemdPlugin{c.Credential, host.CredentialsDirectory}
}

func (p systemdPlugin) Fetch(_ context.Context, input secret.Bytes) (Credentials, error) {
	if p.directory == "" {
		return Credentials{}, fmt.Errorf("%w: systemd gave no credentials; hint: LoadCredential= in the agent's unit", ErrLoad)
	}
	name := p.credential
	if name == "" {
		name = string(input.Reveal())
	}
	// systemd guards the directory itself and, with ACLs, its files' modes do
	// not tell who may read.
	return readEntry(p.directory, name, func(*os.File) error { return nil })
}

// kubernetesPlugin reads a Secret, mounted as a directory with the files
// username, password and domainName.
type kubernetesPlugin struct{ directory string }

func newKubernetes(c Config, fault fault) Plugin {
	checkAbsolute(".directory", c.Directory, fault)
	return kubernetesPlugin{c.Directory}
}

func (p kubernetesPlugin) Fetch(ctx context.Context, input secret.Bytes) (Credentials, error) {
	path := "."
	if !input.IsZero() {
		parts := strings.Split(string(input.Reveal()), ":")
		for _, part := range parts {
			if err := checkEntry(part); err != nil || len(parts) > 2 {
				return Credentials{}, fmt.Errorf("%w: the input is neither SECRET nor NAMESPACE:SECRET", ErrFetch)
			}
		}
		path = strings.Join(parts, "/")
	}
	root, err := os.OpenRoot(p.directory)
	if err != nil {
		return Credentials{}, storeError(err)
	}
	defer root.Close()
	return readSecret(ctx, root, path)
}

// readSecret reads the three files of one Secret. The kubelet changes a Secret
// by pointing the link ..data at a new directory and then removing the old
// one. So the link is read once, and all files come from where it pointed; a
// file that vanishes on the way means that a newer version is there.
func readSecret(ctx context.Context, root *os.Root, path string) (Credentials, error) {
	for {
		version, err := root.Readlink(path + "/..data")
		switch {
		case errors.Is(err, fs.ErrNotExist):
			version = "" // a plain directory
		case err != nil:
			return Credentials{}, storeError(err)
		case strings.ContainsAny(version, `/\`) || version == "..":
			return Credentials{}, fmt.Errorf("%w: the link ..data leaves its directory", ErrFetch)
		}
		c, err := readVersion(root, path+"/"+version)
		if version == "" || !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
		if again, lerr := root.Readlink(path + "/..data"); lerr != nil || again == version || ctx.Err() != nil {
			return c, err
		}
	}
}

// readVersion reads one version of a Secret.
func readVersion(root *os.Root, dir string) (Credentials, error) {
	var parts [3][]byte
	for i, name := range []string{"domainName", "username", "password"} {
		f, err := root.OpenFile(dir+"/"+name, os.O_RDONLY|nonblock, 0)
		if err != nil && i == 0 && errors.Is(err, fs.ErrNotExist) {
			continue // the domain may be left to the credential spec
		}
		if err == nil {
			parts[i], err = readFile(f)
		}
		if err != nil {
			return Credentials{}, storeError(err)
		}
	}
	return credentials(string(trimLine(parts[0])), string(trimLine(parts[1])), secret.New(trimLine(parts[2]))), nil
}

// readEntry reads the identity in one file of a directory. It follows no link
// out of it.
func readEntry(directory, name string, check func(*os.File) error) (Credentials, error) {
	if err := checkEntry(name); err != nil {
		return Credentials{}, err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return Credentials{}, storeError(err)
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return Credentials{}, storeError(err)
	}
	return readIdentity(f, check)
}

// readIdentity checks, reads and closes a file and parses what it holds.
func readIdentity(f *os.File, check func(*os.File) error) (Credentials, error) {
	if err := check(f); err != nil {
		f.Close()
		return Credentials{}, err
	}
	b, err := readFile(f)
	if err != nil {
		return Credentials{}, storeError(err)
	}
	defer clear(b)
	return parseStored(b)
}

// readFile reads and closes a regular file of at most maxStored bytes.
func readFile(f *os.File) ([]byte, error) {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxStored+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxStored {
		clear(b)
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), maxStored)
	}
	return b, nil
}

// storeError is a failure of a store in the terms of this package.
func storeError(err error) error { return fmt.Errorf("%w: %w", ErrFetch, err) }
