package ldapc

import (
	"errors"
	"fmt"
	"io"
	"net"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// raw speaks one request and one response at a time, before the connection is
// protected. After the last of them the stream is handed on.
type raw struct {
	g  *guard
	id int64
}

// response is what a bind or an extended operation brings back.
type response struct {
	code    uint16
	message string
	creds   []byte // serverSaslCreds of a bind response; nil where absent
}

// Elements of RFC 4511, Sections 4.2 and 4.12.
const (
	ldapVersion    = 3
	authSimple     = 0
	authSASL       = 3
	tagServerCreds = 7
	tagRequestName = 0
	minResultParts = 3 // resultCode, matchedDN, diagnosticMessage
)

// exchange sends an operation and reads the response, whose tag must be want.
func (r *raw) exchange(op *ber.Packet, want ber.Tag) (response, error) {
	r.id++
	msg := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "message")
	msg.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, r.id, "id"))
	msg.AppendChild(op)
	if _, err := r.g.Write(msg.Bytes()); err != nil {
		return response{}, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	b, err := r.g.message()
	if err != nil {
		return response{}, lost(err)
	}
	res, err := parseResponse(b, r.id, want)
	if err != nil && !errors.Is(err, ErrConnection) {
		err = fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return res, err
}

// lost tells a connection that broke from one on which something else came than
// LDAP.
func lost(err error) error {
	if _, broke := errors.AsType[net.Error](err); broke || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrConnection, err)
	}
	return fmt.Errorf("%w: %w", ErrAnswer, err)
}

// parseResponse reads one LDAPMessage with an LDAPResult: RFC 4511, Section
// 4.1.9.
func parseResponse(b []byte, id int64, want ber.Tag) (response, error) {
	p, err := ber.DecodePacketErr(b)
	if err != nil {
		return response{}, err
	}
	if len(p.Children) < 2 {
		return response{}, errors.New("ldapc: LDAP message without an operation")
	}
	op := p.Children[1]
	got, _ := p.Children[0].Value.(int64)
	// A notice of disconnection has message id 0: RFC 4511, Section 4.4.1.
	notice := got == 0 && op.ClassType == ber.ClassApplication && op.Tag == ldap.ApplicationExtendedResponse
	if !notice && (got != id || op.ClassType != ber.ClassApplication || op.Tag != want) {
		return response{}, fmt.Errorf("ldapc: message %d with operation %d, want %d with %d", got, op.Tag, id, want)
	}
	if len(op.Children) < minResultParts {
		return response{}, fmt.Errorf("ldapc: result of %d parts, want %d", len(op.Children), minResultParts)
	}
	code, ok := op.Children[0].Value.(int64)
	if !ok || code < 0 || code > 0xffff {
		return response{}, errors.New("ldapc: result without a code")
	}
	r := response{code: uint16(code), message: string(op.Children[2].ByteValue)}
	for _, c := range op.Children[minResultParts:] {
		if c.ClassType == ber.ClassContext && c.Tag == tagServerCreds && c.TagType == ber.TypePrimitive {
			r.creds = append([]byte{}, c.Data.Bytes()...)
		}
	}
	if notice && r.code == ldap.LDAPResultSuccess {
		return response{}, fmt.Errorf("%w: notice of disconnection", ErrConnection)
	}
	return r, nil
}

// startTLS asks for TLS: RFC 4511, Section 4.14.
func (r *raw) startTLS() error {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationExtendedRequest, nil, "extended")
	op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, tagRequestName, adproto.OIDStartTLS, "name"))
	res, err := r.exchange(op, ldap.ApplicationExtendedResponse)
	if err != nil {
		return fmt.Errorf("StartTLS: %w", err)
	}
	if res.code != ldap.LDAPResultSuccess {
		return fmt.Errorf("%w: %w", ErrNotEncrypted, newError("StartTLS", res.code, res.message))
	}
	if r.g.buffered() {
		return fmt.Errorf("StartTLS: %w: bytes follow the answer in plain text", ErrNotEncrypted)
	}
	return nil
}

// bindRequest makes a bind; auth is its AuthenticationChoice.
func bindRequest(name string, auth *ber.Packet) *ber.Packet {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationBindRequest, nil, "bind")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, int64(ldapVersion), "version"))
	op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, name, "name"))
	op.AppendChild(auth)
	return op
}

// saslStep sends one token of a SASL bind. done says that the server is
// satisfied.
func (r *raw) saslStep(mechanism string, token []byte) (creds []byte, done bool, err error) {
	auth := ber.Encode(ber.ClassContext, ber.TypeConstructed, authSASL, nil, "sasl")
	auth.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, mechanism, "mechanism"))
	auth.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, string(token), "credentials"))
	res, err := r.exchange(bindRequest("", auth), ldap.ApplicationBindResponse)
	if err != nil {
		return nil, false, fmt.Errorf("bind (%s): %w", mechanism, err)
	}
	switch res.code {
	case ldap.LDAPResultSuccess:
		return res.creds, true, nil
	case ldap.LDAPResultSaslBindInProgress:
		return res.creds, false, nil
	}
	return nil, false, newError("bind ("+mechanism+")", res.code, res.message)
}
