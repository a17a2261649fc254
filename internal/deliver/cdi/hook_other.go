//go:build !unix

package cdi

import "errors"

// CheckHook fails: there are no such engines.
func CheckHook(string) error { return errors.ErrUnsupported }
