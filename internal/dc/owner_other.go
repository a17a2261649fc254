//go:build !unix

package dc

// checkOwner leaves it to the system's lists who may do what with a directory.
func checkOwner(string) error { return nil }
