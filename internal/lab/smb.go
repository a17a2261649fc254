package lab

import "testing"

// SMB runs a command of smbclient in the SYSVOL share with the credential cache. Needs
// SambaConfig.SMB.
func (d *DC) SMB(t testing.TB, ccache, command string) (string, error) {
	t.Helper()
	Need(t, "smbclient")
	return d.Try([]string{"KRB5CCNAME=FILE:" + ccache}, "smbclient", "//"+d.Host+"/sysvol", "-I", d.IP.String(),
		"--use-krb5-ccache="+ccache, "-c", command)
}

// ListSYSVOL lists the domain's folder in SYSVOL with the credential cache.
func (d *DC) ListSYSVOL(t testing.TB, ccache string) string {
	t.Helper()
	out, err := d.SMB(t, ccache, "cd "+d.DNSDomain+"; ls")
	d.must(t, err)
	return out
}
