package krb5

import (
	"crypto/rand"
	"testing"
)

var _ = rand.Reader

func BenchmarkTicket(b *testing.B) {
	t := Ticket{Realm: "CONTOSO.COM", SName: NewName(NameSrvInst, "krbtgt", "CONTOSO.COM"), EncPart: EncryptedData{EType: 18, KVNO: 2, Cipher: make([]byte, 1200)}}
	buf := make([]byte, 0, 4096)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = t.Append(buf[:0])
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseTicket(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
