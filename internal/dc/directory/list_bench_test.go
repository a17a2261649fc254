package directory_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/internal/dc/store/bolt"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// BenchmarkListing pages through all gMSAs of a domain, with what an administrator is
// shown of each, and through all that has a service principal name. Time and allocations
// for one account do not grow with their number; a thousand are half as much as the rest,
// because repeated searches find them among the objects that are kept.
func BenchmarkListing(b *testing.B) {
	for _, n := range []int{1_000, 5_000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			h := farm(b, n)
			admin := h.Caller(b, "Administrator")
			list := paged(request(b, domainDN, directory.ScopeSubtree, "(|(objectClass=msDS-GroupManagedServiceAccount)(objectClass=msDS-ManagedServiceAccount))",
				"objectClass", "sAMAccountName", "objectSid", "objectGUID", "dNSHostName", "servicePrincipalName", "userAccountControl",
				"msDS-SupportedEncryptionTypes", "msDS-KeyVersionNumber", "whenCreated", "pwdLastSet", "msDS-ManagedPasswordInterval",
				"msDS-ManagedPasswordId", "msDS-ManagedPasswordPreviousId", "msDS-GroupMSAMembership"), 1000)
			spns := paged(request(b, domainDN, directory.ScopeSubtree, "(servicePrincipalName=*)", "servicePrincipalName"), 1000)
			for name, first := range map[string]directory.SearchRequest{"list": list, "spns": spns} {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						seen := h.throughPages(b, admin, first)
						if seen < n {
							b.Fatalf("%d accounts, want %d", seen, n)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n)/1e3, "µs/account")
				})
			}
		})
	}
}

// throughPages counts the entries of a search in pages.
func (h *home) throughPages(b *testing.B, c directory.Caller, q directory.SearchRequest) (seen int) {
	for {
		r, err := h.Search(b.Context(), c, q, func(directory.SearchEntry) error { seen++; return nil })
		if err != nil {
			b.Fatal(err)
		}
		if q.Cookie = r.Cookie; len(q.Cookie) == 0 {
			return seen
		}
	}
}

// farm is a home with n more gMSAs, each with a service principal name, on bolt.
func farm(b *testing.B, n int) *home {
	b.Helper()
	s, err := bolt.Open(filepath.Join(b.TempDir(), "store"), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	h := newHomeIn(b, dctest.NewIn(b, s))
	membership := secdesc.GroupMSAMembership(h.Caller(b, "WEB1$").SID)
	sd, err := membership.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < n; i += 10 {
		err := h.Update(b.Context(), func(w *directory.Writer) error {
			for j := i; j < i+10; j++ {
				name := fmt.Sprintf("many%d", j)
				dn := "CN=" + name + ",CN=Managed Service Accounts," + domainDN
				if err := h.insert(w, dn, "msDS-GroupManagedServiceAccount", "sAMAccountName="+name+"$", "servicePrincipalName=http/"+name,
					"userAccountControl=4096", "msDS-ManagedPasswordInterval=30", "msDS-SupportedEncryptionTypes=24", "msDS-GroupMSAMembership="+string(sd)); err != nil {
					return err
				}
				if err := h.giveTimeline(w, dn); err != nil {
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

// giveTimeline lets a gMSA have passwords.
func (h *home) giveTimeline(w *directory.Writer, dn string) error {
	name, err := adproto.ParseDN(dn)
	if err != nil {
		return err
	}
	g, err := w.Resolve(name)
	if err != nil {
		return err
	}
	timeline, err := kds.Create(h.Ring(), dtyp.FiletimeOf(h.Now()), 30, "CONTOSO.COMhost"+name.Name()+".contoso.com")
	if err != nil {
		return err
	}
	return w.SetPrivate(g, directory.PrivateTimeline, secret.New(timeline.Append(nil)))
}
