package account_test

import (
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestWhomSambaLocksOut measures on Samba what lockable says: wrong passwords lock a
// user, and neither a computer, a gMSA nor Administrator.
func TestWhomSambaLocksOut(t *testing.T) {
	lab.Need(t, "kinit")
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddUser(t, "locked", "Passw0rd!Locked")
	dc.AddComputer(t, "locked")
	dc.AddGMSA(t, lab.GMSA{Name: "lockedapp"})
	dc.Modify(t, "dn: "+dc.BaseDN+"\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: 3\n")
	for who, want := range map[string]bool{"locked": true, "locked$": false, "lockedapp$": false, "Administrator": false} {
		for range 4 {
			_, _ = dc.Try(dc.Env(), "sh", "-c", "echo wrong | kinit '"+who+"'")
		}
		locked := dc.Attr(t, who, "lockoutTime")
		if got := locked != "" && locked != "0"; got != want {
			out, _ := dc.Try(dc.Env(), "sh", "-c", "echo wrong | kinit '"+who+"'")
			t.Errorf("%s: lockoutTime %q, badPwdCount %q; kinit: %s", who, locked, dc.Attr(t, who, "badPwdCount"), strings.TrimSpace(out))
		}
	}
}
