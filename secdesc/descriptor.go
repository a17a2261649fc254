package secdesc

import (
	"encoding/binary"
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
)

// Control are the control flags of a descriptor, [MS-DTYP] 2.4.6.
type Control uint16

// The control flags. The names in brackets are those of SDDL, which has them
// behind "D:" and "S:".
const (
	OwnerDefaulted     Control = 0x0001
	GroupDefaulted     Control = 0x0002
	DACLPresent        Control = 0x0004
	DACLDefaulted      Control = 0x0008
	SACLPresent        Control = 0x0010
	SACLDefaulted      Control = 0x0020
	DACLTrusted        Control = 0x0040
	ServerSecurity     Control = 0x0080
	DACLInheritReq     Control = 0x0100 // [AR]
	SACLInheritReq     Control = 0x0200 // [AR]
	DACLAutoInherited  Control = 0x0400 // [AI]
	SACLAutoInherited  Control = 0x0800 // [AI]
	DACLProtected      Control = 0x1000 // [P] nothing is inherited
	SACLProtected      Control = 0x2000 // [P]
	RMControlValid     Control = 0x4000
	SelfRelative       Control = 0x8000
	descriptorRevision         = 1
	descriptorHeader           = 20 // bytes
)

// MaxSize is the size in bytes of the largest descriptor that Parse takes: two
// lists of 64 KiB, two SIDs and the header.
const MaxSize = descriptorHeader + 2*(maxACLSize+3) + 2*dtyp.MaxSIDSize

// SecurityDescriptor says who owns an object and who may do what with it,
// [MS-DTYP] 2.4.6.
type SecurityDescriptor struct {
	// Control are the flags as they were read. [SecurityDescriptor.Append]
	// sets SelfRelative, and DACLPresent and SACLPresent where there is a
	// list; a nil list with its flag set is a null list.
	Control Control
	// RMControl is the resource manager's byte, kept as it is (the
	// specification's Sbz1).
	RMControl uint8
	// Owner and Group are the zero SID when the descriptor has none.
	Owner, Group dtyp.SID
	// SACL says what is audited.
	SACL *ACL
	// DACL says what is granted; nil grants everything to everybody.
	DACL *ACL
}

// Parse reads a self-relative descriptor that fills b exactly. Its parts may
// lie in any order, as the specification allows; the last must end where b
// does. b is not kept.
func Parse(b []byte) (SecurityDescriptor, error) {
	sd, err := parse(b)
	if err != nil {
		return SecurityDescriptor{}, fmt.Errorf("secdesc: %w: %w", ErrMalformed, err)
	}
	return sd, nil
}

func parse(b []byte) (SecurityDescriptor, error) {
	if len(b) < descriptorHeader || len(b) > MaxSize {
		return SecurityDescriptor{}, fmt.Errorf("%d bytes, want %d to %d", len(b), descriptorHeader, MaxSize)
	}
	if b[0] != descriptorRevision {
		return SecurityDescriptor{}, fmt.Errorf("revision %d at offset 0, want %d", b[0], descriptorRevision)
	}
	sd := SecurityDescriptor{Control: Control(binary.LittleEndian.Uint16(b[2:])), RMControl: b[1]}
	if sd.Control&SelfRelative == 0 {
		return SecurityDescriptor{}, fmt.Errorf("control %#04x at offset 2 is not that of a self-relative descriptor", uint16(sd.Control))
	}
	end := descriptorHeader
	for _, part := range []struct {
		name   string
		offset int // of the field that has the part's offset
		read   func(b []byte) (n int, err error)
	}{
		{"owner", 4, func(b []byte) (n int, err error) { sd.Owner, n, err = dtyp.DecodeSID(b); return n, err }},
		{"group", 8, func(b []byte) (n int, err error) { sd.Group, n, err = dtyp.DecodeSID(b); return n, err }},
		{"SACL", 12, func(b []byte) (n int, err error) { sd.SACL, n, err = parseACL(b); return n, err }},
		{"DACL", 16, func(b []byte) (n int, err error) { sd.DACL, n, err = parseACL(b); return n, err }},
	} {
		offset := binary.LittleEndian.Uint32(b[part.offset:])
		if offset == 0 {
			continue
		}
		if offset < descriptorHeader || uint64(offset) >= uint64(len(b)) {
			return SecurityDescriptor{}, fmt.Errorf("%s: offset %d, want %d to %d", part.name, offset, descriptorHeader, len(b)-1)
		}
		n, err := part.read(b[offset:])
		if err != nil {
			return SecurityDescriptor{}, fmt.Errorf("%s at offset %d: %w", part.name, offset, err)
		}
		end = max(end, int(offset)+n)
	}
	if end != len(b) {
		return SecurityDescriptor{}, fmt.Errorf("%d bytes follow the last part", len(b)-end)
	}
	return sd, sd.checkPresence()
}

// checkPresence refuses a list whose flag is clear: one reader would apply it,
// another would not.
func (sd *SecurityDescriptor) checkPresence() error {
	if sd.DACL != nil && sd.Control&DACLPresent == 0 {
		return fmt.Errorf("control %#04x says that there is no DACL, but there is one", uint16(sd.Control))
	}
	if sd.SACL != nil && sd.Control&SACLPresent == 0 {
		return fmt.Errorf("control %#04x says that there is no SACL, but there is one", uint16(sd.Control))
	}
	return nil
}

// Append appends the self-relative form: header, SACL, DACL, owner, group, the
// order in which Windows writes them. It fails when a list does not fit in 64
// KiB (about 1,800 entries) or an entry has no trustee.
func (sd SecurityDescriptor) Append(dst []byte) ([]byte, error) {
	start := len(dst)
	control := sd.Control | SelfRelative
	dst = append(dst, make([]byte, descriptorHeader)...)
	place := func(field int) {
		binary.LittleEndian.PutUint32(dst[start+field:], uint32(len(dst)-start))
	}
	var err error
	if sd.SACL != nil {
		control |= SACLPresent
		place(12)
		if dst, err = sd.SACL.append(dst); err != nil {
			return nil, fmt.Errorf("secdesc: SACL: %w", err)
		}
	}
	if sd.DACL != nil {
		control |= DACLPresent
		place(16)
		if dst, err = sd.DACL.append(dst); err != nil {
			return nil, fmt.Errorf("secdesc: DACL: %w", err)
		}
	}
	if !sd.Owner.IsZero() {
		place(4)
		dst = sd.Owner.Append(dst)
	}
	if !sd.Group.IsZero() {
		place(8)
		dst = sd.Group.Append(dst)
	}
	dst[start] = descriptorRevision
	dst[start+1] = sd.RMControl
	binary.LittleEndian.PutUint16(dst[start+2:], uint16(control))
	return dst, nil
}
