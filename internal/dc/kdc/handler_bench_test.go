package kdc

import (
	"testing"

	"github.com/opengmsa/opengmsa/krb5"
)

// BenchmarkHandler is an exchange without a socket.
func BenchmarkHandler(b *testing.B) {
	f := newForger(b, nil)
	s := f.server
	as := f.asRequest(alice, f.key(alice), nil)
	out := s.handle(b.Context(), nil, as, peer, stream)
	b.Run("AS", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out = s.handle(b.Context(), out[:0], as, peer, stream)
		}
		if t, _ := krb5.TypeOf(out); t != krb5.MsgASRep {
			b.Fatalf("got %v", t)
		}
	})
	bare := f.asRequest(alice, f.key(alice), with(krb5.PAPACRequest, krb5.PACRequest{}.Append(nil)))
	b.Run("AS, no PAC", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out = s.handle(b.Context(), out[:0], bare, peer, datagram)
		}
		if t, _ := krb5.TypeOf(out); t != krb5.MsgASRep {
			b.Fatalf("got %v", t)
		}
	})
	tgt := f.logOn(alice, nil)
	b.Run("TGS", func(b *testing.B) {
		b.ReportAllocs()
		requests := make([][]byte, b.N)
		for i := range requests {
			requests[i] = f.tgsRequest(tgt, ldap, nil, nil)
		}
		b.ResetTimer()
		for i := range b.N {
			out = s.handle(b.Context(), out[:0], requests[i], peer, stream)
		}
		if t, _ := krb5.TypeOf(out); t != krb5.MsgTGSRep {
			e, err := krb5.ParseKRBError(out)
			b.Fatalf("got %v: %v, %v", t, &e, err)
		}
	})
}
