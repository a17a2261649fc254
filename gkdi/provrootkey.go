package gkdi

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// ErrAttribute is wrapped by every error about an attribute of a
// msKds-ProvRootKey object that is missing or cannot be what it says.
var ErrAttribute = errors.New("bad root key object")

// Attributes of the class msKds-ProvRootKey, [MS-ADSC] 2.146. The first nine
// are mandatory.
const (
	attrCN               = "cn"
	attrVersion          = "msKds-Version"
	attrRootKeyData      = "msKds-RootKeyData"
	attrCreateTime       = "msKds-CreateTime"
	attrUseStartTime     = "msKds-UseStartTime"
	attrDomainID         = "msKds-DomainID"
	attrKDFAlgorithm     = "msKds-KDFAlgorithmID"
	attrSecretAgreement  = "msKds-SecretAgreementAlgorithmID"
	attrPrivateKeyLength = "msKds-PrivateKeyLength"
	attrPublicKeyLength  = "msKds-PublicKeyLength"
	attrKDFParam         = "msKds-KDFParam"
	attrAgreementParam   = "msKds-SecretAgreementParam"
)

// maxBits bounds the key lengths of the secret agreement, in bits. gMSA
// passwords do not use it; 16384 is far beyond what anybody generates.
const maxBits = 16384

// Attribute is an attribute of an object as LDAP carries it: integers are
// decimal text.
type Attribute struct {
	Name  string
	Value []byte
}

// ProvRootKey is a msKds-ProvRootKey object as far as its own attributes go:
// a root key and what else Windows writes beside it.
type ProvRootKey struct {
	RootKey
	// DomainID is the distinguished name of the computer account of the
	// controller that made the key.
	DomainID string
	// PrivateKeyBits and PublicKeyBits are the sizes of the secret agreement's
	// keys, which gMSA passwords do not use.
	PrivateKeyBits, PublicKeyBits uint32
	// SecretAgreement names the algorithm and AgreementParam holds its encoded
	// group, which may be empty.
	SecretAgreement string
	AgreementParam  []byte
}

// NewProvRootKey completes a root key with the values that Windows writes:
// finite-field Diffie-Hellman in the group of RFC 5114, Section 2.3, with keys
// of 512 and 2048 bits. domainID is as in ProvRootKey.
func NewProvRootKey(key RootKey, domainID string) ProvRootKey {
	return ProvRootKey{
		RootKey:         key,
		DomainID:        domainID,
		PrivateKeyBits:  PrivateKeyBits,
		PublicKeyBits:   PublicKeyBits,
		SecretAgreement: SecretAgreementAlgorithm,
		AgreementParam:  DefaultParameters().Append(nil),
	}
}

// Attributes are all attributes of the object but objectClass. The value of
// msKds-RootKeyData shares the memory of the secret.
func (p ProvRootKey) Attributes() []Attribute {
	decimal := func(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }
	attrs := []Attribute{
		{attrCN, []byte(p.ID.String())},
		{attrVersion, decimal(uint64(p.Version))},
		{attrRootKeyData, p.Key.Reveal()},
		{attrCreateTime, decimal(uint64(p.Created))},
		{attrUseStartTime, decimal(uint64(p.UseStart))},
		{attrDomainID, []byte(p.DomainID)},
		{attrKDFAlgorithm, []byte(KDFAlgorithm)},
		{attrSecretAgreement, []byte(p.SecretAgreement)},
		{attrPrivateKeyLength, decimal(uint64(p.PrivateKeyBits))},
		{attrPublicKeyLength, decimal(uint64(p.PublicKeyBits))},
		{attrKDFParam, p.Hash.KDFParameters()},
	}
	if len(p.AgreementParam) > 0 {
		attrs = append(attrs, Attribute{attrAgreementParam, p.AgreementParam})
	}
	return attrs
}

// ParseProvRootKey reads an object, whoever made it: values returns those of
// an attribute, none where it has none. The key is copied. A key that nobody
// can derive from is refused, here and not at the first rollover that would
// need it: errors wrap ErrAttribute or ErrUnsupported.
func ParseProvRootKey(values func(attribute string) [][]byte) (ProvRootKey, error) {
	r := attributeReader{values: values}
	var p ProvRootKey
	var err error
	if p.ID, err = dtyp.ParseGUID(r.text(attrCN)); err != nil {
		r.fail(attrCN, err)
	}
	p.Version = int(r.number(attrVersion, 1<<31-1))
	p.Created = dtyp.Filetime(r.number(attrCreateTime, uint64(dtyp.Never)))
	p.UseStart = dtyp.Filetime(r.number(attrUseStartTime, uint64(dtyp.Never)))
	p.DomainID = r.text(attrDomainID)
	p.SecretAgreement = r.text(attrSecretAgreement)
	p.PrivateKeyBits = uint32(r.number(attrPrivateKeyLength, maxBits))
	p.PublicKeyBits = uint32(r.number(attrPublicKeyLength, maxBits))
	if kdf := r.text(attrKDFAlgorithm); kdf != KDFAlgorithm {
		r.fail(attrKDFAlgorithm, fmt.Errorf("%w: got %q, want %q", ErrUnsupported, kdf, KDFAlgorithm))
	}
	if p.Hash, err = ParseKDFParameters(r.value(attrKDFParam)); err != nil {
		r.fail(attrKDFParam, err)
	}
	if param := values(attrAgreementParam); len(param) > 0 {
		p.AgreementParam = append([]byte(nil), r.value(attrAgreementParam)...)
	}
	data := r.value(attrRootKeyData)
	if r.err != nil {
		return ProvRootKey{}, r.err
	}
	p.Key = secret.Copy(data)
	if err := p.Check(); err != nil {
		p.Key.Destroy()
		return ProvRootKey{}, fmt.Errorf("%s: %w", attrRootKeyData, err)
	}
	return p, nil
}

// attributeReader reads single values and keeps the first error.
type attributeReader struct {
	values func(string) [][]byte
	err    error
}

func (r *attributeReader) fail(attribute string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s: %w", ErrAttribute, attribute, err)
	}
}

func (r *attributeReader) value(attribute string) []byte {
	v := r.values(attribute)
	if len(v) != 1 {
		r.fail(attribute, fmt.Errorf("%d values, want 1", len(v)))
		return nil
	}
	return v[0]
}

func (r *attributeReader) text(attribute string) string {
	v := r.value(attribute)
	if !utf8.Valid(v) {
		r.fail(attribute, errors.New("not UTF-8"))
	}
	return string(v)
}

func (r *attributeReader) number(attribute string, limit uint64) uint64 {
	v := r.value(attribute)
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n > limit {
		r.fail(attribute, fmt.Errorf("got %.24q, want 0 to %d", v, limit))
	}
	return n
}
