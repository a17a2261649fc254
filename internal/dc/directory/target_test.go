package directory_test

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

func TestNamesOfObjects(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	g, err := dtyp.GUIDFromBytes([]byte(h.entry(alice, aliceDN, "objectGUID")["objectGUID"]))
	if err != nil {
		t.Fatal(err)
	}
	const computers = "aa312825768811d1aded00c04fd8d5cd"
	for name, want := range map[string]string{
		aliceDN:                                                         aliceDN,
		"cn=ALICE , cn=users,dc=CONTOSO,DC=com":                         aliceDN,
		"<GUID=" + g.String() + ">":                                     aliceDN,
		"<guid=" + strings.ToUpper(g.String()) + ">":                    aliceDN,
		"<GUID={" + g.String() + "}>":                                   aliceDN,
		"<GUID=" + hex.EncodeToString(g[:]) + ">":                       aliceDN,
		"<SID=" + alice.SID.String() + ">":                              aliceDN,
		"<SID=" + hex.EncodeToString(alice.SID.Bytes()) + ">":           aliceDN,
		"<WKGUID=" + computers + "," + domainDN + ">":                   "CN=Computers," + domainDN,
		"<wkguid=" + strings.ToUpper(computers) + ",dc=contoso,dc=COM>": "CN=Computers," + domainDN,
		"<WKGUID=1EB93889E40C45DF9F0C64D23BBB6237," + domainDN + ">":    "CN=Managed Service Accounts," + domainDN,
	} {
		entries, _, err := h.search(alice, request(t, name, directory.ScopeBase, "(objectClass=*)", "1.1"))
		if err != nil || len(entries) != 1 || entries[0].DN != want {
			t.Errorf("%s: %v, %v, want %s", name, entries, err, want)
		}
		err = h.View(t.Context(), func(r *directory.Reader) error {
			_, err := r.ResolveTarget(name)
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]directory.Code{
		"<GUID=00000000-0000-0000-0000-000000000001>":                directory.NoSuchObject,
		"<SID=S-1-5-21-1-2-3-4>":                                     directory.NoSuchObject,
		"<WKGUID=00000000000000000000000000000000," + domainDN + ">": directory.NoSuchObject,
		"<WKGUID=" + computers + ",DC=example,DC=com>":               directory.NoSuchObject,
		"":                                 directory.NoSuchObject,
		"<GUID=1>":                         directory.InvalidDNSyntax,
		"<GUID=" + computers:               directory.InvalidDNSyntax,
		"<SID=S-1>":                        directory.InvalidDNSyntax,
		"<SID=>":                           directory.InvalidDNSyntax,
		"<WKGUID=1," + domainDN + ">":      directory.InvalidDNSyntax,
		"<WKGUID=" + computers + ",alice>": directory.InvalidDNSyntax,
		"<NAME=alice>":                     directory.InvalidDNSyntax,
		"alice":                            directory.InvalidDNSyntax,
		"CN=a\"b," + domainDN:              directory.InvalidDNSyntax,
	} {
		if _, _, err := h.search(alice, request(t, name, directory.ScopeBase, "(objectClass=*)", "1.1")); code(err) != want {
			t.Errorf("%q: %v, want %d", name, err, want)
		}
	}
}

// TestANameIsFoundAfterAChange: what was found before does not outlive its truth.
func TestANameIsFoundAfterAChange(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	h.add("OU=Old,"+domainDN, "organizationalUnit")
	h.add("CN=x,OU=Old,"+domainDN, "contact", "description=1")
	const old, moved = "CN=x,OU=Old," + domainDN, "CN=x,OU=New," + domainDN
	if got := h.entry(alice, old, "description")["description"]; got != "1" {
		t.Fatal(got)
	}
	h.change("OU=Old,"+domainDN, func(_ *directory.Writer, e *rows.Entry) error { e.Name = "New"; return nil })
	if got := h.entry(alice, moved, "distinguishedName")["distinguishedName"]; got != moved {
		t.Errorf("after its parent was renamed: %s", got)
	}
	if _, _, err := h.search(alice, request(t, old, directory.ScopeBase, "(objectClass=*)")); code(err) != directory.NoSuchObject {
		t.Errorf("by its old name: %v", err)
	}
	h.change(moved, func(_ *directory.Writer, e *rows.Entry) error {
		e.Values[h.attribute("description")] = [][]byte{[]byte("2")}
		return nil
	})
	if got := h.entry(alice, moved, "description")["description"]; got != "2" {
		t.Errorf("after a change: %s", got)
	}
	h.protect(moved, closedSDDL)
	if got := h.entry(alice, moved, "description"); len(got) != 0 {
		t.Errorf("after it was closed: %q", got)
	}
	h.delete(moved)
	if _, _, err := h.search(alice, request(t, moved, directory.ScopeBase, "(objectClass=*)")); code(err) != directory.NoSuchObject {
		t.Errorf("after it was deleted: %v", err)
	}
}

// TestSearchesBesideChanges: whoever searches while others write sees each object whole,
// as it was or is.
func TestSearchesBesideChanges(t *testing.T) {
	h := newHome(t)
	h.crowd(6)
	alice := h.Caller(t, "alice")
	put := func(value string) {
		h.change(aliceDN, func(_ *directory.Writer, e *rows.Entry) error {
			e.Values[h.attribute("givenName")] = [][]byte{[]byte(value)}
			e.Values[h.attribute("sn")] = [][]byte{[]byte(value)}
			return nil
		})
	}
	put("0")
	base := request(t, aliceDN, directory.ScopeBase, "(objectClass=*)", "givenName", "sn", "memberOf")
	walk := request(t, domainDN, directory.ScopeSubtree, "(cn=u0*)", "1.1")
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for last := 0; ; {
				select {
				case <-done:
					return
				default:
				}
				var values []string
				found := 0
				_, err := h.Search(t.Context(), alice, base, func(e directory.SearchEntry) error {
					for _, a := range e.Attributes {
						values = append(values, string(a.Values[0]))
					}
					return nil
				})
				_, walked := h.Search(t.Context(), alice, walk, func(directory.SearchEntry) error { found++; return nil })
				if err != nil || walked != nil || len(values) != 3 || values[0] != values[1] || found != 6 {
					t.Errorf("%q, %v; %d users, %v", values, err, found, walked)
					return
				}
				n, err := strconv.Atoi(values[0])
				if err != nil || n < last {
					t.Errorf("%d after %d: %v", n, last, err)
					return
				}
				last = n
			}
		})
	}
	for i := range 60 {
		put(strconv.Itoa(i))
	}
	close(done)
	wg.Wait()
}

// FuzzTarget: whatever a request names, the answer is an object or an error that LDAP
// has a code for, and both ways to resolve it agree.
func FuzzTarget(f *testing.F) {
	h := newHome(f)
	admin := h.Caller(f, "Administrator")
	for _, seed := range []string{aliceDN, "", "<", "<GUID=>", "<SID=S-1-5-11>", "<WKGUID=aa312825768811d1aded00c04fd8d5cd," + domainDN + ">",
		"CN=User,CN=Schema,CN=Configuration," + domainDN, "<GUID=6cb6d95646d7874fbd2626760cfdca2e>", "CN=a+CN=b," + domainDN} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		q := directory.SearchRequest{Base: name, Attributes: []string{"1.1"}}
		q.Filter.Kind, q.Filter.Attr = request(t, "", 0, "(objectClass=*)").Filter.Kind, "objectClass"
		_, err := h.Search(t.Context(), admin, q, func(directory.SearchEntry) error { return nil })
		found := code(err) == directory.Success
		if c := code(err); !found && c != directory.NoSuchObject && c != directory.InvalidDNSyntax {
			t.Fatalf("%q: %v", name, err)
		}
		resolved := h.View(t.Context(), func(r *directory.Reader) error {
			_, err := r.ResolveTarget(name)
			return err
		})
		if found && resolved != nil && !errors.Is(resolved, rows.ErrNotFound) {
			t.Fatalf("%q is found, and cannot be resolved: %v", name, resolved)
		}
	})
}

// FuzzCookie: no bytes from a client make a search begin anywhere.
func FuzzCookie(f *testing.F) {
	h := newHome(f)
	h.crowd(12)
	admin := h.Caller(f, "Administrator")
	q := request(f, domainDN, directory.ScopeSubtree, "(cn=u*)", "1.1")
	q.PageSize = 3
	_, r, err := h.search(admin, q)
	if err != nil || len(r.Cookie) == 0 {
		f.Fatalf("no cookie: %v", err)
	}
	f.Add(r.Cookie)
	f.Add([]byte("cookie"))
	f.Fuzz(func(t *testing.T, cookie []byte) {
		q := q
		q.Cookie = cookie
		_, err := h.Search(t.Context(), admin, q, func(directory.SearchEntry) error { return nil })
		authentic := len(cookie) == 0 || string(cookie) == string(r.Cookie)
		if want := directory.UnwillingToPerform; !authentic && code(err) != want || authentic && err != nil {
			t.Fatalf("%x: %v", cookie, err)
		}
	})
}
