package demo

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Where the container finds what it is given.
const (
	programInside = "/lib/gmsa"
	clockInside   = "/lib/clock"
	leaseInside   = "/run/gmsa"
)

// startContainer starts the workload's container: a root of one file, without privilege,
// with the directory of a lease. An error says why there is none.
func (s *story) startContainer(ctx context.Context) error {
	for _, name := range []string{"crun", "runc"} {
		if s.lookPath(name) != name {
			s.runtime = name
		}
	}
	if s.runtime == "" {
		return errors.New("there is neither runc nor crun")
	}
	if err := static(s.cfg.Program); err != nil {
		return err
	}
	if err := s.bundle(); err != nil {
		return err
	}
	return s.start(ctx, "container", idle, s.runtime, "--root", "runtime", "run", "--bundle", "container", container)
}

// static says why a program cannot run in a root of its own.
func static(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("this program needs shared libraries, which a root of one file has not (CGO_ENABLED=0 go build needs none)")
		}
	}
	return nil
}

// bundle writes a bundle of the OCI's runtime specification: config.json and rootfs.
func (s *story) bundle() error {
	root := filepath.Join(s.dir, "container", "rootfs")
	err := errors.Join(os.MkdirAll(filepath.Join(root, "bin"), 0o755),
		os.WriteFile(filepath.Join(root, "bin", "gmsa"), Script(programInside, clockInside), 0o755))
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(s.config(), "", "  ")
	if err != nil {
		return err
	}
	if err := s.write(filepath.Join("container", "config.json"), string(b)); err != nil {
		return err
	}
	s.showFile("container/config.json, in short", fmt.Sprintf("root:   bin/gmsa, read-only; uid 0 inside is %d outside; no capability\nmounts: %s <- %s\nenv:    %s",
		os.Getuid(), leaseInside, s.lease, strings.Join(leaseEnv(leaseInside), " ")))
	return nil
}

// leaseEnv are the variables by which Kerberos finds a lease.
func leaseEnv(dir string) []string {
	return []string{"KRB5CCNAME=FILE:" + dir + "/..data/ccache", "KRB5_CONFIG=" + dir + "/krb5.conf"}
}

type object = map[string]any

// config is the container's config.json: user namespace, network of the host.
func (s *story) config() object {
	bind := func(to, from string) object {
		return object{"destination": to, "type": "bind", "source": from, "options": []string{"bind", "ro", "nosuid", "nodev"}}
	}
	var namespaces []object
	for _, kind := range []string{"user", "mount", "pid", "ipc", "uts"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	mapping := func(id int) []object { return []object{{"containerID": 0, "hostID": id, "size": 1}} }
	return object{
		"ociVersion": "1.0.2",
		"hostname":   container,
		"root":       object{"path": "rootfs", "readonly": true},
		"process": object{
			"user": object{"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": true,
			"args": []string{"gmsa", "demo", "idle"},
			"env":  append(leaseEnv(leaseInside), "PATH=/bin"),
		},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
			bind(programInside, s.cfg.Program), bind(clockInside, filepath.Join(s.dir, clockFile)), bind(leaseInside, s.lease),
		},
		"linux": object{"namespaces": namespaces, "uidMappings": mapping(os.Getuid()), "gidMappings": mapping(os.Getgid())},
	}
}
