package demo

import (
	"context"
	"fmt"
	"io"
)

// idle is what a container's first process prints when it is up.
const idle = "the container is up"

// Idle does nothing until ctx ends: it keeps a container for others to enter, as sleep
// does where there is one.
func Idle(ctx context.Context, w io.Writer) error {
	if _, err := fmt.Fprintln(w, idle); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
