// Package secret holds key material that never prints.
//
// A [Bytes] keeps its bytes inside a closure, so that no verb of fmt, no
// structured logger and no encoder that walks a value by reflection can reach
// them: slice and pointer forms leak through %v, %x or a debugger's dump, a
// function value does not. Whoever needs the bytes asks with [Bytes.Reveal],
// and those calls are few enough to be read one by one.
//
// It is not an allocator: Go may copy what library code was given, and a
// value that was revealed is the caller's to look after.
package secret

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// placeholder is what every printed form of a secret says.
const placeholder = "[secret]"

// ErrMarshal is returned by every attempt to encode a secret.
var ErrMarshal = errors.New("secret: refusing to marshal key material")

// Bytes is key material. The zero value is the empty secret. Copies of a Bytes
// share the same memory: [Bytes.Destroy] on one empties all.
type Bytes struct {
	// reveal returns the live bytes; nil stands for the empty secret.
	reveal func() []byte
}

// New makes a secret of b and takes ownership of it: the caller must neither
// change nor keep b.
func New(b []byte) Bytes {
	if len(b) == 0 {
		return Bytes{}
	}
	return Bytes{reveal: func() []byte { return b }}
}

// Copy makes a secret of a copy of b, which stays the caller's.
func Copy(b []byte) Bytes { return New(bytes.Clone(b)) }

// Reveal returns the live bytes, not a copy; they must not be changed, and not
// be kept longer than the secret.
func (b Bytes) Reveal() []byte {
	if b.reveal == nil {
		return nil
	}
	return b.reveal()
}

// Len is the number of bytes.
func (b Bytes) Len() int { return len(b.Reveal()) }

// IsZero reports whether the secret is empty.
func (b Bytes) IsZero() bool { return b.Len() == 0 }

// Clone returns a secret with memory of its own.
func (b Bytes) Clone() Bytes { return Copy(b.Reveal()) }

// Equal compares in time that depends on the lengths alone.
func (b Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(b.Reveal(), o.Reveal()) == 1 }

// Destroy overwrites the bytes with zeros, in every copy of b.
func (b Bytes) Destroy() { clear(b.Reveal()) }

// String hides the secret.
func (Bytes) String() string { return placeholder }

// GoString hides the secret from %#v.
func (Bytes) GoString() string { return placeholder }

// Format hides the secret from every verb of fmt.
func (Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// LogValue hides the secret from log/slog.
func (Bytes) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText refuses: a secret has no text form. encoding/json, yaml and xml
// all come here.
func (Bytes) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses, for encoding/gob.
func (Bytes) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
