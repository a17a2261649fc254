package lab

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// gmsaAt asks Samba's own modules, which its LDAP server and its KDC have too, about gMSAs
// at chosen times.
//
//go:embed gmsa-at.py
var gmsaAt string

// GMSAQuestion asks for the password of a gMSA, by its name without $, at a time in
// ticks of 100 ns since 1601.
type GMSAQuestion struct {
	Name string
	Time uint64
}

// GMSAAt answers the questions, in their order, with msDS-ManagedPassword as a controller
// would give it that had stood since the accounts were made and was never asked before:
// nothing is written. It needs no running controller.
func (d *DC) GMSAAt(t testing.TB, questions []GMSAQuestion) [][]byte {
	t.Helper()
	Need(t, "python3")
	var input strings.Builder
	for _, q := range questions {
		fmt.Fprintf(&input, "%s %d\n", q.Name, q.Time)
	}
	out, err := run(nil, input.String(), "python3", "-c", gmsaAt, d.smbConf(), d.Dir+"/private/sam.ldb")
	if err != nil {
		t.Fatalf("lab: %.1000s", err) // which has the answers so far
	}
	answers := make([][]byte, 0, len(questions))
	for line := range strings.Lines(out) {
		blob, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("lab: %.1000s: %v", line, err)
		}
		answers = append(answers, blob)
	}
	if len(answers) != len(questions) {
		t.Fatalf("lab: %d answers to %d questions", len(answers), len(questions))
	}
	return answers
}
