package ldapmsg

import (
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Op is a protocolOp by its tag: RFC 4511, Section 4.1.1.
type Op byte

// The operations.
const (
	OpBindRequest      Op = 0x60
	OpBindResponse     Op = 0x61
	OpUnbindRequest    Op = 0x42
	OpSearchRequest    Op = 0x63
	OpSearchEntry      Op = 0x64
	OpSearchDone       Op = 0x65
	OpModifyRequest    Op = 0x66
	OpModifyResponse   Op = 0x67
	OpAddRequest       Op = 0x68
	OpAddResponse      Op = 0x69
	OpDelRequest       Op = 0x4a
	OpDelResponse      Op = 0x6b
	OpModifyDNRequest  Op = 0x6c
	OpModifyDNResponse Op = 0x6d
	OpCompareRequest   Op = 0x6e
	OpCompareResponse  Op = 0x6f
	OpAbandonRequest   Op = 0x50
	OpExtendedRequest  Op = 0x77
	OpExtendedResponse Op = 0x78
)

// String is the operation in a word, as logs have it.
func (o Op) String() string {
	switch o {
	case OpBindRequest, OpBindResponse:
		return "bind"
	case OpUnbindRequest:
		return "unbind"
	case OpSearchRequest, OpSearchEntry, OpSearchDone:
		return "search"
	case OpModifyRequest, OpModifyResponse:
		return "modify"
	case OpAddRequest, OpAddResponse:
		return "add"
	case OpDelRequest, OpDelResponse:
		return "delete"
	case OpModifyDNRequest, OpModifyDNResponse:
		return "modify DN"
	case OpCompareRequest, OpCompareResponse:
		return "compare"
	case OpAbandonRequest:
		return "abandon"
	case OpExtendedRequest, OpExtendedResponse:
		return "extended"
	}
	return fmt.Sprintf("operation %#02x", byte(o))
}

// Response is the operation that answers o; ok is false where o is no request that
// gets an answer.
func (o Op) Response() (r Op, ok bool) {
	switch o {
	case OpBindRequest, OpModifyRequest, OpAddRequest, OpModifyDNRequest, OpCompareRequest, OpExtendedRequest:
		return o + 1, true
	case OpSearchRequest:
		return OpSearchDone, true
	case OpDelRequest:
		return OpDelResponse, true
	}
	return 0, false
}

// MaxControls is how many controls a message may have. No client known sends more
// than six.
const MaxControls = 32

// Universal and context tags that appear in messages.
const (
	tagBoolean     = 0x01
	tagInteger     = 0x02
	tagOctetString = 0x04
	tagEnumerated  = 0x0a
	tagSequence    = 0x30
	tagSet         = 0x31
	tagControls    = 0xa0
	context        = 0x80 // a primitive element of the context class
	constructed    = 0x20
)

// Message is the envelope of an operation: RFC 4511, Section 4.1.1. It shares the
// memory of the bytes that it was read from.
type Message struct {
	// ID is 0 in a notice of the server alone; Parse refuses it.
	ID int32
	Op Op
	// Body is the content of the operation.
	Body     []byte
	Controls []Control
}

// Control is a control: RFC 4511, Section 4.1.11.
type Control struct {
	Type     string
	Critical bool
	// Value is nil where there is none.
	Value []byte
}

// Parse reads one message that fills b.
//
// Deviation: components behind the last one that is known are refused, here and in the
// bodies, where RFC 4511, Section 4 has them ignored. None exist, and what a server
// passes over is where two readers of one message come to differ.
func Parse(b []byte) (Message, error) {
	var m Message
	r := reader{b: b}
	body := r.element(tagSequence)
	r.end()
	r = reader{b: body, err: r.err}
	id := r.integer(tagInteger)
	op, content := r.any()
	m.Op, m.Body = Op(op), content
	if r.has(tagControls) {
		m.Controls = parseControls(&r, r.element(tagControls))
	}
	r.end()
	if r.err == nil && (id <= 0 || id > 1<<31-1) {
		r.err = fmt.Errorf("message id %d, want 1 to 2147483647", id)
	}
	if r.err != nil {
		return Message{}, fmt.Errorf("ldapmsg: message: %w", r.err)
	}
	m.ID = int32(id)
	return m, nil
}

// parseControls reads the list; its faults become those of r.
func parseControls(r *reader, list []byte) []Control {
	var out []Control
	for len(list) > 0 && r.err == nil {
		if len(out) == MaxControls {
			r.err = fmt.Errorf("more than %d controls", MaxControls)
			break
		}
		l := reader{b: list, err: r.err}
		one := reader{b: l.element(tagSequence), err: l.err}
		c := Control{Type: string(one.octets())}
		if one.has(tagBoolean) {
			c.Critical = one.boolean(tagBoolean)
		}
		if one.has(tagOctetString) {
			c.Value = one.octets()
		}
		one.end()
		for _, o := range out {
			if o.Type == c.Type && one.err == nil {
				one.err = fmt.Errorf("control %s twice", c.Type)
			}
		}
		out, list, r.err = append(out, c), l.b, one.err
	}
	return out
}

// reader reads elements one after another; the first fault ends it and is kept.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

// any reads whatever element comes next.
func (r *reader) any() (tag byte, body []byte) {
	if r.err != nil {
		return 0, nil
	}
	tag, body, rest, err := adproto.ReadElement(r.b)
	if err != nil {
		r.fail("%w", err)
		return 0, nil
	}
	r.b = rest
	return tag, body
}

// element reads an element that must have the tag. Its content is never nil where it
// was read.
func (r *reader) element(want byte) []byte {
	tag, body := r.any()
	if r.err == nil && tag != want {
		r.fail("tag %#02x, want %#02x", tag, want)
		return nil
	}
	return body
}

// has reports whether the next element has the tag.
func (r *reader) has(tag byte) bool { return r.err == nil && len(r.b) > 0 && r.b[0] == tag }

func (r *reader) octets() []byte { return r.element(tagOctetString) }

func (r *reader) boolean(tag byte) bool {
	b := r.element(tag)
	if r.err == nil && len(b) != 1 {
		r.fail("boolean of %d bytes, want 1", len(b))
		return false
	}
	return r.err == nil && b[0] != 0
}

// integer reads a number of at most four octets, and of five where the first is a
// sign: all that RFC 4511 has are at most 2147483647.
func (r *reader) integer(tag byte) int64 {
	b := r.element(tag)
	if r.err != nil {
		return 0
	}
	if len(b) == 0 || len(b) > 4 {
		r.fail("integer of %d bytes, want 1 to 4", len(b))
		return 0
	}
	n := int64(int8(b[0]))
	for _, c := range b[1:] {
		n = n<<8 | int64(c)
	}
	return n
}

var errTrailing = errors.New("bytes after the last component")

// end requires that nothing follows.
func (r *reader) end() {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d %w", len(r.b), errTrailing)
	}
}
