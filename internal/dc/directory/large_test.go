package directory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// crowd makes n users and gives the lines of a request that names them as members.
func (d *domain) crowd(n int) (lines []string) {
	d.t.Helper()
	at := home{&d.Domain, d.t}
	d.mustAdd("OU=crowd,"+domainDN, "objectClass: organizationalUnit")
	for i := range n {
		lines = append(lines, fmt.Sprintf("member: CN=c%d,OU=crowd,%s", i, domainDN))
	}
	for batch := range slices.Chunk(lines, 500) {
		err := d.Update(d.t.Context(), func(w *directory.Writer) error {
			for _, line := range batch {
				dn := strings.TrimPrefix(line, "member: ")
				if err := at.insert(w, dn, "user", "sAMAccountName="+dn[3:strings.IndexByte(dn, ',')]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return lines
}

func prefixed(prefix string, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = prefix + line
	}
	return out
}

// TestFiveThousandMembersAtOnce: as many as Active Directory takes in one operation come
// and go together; of more nothing is done.
func TestFiveThousandMembersAtOnce(t *testing.T) {
	d := people(t)
	members := d.crowd(store.MaxOps/2 + 1)
	many, global, born := members[:5000], group("global"), group("born")
	if got := result(d.modify(d.admin, global, prefixed("add: ", members)...)); got != "11 2024" {
		t.Errorf("more than a transaction holds: %s", got)
	}
	has := func(name string, want int) {
		t.Helper()
		if n := len(d.values(name, "member")); n != want {
			t.Errorf("%s has %d members, want %d", name, n, want)
		}
	}
	has(global, 0)
	before := d.Changes()
	d.mustModify(global, prefixed("add: ", many)...)
	has(global, 5000)
	d.mustModify(global, "delete: member")
	has(global, 0)
	d.mustModify(global, prefixed("replace: ", many)...)
	has(global, 5000)
	d.mustAdd(born, append([]string{"objectClass: group"}, many...)...)
	has(born, 5000)
	for _, dn := range []string{global, born} {
		if err := d.delete(d.admin, dn, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.Changes() - before; n != 6 {
		t.Errorf("%d transactions for 6 operations", n)
	}
}
