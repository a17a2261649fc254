//go:build !unix

package cli

import "errors"

func (j job) exec() error { return errors.New("gmsa run needs a Unix system") }
