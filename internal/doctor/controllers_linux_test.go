package doctor_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/cli"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// ask runs the doctor in this process, so that the race detector sees it, on this
// machine, which knows the controllers by their addresses.
func ask(t *testing.T, dcs []*lab.DC, args ...string) doctor.Report {
	t.Helper()
	args = append([]string{"doctor", "-o", "json", "--domain", lab.DNSDomain, "--config", t.TempDir() + "/none.yaml"}, args...)
	for _, dc := range dcs {
		args = append(args, "--dc", dc.IP.String())
	}
	var out bytes.Buffer
	cli.Run(t.Context(), args, cli.Env{
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: t.Output(), Now: time.Now, Environ: []string{"KRB5CCNAME=FILE:" + t.TempDir() + "/none"},
	})
	return parse(t, out.String())
}

func TestFaultsOfTwoControllers(t *testing.T) {
	t.Parallel()
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	dc2 := dc.Join(t, "dc2")
	both := []*lab.DC{dc, dc2}
	desk := []string{"--from", "desk", "--ccache", dc.Kinit(t, lab.Administrator, lab.AdminPassword), "--ca", dc.CAFile, "--host-account", "web1", "webapp01"}
	t.Run("healthy", func(t *testing.T) { wantHealthy(t, ask(t, both, desk...)) })

	out, err := lab.Try(nil, "", lab.Gmsa(t), "kds", "add", "--ccache", desk[3], "--domain", lab.DNSDomain, "--dc", dc.IP.String(), "--reason", "a test")
	if err != nil {
		t.Fatal(out)
	}
	t.Run("a root key that one controller lacks", func(t *testing.T) {
		fault{check: "root-key-replicated", problem: dc2.IP.String()}.judge(t, ask(t, both, desk...), false)
	})
	t.Run("one of two controllers is frozen", func(t *testing.T) {
		dc2.Pause(t)
		defer dc2.Resume(t)
		fault{check: "reach", problem: dc2.IP.String()}.judge(t, ask(t, both, desk...), true)
	})
	t.Run("one of two controllers is down", func(t *testing.T) {
		dc2.Stop(t)
		defer dc2.Start(t)
		r := ask(t, both, desk...)
		fault{check: "reach", problem: dc2.IP.String()}.judge(t, r, true)
		if e := r.Results[0].Findings; !strings.Contains(e[len(e)-1].Evidence[0], "refused") {
			t.Errorf("%+v", e)
		}
	})
}

// TestFaultsOfOurController has what Samba is milder about: its KDC looks the groups up
// anew for every service ticket, where ours, as Windows', takes them from the
// ticket-granting ticket.
func TestFaultsOfOurController(t *testing.T) {
	t.Parallel()
	dc := lab.Own(t, lab.OwnConfig{Private: true})
	host := []string{"--from", "host", "--ca", dc.CAFile}
	admin := dc.Kinit(t, lab.Administrator, lab.AdminPassword)
	t.Run("healthy", func(t *testing.T) {
		wantHealthy(t, ask(t, []*lab.DC{dc}, append(host, "--keytab", dc.Keytab(t, "web1"), "--ccache", admin, "webapp01")...))
	})
	t.Run("a stale ticket", func(t *testing.T) {
		dc.AddComputer(t, "web3")
		keytab := dc.Keytab(t, "web3")
		stale := dc.KinitKeytab(t, "web3$", keytab)
		dc.AddMembers(t, "WebHosts", "web3$")
		f := fault{check: "account-ticket", problem: "the ticket of web3$ is older than its membership"}
		f.judge(t, ask(t, []*lab.DC{dc}, append(host, "--keytab", keytab, "--ccache", stale, "webapp01")...), false)
		wantHealthy(t, ask(t, []*lab.DC{dc}, append(host, "--keytab", keytab, "--ccache", dc.KinitKeytab(t, "web3$", keytab), "webapp01")...))
	})
}
