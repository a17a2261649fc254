// Package cdi writes the devices by which container engines are asked for an identity:
// podman run --device gmsa.dev/credentialspec=NAME. A device is nothing but the hook
// of package ocihook and four variables of the environment.
//
// The file is a Container Device Interface specification, version 0.5.0, which podman
// 4.3 reads and everything later does (https://github.com/cncf-tags/container-device-interface,
// SPEC.md). It holds no secret and grants nothing: the agent judges each container when
// its hook calls (security 2). Read [File.Write].
package cdi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tags.cncf.io/container-device-interface/specs-go"

	"github.com/opengmsa/opengmsa/internal/lease"
)

const (
	// Kind is the vendor and class of all devices.
	Kind = "gmsa.dev/credentialspec"
	// KeytabSuffix behind the name of a device marks the one that has keys too.
	KeytabSuffix = ":keytab"

	// DefaultDirectory is the one of the two that survives a boot (SPEC.md, "CDI
	// JSON Specification").
	DefaultDirectory = "/etc/cdi"
	// fileName is the form that SPEC.md recommends: vendor-class.json.
	fileName = "gmsa.dev-credentialspec.json"

	version     = "0.5.0"
	hookTimeout = 10 // seconds
)

// Device is one that is published. Names of credential specs (credspec.CheckName) have
// letters, digits, ".", "_" and "-" alone, which are names of CDI devices as they are; files with others have theirs escaped.
type Device struct {
	CredentialSpec string
	Keytab         bool
}

// Name is the device's name, behind "gmsa.dev/credentialspec=".
func (d Device) Name() string {
	if d.Keytab {
		return d.CredentialSpec + KeytabSuffix
	}
	return d.CredentialSpec
}

// File is the specification of all devices.
type File struct {
	// Directory is one where engines look; it is made where it is missing.
	Directory string
	// Hook is the program gmsa-hook.
	Hook string
	// Socket is where the agent waits for it.
	Socket string
}

// Path is where the file lies.
func (f File) Path() string { return filepath.Join(f.Directory, fileName) }

// Write publishes these devices and no others; without any there is no file. What has
// not changed is not written again. A hook that somebody else than root can change is
// refused, and nothing is published then.
func (f File) Write(devices []Device) error {
	if len(devices) == 0 {
		return f.remove()
	}
	if err := CheckHook(f.Hook); err != nil {
		return errors.Join(fmt.Errorf("CDI devices are not published: %w", err), f.remove())
	}
	b, err := json.MarshalIndent(f.spec(devices), "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if have, err := os.ReadFile(f.Path()); err == nil && bytes.Equal(have, b) {
		return nil
	}
	return f.replace(b)
}

func (f File) spec(devices []Device) specs.Spec {
	s := specs.Spec{Version: version, Kind: Kind}
	for _, d := range devices {
		s.Devices = append(s.Devices, specs.Device{Name: d.Name(), ContainerEdits: specs.ContainerEdits{
			Env: lease.Env(lease.MountPoint),
			Hooks: []*specs.Hook{
				f.hook("createRuntime", "--spec", d.Name()),
				f.hook("poststop"),
			},
		}})
	}
	return s
}

// hook is an entry of the OCI configuration. Without an environment of its own a hook
// gets that of the runtime, and of whoever called it (security 7).
func (f File) hook(stage string, args ...string) *specs.Hook {
	timeout := hookTimeout
	return &specs.Hook{
		HookName: stage, Path: f.Hook, Timeout: &timeout, Env: []string{"GOTRACEBACK=none"},
		Args: append([]string{filepath.Base(f.Hook), stage, "--socket", f.Socket}, args...),
	}
}

func (f File) remove() error {
	if err := os.Remove(f.Path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replace writes the file under a name that engines pass over, and renames it.
func (f File) replace(b []byte) (err error) {
	if err := os.MkdirAll(f.Directory, 0o755); err != nil {
		return fmt.Errorf("CDI directory: %w", err)
	}
	t, err := os.CreateTemp(f.Directory, ".gmsa-")
	if err != nil {
		return fmt.Errorf("CDI directory: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(t.Name())
		}
	}()
	_, err = t.Write(b)
	err = errors.Join(err, t.Chmod(0o644), t.Sync(), t.Close())
	if err != nil {
		return err
	}
	return os.Rename(t.Name(), f.Path())
}
