//go:build !unix

package cli

import "os"

func lockFile(*os.File) error { return nil }

func isReadOnly(error) bool { return false }
