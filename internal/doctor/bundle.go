package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/secret"
)

// Bundle is what is handed to somebody who is to help: files of text, in which no
// secret stands that is known here. What a file is made of leaves secrets out in the
// first place; whatever slipped in all the same, such as a password in a comment or in
// the words of an error, is taken out before anything is written, in every encoding that
// programs print bytes in.
type Bundle struct {
	files   []bundleFile
	secrets []secret.Bytes
}

type bundleFile struct {
	name    string
	content []byte
}

// Add puts a file in.
func (b *Bundle) Add(name string, content []byte) {
	b.files = append(b.files, bundleFile{name, content})
}

// minSecret is the shortest secret that is looked for, in bytes: shorter ones are in
// every text.
const minSecret = 4

// Hide makes a secret be looked for. The caller keeps it until [Bundle.Write] is done.
func (b *Bundle) Hide(s secret.Bytes) {
	if s.Len() >= minSecret {
		b.secrets = append(b.secrets, s)
	}
}

// leftOut stands where a secret stood.
const leftOut = "[left out]"

// Write writes the bundle as a compressed archive.
func (b *Bundle) Write(w io.Writer, now time.Time) error {
	forms := b.forms()
	zw := gzip.NewWriter(w)
	tw := tar.NewWriter(zw)
	for _, f := range b.files {
		content := redact(f.content, forms)
		h := &tar.Header{Name: "gmsa/" + f.name, Mode: 0o600, Size: int64(len(content)), ModTime: now}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("bundle: %s: %w", f.name, err)
		}
		if _, err := tw.Write(content); err != nil {
			return fmt.Errorf("bundle: %s: %w", f.name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return zw.Close()
}

// forms are the secrets in every encoding, the longest first: one may be part of another.
func (b *Bundle) forms() [][]byte {
	var list [][]byte
	for _, s := range b.secrets {
		list = append(list, encodings(s.Reveal())...)
	}
	slices.SortFunc(list, func(x, y []byte) int { return len(y) - len(x) })
	return list
}

// redact takes the forms out of a text.
func redact(text []byte, forms [][]byte) []byte {
	for _, f := range forms {
		text = bytes.ReplaceAll(text, f, []byte(leftOut))
	}
	return text
}

// encodings are the ways in which bytes are printed: as they are, in hexadecimal, in
// base64 (wherever they begin in a longer text), in the escapes of JSON and Go, and
// in UTF-16.
func encodings(b []byte) [][]byte {
	lower := hex.EncodeToString(b)
	list := [][]byte{bytes.Clone(b), []byte(lower), []byte(strings.ToUpper(lower))}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for shift := range 3 {
			list = append(list, inBase64(e, b, shift))
		}
	}
	list = append(list, unquoted(fmt.Sprintf("%q", b)))
	if quoted, err := json.Marshal(string(b)); err == nil {
		list = append(list, unquoted(string(quoted)))
	}
	units := utf16.Encode([]rune(string(b)))
	for _, big := range []bool{false, true} {
		wide := make([]byte, 0, 2*len(units))
		for _, u := range units {
			if big {
				wide = append(wide, byte(u>>8), byte(u))
			} else {
				wide = append(wide, byte(u), byte(u>>8))
			}
		}
		list = append(list, wide)
		for shift := range 3 {
			list = append(list, inBase64(base64.StdEncoding, wide, shift))
		}
		list = append(list, []byte(hex.EncodeToString(wide)))
	}
	return slices.DeleteFunc(list, func(f []byte) bool { return len(f) < minSecret })
}

// unquoted is a text without the quotes around it.
func unquoted(s string) []byte { return []byte(strings.Trim(s, `"`)) }

// inBase64 is the part of a base64 text that bytes make by themselves when shift bytes
// of something else stand before them: a character has six bits, and those that share
// bits with a neighbour are left away.
func inBase64(e *base64.Encoding, b []byte, shift int) []byte {
	text := e.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, shift), b...))
	first := (8*shift + 5) / 6
	end := 8 * (shift + len(b)) / 6
	return []byte(text[min(first, end):end])
}
