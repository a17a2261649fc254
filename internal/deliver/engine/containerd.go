package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

const containerdConfig = "/etc/containerd/config.toml"

// criPlugins are the names of the part of containerd's configuration that has CDI, by the version
// of the configuration: containerd-config.toml(5).
func criPlugins() map[int64]string {
	return map[int64]string{2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
}

// containerd switches CDI on for CRI. The file is edited in place: in a drop-in the
// section would replace that of the file as a whole (containerd 1.7).
func (s *setup) containerd(ctx context.Context) error {
	before, err := s.h.read(containerdConfig)
	if err != nil {
		return err
	}
	in, err := s.effective(ctx, nil)
	if err != nil {
		return err
	}
	if err := in.usable(); err != nil {
		return err
	}
	c := tomlChange{Change: Change{Path: containerdConfig, Before: before, After: before}}
	if len(before) == 0 {
		c.After = fmt.Appendf(nil, "version = %d\n", in.version)
	}
	err = s.containerdDevices(&c, in)
	if err == nil && s.o.Pods {
		err = s.containerdPods(ctx, &c, in)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", containerdConfig, err)
	}
	if len(c.Edits) > 0 {
		if in, err = s.effective(ctx, c.After); err != nil {
			return err
		}
		s.plan.Changes = append(s.plan.Changes, c.Change)
		s.plan.Restart = "containerd"
	}
	if err := in.gives(s.o); err != nil {
		return err
	}
	return s.afterAgent("containerd.service")
}

func (s *setup) containerdDevices(c *tomlChange, in effective) error {
	if !in.devices() {
		if err := c.set("true", "plugins", in.plugin, "enable_cdi"); err != nil {
			return err
		}
	}
	if s.o.seen(in.directories) {
		return nil
	}
	literal, err := literalTOML(append(in.directories, s.o.CDIDirectory))
	if err != nil {
		return err
	}
	return c.set(literal, "plugins", in.plugin, "cdi_spec_dirs")
}

// effective is what of containerd's configuration decides, as containerd itself
// reads it.
type effective struct {
	version     int64
	plugin      string // the section of CRI
	served      bool   // CRI is
	cdi         any    // nil in a containerd that does not know it
	directories []string
	runtimes    map[string]any // handlers by name
}

// effective asks containerd for the configuration that a file leads to; nil stands for
// the file that there is.
func (s *setup) effective(ctx context.Context, text []byte) (effective, error) {
	path := containerdConfig
	if text != nil {
		// Beside the file: it may import others by their relative paths.
		f, err := os.CreateTemp(filepath.Dir(s.h.Root+containerdConfig), ".gmsa-*.toml")
		if err != nil {
			return effective{}, err
		}
		defer os.Remove(f.Name())
		_, err = f.Write(text)
		if err := errors.Join(err, f.Close()); err != nil {
			return effective{}, err
		}
		path = f.Name()[len(s.h.Root):]
	}
	out, err := s.h.run(ctx, "containerd", "--config", path, "config", "dump")
	if err != nil {
		return effective{}, err
	}
	return parseEffective([]byte(out))
}

func parseEffective(dump []byte) (e effective, err error) {
	version, err := getTOML(dump, "version")
	if err != nil {
		return e, fmt.Errorf("containerd config dump: %w", err)
	}
	e.version, _ = version.(int64)
	e.plugin = criPlugins()[e.version]
	section, err := getTOML(dump, "plugins", e.plugin)
	if err != nil {
		return e, err
	}
	table, ok := section.(map[string]any)
	disabled, err := getTOML(dump, "disabled_plugins")
	if err != nil {
		return e, err
	}
	off, _ := texts(disabled)
	e.served = ok && !slices.ContainsFunc(off, func(p string) bool { return p == "cri" || p == e.plugin || p == "io.containerd.grpc.v1.cri" })
	e.cdi = table["enable_cdi"]
	e.directories, _ = texts(table["cdi_spec_dirs"])
	if runtimes, err := getTOML(dump, "plugins", e.plugin, "containerd", "runtimes"); err == nil {
		e.runtimes, _ = runtimes.(map[string]any)
	}
	return e, nil
}

// usable refuses a containerd that no setting makes give identities.
func (e effective) usable() error {
	switch {
	case e.plugin == "":
		return &Refusal{Containerd, fmt.Sprintf("its configuration has version %d; known are 2 and 3", e.version),
			[]string{"containerd config migrate writes the file in its own version"}}
	case !e.served:
		return &Refusal{Containerd, "its CRI is switched off by disabled_plugins, and devices of CDI are CRI's",
			[]string{"take \"cri\" out of disabled_plugins in " + containerdConfig}}
	case e.cdi == nil && !e.devices():
		return &Refusal{Containerd, "it does not know enable_cdi (containerd 1.6 does not): it ignores the devices of CDI, and would start a container without its identity",
			[]string{"containerd 1.7 knows it"}}
	}
	return nil
}

// devices tells whether CRI knows devices of CDI. A containerd that has their directories
// and no switch any more knows them always.
func (e effective) devices() bool { return e.cdi == true || e.cdi == nil && len(e.directories) > 0 }

// gives refuses a configuration that ignores devices.
func (e effective) gives(o Options) error {
	if e.devices() && o.seen(e.directories) {
		return nil
	}
	return &Refusal{Containerd, fmt.Sprintf("its effective configuration has enable_cdi = %v and cdi_spec_dirs = %q: it would start a container without its identity", e.cdi, e.directories),
		[]string{"a file that " + containerdConfig + " imports replaces the whole section: set enable_cdi = true and cdi_spec_dirs there", "containerd config dump shows what is in effect"}}
}

// tomlChange is a change of a file of TOML.
type tomlChange struct{ Change }

// set puts one setting into the file, if it is not there.
func (c *tomlChange) set(literal string, path ...string) error {
	have, err := getTOML(c.After, path...)
	if err != nil {
		return err
	}
	old := ""
	if have != nil {
		if old, err = literalTOML(have); err != nil {
			return err
		}
	}
	if old != "" && equalTOML(old, literal) {
		return nil
	}
	if c.After, err = setTOML(c.After, literal, path...); err != nil {
		return err
	}
	c.Edits = append(c.Edits, Edit{Path: path, Before: old, After: literal})
	return nil
}
