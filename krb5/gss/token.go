package gss

import (
	"bytes"
	"fmt"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// MaxToken is the size of the largest token of a negotiation that is read, in
// bytes: an AP-REQ of the largest size, a forwarded ticket-granting ticket and
// the frames around them.
const MaxToken = 2*krb5.MaxMessage + 4096

// Contents of the OBJECT IDENTIFIERs of the mechanisms.
var (
	// 1.2.840.113554.1.2.2, RFC 4121, Section 1
	oidKerberos = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}
	// 1.2.840.48018.1.2.2: the same with one number cut to 16 bits, which
	// Windows 2000 sent and Windows still offers: [MS-SPNG] 1.9, 3.1.5.2
	oidMSKerberos = []byte{0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 0x01, 0x02, 0x02}
	// 1.3.6.1.5.5.2, RFC 4178, Appendix A
	oidSPNEGO = []byte{0x2b, 0x06, 0x01, 0x05, 0x05, 0x02}
)

// isKerberos reports whether an OID is one of the two of Kerberos 5.
func isKerberos(oid []byte) bool {
	return bytes.Equal(oid, oidKerberos) || bytes.Equal(oid, oidMSKerberos)
}

// Token ids of the context tokens: RFC 4121, Section 4.1, in big endian.
const (
	tokenAPReq = 0x0100
	tokenAPRep = 0x0200
	tokenError = 0x0300
)

// frame puts the frame of RFC 2743, Section 3.1 around body: [APPLICATION 0] and
// the mechanism.
func frame(oid []byte, body ...[]byte) []byte {
	b := der.NewBuilder(nil)
	b.Nest(der.Application(0), func() {
		b.OID(oid)
		for _, p := range body {
			b.Raw(p)
		}
	})
	return b.Bytes()
}

// parseFramed takes the frame off: the contents of the OID, and the rest.
func parseFramed(token []byte) (oid, body []byte, err error) {
	if len(token) > MaxToken {
		return nil, nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrToken, len(token), MaxToken)
	}
	inner, err := element(token, der.Application(0), "token")
	if err != nil {
		return nil, nil, err
	}
	n, err := der.Prefix(inner, "mechanism")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	oid, err = element(inner[:n], der.TagOID, "mechanism")
	if err != nil {
		return nil, nil, err
	}
	return oid, inner[n:], nil
}

// element returns the contents of an element that must be all of b and have
// the given tag.
func element(b []byte, tag byte, what string) ([]byte, error) {
	n, err := der.Prefix(b, what)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if n != len(b) {
		return nil, fmt.Errorf("%w: %s is %d bytes, got %d", ErrToken, what, n, len(b))
	}
	if b[0] != tag {
		return nil, fmt.Errorf("%w: %s: got tag 0x%02x, want 0x%02x", ErrToken, what, b[0], tag)
	}
	header := 2
	if b[1] >= 0x80 {
		header += int(b[1] & 0x7f)
	}
	return b[header:], nil
}

// frameMessage is a Kerberos message with its token id, framed.
func frameMessage(id uint16, message []byte) []byte {
	return frame(oidKerberos, []byte{byte(id >> 8), byte(id)}, message)
}

// parseMessage returns the id and the Kerberos message of a context token.
func parseMessage(token []byte) (id uint16, message []byte, err error) {
	oid, body, err := parseFramed(token)
	if err != nil {
		return 0, nil, err
	}
	if !isKerberos(oid) {
		return 0, nil, fmt.Errorf("%w: token of mechanism %x", ErrMechanism, oid)
	}
	if len(body) < 2 {
		return 0, nil, fmt.Errorf("%w: token id: got %d bytes, want 2", ErrToken, len(body))
	}
	return uint16(body[0])<<8 | uint16(body[1]), body[2:], nil
}
