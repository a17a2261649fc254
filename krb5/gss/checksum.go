package gss

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/opengmsa/opengmsa/krb5"
)

// checksumType is the type of the authenticator's checksum field, which is no
// checksum but a structure: RFC 4121, Section 4.1.1.
const checksumType = 0x8003

// delegationOption is DlgOpt when a KRB-CRED follows.
const delegationOption = 1

// checksum is the structure. The extensions that may follow Deleg (RFC 6542)
// are ignored.
type checksum struct {
	bindings [md5.Size]byte // Bnd
	flags    Flags
	deleg    []byte // the DER of a KRB-CRED, if flags has FlagDelegate
}

// build is the checksum field of an authenticator.
func (c checksum) build() (krb5.Checksum, error) {
	le := binary.LittleEndian
	b := le.AppendUint32(make([]byte, 0, 28+len(c.deleg)), uint32(len(c.bindings)))
	b = append(b, c.bindings[:]...)
	b = le.AppendUint32(b, uint32(c.flags))
	if c.flags.Has(FlagDelegate) {
		if len(c.deleg) > math.MaxUint16 {
			return krb5.Checksum{}, fmt.Errorf("gss: delegated credential of %d bytes, want at most %d", len(c.deleg), math.MaxUint16)
		}
		b = le.AppendUint16(b, delegationOption)
		b = le.AppendUint16(b, uint16(len(c.deleg)))
		b = append(b, c.deleg...)
	}
	return krb5.Checksum{Type: checksumType, Sum: b}, nil
}

// parseChecksum reads the checksum field of an authenticator.
//
// Deviation: old Samba clients send another checksum, or none, and are taken
// to mean default flags by some acceptors; here they are refused, because such
// an authenticator is bound to no channel.
func parseChecksum(c krb5.Checksum) (checksum, error) {
	le := binary.LittleEndian
	var out checksum
	if c.Type != checksumType {
		return out, fmt.Errorf("%w: authenticator checksum: got type %d, want %d", ErrToken, c.Type, checksumType)
	}
	b := c.Sum
	if len(b) < 24 {
		return out, fmt.Errorf("%w: authenticator checksum: got %d bytes, want at least 24", ErrToken, len(b))
	}
	if n := le.Uint32(b); n != md5.Size {
		return out, fmt.Errorf("%w: length of Bnd at offset 0: got %d, want %d", ErrToken, n, md5.Size)
	}
	copy(out.bindings[:], b[4:])
	out.flags = Flags(le.Uint32(b[20:]))
	if !out.flags.Has(FlagDelegate) {
		return out, nil
	}
	if len(b) < 28 {
		return out, fmt.Errorf("%w: delegation at offset 24: got %d bytes, want at least 4", ErrToken, len(b)-24)
	}
	if opt := le.Uint16(b[24:]); opt != delegationOption {
		return out, fmt.Errorf("%w: DlgOpt at offset 24: got %d, want %d", ErrToken, opt, delegationOption)
	}
	n := int(le.Uint16(b[26:]))
	if n > len(b)-28 {
		return out, fmt.Errorf("%w: Deleg at offset 28: got %d bytes, want %d", ErrToken, len(b)-28, n)
	}
	out.deleg = b[28 : 28+n]
	return out, nil
}
