package main

import (
	"strings"
	"testing"
)

const run = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestGood"}
{"Action":"output","Package":"m/a","Test":"TestGood","Output":"chatter\n"}
{"Action":"pass","Package":"m/a","Test":"TestGood"}
{"Action":"output","Package":"m/a","Test":"TestPeer","Output":"=== RUN   TestPeer\n"}
{"Action":"output","Package":"m/a","Test":"TestPeer","Output":"    a_test.go:9: needs kinit; hint: install krb5-user\n"}
{"Action":"skip","Package":"m/a","Test":"TestPeer"}
{"Action":"pass","Package":"m/a","Elapsed":0.5}
`

const broken = `{"Action":"output","Package":"m/b","Test":"TestBad","Output":"b_test.go:7: got 1, want 2\n"}
{"Action":"fail","Package":"m/b","Test":"TestBad"}
{"Action":"output","Package":"m/b","Test":"TestCut","Output":"panic: out of range\n"}
{"Action":"fail","Package":"m/b","Elapsed":0.1}
{"Action":"build-output","ImportPath":"m/c","Output":"c.go:1: undefined: x\n"}
{"Action":"fail","Package":"m/c","FailedBuild":"m/c"}
`

func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		noSkip bool
		ok     bool
		want   []string
		absent string
	}{
		"a skip is listed with what it needs": {run, false, true,
			[]string{"ok  \tm/a\t0.500s", "skipped: TestPeer: needs kinit; hint: install krb5-user", "PASS: 1 passed, 0 failed, 1 skipped"}, "chatter"},
		"a skip where none may be": {run, true, false, []string{"FAIL: 1 passed, 0 failed, 1 skipped"}, ""},
		"failures show why": {run + broken, false, false,
			[]string{"got 1, want 2", "panic: out of range", "undefined: x", "FAIL: 1 passed, 1 failed, 1 skipped; failed: m/b m/c"}, "chatter"},
		"nothing ran": {"", false, false, []string{"FAIL: 0 passed"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if ok := r.finish(c.noSkip); ok != c.ok {
				t.Errorf("success: %v", ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in:\n%s", want, out.String())
				}
			}
			if c.absent != "" && strings.Contains(out.String(), c.absent) {
				t.Errorf("%q in:\n%s", c.absent, out.String())
			}
		})
	}
}
