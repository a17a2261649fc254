package secdesc

import (
	"encoding/binary"
	"fmt"
)

// ACL revisions, [MS-DTYP] 2.4.5.
const (
	// RevisionPlain is for lists without object entries.
	RevisionPlain = 2
	// RevisionDS is for lists that may have object entries. Active Directory
	// uses it for all its descriptors.
	RevisionDS = 4
)

const (
	aclHeader  = 8      // bytes: revision, 0, size in 2, count in 2, 0 in 2
	maxACLSize = 0xfffc // bytes: the largest multiple of 4 that the size field holds
)

// ACL is an access control list, [MS-DTYP] 2.4.5. A list without entries is
// not the same as no list: an empty DACL grants nothing, a nil one everything.
type ACL struct {
	// Revision is 0 to let Append choose the smallest that will do.
	Revision uint8
	ACEs     []ACE
}

// parseACL reads the list at the start of b and returns its size, which may
// be larger than its entries need: what follows them is unused memory.
func parseACL(b []byte) (*ACL, int, error) {
	if len(b) < aclHeader {
		return nil, 0, fmt.Errorf("%d bytes, want a header of %d", len(b), aclHeader)
	}
	acl := &ACL{Revision: b[0]}
	if acl.Revision < RevisionPlain || acl.Revision > RevisionDS {
		return nil, 0, fmt.Errorf("revision %d, want %d to %d", acl.Revision, RevisionPlain, RevisionDS)
	}
	size := int(binary.LittleEndian.Uint16(b[2:]))
	count := int(binary.LittleEndian.Uint16(b[4:]))
	if size < aclHeader || size > len(b) {
		return nil, 0, fmt.Errorf("size %d, have %d bytes", size, len(b))
	}
	rest := b[aclHeader:size]
	if count*aceHeader > len(rest) {
		return nil, 0, fmt.Errorf("%d entries in %d bytes", count, len(rest))
	}
	acl.ACEs = make([]ACE, 0, min(count, len(rest)/(aceHeader+4)))
	for i := range count {
		if len(rest) < aceHeader {
			return nil, 0, fmt.Errorf("entry %d of %d: %d bytes, want a header of %d", i, count, len(rest), aceHeader)
		}
		n := int(binary.LittleEndian.Uint16(rest[2:]))
		if n < aceHeader || n > len(rest) || n%4 != 0 {
			return nil, 0, fmt.Errorf("entry %d of %d: size %d, have %d bytes", i, count, n, len(rest))
		}
		ace, err := parseACE(rest[:n])
		if err != nil {
			return nil, 0, fmt.Errorf("entry %d of %d: %w", i, count, err)
		}
		acl.ACEs = append(acl.ACEs, ace)
		rest = rest[n:]
	}
	return acl, size, nil
}

func (l *ACL) size() int {
	n := aclHeader
	for _, a := range l.ACEs {
		n += a.size()
	}
	return n
}

func (l *ACL) revision() uint8 {
	if l.Revision != 0 {
		return l.Revision
	}
	for _, a := range l.ACEs {
		if a.Type.IsObject() {
			return RevisionDS
		}
	}
	return RevisionPlain
}

func (l *ACL) append(dst []byte) ([]byte, error) {
	size := l.size()
	if size > maxACLSize {
		return nil, fmt.Errorf("%d entries need %d bytes, more than an ACL of %d holds", len(l.ACEs), size, maxACLSize)
	}
	dst = append(dst, l.revision(), 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(size))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(l.ACEs)))
	dst = append(dst, 0, 0)
	var err error
	for i, a := range l.ACEs {
		if dst, err = a.append(dst); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return dst, nil
}
