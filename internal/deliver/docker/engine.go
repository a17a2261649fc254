package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Engine is what an engine can do for identities.
type Engine struct {
	// Windows engines know credential specs themselves.
	Windows bool
	// Build is that of Windows, such as 17763.
	Build int
	// CDI says that the engine has devices of CDI switched on.
	CDI bool
	// Runtime is the engine's name for gmsa oci-runtime; empty for none. Default says
	// that it is the one of containers that name none.
	Runtime string
	Default bool
}

// info is what docker info says, as far as it matters.
type info struct {
	OSType, KernelVersion, OSVersion string
	CDISpecDirs                      []string
	Runtimes                         map[string]struct {
		Args []string `json:"runtimeArgs"`
	}
	DefaultRuntime string
	ServerErrors   []string
}

// Ask asks an engine by its client, with the client's global options.
func Ask(ctx context.Context, client string, global []string) (Engine, error) {
	out, err := exec.CommandContext(ctx, client, append(slices.Clone(global), "info", "--format", "{{json .}}")...).Output()
	if err != nil {
		return Engine{}, fmt.Errorf("docker info: %w", err)
	}
	return parseInfo(out)
}

func parseInfo(text []byte) (Engine, error) {
	var i info
	if err := json.Unmarshal(text, &i); err != nil {
		return Engine{}, fmt.Errorf("docker info: %w", err)
	}
	if len(i.ServerErrors) > 0 || i.OSType == "" {
		return Engine{}, fmt.Errorf("docker info: %s", strings.Join(i.ServerErrors, "; "))
	}
	e := Engine{Windows: i.OSType == "windows", CDI: len(i.CDISpecDirs) > 0}
	for _, v := range []string{i.OSVersion, i.KernelVersion} {
		if e.Build == 0 {
			e.Build = build(v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(i.Runtimes)) {
		r := i.Runtimes[name]
		if slices.Contains(r.Args, "oci-runtime") && (e.Runtime == "" || name == i.DefaultRuntime) {
			e.Runtime, e.Default = name, name == i.DefaultRuntime
		}
	}
	return e, nil
}

// build reads "10.0.17763.1" and "10.0 17763 (17763.1.amd64fre.rs5_release.180914-1434)";
// 0 for another form.
func build(version string) int {
	fields := strings.FieldsFunc(version, func(c rune) bool { return c == '.' || c == ' ' })
	if len(fields) < 3 || fields[0] != "10" {
		return 0
	}
	n, err := strconv.Atoi(fields[2])
	if err != nil {
		return 0
	}
	return n
}
