package lease

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opengmsa/opengmsa/secret"
)

// benchRoot is a lease directory on /dev/shm.
func benchRoot(tb testing.TB) *Root {
	tb.Helper()
	base, err := os.MkdirTemp("/dev/shm", "gmsa-test-")
	if err != nil {
		tb.Skip(err)
	}
	if err := os.Chmod(base, 0o755); err != nil {
		tb.Fatal(err)
	}
	r, err := Storage{Path: filepath.Join(base, "gmsa", "leases"), AllowSwap: true}.Open()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		r.Close()
		os.RemoveAll(base)
	})
	return r
}

func content(n byte) Content {
	fill := func(size int) secret.Bytes {
		b := make([]byte, size)
		for i := range b {
			b[i] = n
		}
		return secret.New(b)
	}
	return Content{Krb5Conf: []byte("[libdefaults]\n"), Accounts: []AccountFiles{
		{Name: "webapp01", CCache: fill(1800), Keytab: fill(900), ClientKeytab: fill(300)},
	}}
}

func BenchmarkReplaceCCache(b *testing.B) {
	r := benchRoot(b)
	one, other := content(1), content(1)
	other.Accounts = content(1).Accounts
	other.Accounts[0].CCache = content(2).Accounts[0].CCache
	d, err := r.Create(NewID(), Owner{UID: 1000, GID: 1000, Mode: 0o400}, one)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := one
		if i%2 == 0 {
			c = other
		}
		if err := d.Write(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSwapAll(b *testing.B) {
	r := benchRoot(b)
	one, other := content(1), content(2)
	d, err := r.Create(NewID(), Owner{UID: 1000, GID: 1000, Mode: 0o400}, one)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		c := one
		if i%2 == 0 {
			c = other
		}
		if err := d.Write(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	r := benchRoot(b)
	c := content(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Create(NewID(), Owner{UID: 1000, GID: 1000, Mode: 0o400}, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreateCCacheOnly(b *testing.B) {
	r := benchRoot(b)
	c := content(1)
	c.Accounts[0].Keytab, c.Accounts[0].ClientKeytab = secret.Bytes{}, secret.Bytes{}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Create(NewID(), Owner{UID: 1000, GID: 1000, Mode: 0o400}, c); err != nil {
			b.Fatal(err)
		}
	}
}
