package lint

import (
	"strings"
	"testing"
)

func TestWindowsRules(t *testing.T) {
	for name, c := range map[string]struct {
		run  Windows
		want string // empty: nothing is wrong
	}{
		"the account's name on 1803":   {Windows{Version: "1803", Hostnames: []string{"WebApp01"}}, ""},
		"its DNS name on 1803":         {Windows{Version: "1803", Hostnames: []string{"webapp01.contoso.com"}}, "must be that of the account"},
		"any name on 2019":             {Windows{Version: "2019", Hostnames: []string{"shop"}}, ""},
		"two names on 2019":            {Windows{Version: "2019", Hostnames: []string{"webapp01", "webapp02"}}, ""},
		"one name twice on 2025":       {Windows{Version: "2025", Hostnames: []string{"shop", "Shop"}}, "two containers have the host name shop"},
		"two containers without names": {Windows{Version: "2022", Hostnames: []string{"", ""}}, ""},
		"Hyper-V on 1803":              {Windows{Version: "1803", HyperV: true}, "hangs or fails"},
		"Hyper-V on 2016":              {Windows{Version: "2016", HyperV: true}, ""},
		"Hyper-V on 1809":              {Windows{Version: "1809", HyperV: true}, ""},
		"Network Service on 1709":      {Windows{Version: "1709", User: `NT AUTHORITY\Network Service`}, ""},
		"Network Service on 2016":      {Windows{Version: "2016", User: `NT AUTHORITY\Network Service`}, "since Windows Server 1709"},
		"SYSTEM":                       {Windows{Version: "2022", User: `NT AUTHORITY\SYSTEM`}, ""},
		"ContainerAdministrator":       {Windows{Version: "2022", User: "ContainerAdministrator"}, "only the system and Network Service"},
	} {
		faults := c.run.Judge(`CONTOSO\webapp01$`)
		switch {
		case c.want == "" && len(faults) > 0:
			t.Errorf("%s: %+v", name, faults)
		case c.want != "" && (len(faults) == 0 || !strings.Contains(faults[0].Problem, c.want) || len(faults[0].Fixes) == 0 || faults[0].Rule == ""):
			t.Errorf("%s: %+v, want %q", name, faults, c.want)
		}
	}
}
