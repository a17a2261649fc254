//go:build !unix

package cdi

import "errors"

// checkHook fails: there are no such engines.
func checkHook(string) error { return errors.ErrUnsupported }
