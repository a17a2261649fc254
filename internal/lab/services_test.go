package lab_test

import (
	"os"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// These tests show that the peers of the demonstration work with credentials from
// MIT's kinit, so that a failure with ours is a failure of ours.

func TestPostgresKnowsItsClientByItsTicket(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	pg := lab.PostgresServer(t, dc)
	pg.Role(t, "web1$")
	cc := "KRB5CCNAME=FILE:" + dc.Kinit(t, "web1$", lab.ComputerPassword("web1"))
	got := dc.Run(t, []string{cc}, "psql", "-AtX", pg.ConnInfo("web1$"), "-c", lab.GSSQuery)
	if want := "t|web1$@CONTOSO.COM|t|web1$\n"; got != want {
		t.Errorf("pg_stat_gssapi says %q, want %q", got, want)
	}
	if out, err := dc.Try([]string{cc}, "psql", "-AtX", pg.ConnInfo("postgres"), "-c", "select 1"); err == nil {
		t.Errorf("web1$ became the superuser: %s", out)
	}
	if out, err := dc.Try([]string{"KRB5CCNAME=FILE:/nonexistent"}, "psql", "-AtX", pg.ConnInfo("web1$"), "-c", "select 1"); err == nil {
		t.Errorf("no ticket, and yet: %s", out)
	}

	t.Run("from a container", func(t *testing.T) {
		dir := t.TempDir()
		ccache, err := os.ReadFile(strings.TrimPrefix(cc, "KRB5CCNAME=FILE:"))
		if err != nil {
			t.Fatal(err)
		}
		conf, err := os.ReadFile(dc.KRB5Config)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"ccache": ccache, "krb5.conf": conf} {
			if err := os.WriteFile(dir+"/"+name, b, 0o400); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir+"/"+name, 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, 1000, 1000); err != nil {
			t.Fatal(err)
		}
		out, err := lab.Container{
			Programs: []string{"psql"},
			Args:     []string{"psql", "-AtX", pg.ConnInfo("web1$"), "-c", lab.GSSQuery},
			Env:      []string{"KRB5CCNAME=FILE:/run/gmsa/ccache", "KRB5_CONFIG=/run/gmsa/krb5.conf"},
			Mounts:   map[string]string{"/run/gmsa": dir},
			UID:      1000, GID: 1000,
		}.Run(t)
		if want := "t|web1$@CONTOSO.COM|t|web1$\n"; err != nil || out != want {
			t.Errorf("pg_stat_gssapi says %q, %v; want %q", out, err, want)
		}
	})
}

func TestApacheNamesItsClient(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	web := lab.WebServer(t, dc)
	cc := "KRB5CCNAME=FILE:" + dc.Kinit(t, "web1$", lab.ComputerPassword("web1"))
	out, err := web.Curl(t, append(dc.Env(), cc))
	if err != nil || !strings.Contains(out, "X-Remote-User: web1$@CONTOSO.COM") || !strings.Contains(out, "served") {
		t.Errorf("curl: %v\n%s", err, out)
	}
	if out, err := web.Curl(t, append(dc.Env(), "KRB5CCNAME=FILE:/nonexistent")); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without a ticket: %v\n%s", err, out)
	}
}
