// Package ocihook is the hook that a container runtime runs when it makes and when it
// ends a container: it asks the agent for a lease and attaches what the agent hands
// over to the container's root file system.
//
// It is the one part of the project that runs as root inside of somebody else's
// program, beside a root file system that its user may have prepared (security 6 and
// 7). So it does little: it executes nothing, reads no environment, opens no path
// that the image can choose, and decides nothing. Which account a container gets, and
// where mounts go, is the agent's to say; a hook that gets no answer fails the start.
//
// Read [Run] first. What is called state, bundle and hook is of the OCI runtime
// specification 1.0.2: runtime.md (State), config.md (POSIX-platform Hooks).
package ocihook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/internal/hookapi"
)

// The stages at which the hook may run. createRuntime is the one at which the
// container's mount namespace exists, its root is not yet pivoted to, and the hook is
// still in the runtime's own namespaces.
const (
	CreateRuntime = "createRuntime"
	Poststop      = "poststop"
)

// Annotation names a container's credential spec where no CDI device does: the
// spec's name, or NAME:keytab. With "/" and the name of a container behind it, it is for
// that container of a pod alone.
const Annotation = "dev.gmsa.credentialspec"

// What containerd's CRI says of a container in its annotations, whatever those of the pod
// are: https://github.com/containerd/containerd/blob/v1.7.24/pkg/cri/annotations/annotations.go.
const (
	criContainer = "io.kubernetes.cri.container-name"
	criType      = "io.kubernetes.cri.container-type" // "sandbox" holds the namespaces of a pod
	criNamespace = "io.kubernetes.cri.sandbox-namespace"
	criPod       = "io.kubernetes.cri.sandbox-name"
)

// SpecOf is what the annotations name for a container; empty for nothing.
func SpecOf(annotations map[string]string, container string) string {
	if name, ok := annotations[Annotation+"/"+container]; ok && container != "" {
		return name
	}
	return annotations[Annotation]
}

// KeytabSuffix behind the name of a spec asks for keys too.
const KeytabSuffix = ":keytab"

// maxConfig bounds a bundle's config.json and a state, in bytes. Engines write some
// 30 KiB, most of it the seccomp profile.
const maxConfig = 4 << 20

// Options are the hook's command line.
type Options struct {
	// Stage is CreateRuntime or Poststop.
	Stage string
	// CredentialSpec is what the device names, as the annotation does; empty for
	// the annotation.
	CredentialSpec string
	// ByAnnotation says that CredentialSpec is an annotation's.
	ByAnnotation bool
	// IfAnnotated passes over containers without the annotation, and those that have a
	// hook of their own, by a device or by NRI: for a hook that all containers have.
	IfAnnotated bool
	// Socket is the agent's.
	Socket string
}

// state is the container as the runtime describes it on standard input.
type state struct {
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`
}

// bundle is what a hook needs of config.json.
type bundle struct {
	Root struct {
		Path string `json:"path"`
	} `json:"root"`
	Process struct {
		User struct {
			UID uint32 `json:"uid"`
			GID uint32 `json:"gid"`
		} `json:"user"`
	} `json:"process"`
	Hooks struct {
		CreateRuntime []struct {
			Path string   `json:"path"`
			Args []string `json:"args"`
		} `json:"createRuntime"`
	} `json:"hooks"`
}

// asks tells whether the container has a hook that names a credential spec.
func (b bundle) asks() bool {
	for _, h := range b.Hooks.CreateRuntime {
		if filepath.Base(h.Path) == "gmsa-hook" && slices.Contains(h.Args, "--spec") {
			return true
		}
	}
	return false
}

func readState(r io.Reader) (state, error) {
	var s state
	if err := decode(r, &s); err != nil {
		return state{}, fmt.Errorf("state on standard input: %w", err)
	}
	if s.ID == "" {
		return state{}, errors.New("state on standard input: it has no id")
	}
	return s, nil
}

// readBundle reads config.json as the runtime uses it. The directory is the
// runtime's own.
func readBundle(dir string) (bundle, error) {
	if !filepath.IsAbs(dir) {
		return bundle{}, fmt.Errorf("bundle %q is no absolute path", dir)
	}
	f, err := os.Open(filepath.Join(dir, "config.json"))
	if err != nil {
		return bundle{}, err
	}
	defer f.Close()
	var b bundle
	if err := decode(f, &b); err != nil {
		return bundle{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if b.Root.Path == "" {
		return bundle{}, fmt.Errorf("%s: it has no root.path", f.Name())
	}
	if !filepath.IsAbs(b.Root.Path) {
		b.Root.Path = filepath.Join(dir, b.Root.Path)
	}
	return b, nil
}

func decode(r io.Reader, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return err
	}
	if len(b) > maxConfig {
		return fmt.Errorf("over %d bytes", maxConfig)
	}
	return json.Unmarshal(b, v)
}

// request is what a container asks for: what the device names, else its annotation.
func request(o Options, s state, b bundle) (hookapi.Request, error) {
	name := o.CredentialSpec
	if name == "" {
		name = SpecOf(s.Annotations, s.Annotations[criContainer])
	}
	name, keytab, owner, err := parseSpec(name, hookapi.Owner{UID: b.Process.User.UID, GID: b.Process.User.GID})
	if err != nil {
		return hookapi.Request{}, err
	}
	if name == "" {
		return hookapi.Request{}, fmt.Errorf("the container names no credential spec; hint: its annotation %s does", Annotation)
	}
	return hookapi.Request{
		Op: hookapi.Attach, Container: s.ID, CredentialSpec: name, ByAnnotation: o.ByAnnotation || o.CredentialSpec == "", Keytab: keytab,
		Namespace: s.Annotations[criNamespace], Pod: s.Annotations[criPod],
		UID: b.Process.User.UID, GID: b.Process.User.GID, Owner: owner,
	}, nil
}

// parseSpec reads NAME[:keytab][,uid=N][,gid=N][,mode=0440]. What is not said of the owner is
// the program's user; without a word of it there is no owner.
func parseSpec(text string, program hookapi.Owner) (name string, keytab bool, owner *hookapi.Owner, err error) {
	name, options, more := strings.Cut(text, ",")
	name, keytab = strings.CutSuffix(name, KeytabSuffix)
	if !more {
		return name, keytab, nil, nil
	}
	owner = &program
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		id, err := strconv.ParseUint(value, 10, 32)
		switch {
		case key == "uid" && err == nil:
			owner.UID = uint32(id)
		case key == "gid" && err == nil:
			owner.GID = uint32(id)
		case option == "mode=0400":
			owner.Group = false
		case option == "mode=0440":
			owner.Group = true
		default:
			return "", false, nil, fmt.Errorf("credential spec %q: option %q; want uid=N, gid=N, mode=0400 or mode=0440", text, option)
		}
	}
	return name, keytab, owner, nil
}
