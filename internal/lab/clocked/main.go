// Command clocked is gmsa with a clock that a test moves: it differs from the machine's by
// the seconds in the file that CLOCK names, which it reads each time it looks. What
// libfaketime is for other programs, it is for one that does not use libc.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opengmsa/opengmsa/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	env := cli.OS()
	env.Now = clock(os.Getenv("CLOCK"))
	code := cli.Run(ctx, os.Args[1:], env)
	stop()
	os.Exit(code)
}

// clock reads the offset from a file in the form of libfaketime: "+86400.000000".
func clock(file string) func() time.Time {
	return func() time.Time {
		text, err := os.ReadFile(file)
		if err != nil {
			panic("clocked: " + err.Error())
		}
		seconds, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		if err != nil {
			panic(fmt.Sprintf("clocked: %s: %v", file, err))
		}
		return time.Now().Add(time.Duration(seconds * float64(time.Second)))
	}
}
