//go:build !linux

package harden

// Process does nothing here: what keeps other processes of a user out has to be asked of
// the system's own configuration.
func Process() error { return nil }
