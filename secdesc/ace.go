package secdesc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ErrMalformed is wrapped by every error about bytes that are not a security
// descriptor.
var ErrMalformed = errors.New("malformed security descriptor")

// ACEType is the kind of an access control entry, [MS-DTYP] 2.4.4.1.
type ACEType uint8

// The kinds of entries.
const (
	Allow               ACEType = 0x00
	Deny                ACEType = 0x01
	Audit               ACEType = 0x02
	Alarm               ACEType = 0x03 // reserved by the specification
	AllowCompound       ACEType = 0x04 // reserved; kept as bytes
	AllowObject         ACEType = 0x05
	DenyObject          ACEType = 0x06
	AuditObject         ACEType = 0x07
	AlarmObject         ACEType = 0x08
	AllowCallback       ACEType = 0x09
	DenyCallback        ACEType = 0x0a
	AllowCallbackObject ACEType = 0x0b
	DenyCallbackObject  ACEType = 0x0c
	AuditCallback       ACEType = 0x0d
	AlarmCallback       ACEType = 0x0e
	AuditCallbackObject ACEType = 0x0f
	AlarmCallbackObject ACEType = 0x10
	MandatoryLabel      ACEType = 0x11
	ResourceAttribute   ACEType = 0x12
	ScopedPolicyID      ACEType = 0x13
)

// layout is how the body of an entry is laid out.
type layout uint8

const (
	layoutOpaque layout = iota // not known: kept as bytes
	layoutPlain                // mask, SID, application data
	layoutObject               // mask, flags, GUIDs, SID, application data
)

func (t ACEType) layout() layout {
	switch t {
	case Allow, Deny, Audit, Alarm, AllowCallback, DenyCallback, AuditCallback, AlarmCallback,
		MandatoryLabel, ResourceAttribute, ScopedPolicyID:
		return layoutPlain
	case AllowObject, DenyObject, AuditObject, AlarmObject,
		AllowCallbackObject, DenyCallbackObject, AuditCallbackObject, AlarmCallbackObject:
		return layoutObject
	}
	return layoutOpaque
}

// IsObject reports whether entries of this kind have object types.
func (t ACEType) IsObject() bool { return t.layout() == layoutObject }

// IsAllow reports whether entries of this kind grant, conditionally or not.
func (t ACEType) IsAllow() bool {
	return t == Allow || t == AllowObject || t == AllowCallback || t == AllowCallbackObject
}

// IsDeny reports whether entries of this kind deny, conditionally or not.
func (t ACEType) IsDeny() bool {
	return t == Deny || t == DenyObject || t == DenyCallback || t == DenyCallbackObject
}

// isConditional reports whether the entry counts only if its Data, a
// conditional expression, says so.
func (t ACEType) isConditional() bool {
	return t >= AllowCallback && t <= AlarmCallbackObject
}

// ACEFlags are the flags of an entry, [MS-DTYP] 2.4.4.1.
type ACEFlags uint8

// The flags of an entry; the names in brackets are those of SDDL.
const (
	ObjectInherit      ACEFlags = 0x01 // [OI]
	ContainerInherit   ACEFlags = 0x02 // [CI] children inherit the entry
	NoPropagateInherit ACEFlags = 0x04 // [NP] but not theirs
	InheritOnly        ACEFlags = 0x08 // [IO] it does not count for the object itself
	Inherited          ACEFlags = 0x10 // [ID] it came from the parent
	Critical           ACEFlags = 0x20 // [CR]
	AuditSuccess       ACEFlags = 0x40 // [SA]
	AuditFailure       ACEFlags = 0x80 // [FA]
)

// ACE is an access control entry, [MS-DTYP] 2.4.4.
type ACE struct {
	Type  ACEType
	Flags ACEFlags
	Mask  Mask
	// ObjectType, in kinds with objects, is the property, property set, class,
	// validated write or control right that the entry is about; nil for all.
	ObjectType *dtyp.GUID
	// InheritedObjectType, in kinds with objects, is the class of children
	// that inherit the entry; nil for all.
	InheritedObjectType *dtyp.GUID
	// SID is the trustee.
	SID dtyp.SID
	// Data is what follows the SID: the condition of a callback entry, the
	// claim of a resource attribute, normally nothing in other kinds. In a
	// kind that this package does not know it is all that follows the header,
	// and Mask and SID are zero.
	Data []byte
}

// Equal compares all fields.
func (a ACE) Equal(b ACE) bool {
	return a.Type == b.Type && a.Flags == b.Flags && a.Mask == b.Mask && a.SID == b.SID &&
		equalGUID(a.ObjectType, b.ObjectType) && equalGUID(a.InheritedObjectType, b.InheritedObjectType) &&
		slices.Equal(a.Data, b.Data)
}

func equalGUID(a, b *dtyp.GUID) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// Bits of the Flags field of an object entry, [MS-DTYP] 2.4.4.3.
const (
	objectTypePresent          = 1
	inheritedObjectTypePresent = 2
)

const aceHeader = 4 // bytes: type, flags, size in 2 bytes

// parseACE reads one entry, which fills b from its header to its end.
func parseACE(b []byte) (ACE, error) {
	a := ACE{Type: ACEType(b[0]), Flags: ACEFlags(b[1])}
	body := b[aceHeader:]
	if a.Type.layout() == layoutOpaque {
		a.Data = keep(body)
		return a, nil
	}
	if len(body) < 4 {
		return ACE{}, fmt.Errorf("type %#02x: %d bytes of body, want a mask of 4", uint8(a.Type), len(body))
	}
	a.Mask = Mask(binary.LittleEndian.Uint32(body))
	body = body[4:]
	if a.Type.IsObject() {
		var err error
		if body, err = a.parseObjectTypes(body); err != nil {
			return ACE{}, fmt.Errorf("type %#02x: %w", uint8(a.Type), err)
		}
	}
	sid, n, err := dtyp.DecodeSID(body)
	if err != nil {
		return ACE{}, fmt.Errorf("type %#02x: trustee: %w", uint8(a.Type), err)
	}
	a.SID, a.Data = sid, keep(body[n:])
	return a, nil
}

func (a *ACE) parseObjectTypes(body []byte) (rest []byte, err error) {
	if len(body) < 4 {
		return nil, errors.New("no object flags")
	}
	flags := binary.LittleEndian.Uint32(body)
	body = body[4:]
	if flags&^(objectTypePresent|inheritedObjectTypePresent) != 0 {
		return nil, fmt.Errorf("object flags %#x, want bits 0 and 1 only", flags)
	}
	for _, field := range []struct {
		bit uint32
		dst **dtyp.GUID
	}{{objectTypePresent, &a.ObjectType}, {inheritedObjectTypePresent, &a.InheritedObjectType}} {
		if flags&field.bit == 0 {
			continue
		}
		if len(body) < dtyp.GUIDSize {
			return nil, fmt.Errorf("object types: %d bytes, want %d", len(body), dtyp.GUIDSize)
		}
		g := dtyp.GUID(body[:dtyp.GUIDSize])
		*field.dst = &g
		body = body[dtyp.GUIDSize:]
	}
	return body, nil
}

// keep copies b, and makes nil of nothing so that ACEs compare.
func keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return slices.Clone(b)
}

// size is the number of bytes that append writes.
func (a ACE) size() int {
	n := aceHeader + len(a.Data)
	if a.Type.layout() == layoutOpaque {
		return roundUp(n)
	}
	n += 4 + a.SID.Size()
	if a.Type.IsObject() {
		n += 4
		for _, g := range []*dtyp.GUID{a.ObjectType, a.InheritedObjectType} {
			if g != nil {
				n += dtyp.GUIDSize
			}
		}
	}
	return roundUp(n)
}

// roundUp pads to the multiple of 4 that [MS-DTYP] 2.4.4.1 demands.
func roundUp(n int) int { return (n + 3) &^ 3 }

func (a ACE) append(dst []byte) ([]byte, error) {
	size := a.size()
	if size > maxACLSize-aclHeader {
		return nil, fmt.Errorf("entry of %d bytes does not fit in an ACL of %d", size, maxACLSize)
	}
	end := len(dst) + size
	dst = append(dst, byte(a.Type), byte(a.Flags))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(size))
	if a.Type.layout() != layoutOpaque {
		if a.SID.IsZero() {
			return nil, fmt.Errorf("entry of type %#02x without a trustee", uint8(a.Type))
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(a.Mask))
		if a.Type.IsObject() {
			dst = a.appendObjectTypes(dst)
		} else if a.ObjectType != nil || a.InheritedObjectType != nil {
			return nil, fmt.Errorf("entry of type %#02x has no place for an object type", uint8(a.Type))
		}
		dst = a.SID.Append(dst)
	}
	dst = append(dst, a.Data...)
	return append(dst, make([]byte, end-len(dst))...), nil
}

func (a ACE) appendObjectTypes(dst []byte) []byte {
	var flags uint32
	if a.ObjectType != nil {
		flags |= objectTypePresent
	}
	if a.InheritedObjectType != nil {
		flags |= inheritedObjectTypePresent
	}
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	if a.ObjectType != nil {
		dst = a.ObjectType.Append(dst)
	}
	if a.InheritedObjectType != nil {
		dst = a.InheritedObjectType.Append(dst)
	}
	return dst
}
