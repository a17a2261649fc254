//go:build !linux

package cli

import "github.com/spf13/cobra"

// platformAgent is empty: the guard runs on Linux.
func (a *app) platformAgent() []*cobra.Command { return nil }
