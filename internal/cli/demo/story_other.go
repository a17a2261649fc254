//go:build !linux

package demo

import (
	"context"
	"errors"
)

// Run tells no story here.
func Run(context.Context, Config) (Report, error) {
	return Report{}, errors.New("the demo needs Linux, as the credential guard does")
}

// EndWithParent does nothing here.
func EndWithParent() error { return nil }
