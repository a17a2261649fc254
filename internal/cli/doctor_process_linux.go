package cli

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/internal/doctor"
)

// inspectProcess reads from /proc with which environment and rights the process of a
// lease runs.
func inspectProcess(l *doctor.Lease) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", l.PID))
	if err != nil {
		return
	}
	for v := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		// Names are enough: a value may be a secret of the application's.
		name, _, _ := strings.Cut(string(v), "=")
		l.Environ = append(l.Environ, name+"=")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.PID))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		ids := numbers(value)
		switch {
		case key == "Uid" && len(ids) == 4:
			l.ProcessUID = ids[1] // the effective one
		case key == "Gid" && len(ids) == 4:
			l.ProcessGIDs = append(l.ProcessGIDs, ids[1])
		case key == "Groups":
			l.ProcessGIDs = append(l.ProcessGIDs, ids...)
		}
	}
}

func numbers(text string) (list []uint32) {
	for f := range strings.FieldsSeq(text) {
		if n, err := strconv.ParseUint(f, 10, 32); err == nil {
			list = append(list, uint32(n))
		}
	}
	return list
}
