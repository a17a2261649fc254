//go:build !linux

package cli

import "github.com/spf13/cobra"

// runtime is Linux's: there are no such engines.
func (a *app) runtime() []*cobra.Command { return nil }
