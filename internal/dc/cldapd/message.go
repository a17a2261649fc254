package cldapd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
)

// question is a datagram that asks for the attribute Netlogon.
type question struct {
	id   int32
	attr string // Netlogon, as the client spells it
	ping adproto.Ping
}

// parseQuestion reads a datagram: one LDAP message with a base search of the rootDSE.
func parseQuestion(b []byte) (q question, err error) {
	msg, err := ldapmsg.Parse(b)
	if err != nil {
		return q, err
	}
	if msg.Op != ldapmsg.OpSearchRequest {
		return q, errors.New("no search request")
	}
	search, err := msg.Search()
	if err != nil {
		return q, err
	}
	if search.Base != "" || search.Scope != 0 {
		return q, errors.New("not a search of the rootDSE alone")
	}
	i := slices.IndexFunc(search.Attributes, func(name string) bool { return strings.EqualFold(name, adproto.PingAttribute) })
	if i < 0 {
		return q, fmt.Errorf("not asked for %s", adproto.PingAttribute)
	}
	q.id, q.attr = msg.ID, search.Attributes[i]
	q.ping, err = adproto.ParsePing(search.Filter)
	return q, err
}

// answer is the entry with the value, and the end of the search behind it in the same
// datagram, as Active Directory and Samba send them.
func (q question) answer(value []byte) []byte {
	e := ldapmsg.BeginEntry(nil, q.id, "") // the rootDSE
	e.Attribute(q.attr, [][]byte{value})
	return ldapmsg.AppendResult(e.End(), q.id, ldapmsg.OpSearchDone, ldapmsg.Result{})
}
