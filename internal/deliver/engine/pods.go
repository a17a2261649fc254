package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

const (
	// baseSpec is what containerd makes the configuration of each container from.
	baseSpec = "/etc/gmsa/containerd-base-spec.json"
	// runcShim is the kind of runtime that runs hooks on the host.
	runcShim = "io.containerd.runc.v2"
	// nriPlugin is the section of NRI: https://github.com/containerd/containerd/blob/v1.7.24/docs/NRI.md.
	nriPlugin = "io.containerd.nri.v1.nri"
)

// podAnnotations are the annotations of a pod that its containers have too.
func podAnnotations() []string {
	return []string{"dev.gmsa.credentialspec", "dev.gmsa.credentialspec/*"}
}

// containerdPods has containerd give pods their identity by an annotation, in two ways
// that belong together. A plug-in of NRI, which the agent is, puts in the hook and the environment;
// but a container is made without it when the agent is not connected. So every container
// has the hook by containerd's own configuration too, which passes over those that are not
// annotated or have it already, and without an agent fails the start of the others.
func (s *setup) containerdPods(ctx context.Context, c *tomlChange, in effective) error {
	if err := c.set("false", "plugins", nriPlugin, "disable"); err != nil {
		return err
	}
	handlers := 0
	for _, name := range slices.Sorted(maps.Keys(in.runtimes)) {
		handler, _ := in.runtimes[name].(map[string]any)
		if handler["runtime_type"] != runcShim {
			continue
		}
		handlers++
		if err := s.handler(c, handler, "plugins", in.plugin, "containerd", "runtimes", name); err != nil {
			return err
		}
	}
	if handlers == 0 {
		return &Refusal{Containerd, "it has no runtime of the type " + runcShim + ", which runs hooks", []string{"containerd config dump shows its runtimes"}}
	}
	text, err := s.baseSpec(ctx)
	if err != nil {
		return err
	}
	return s.own(baseSpec, text)
}

// handler gives the hook to the containers of a runtime, and their pod's annotations to the hook.
func (s *setup) handler(c *tomlChange, handler map[string]any, path ...string) error {
	if have := handler["base_runtime_spec"]; have != "" && have != nil && have != baseSpec {
		return &Refusal{Containerd, fmt.Sprintf("%s has a base_runtime_spec already, %v", dotted(path), have), []string{
			"put the hooks of " + baseSpec + " into that file, as docs/containers.md says",
		}}
	}
	annotations, _ := texts(handler["pod_annotations"])
	for _, a := range podAnnotations() {
		if !slices.Contains(annotations, a) {
			annotations = append(annotations, a)
		}
	}
	list, err := literalTOML(annotations)
	if err != nil {
		return err
	}
	// A table of a runtime replaces the default of that name as a whole.
	for _, setting := range [][2]string{{"runtime_type", fmt.Sprintf("%q", runcShim)}, {"base_runtime_spec", fmt.Sprintf("%q", baseSpec)}, {"pod_annotations", list}} {
		if err := c.set(setting[1], append(slices.Clone(path), setting[0])...); err != nil {
			return err
		}
	}
	return nil
}

// baseSpec is containerd's own, which it prints, with the hook. CRI takes the limits of
// processes out of its own too.
func (s *setup) baseSpec(ctx context.Context) (string, error) {
	out, err := s.h.run(ctx, "ctr", "oci", "spec")
	if err != nil {
		return "", err
	}
	var spec map[string]any
	if err := json.Unmarshal([]byte(out), &spec); err != nil {
		return "", fmt.Errorf("ctr oci spec: %w", err)
	}
	if process, ok := spec["process"].(map[string]any); ok {
		delete(process, "rlimits")
	}
	hook := func(stage string) []map[string]any {
		return []map[string]any{{
			"path": s.o.Hook, "args": []string{filepath.Base(s.o.Hook), stage, "--socket", s.o.Socket, "--if-annotated"},
			"env": []string{"GOTRACEBACK=none"}, "timeout": 10, // seconds
		}}
	}
	spec["hooks"] = map[string]any{"createRuntime": hook("createRuntime"), "poststop": hook("poststop")}
	b, err := json.MarshalIndent(spec, "", "  ")
	return string(b) + "\n", err
}
