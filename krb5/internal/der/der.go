// Package der reads and writes the part of ASN.1's Distinguished Encoding Rules
// that Kerberos uses (ITU-T X.690; RFC 4120, Section 5.1): single-byte tags,
// definite minimal lengths, explicit context tags. It uses no reflection.
//
// It is not a general ASN.1 library: a message is written by hand as nested
// calls on a [Builder], and read as a walk of [Reader] and [Value], each of
// which mirrors the nesting of the specification's type. Read [Parse] first.
package der

import "fmt"

// The universal tags that Kerberos and SPNEGO use, with the constructed bit
// where DER sets it.
const (
	TagBoolean         = 0x01
	TagInteger         = 0x02
	TagBitString       = 0x03
	TagOctetString     = 0x04
	TagOID             = 0x06
	TagEnumerated      = 0x0a
	TagGeneralizedTime = 0x18
	TagGeneralString   = 0x1b
	TagSequence        = 0x30
)

// Application is the tag [APPLICATION n], constructed; n is at most 30.
func Application(n int) byte { return 0x60 | byte(n) }

// Context is the tag [n], constructed as explicit tagging makes it; n is at
// most 30.
func Context(n int) byte { return 0xa0 | byte(n) }

// SyntaxError says where an encoding breaks the rules.
type SyntaxError struct {
	// Type and Field name the ASN.1 type and its field; Field is empty when the
	// fault is the type's own.
	Type, Field string
	// Offset counts bytes from the beginning of what was parsed.
	Offset int
	// Got and Want say what was found and what was expected there.
	Got, Want string
}

// Error is "Ticket.realm at offset 12: got tag 0x02, want tag 0x1b".
func (e *SyntaxError) Error() string {
	name := e.Type
	if e.Field != "" {
		name += "." + e.Field
	}
	return fmt.Sprintf("%s at offset %d: got %s, want %s", name, e.Offset, e.Got, e.Want)
}
