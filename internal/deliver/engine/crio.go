package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// crioDropIn is read after CRI-O's own drop-ins (10-); lists of a later file replace
// those of an earlier one: crio.conf.d(5).
const crioDropIn = "/etc/crio/crio.conf.d/90-gmsa.conf"

// crio has CRI-O run the hook for pods with the annotation: oci-hooks(5) matches those
// of Kubernetes. Devices of CDI it knows by itself.
func (s *setup) crio(ctx context.Context) error {
	if _, _, err := s.version(ctx, "crio"); err != nil {
		return err
	}
	files, err := s.tomlFiles("/etc/crio/crio.conf", "/etc/crio/crio.conf.d/*.conf")
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f tomlFile) bool { return f.path == crioDropIn })
	var settings strings.Builder
	for _, l := range []struct {
		key, want string
		otherwise []string
	}{
		{"hooks_dir", hooksDirectory, []string{packagedHooks}},
		{"cdi_spec_dirs", s.o.CDIDirectory, []string{"/etc/cdi", "/var/run/cdi"}},
	} {
		list, ok, err := lastList(files, "crio", "runtime", l.key)
		if err != nil {
			return err
		}
		if !ok {
			list = l.otherwise
		}
		if l.want == "" || slices.Contains(list, l.want) {
			continue
		}
		literal, err := literalTOML(append(list, l.want))
		if err != nil {
			return err
		}
		fmt.Fprintf(&settings, "%s = %s\n", l.key, literal)
	}
	if settings.Len() > 0 {
		if err := s.own(crioDropIn, marker+"[crio.runtime]\n"+settings.String()); err != nil {
			return err
		}
		s.plan.Restart = "crio"
	}
	s.plan.Notes = append(s.plan.Notes, "this project has not run with CRI-O: what is written follows its manual, crio.conf(5); look at one container before you rely on it")
	if err := s.hooks(hooksDirectory); err != nil {
		return err
	}
	return s.afterAgent("crio.service")
}
