// Package cursor reads the fields that keytabs, credential caches and PACs are
// made of, strictly and with errors that say where.
package cursor

import (
	"encoding/binary"
	"fmt"
)

// Cursor reads from the front of a byte slice. The first error stays: what is
// read after it is zero, so that a caller may check [Cursor.Err] once for
// several fields, but must do so before a count of its own making is used.
type Cursor struct {
	buf   []byte
	off   int
	order binary.ByteOrder
	what  string
	err   error
}

// New starts at the beginning of b. what names the format in errors.
func New(what string, order binary.ByteOrder, b []byte) *Cursor {
	return &Cursor{buf: b, order: order, what: what}
}

// Err is the first error.
func (c *Cursor) Err() error { return c.err }

// Offset is how many bytes were read.
func (c *Cursor) Offset() int { return c.off }

// Len is how many bytes are left, 0 after an error.
func (c *Cursor) Len() int {
	if c.err != nil {
		return 0
	}
	return len(c.buf) - c.off
}

// Fail records an error in a field that was just read.
func (c *Cursor) Fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%s: %s at offset %d: %s", c.what, field, c.off, fmt.Sprintf(format, args...))
	}
}

// Bytes reads n bytes, which stay part of the input.
func (c *Cursor) Bytes(field string, n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.buf)-c.off {
		c.Fail(field, "got %d bytes, want %d", len(c.buf)-c.off, n)
		return nil
	}
	b := c.buf[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

// Uint8 reads one byte.
func (c *Cursor) Uint8(field string) uint8 {
	if b := c.Bytes(field, 1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads two bytes.
func (c *Cursor) Uint16(field string) uint16 {
	if b := c.Bytes(field, 2); b != nil {
		return c.order.Uint16(b)
	}
	return 0
}

// Uint32 reads four bytes.
func (c *Cursor) Uint32(field string) uint32 {
	if b := c.Bytes(field, 4); b != nil {
		return c.order.Uint32(b)
	}
	return 0
}

// Uint64 reads eight bytes.
func (c *Cursor) Uint64(field string) uint64 {
	if b := c.Bytes(field, 8); b != nil {
		return c.order.Uint64(b)
	}
	return 0
}

// Counted16 reads a length of two bytes and as many bytes.
func (c *Cursor) Counted16(field string) []byte {
	return c.Bytes(field, int(c.Uint16(field)))
}

// Counted32 reads a length of four bytes and as many bytes.
func (c *Cursor) Counted32(field string) []byte {
	n := c.Uint32(field)
	if int64(n) > int64(c.Len()) {
		c.Fail(field, "got %d bytes, want %d", c.Len(), n)
		return nil
	}
	return c.Bytes(field, int(n))
}

// Count32 reads the number of items that follow, each of at least size bytes.
// More than the rest of the input can hold is an error, so that the number is
// safe to allocate by.
func (c *Cursor) Count32(field string, size int) int {
	n := c.Uint32(field)
	if int64(n) > int64(c.Len()/size) {
		c.Fail(field, "got %d items, want at most %d", n, c.Len()/size)
		return 0
	}
	return int(n)
}
