package ldapmsg

import "encoding/binary"

// Result is an LDAPResult with what some responses add: RFC 4511, Section 4.1.9.
type Result struct {
	Code       int
	MatchedDN  string
	Diagnostic string
	// Referral is the URL of where to ask instead, with the code of a referral: RFC
	// 4511, Section 4.1.10. Empty: none.
	Referral string
	// Credentials are the server's, in a bind response; nil for none.
	Credentials []byte
	// Name and Value are those of an extended response; Value is nil for none.
	Name  string
	Value []byte
}

// mark is where an element began whose length is not known yet.
type mark int

// begin writes a tag and room for a length of four octets, the form in which Active
// Directory writes all its lengths: so nothing is written twice or measured first.
func begin(dst []byte, tag byte) ([]byte, mark) {
	return append(dst, tag, 0x84, 0, 0, 0, 0), mark(len(dst) + 2)
}

// end fills in the length of what was written since begin.
func end(dst []byte, m mark) []byte {
	binary.BigEndian.PutUint32(dst[m:], uint32(len(dst)-int(m)-4))
	return dst
}

// appendString writes a primitive element.
func appendString[T string | []byte](dst []byte, tag byte, s T) []byte {
	n := len(s)
	switch {
	case n < 0x80:
		dst = append(dst, tag, byte(n))
	case n < 1<<16:
		dst = append(dst, tag, 0x82, byte(n>>8), byte(n))
	default:
		dst = append(dst, tag, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, s...)
}

// appendInteger writes a number that is not negative.
func appendInteger(dst []byte, tag byte, n uint32) []byte {
	var b [5]byte
	binary.BigEndian.PutUint32(b[1:], n)
	i := 0
	for i < 4 && b[i] == 0 && b[i+1] < 0x80 {
		i++
	}
	return append(append(dst, tag, byte(5-i)), b[i:]...)
}

// AppendResult writes a message with a result.
func AppendResult(dst []byte, id int32, op Op, r Result, controls ...Control) []byte {
	dst, message := begin(dst, tagSequence)
	dst = appendInteger(dst, tagInteger, uint32(id))
	dst, body := begin(dst, byte(op))
	dst = appendInteger(dst, tagEnumerated, uint32(r.Code))
	dst = appendString(dst, tagOctetString, r.MatchedDN)
	dst = appendString(dst, tagOctetString, r.Diagnostic)
	if r.Referral != "" {
		var list mark
		dst, list = begin(dst, context|constructed|3)
		dst = end(appendString(dst, tagOctetString, r.Referral), list)
	}
	if op == OpBindResponse && r.Credentials != nil {
		dst = appendString(dst, context|7, r.Credentials)
	}
	if op == OpExtendedResponse && r.Name != "" {
		dst = appendString(dst, context|10, r.Name)
	}
	if op == OpExtendedResponse && r.Value != nil {
		dst = appendString(dst, context|11, r.Value)
	}
	dst = end(dst, body)
	return end(appendControls(dst, controls), message)
}

func appendControls(dst []byte, controls []Control) []byte {
	if len(controls) == 0 {
		return dst
	}
	dst, list := begin(dst, tagControls)
	for _, c := range controls {
		var one mark
		dst, one = begin(dst, tagSequence)
		dst = appendString(dst, tagOctetString, c.Type)
		if c.Critical {
			dst = append(dst, tagBoolean, 1, 0xff)
		}
		if c.Value != nil {
			dst = appendString(dst, tagOctetString, c.Value)
		}
		dst = end(dst, one)
	}
	return end(dst, list)
}

// Entry is a search entry that is being written: RFC 4511, Section 4.5.2. It is used
// in the order BeginEntry, Attribute as often as need be, End.
type Entry struct {
	dst                    []byte
	message, body, partial mark
}

// BeginEntry begins an entry behind dst, which the Entry owns until its End.
func BeginEntry(dst []byte, id int32, dn string) (e Entry) {
	dst, e.message = begin(dst, tagSequence)
	dst = appendInteger(dst, tagInteger, uint32(id))
	dst, e.body = begin(dst, byte(OpSearchEntry))
	dst = appendString(dst, tagOctetString, dn)
	e.dst, e.partial = begin(dst, tagSequence)
	return e
}

// Attribute writes an attribute.
func (e *Entry) Attribute(name string, values [][]byte) {
	dst, attribute := begin(e.dst, tagSequence)
	dst = appendString(dst, tagOctetString, name)
	dst, set := begin(dst, tagSet)
	for _, v := range values {
		dst = appendString(dst, tagOctetString, v)
	}
	e.dst = end(end(dst, set), attribute)
}

// End gives dst back with the entry behind it.
func (e *Entry) End() []byte { return end(end(end(e.dst, e.partial), e.body), e.message) }
