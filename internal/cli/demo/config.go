package demo

import (
	"context"
	"io"
)

// Config is what a demo is made of.
type Config struct {
	// Program is the path of gmsa.
	Program string
	// Environ is the environment that its commands get, with what the demo adds.
	Environ []string
	// Out is told the story; nil: nobody is. Colour says that it is a terminal.
	Out    io.Writer
	Colour bool
	// Kept is called at the end, when all is still running; it returns when that is to
	// end. nil: it ends at once.
	Kept func(context.Context, Report) error
}
