package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/deliver/docker"
	"github.com/opengmsa/opengmsa/internal/deliver/ocihook"
)

// ociRuntime stands between an engine and its runtime.
func (a *app) ociRuntime() []*cobra.Command {
	var path string
	var optional bool
	c := &cobra.Command{
		Use:   "oci-runtime [--config FILE] [--optional] RUNTIME [ARGUMENT…]",
		Short: "Be a container runtime that gives each container an identity",
		Long: `oci-runtime is for engines that know no CDI devices, as Docker before 25: it adds the
identity to a container that the engine makes, and leaves the rest to RUNTIME.

The container names its credential spec by a mount of the spec's file at /run/gmsa, or
at /run/gmsa/keytab for keys too; a service of a swarm does so by a config at
/run/gmsa/NAME.json as well. One that names none does not start, but with --optional: that
is for an engine's default runtime, which all its containers have.`,
		Example: `  gmsa oci-runtime runc create --bundle /run/bundle web1`,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return wrapRuntime(path, optional, args) },
	}
	addConfigFlag(c, &path)
	c.Flags().BoolVar(&optional, "optional", false, "start containers that name no credential spec, as they are")
	c.Flags().SetInterspersed(false) // all behind RUNTIME is the runtime's
	return []*cobra.Command{c}
}

// wrapRuntime becomes the runtime, once the bundle is prepared.
func wrapRuntime(path string, optional bool, args []string) error {
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) && path == config.DefaultPath {
		cfg, err = config.Parse(nil)
	}
	if err == nil {
		err = ocihook.Wrapper{
			Hook: cfg.Containers.Hook, Socket: cfg.Containers.HookSocket, Optional: optional,
			Same: docker.Specs{Directories: cfg.CredentialSpecs}.Same,
		}.Prepare(args[1:])
	}
	if errors.Is(err, ocihook.ErrUnnamed) {
		err = fmt.Errorf("%w; hint: docker run --runtime gmsa -v /etc/gmsa/credentialspecs/NAME.json:/run/gmsa", err)
	}
	if err != nil {
		return failure(Failed, errors.Join(err, ocihook.Report(args[1:], err)))
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return failure(NotFound, err)
	}
	return unix.Exec(program, args, os.Environ())
}
