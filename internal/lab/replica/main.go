// Command replica writes the objects of another domain that it reads, as LDIF, into the
// global catalog of a controller of ours that does not run: replica DIR. No command of gmsa
// does that, for it serves forests of one domain; tests need others.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/opengmsa/opengmsa/internal/dc"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "replica:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, records io.Reader) (err error) {
	text, err := io.ReadAll(records)
	if err != nil {
		return err
	}
	c, err := dc.Data{Dir: dir, Getenv: os.Getenv}.Open(ctx, dc.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return provision.Replica(ctx, c.Directory(), string(text), rand.Reader)
}
