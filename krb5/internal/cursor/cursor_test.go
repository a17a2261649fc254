package cursor_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/krb5/internal/cursor"
)

func TestTheFirstErrorStays(t *testing.T) {
	c := cursor.New("file", binary.BigEndian, []byte{0, 5, 1, 2, 3})
	if b := c.Counted16("name"); b != nil {
		t.Errorf("got %x", b)
	}
	want := "file: name at offset 2: got 3 bytes, want 5"
	if c.Err() == nil || c.Err().Error() != want {
		t.Errorf("error %v, want %s", c.Err(), want)
	}
	if c.Uint8("next") != 0 || c.Uint32("next") != 0 || c.Len() != 0 || c.Offset() != 2 {
		t.Error("something was read after an error")
	}
	c.Fail("next", "again")
	if c.Err().Error() != want {
		t.Errorf("the error became %v", c.Err())
	}
}

func TestCountsThatCannotBe(t *testing.T) {
	c := cursor.New("file", binary.BigEndian, []byte{0xff, 0xff, 0xff, 0xff, 0})
	if n := c.Count32("items", 4); n != 0 || c.Err() == nil || !strings.Contains(c.Err().Error(), "items") {
		t.Errorf("%d, %v", n, c.Err())
	}
	c = cursor.New("file", binary.BigEndian, []byte{0xff, 0xff, 0xff, 0xff, 0})
	if b := c.Counted32("data"); b != nil || c.Err() == nil {
		t.Errorf("%x, %v", b, c.Err())
	}
	c = cursor.New("file", binary.LittleEndian, []byte{2, 0, 0, 0, 1, 2, 3, 4})
	if n := c.Count32("items", 2); n != 2 || c.Err() != nil {
		t.Errorf("%d, %v", n, c.Err())
	}
}

func TestReadBytesCannotGrowIntoTheInput(t *testing.T) {
	in := []byte{1, 2, 3, 4}
	c := cursor.New("file", binary.BigEndian, in)
	_ = append(c.Bytes("head", 2), 9)
	if in[2] != 3 {
		t.Error("append to what was read overwrote the input")
	}
}
