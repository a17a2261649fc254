package cldapd

import (
	"errors"
	"fmt"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Protocol operations as application tags: RFC 4511, Section 4.5.
const (
	opSearchRequest = 3
	opSearchEntry   = 4
	opSearchDone    = 5
)

// The parts of a SearchRequest: RFC 4511, Section 4.5.1.
const (
	partBase = iota
	partScope
	partDeref
	partSizeLimit
	partTimeLimit
	partTypesOnly
	partFilter
	partAttributes
	parts
)

// question is a datagram that asks for the attribute Netlogon.
type question struct {
	id   int64
	attr string // Netlogon, as the client spells it
	ping adproto.Ping
}

// parseQuestion reads a datagram: one LDAP message with a base search of the rootDSE.
func parseQuestion(b []byte) (q question, err error) {
	if err := adproto.CheckMessage(b); err != nil {
		return q, err
	}
	msg, err := ber.DecodePacketErr(b)
	if err != nil {
		return q, err
	}
	if len(msg.Children) < 2 {
		return q, errors.New("no LDAP message")
	}
	id, ok := msg.Children[0].Value.(int64)
	search := msg.Children[1]
	if !ok || search.ClassType != ber.ClassApplication || search.Tag != opSearchRequest || len(search.Children) != parts {
		return q, errors.New("no search request")
	}
	q.id = id
	if base, ok := search.Children[partBase].Value.(string); !ok || base != "" {
		return q, errors.New("not a search of the rootDSE")
	}
	if scope, ok := search.Children[partScope].Value.(int64); !ok || scope != 0 {
		return q, errors.New("not a search of the rootDSE alone")
	}
	for _, a := range search.Children[partAttributes].Children {
		if name, ok := a.Value.(string); ok && strings.EqualFold(name, adproto.PingAttribute) {
			q.attr = name
		}
	}
	if q.attr == "" {
		return q, fmt.Errorf("not asked for %s", adproto.PingAttribute)
	}
	filter, err := adproto.ParseFilterBER(search.Children[partFilter].Bytes())
	if err != nil {
		return q, err
	}
	q.ping, err = adproto.ParsePing(filter)
	return q, err
}

// answer is the entry with the value, and the end of the search behind it in the same
// datagram, as Active Directory and Samba send them.
func (q question) answer(value []byte) []byte {
	entry := ber.Encode(ber.ClassApplication, ber.TypeConstructed, opSearchEntry, nil, "")
	entry.AppendChild(octets("")) // the name of the rootDSE
	set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
	set.AppendChild(octets(string(value)))
	attributes := sequence(sequence(octets(q.attr), set))
	entry.AppendChild(attributes)

	done := ber.Encode(ber.ClassApplication, ber.TypeConstructed, opSearchDone, nil, "")
	done.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(0), ""))
	done.AppendChild(octets("")) // matchedDN
	done.AppendChild(octets("")) // diagnosticMessage
	return append(q.message(entry), q.message(done)...)
}

func (q question) message(op *ber.Packet) []byte {
	return sequence(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, q.id, ""), op).Bytes()
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func sequence(children ...*ber.Packet) *ber.Packet {
	p := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	for _, c := range children {
		p.AppendChild(c)
	}
	return p
}
