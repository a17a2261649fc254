//go:build !linux

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// platformAgent is empty: the guard runs on Linux.
func (a *app) platformAgent() []*cobra.Command { return nil }

func addSwapFlag(*cobra.Command, *bool) {}

func (a *app) runInProcess(context.Context, runOptions, job) error {
	return errors.New("without an agent, gmsa run needs Linux")
}
