//go:build !unix

package plugin

import "os"

// nonblock is for systems with named pipes among files.
const nonblock = 0

// checkPrivate is not reached: unixOnly refuses before.
func checkPrivate(*os.File) error { return unixOnly("owners and modes of files") }
