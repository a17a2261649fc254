package engine

import (
	"debug/elf"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/deliver/cdi"
)

// checkHook wants a hook that only root can change, and that loads no library: it runs
// as root beside the files of an image (security 7).
func (h Host) checkHook(path string) error {
	file := h.Root + path
	if err := cdi.CheckHook(file); err != nil {
		return err
	}
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("the hook %s is no program of Linux: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("the hook %s is not static: it would load libraries; build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}
