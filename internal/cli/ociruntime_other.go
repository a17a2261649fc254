//go:build !linux

package cli

import "github.com/spf13/cobra"

// ociRuntime is Linux's: there are no such containers.
func (a *app) ociRuntime() []*cobra.Command { return nil }
