package kpasswdd

import (
	"context"
	"net/netip"
)

// Answer is answer for the fuzzer, which sockets would only slow down.
func (s *Server) Answer(ctx context.Context, b []byte, from netip.AddrPort, local netip.Addr) []byte {
	return s.answer(ctx, b, from, local)
}
