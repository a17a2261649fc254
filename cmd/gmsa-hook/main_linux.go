// Command gmsa-hook gives a container its identity when a runtime creates it, and
// tells the agent when the container has stopped. Runtimes start it; what it does is
// in package ocihook.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/opengmsa/opengmsa/internal/deliver/ocihook"
	"github.com/opengmsa/opengmsa/internal/hookapi"
)

func main() {
	// Whatever blocks, a file system of the image among it, the start fails in time.
	time.AfterFunc(hookapi.Deadline, func() {
		fmt.Fprintf(os.Stderr, "gmsa-hook: it took more than %v\n", hookapi.Deadline)
		os.Exit(1)
	})
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintf(os.Stderr, "gmsa-hook: %v\n", err)
		os.Exit(1)
	}
}

// run reads the command line. The environment is the runtime's, and often that of
// whoever called it: nothing of it counts.
func run(args []string, stdin io.Reader) error {
	os.Clearenv()
	syscall.Umask(0o022)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if len(args) == 0 {
		return errors.New("usage: gmsa-hook createRuntime|poststop [--spec NAME[:keytab] [--by-annotation] | --if-annotated] [--socket PATH]")
	}
	o := ocihook.Options{Stage: args[0]}
	f := flag.NewFlagSet("gmsa-hook", flag.ContinueOnError)
	f.StringVar(&o.CredentialSpec, "spec", "", "credential spec")
	f.BoolVar(&o.ByAnnotation, "by-annotation", false, "an annotation has named the credential spec")
	f.BoolVar(&o.IfAnnotated, "if-annotated", false, "pass over containers whose annotations name none, and those with a hook of their own")
	f.StringVar(&o.Socket, "socket", hookapi.DefaultSocket, "the agent's socket for hooks")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	return ocihook.Run(context.Background(), o, stdin)
}
