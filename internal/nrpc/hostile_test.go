package nrpc

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The credential is AES-128 in CFB8 with a zero initialization vector, as OpenSSL has it.
func TestCredentialIsCFB8(t *testing.T) {
	key, _ := hex.DecodeString("2b7e151628aed2a6abf7158809cf4f3c")
	// openssl enc -aes-128-cfb8 -K 2b7e… -iv 0, of 0102030405060708.
	want := "7c204e5391d41b77"
	if got := credential(key, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}); hex.EncodeToString(got[:]) != want {
		t.Errorf("%x, want %s", got, want)
	}
}

// FuzzAnswer: whatever a controller sends is an answer within the limits, or an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{5, 0, pduResponse, 3, 0x10, 0, 0, 0, 28, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append([]byte{5, 0, pduBindAck, 3, 0x10, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 44)...))
	f.Add(append(append(append([]byte{5, 0, pduResponse, 3, 0x10, 0, 0, 0, 140, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 20)...),
		1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 75, 0, 0, 0, 75, 0, 0, 0), tower()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []byte{pduResponse, pduBindAck} {
			body, err := readPDU(bytes.NewReader(b), kind, 1)
			if err != nil {
				continue
			}
			if len(body) > maxFragment {
				t.Fatalf("%d bytes", len(body))
			}
			_ = accepted(body)
			if port, err := parseMapped(body); err == nil && port == 0 {
				t.Fatal("port 0")
			}
			r := reader{b: body}
			r.take(8)
			_ = r.status("x")
		}
	})
}
