package ad

import (
	"fmt"
	"slices"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func spnEntry(dn string, names ...string) *ldap.Entry {
	return ldap.NewEntry(dn, map[string][]string{"servicePrincipalName": names})
}

func TestDuplicates(t *testing.T) {
	list := duplicates([]*ldap.Entry{
		spnEntry("CN=a", "http/x", "HTTP/X", "host/a"), spnEntry("CN=b", "HTTP/x.", "host/b"), spnEntry("CN=c", "http/X", "not a name"), spnEntry("CN=d", "Not A Name"),
	})
	if len(list) != 2 || !slices.Equal(list[0].Owners, []string{"CN=a", "CN=b", "CN=c"}) || !slices.Equal(list[1].Owners, []string{"CN=c", "CN=d"}) {
		t.Errorf("%+v", list)
	}
}

// The time for each name and the memory for it are the same for any number.
func BenchmarkDuplicates(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		entries := make([]*ldap.Entry, n)
		for i := range entries {
			entries[i] = spnEntry(fmt.Sprintf("CN=app%d", i), fmt.Sprintf("http/app%d.contoso.com", i), fmt.Sprintf("host/app%d", i))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				duplicates(entries)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/account")
		})
	}
}
