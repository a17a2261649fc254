package directory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/store/bolt"
)

// BenchmarkSearch measures the directory alone: no socket, no BER. The store is bolt, as
// a controller's, with as many users as the first number says.
func BenchmarkSearch(b *testing.B) {
	for _, users := range []int{100, 100_000} {
		b.Run(strconv.Itoa(users), func(b *testing.B) { benchmarkSearches(b, boltHome(b, users)) })
	}
}

func benchmarkSearches(b *testing.B, h *home) {
	b.Helper()
	alice, web1 := h.Caller(b, "alice"), h.Caller(b, "WEB1$")
	five := []string{"sAMAccountName", "userAccountControl", "objectSid", "dNSHostName", "servicePrincipalName"}
	for name, bench := range map[string]struct {
		caller directory.Caller
		q      directory.SearchRequest
	}{
		"base, 5 attributes":   {alice, request(b, "CN=WEB1,CN=Computers,"+domainDN, directory.ScopeBase, "(objectClass=*)", five...)},
		"base, all attributes": {alice, request(b, "CN=WEB1,CN=Computers,"+domainDN, directory.ScopeBase, "(objectClass=*)")},
		"by sAMAccountName":    {alice, request(b, domainDN, directory.ScopeSubtree, "(&(objectClass=user)(sAMAccountName=u00042))", five...)},
		"managed password":     {web1, request(b, gmsaDN, directory.ScopeBase, "(objectClass=msDS-GroupManagedServiceAccount)", "msDS-ManagedPassword")},
		"one page of 500":      {alice, paged(request(b, "OU=Crowd,"+domainDN, directory.ScopeSubtree, "(objectClass=user)", "sAMAccountName"), 500)},
		"tokenGroups":          {alice, request(b, aliceDN, directory.ScopeBase, "(objectClass=*)", "tokenGroups")},
		"a walk of all users":  {alice, request(b, "OU=Crowd,"+domainDN, directory.ScopeSubtree, "(&(displayName=u000*)(!(mail=*)))", "1.1")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := h.Search(b.Context(), bench.caller, bench.q, func(directory.SearchEntry) error { return nil })
				if err != nil && code(err) != directory.SizeLimitExceeded {
					b.Fatal(err)
				}
			}
		})
	}
}

func paged(q directory.SearchRequest, size int) directory.SearchRequest {
	q.PageSize = size
	return q
}

// boltHome is a home on bolt, in memory where the machine has a place for that.
func boltHome(b *testing.B, users int) *home {
	b.Helper()
	dir := b.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "gmsa-bench-"); err == nil {
		dir = shm
		b.Cleanup(func() { os.RemoveAll(shm) })
	}
	s, err := bolt.Open(filepath.Join(dir, "store"), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	h := newHomeIn(b, dctest.NewIn(b, s))
	h.add("OU=Crowd,"+domainDN, "organizationalUnit")
	for i := 0; i < users; i += 5 {
		err := h.Update(b.Context(), func(w *directory.Writer) error {
			for n := i; n < i+5; n++ {
				name := fmt.Sprintf("u%05d", n)
				if err := h.insert(w, "CN="+name+",OU=Crowd,"+domainDN, "user", "sAMAccountName="+name, "displayName="+name, "userAccountControl=512"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return h
}

// BenchmarkMembers adds 5,000 members to a group in one operation and takes them away in
// another: how long a writer holds up all others (docs/decisions/0004).
func BenchmarkMembers(b *testing.B) {
	const members = 5000
	h := boltHome(b, members)
	change := directory.Change{Op: directory.ChangeAdd, Attribute: directory.Attribute{Name: "member"}}
	for i := range members {
		change.Values = append(change.Values, fmt.Appendf(nil, "CN=u%05d,OU=Crowd,%s", i, domainDN))
	}
	admin := h.Caller(b, "Administrator")
	for b.Loop() {
		for _, change.Op = range []directory.ChangeOp{directory.ChangeAdd, directory.ChangeDelete} {
			err := h.Modify(b.Context(), admin, directory.ModifyRequest{DN: "CN=Letters,CN=Users," + domainDN, Changes: []directory.Change{change}})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
