package directory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secret"
)

// Logons are the counters of an account, which AD shows as attributes of the same names.
// Package account counts, and writes them in the background: they lag by some seconds.
// They are not part of the object, so that a logon changes nothing that is replicated.
type Logons struct {
	LastLogon       dtyp.Filetime
	LogonCount      uint32
	BadPasswordTime dtyp.Filetime
	BadPwdCount     uint32
}

// logonsVersion is the first byte of the row, logonsSize its size in bytes.
const (
	logonsVersion = 1
	logonsSize    = 1 + 8 + 4 + 8 + 4
)

// Append is the row in bytes, big endian.
func (l Logons) Append(dst []byte) []byte {
	dst = append(dst, logonsVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.LastLogon))
	dst = binary.BigEndian.AppendUint32(dst, l.LogonCount)
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.BadPasswordTime))
	return binary.BigEndian.AppendUint32(dst, l.BadPwdCount)
}

// ErrLogons: a row is no [Logons].
var ErrLogons = errors.New("malformed row of logon counters")

// ParseLogons reads what Append wrote.
func ParseLogons(b []byte) (Logons, error) {
	if len(b) != logonsSize || b[0] != logonsVersion {
		return Logons{}, fmt.Errorf("%w: %d bytes, want %d of version %d", ErrLogons, len(b), logonsSize, logonsVersion)
	}
	return Logons{
		LastLogon:       dtyp.Filetime(binary.BigEndian.Uint64(b[1:])),
		LogonCount:      binary.BigEndian.Uint32(b[9:]),
		BadPasswordTime: dtyp.Filetime(binary.BigEndian.Uint64(b[13:])),
		BadPwdCount:     binary.BigEndian.Uint32(b[21:]),
	}, nil
}

// Logons are the counters of an account. It fails with rows.ErrNotFound where nothing was
// counted yet.
func (r *Reader) Logons(g dtyp.GUID) (Logons, error) {
	row, err := r.Private(g, PrivateLogon)
	if err != nil {
		return Logons{}, err
	}
	return ParseLogons(row.Reveal())
}

// SetLogons writes the counters of an account.
func (w *Writer) SetLogons(g dtyp.GUID, l Logons) error {
	return w.SetPrivate(g, PrivateLogon, secret.New(l.Append(nil)))
}

// counter is an attribute that shows one of the counters of an account.
func (s *session) counter(o *object, a *schema.Attribute) ([][]byte, error) {
	if len(o.Values[s.known.userAccountControl]) == 0 {
		return o.Values[a], nil // no account
	}
	l, err := s.Logons(o.GUID)
	if errors.Is(err, rows.ErrNotFound) {
		return o.Values[a], nil
	}
	if err != nil {
		return nil, err
	}
	k := &s.known
	switch a {
	case k.lastLogon:
		return decimal(int64(l.LastLogon)), nil
	case k.logonCount:
		return decimal(int64(l.LogonCount)), nil
	case k.badPasswordTime:
		return decimal(int64(l.BadPasswordTime)), nil
	}
	return decimal(int64(l.BadPwdCount)), nil
}

// passwordSet is pwdLastSet. That of a gMSA is not stored but follows its timeline: when
// the password in force began, or when the account was made with its first one.
func (s *session) passwordSet(o *object) ([][]byte, error) {
	p, _, err := s.period(o)
	if err != nil || p == nil {
		return o.Values[s.known.pwdLastSet], err
	}
	return one(strconv.AppendInt(nil, int64(max(p.Start, o.WhenCreated)), 10)), nil
}
