package gkdi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// Sizes in bytes that bound what the decoders accept. Windows' own structures
// stay below 1 KiB; names are DNS names of at most 255 characters.
const (
	maxEnvelope = 64 << 10
	maxName     = 2 * (255 + 1)
)

// Flags of envelopes ([MS-GKDI] 2.2.4, dwFlags).
const (
	FlagPublicKey uint32 = 1 << iota // L2Key holds a public key, L1Key nothing
	FlagEncrypt                      // the key may be used for new data
)

// ErrMalformed is wrapped by every error of the decoders.
var ErrMalformed = errors.New("malformed structure")

// envelopeVersion and the magic numbers "KDSK" and "DHPM", little endian.
const (
	envelopeVersion = 1
	magicKDSK       = 0x4b53444b
	magicDHPM       = 0x4d504844
)

// KeyEnvelope names a key without containing it: interval, root key, and the
// domain that serves it. msDS-ManagedPasswordId is one ([MS-GKDI] 2.2.4 with
// the fields of a key identifier).
type KeyEnvelope struct {
	Flags          uint32
	KeyID          KeyID
	RootKeyID      dtyp.GUID
	AdditionalInfo []byte // cbAdditionalInfo bytes of random or public key; empty for gMSAs
	Domain         string // DNS name
	Forest         string // DNS name
}

// ParseKeyEnvelope decodes a key envelope of at most 64 KiB. Errors wrap
// ErrMalformed, or ErrKeyID for indexes out of range.
func ParseKeyEnvelope(b []byte) (KeyEnvelope, error) {
	d := newDecoder("key envelope", b)
	var e KeyEnvelope
	e.Flags, e.KeyID, e.RootKeyID = d.head()
	info, domain, forest := d.u32("cbAdditionalInfo"), d.u32("cbDomainName"), d.u32("cbForestName")
	e.AdditionalInfo = bytes.Clone(d.bytes("AdditionalInfo", info))
	e.Domain = d.name("DomainName", domain)
	e.Forest = d.name("ForestName", forest)
	if err := d.end(); err != nil {
		return KeyEnvelope{}, err
	}
	return e, nil
}

// Append appends the encoding of e to dst.
func (e KeyEnvelope) Append(dst []byte) []byte {
	domain, forest := encodeName(e.Domain), encodeName(e.Forest)
	dst = appendHead(dst, e.Flags, e.KeyID, e.RootKeyID)
	dst = appendU32(dst, len(e.AdditionalInfo), len(domain), len(forest))
	dst = append(dst, e.AdditionalInfo...)
	dst = append(dst, domain...)
	return append(dst, forest...)
}

// GroupKeyEnvelope is the answer of GetKey ([MS-GKDI] 2.2.4): seeds, and how
// keys and public keys are derived from them.
type GroupKeyEnvelope struct {
	Flags                     uint32
	KeyID                     KeyID
	RootKeyID                 dtyp.GUID
	KDFAlgorithm              string // see the constant KDFAlgorithm
	KDFParameters             []byte // see [Hash.KDFParameters]
	SecretAgreementAlgorithm  string
	SecretAgreementParameters []byte // see [FFCDHParameters]
	PrivateKeyBits            uint32
	PublicKeyBits             uint32
	Domain                    string // DNS name
	Forest                    string // DNS name
	L1Key                     secret.Bytes
	L2Key                     secret.Bytes
}

// ParseGroupKeyEnvelope decodes a group key envelope of at most 64 KiB.
// Errors wrap ErrMalformed, or ErrKeyID for indexes out of range.
func ParseGroupKeyEnvelope(b []byte) (GroupKeyEnvelope, error) {
	d := newDecoder("group key envelope", b)
	var e GroupKeyEnvelope
	e.Flags, e.KeyID, e.RootKeyID = d.head()
	kdfName, kdfParam := d.u32("cbKDFAlgorithm"), d.u32("cbKDFParameters")
	saName, saParam := d.u32("cbSecretAgreementAlgorithm"), d.u32("cbSecretAgreementParameters")
	e.PrivateKeyBits, e.PublicKeyBits = d.u32("PrivateKeyLength"), d.u32("PublicKeyLength")
	l1, l2 := d.u32("cbL1Key"), d.u32("cbL2Key")
	domain, forest := d.u32("cbDomainName"), d.u32("cbForestName")
	e.KDFAlgorithm = d.name("KDFAlgorithm", kdfName)
	e.KDFParameters = bytes.Clone(d.bytes("KDFParameters", kdfParam))
	e.SecretAgreementAlgorithm = d.name("SecretAgreementAlgorithm", saName)
	e.SecretAgreementParameters = bytes.Clone(d.bytes("SecretAgreementParameters", saParam))
	e.Domain = d.name("DomainName", domain)
	e.Forest = d.name("ForestName", forest)
	l1Key, l2Key := d.bytes("L1Key", l1), d.bytes("L2Key", l2)
	if err := d.end(); err != nil {
		return GroupKeyEnvelope{}, err
	}
	e.L1Key, e.L2Key = secret.Copy(l1Key), secret.Copy(l2Key)
	return e, nil
}

// Append appends the encoding of e, keys included, to dst.
func (e GroupKeyEnvelope) Append(dst []byte) []byte {
	kdfName, saName := encodeName(e.KDFAlgorithm), encodeName(e.SecretAgreementAlgorithm)
	domain, forest := encodeName(e.Domain), encodeName(e.Forest)
	dst = appendHead(dst, e.Flags, e.KeyID, e.RootKeyID)
	dst = appendU32(dst, len(kdfName), len(e.KDFParameters), len(saName), len(e.SecretAgreementParameters),
		int(e.PrivateKeyBits), int(e.PublicKeyBits), e.L1Key.Len(), e.L2Key.Len(), len(domain), len(forest))
	for _, part := range [][]byte{kdfName, e.KDFParameters, saName, e.SecretAgreementParameters,
		domain, forest, e.L1Key.Reveal(), e.L2Key.Reveal()} {
		dst = append(dst, part...)
	}
	return dst
}

// GroupKey is the seeds of e in the form that derives others.
func (e GroupKeyEnvelope) GroupKey() GroupKey { return GroupKey{ID: e.KeyID, L1: e.L1Key, L2: e.L2Key} }

// ParseKDFParameters decodes msKds-KDFParam ([MS-GKDI] 2.2.1) to the hash
// function it names. Errors wrap ErrMalformed or ErrUnsupported.
func ParseKDFParameters(b []byte) (Hash, error) {
	d := newDecoder("KDF parameters", b)
	d.want("reserved1", 0)
	d.want("reserved2", 1)
	size := d.u32("cbHashName")
	d.want("reserved3", 0)
	name := d.name("HashName", size)
	if err := d.end(); err != nil {
		return 0, err
	}
	return ParseHash(name)
}

// KDFParameters encodes h as msKds-KDFParam ([MS-GKDI] 2.2.1).
func (h Hash) KDFParameters() []byte {
	name := encodeName(h.String())
	return append(appendU32(nil, 0, 1, len(name), 0), name...)
}

// FFCDHParameters is a finite-field Diffie-Hellman group, msKds-SecretAgreementParam
// ([MS-GKDI] 2.2.2). The numbers are big endian and of one size.
type FFCDHParameters struct {
	FieldOrder []byte
	Generator  []byte
}

// ParseFFCDHParameters decodes a group of at most 64 KiB.
func ParseFFCDHParameters(b []byte) (FFCDHParameters, error) {
	d := newDecoder("FFC DH parameters", b)
	d.want("length", uint32(min(len(b), maxEnvelope)))
	d.want("magic", magicDHPM)
	size := d.u32("key length")
	p := FFCDHParameters{
		FieldOrder: bytes.Clone(d.bytes("field order", size)),
		Generator:  bytes.Clone(d.bytes("generator", size)),
	}
	if err := d.end(); err != nil {
		return FFCDHParameters{}, err
	}
	return p, nil
}

// Append appends the encoding of p to dst. It panics if the two numbers
// differ in size.
func (p FFCDHParameters) Append(dst []byte) []byte {
	if len(p.FieldOrder) != len(p.Generator) {
		panic("gkdi: FFCDHParameters of different sizes")
	}
	dst = appendU32(dst, 12+2*len(p.FieldOrder), magicDHPM, len(p.FieldOrder))
	dst = append(dst, p.FieldOrder...)
	return append(dst, p.Generator...)
}

// decoder reads little-endian fields and keeps the first error; what is read
// after an error is zero.
type decoder struct {
	what string
	b    []byte
	off  int
	err  error
}

func newDecoder(what string, b []byte) *decoder {
	d := &decoder{what: what, b: b}
	if len(b) > maxEnvelope {
		d.err = fmt.Errorf("%w: %s of %d bytes, want at most %d", ErrMalformed, what, len(b), maxEnvelope)
	}
	return d
}

func (d *decoder) fail(field string, off int, got, want any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s: %s at offset %d: got %v, want %v", ErrMalformed, d.what, field, off, got, want)
	}
}

// bytes returns the next n bytes, which stay part of the input.
func (d *decoder) bytes(field string, n uint32) []byte {
	if rest := len(d.b) - d.off; d.err != nil || uint64(n) > uint64(rest) {
		d.fail(field, d.off, fmt.Sprintf("%d bytes left", rest), n)
		return nil
	}
	p := d.b[d.off : d.off+int(n)]
	d.off += int(n)
	return p
}

func (d *decoder) u32(field string) uint32 {
	if p := d.bytes(field, 4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) want(field string, want uint32) {
	off := d.off
	if got := d.u32(field); got != want {
		d.fail(field, off, fmt.Sprintf("%#x", got), fmt.Sprintf("%#x", want))
	}
}

// head reads what both envelopes begin with.
func (d *decoder) head() (flags uint32, id KeyID, root dtyp.GUID) {
	d.want("version", envelopeVersion)
	d.want("magic", magicKDSK)
	flags = d.u32("flags")
	off := d.off
	id = KeyID{int32(d.u32("L0Index")), int32(d.u32("L1Index")), int32(d.u32("L2Index"))}
	copy(root[:], d.bytes("RootKeyIdentifier", uint32(len(root))))
	if err := id.Check(); err != nil && d.err == nil {
		d.err = fmt.Errorf("%s: key indexes at offset %d: %w", d.what, off, err)
	}
	return flags, id, root
}

// name reads a string of size bytes of UTF-16LE, which ends in its only zero.
func (d *decoder) name(field string, size uint32) string {
	off := d.off
	p := d.bytes(field, size)
	if d.err != nil {
		return ""
	}
	if size < 2 || size%2 != 0 || size > maxName {
		d.fail(field, off, fmt.Sprintf("%d bytes", size), fmt.Sprintf("an even number from 2 to %d", maxName))
		return ""
	}
	units := make([]uint16, size/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(p[2*i:])
	}
	last := len(units) - 1
	s := string(utf16.Decode(units[:last]))
	switch {
	case units[last] != 0:
		d.fail(field, off+2*last, fmt.Sprintf("%#04x", units[last]), "a terminating zero")
	case !bytes.Equal(encodeName(s), p):
		d.fail(field, off, fmt.Sprintf("%q", s), "UTF-16 without unpaired surrogates")
	case bytes.IndexByte([]byte(s), 0) >= 0:
		d.fail(field, off, fmt.Sprintf("%q", s), "no zero but the last")
	}
	return s
}

// end reports the first error, or what is left over.
func (d *decoder) end() error {
	if d.err == nil && d.off != len(d.b) {
		d.fail("end", d.off, fmt.Sprintf("%d trailing bytes", len(d.b)-d.off), "none")
	}
	return d.err
}

func appendHead(dst []byte, flags uint32, id KeyID, root dtyp.GUID) []byte {
	dst = appendU32(dst, envelopeVersion, magicKDSK, int(flags), int(id.L0), int(id.L1), int(id.L2))
	return append(dst, root[:]...)
}

func appendU32(dst []byte, values ...int) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return dst
}

// encodeName is s in UTF-16LE with its terminator. What is not UTF-8 becomes
// U+FFFD.
func encodeName(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}
