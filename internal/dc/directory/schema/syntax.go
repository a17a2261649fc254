package schema

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/secdesc"
)

// ErrSyntax is wrapped when a value is none of its attribute
// (invalidAttributeSyntax, LDAP 21).
var ErrSyntax = errors.New("invalid attribute syntax")

// ErrRange is wrapped when a value is outside of its attribute's range
// (constraintViolation, LDAP 19).
var ErrRange = errors.New("value out of range")

// Syntax is the syntax of an attribute's values, [MS-ADTS] 3.1.1.2.2.2. The zero
// value is none.
type Syntax uint8

// The syntaxes. Values have the form that LDAP carries, strings in UTF-8.
const (
	DN                 Syntax = 1 + iota // a distinguished name
	OID                                  // an OID, or the name of a class or attribute
	CaseExact                            // case-sensitive string
	CaseIgnore                           // Teletex
	Printable                            // printable and case-exact
	IA5                                  // ASCII and case-exact
	Numeric                              // digits and spaces
	DNBinary                             // B:count:hex:DN
	Boolean                              // TRUE or FALSE
	Integer                              // 32 bits, signed
	Enumeration                          // 32 bits, signed
	OctetString                          // bytes
	ReplicaLink                          // bytes
	UTCTime                              // YYMMDDHHMMSSZ
	GeneralizedTime                      // YYYYMMDDHHMMSS.0Z
	Unicode                              // case-insensitive string
	Presentation                         // string
	DNString                             // S:count:string:DN
	SecurityDescriptor                   // self-relative
	LargeInteger                         // 64 bits, signed
	SID                                  // binary
)

// syntaxes is the table of [MS-ADTS] 3.1.1.2.2.2. The class of OM objects, which
// separates some, is left out: DN, presentation address and the OR names have
// different OIDs anyway, and the rest of 2.5.5.14 is not used.
var syntaxes = []struct {
	oid    string
	om     int
	syntax Syntax
}{
	{"2.5.5.1", 127, DN}, {"2.5.5.2", 6, OID}, {"2.5.5.3", 27, CaseExact}, {"2.5.5.4", 20, CaseIgnore},
	{"2.5.5.5", 19, Printable}, {"2.5.5.5", 22, IA5}, {"2.5.5.6", 18, Numeric}, {"2.5.5.7", 127, DNBinary},
	{"2.5.5.8", 1, Boolean}, {"2.5.5.9", 2, Integer}, {"2.5.5.9", 10, Enumeration}, {"2.5.5.10", 4, OctetString},
	{"2.5.5.10", 127, ReplicaLink}, {"2.5.5.11", 23, UTCTime}, {"2.5.5.11", 24, GeneralizedTime},
	{"2.5.5.12", 64, Unicode}, {"2.5.5.13", 127, Presentation}, {"2.5.5.14", 127, DNString},
	{"2.5.5.15", 66, SecurityDescriptor}, {"2.5.5.16", 65, LargeInteger}, {"2.5.5.17", 4, SID},
}

// SyntaxOf finds a syntax by attributeSyntax and oMSyntax.
func SyntaxOf(oid string, om int) (Syntax, error) {
	for _, s := range syntaxes {
		if s.oid == oid && s.om == om {
			return s.syntax, nil
		}
	}
	return 0, fmt.Errorf("no syntax %s with oMSyntax %d", oid, om)
}

// OID and OM are attributeSyntax and oMSyntax.
func (s Syntax) OID() (oid string, om int) {
	for _, row := range syntaxes {
		if row.syntax == s {
			return row.oid, row.om
		}
	}
	return "", 0
}

// IsDN reports whether values name other objects, alone or with something more.
func (s Syntax) IsDN() bool { return s == DN || s == DNBinary || s == DNString }

// IsNumber reports whether the bit rules apply ([MS-ADTS] 3.1.1.3.4.4).
func (s Syntax) IsNumber() bool { return s == Integer || s == Enumeration || s == LargeInteger }

// Ordered reports whether >= and <= are defined: numbers, times, and strings.
func (s Syntax) Ordered() bool {
	return s.IsNumber() || s == UTCTime || s == GeneralizedTime || s.Text() || s == OctetString
}

// Text reports whether values are strings, in which substrings can be looked
// for.
func (s Syntax) Text() bool {
	switch s {
	case CaseExact, CaseIgnore, Printable, IA5, Numeric, Unicode, Presentation:
		return true
	}
	return false
}

// Key maps a value to bytes such that two values are equal exactly if their
// keys are, and, where the syntax is ordered, sort as their keys do. It is what
// filters compare and indexes hold. Errors wrap ErrSyntax: such a value equals
// nothing.
//
// Strings compare without regard to case where [MS-ADTS] 3.1.1.2.2.4 says so.
// Deviation: AD also ignores accents and width there, by the rules of one
// language; here such strings differ.
func (s Syntax) Key(value []byte) ([]byte, error) {
	switch s {
	case CaseExact, Printable, IA5, Numeric, Presentation:
		if !utf8.Valid(value) {
			return nil, fmt.Errorf("%w: not UTF-8", ErrSyntax)
		}
		return value, nil
	case CaseIgnore, Unicode, OID:
		if !utf8.Valid(value) {
			return nil, fmt.Errorf("%w: not UTF-8", ErrSyntax)
		}
		return Fold(value), nil
	case Boolean:
		return boolKey(value)
	case Integer, Enumeration:
		return numberKey(value, 32)
	case LargeInteger:
		return numberKey(value, 64)
	case UTCTime, GeneralizedTime:
		t, err := ParseTime(value)
		if err != nil {
			return nil, err
		}
		return orderedKey(t.Unix()), nil
	case SID:
		return sidKey(value)
	case DN:
		dn, err := adproto.ParseDN(string(value))
		if err != nil || !utf8.Valid(value) {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		return Fold([]byte(dn.String())), nil
	}
	return value, nil
}

// Fold maps characters that differ in case only to one of them. It keeps the
// order of all that are of one case.
func Fold(s []byte) []byte {
	return bytes.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
}

func boolKey(v []byte) ([]byte, error) {
	if string(v) == "TRUE" || string(v) == "FALSE" {
		return v, nil
	}
	return nil, fmt.Errorf("%w: got %.16q, want TRUE or FALSE", ErrSyntax, v)
}

func numberKey(v []byte, bits int) ([]byte, error) {
	n, err := ParseNumber(v, bits)
	return orderedKey(n), err
}

// ParseNumber reads the decimal text of an integer of so many bits. AD takes
// unsigned text for 32 bits too ("4294967295" is -1), and so do we.
func ParseNumber(v []byte, bits int) (int64, error) {
	n, err := strconv.ParseInt(string(v), 10, bits)
	if err == nil {
		return n, nil
	}
	if u, err := strconv.ParseUint(string(v), 10, bits); err == nil && bits == 32 {
		return int64(int32(u)), nil
	}
	return 0, fmt.Errorf("%w: got %.24q, want an integer of %d bits", ErrSyntax, v, bits)
}

// orderedKey encodes n such that bytes sort as numbers do.
func orderedKey(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)^1<<63) }

// ParseTime reads a UTCTime or GeneralizedTime ([MS-ADTS] 3.1.1.2.2.2.7): seconds
// are demanded, a fraction is read and dropped, the zone is Z.
func ParseTime(v []byte) (time.Time, error) {
	digits, zone := string(v), ""
	if i := strings.IndexAny(digits, ".,Z"); i >= 0 {
		digits, zone = digits[:i], digits[i:]
	}
	layout := "20060102150405"
	if len(digits) == 12 {
		layout = "060102150405"
	}
	t, err := time.Parse(layout, digits)
	fraction := strings.TrimSuffix(zone, "Z")
	if err != nil || zone == fraction || fraction != "" && strings.Trim(fraction[1:], "0123456789") != "" {
		return time.Time{}, fmt.Errorf("%w: got %.24q, want YYYYMMDDHHMMSS.0Z", ErrSyntax, v)
	}
	return t, nil
}

// FormatTime writes a GeneralizedTime as AD does.
func FormatTime(t time.Time) string { return t.UTC().Format("20060102150405.0Z") }

// sidKey takes a binary SID or, as AD's filters do, its text.
func sidKey(v []byte) ([]byte, error) {
	if bytes.HasPrefix(v, []byte("S-")) || bytes.HasPrefix(v, []byte("s-")) {
		sid, err := dtyp.ParseSID(string(v))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		return sid.Bytes(), nil
	}
	if _, err := dtyp.SIDFromBytes(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return v, nil
}

// Check reports whether a value may be stored: its syntax (ErrSyntax) and range
// (ErrRange).
func (a *Attribute) Check(value []byte) error {
	if err := a.Syntax.check(value); err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	size := int64(len(value))
	switch {
	case a.Syntax.IsNumber():
		size, _ = ParseNumber(value, 64)
	case a.Syntax.Text():
		size = int64(utf8.RuneCount(value))
	case a.Syntax != OctetString && a.Syntax != SecurityDescriptor:
		return nil
	}
	if a.RangeLower != nil && size < *a.RangeLower || a.RangeUpper != nil && size > *a.RangeUpper {
		return fmt.Errorf("%s: %w: got %d, want %s to %s", a.Name, ErrRange, size, bound(a.RangeLower), bound(a.RangeUpper))
	}
	return nil
}

func bound(n *int64) string {
	if n == nil {
		return "any"
	}
	return strconv.FormatInt(*n, 10)
}

func (s Syntax) check(value []byte) error {
	if len(value) == 0 && s != OctetString && s != ReplicaLink {
		return fmt.Errorf("%w: an empty value", ErrSyntax)
	}
	if s == IA5 || s == Printable || s == Numeric {
		if i := bytes.IndexFunc(value, func(r rune) bool { return r > unicode.MaxASCII }); i >= 0 {
			return fmt.Errorf("%w: not ASCII at offset %d", ErrSyntax, i)
		}
	}
	switch s {
	case SecurityDescriptor:
		if _, err := secdesc.Parse(value); err != nil {
			return fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		return nil
	case SID:
		if _, err := dtyp.SIDFromBytes(value); err != nil {
			return fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		return nil
	case DNBinary, DNString:
		_, _, err := s.SplitDN(value)
		return err
	}
	_, err := s.Key(value)
	return err
}

// SplitDN takes a DN-binary or DN-string value apart ([MS-ADTS] 3.1.1.2.2.2.3):
// "B:" or "S:", the number of characters, the data, and the name of the object.
func (s Syntax) SplitDN(value []byte) (data, dn string, err error) {
	kind := "B"
	if s == DNString {
		kind = "S"
	}
	f := strings.SplitN(string(value), ":", 3)
	if len(f) != 3 || f[0] != kind {
		return "", "", fmt.Errorf("%w: got %.24q, want %s:count:data:DN", ErrSyntax, value, kind)
	}
	n, err := strconv.ParseUint(f[1], 10, 31)
	if err != nil || uint64(len(f[2])) <= n || f[2][n] != ':' {
		return "", "", fmt.Errorf("%w: %s:count:data:DN with the count %.12q", ErrSyntax, kind, f[1])
	}
	data, dn = f[2][:n], f[2][n+1:]
	if kind == "B" && (n%2 != 0 || strings.Trim(data, "0123456789abcdefABCDEF") != "") {
		return "", "", fmt.Errorf("%w: %d characters of data are not hexadecimal", ErrSyntax, n)
	}
	if _, err := adproto.ParseDN(dn); err != nil || dn == "" {
		return "", "", fmt.Errorf("%w: name %.64q", ErrSyntax, dn)
	}
	return data, dn, nil
}
