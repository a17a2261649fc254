//go:build !unix

package cli

import "io/fs"

// worldReadable cannot tell here: the mode does not reflect the file's ACL.
func worldReadable(fs.FileInfo) bool { return false }
