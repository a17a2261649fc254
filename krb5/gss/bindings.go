package gss

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
)

// ChannelBindings name the secure channel that a context is used within: RFC
// 2744, Section 3.11. Both sides must have the same. For TLS only AppData is
// set: see [TLSServerEndPoint].
type ChannelBindings struct {
	InitiatorAddrType uint32 // 0 is GSS_C_AF_UNSPEC
	InitiatorAddr     []byte
	AcceptorAddrType  uint32
	AcceptorAddr      []byte
	AppData           []byte
}

// TLSServerEndPoint are the bindings to a TLS server's certificate: RFC 5929,
// Section 4. The argument is the hash of the certificate's DER, made with the
// hash function of its signature, or SHA-256 in place of MD5 and SHA-1.
func TLSServerEndPoint(certificateHash []byte) *ChannelBindings {
	return &ChannelBindings{AppData: append([]byte("tls-server-end-point:"), certificateHash...)}
}

// sum is the Bnd field of the authenticator's checksum: RFC 4121, Section
// 4.1.1.2; zeros stand for no bindings. MD5 serves as a fingerprint of what
// the initiator itself chose and sends encrypted.
func (cb *ChannelBindings) sum() [md5.Size]byte {
	if cb == nil {
		return [md5.Size]byte{}
	}
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint32(b, cb.InitiatorAddrType)
	b = le.AppendUint32(b, uint32(len(cb.InitiatorAddr)))
	b = append(b, cb.InitiatorAddr...)
	b = le.AppendUint32(b, cb.AcceptorAddrType)
	b = le.AppendUint32(b, uint32(len(cb.AcceptorAddr)))
	b = append(b, cb.AcceptorAddr...)
	b = le.AppendUint32(b, uint32(len(cb.AppData)))
	b = append(b, cb.AppData...)
	return md5.Sum(b)
}

// BindingPolicy is what an acceptor demands of an initiator when it has channel
// bindings itself; without them (outside TLS) it demands nothing. The values
// are those of Windows' LdapEnforceChannelBinding.
type BindingPolicy int

// The binding policies.
const (
	// BindNever ignores what the initiator sent.
	BindNever BindingPolicy = 0
	// BindWhenSupported demands the right bindings of an initiator that
	// advertises KERB_AP_OPTIONS_CBT ([MS-KILE] 3.4.5), lets one pass that does
	// not and sent none, and refuses wrong ones.
	BindWhenSupported BindingPolicy = 1
	// BindAlways demands the right bindings.
	BindAlways BindingPolicy = 2
)

// check judges the Bnd field of an initiator.
func (p BindingPolicy) check(want *ChannelBindings, got [md5.Size]byte, advertised bool) (bound bool, err error) {
	if want == nil || p == BindNever {
		return false, nil
	}
	switch {
	case got == want.sum():
		return true, nil
	case got != [md5.Size]byte{}:
		return false, fmt.Errorf("%w: the initiator is bound to another channel", ErrBindings)
	case p == BindWhenSupported && !advertised:
		return false, nil
	default:
		return false, fmt.Errorf("%w: the initiator sent none", ErrBindings)
	}
}
