//go:build !unix

package plugin

import "os"

// checkPrivate is not reached: unixOnly refuses before.
func checkPrivate(*os.File) error { return unixOnly("owners and modes of files") }
