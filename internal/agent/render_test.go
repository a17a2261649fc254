package agent

import (
	"fmt"
	"testing"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
)

func TestPrincipalsOfAKeytab(t *testing.T) {
	s := &account.Snapshot{
		Principal: krb5.Principal{Realm: "A.B", Name: krb5.NewName(krb5.NamePrincipal, "w$")},
		SPNs: []string{
			"http/WEB1.a.b", "HTTP/web1.a.b", "mssqlsvc/db1:1433", "HOST/x", "own/x/y",
			"bad", "evil/x@OTHER", "/x", "x/", "x//y",
		},
	}
	var got []string
	for _, p := range principals(s) {
		got = append(got, p.Name.String())
	}
	want := "[w$ http/WEB1.a.b HTTP/web1.a.b mssqlsvc/db1:1433 MSSQLSvc/db1:1433 HOST/x host/x own/x/y]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestDirectoryNames(t *testing.T) {
	got := directoryNames([]lease.Account{{Name: "a", Domain: "x.y"}, {Name: "b", Domain: "x.y"}, {Name: "A", Domain: "z.y"}})
	if fmt.Sprint(got) != "[a@x.y b A@z.y]" {
		t.Errorf("%v", got)
	}
}
