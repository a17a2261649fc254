package cli

import (
	"fmt"
	"os"

	"golang.org/x/term"
)

// terminalPrompt asks on the terminal that standard input is; nil where it is
// none.
func terminalPrompt() func(string) ([]byte, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	return func(question string) ([]byte, error) {
		_, _ = fmt.Fprint(os.Stderr, question)
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		_, _ = fmt.Fprintln(os.Stderr)
		return b, err
	}
}
