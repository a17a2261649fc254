package pac

import (
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Kind says which signatures a ticket carries.
type Kind int

const (
	// TGT has the server's and the KDC's signature, both by the krbtgt's key.
	TGT Kind = iota
	// Service has the signatures of the ticket and of the whole PAC besides, so
	// that the service cannot change what it brings back as evidence.
	Service
)

// Keys sign a PAC.
type Keys struct {
	Server *crypto.Key // of the account that the ticket is for
	KDC    *crypto.Key // of the krbtgt
}

// Seal signs a PAC for a ticket and puts it into the ticket's authorization data,
// before what is there already: [MS-PAC] 2.8, [MS-KILE] 3.3.5.7. Signatures that it
// has are made anew; neither argument is changed. The PAC must have a CLIENT_INFO
// that fits the ticket.
func Seal(part krb5.EncTicketPart, p PAC, kind Kind, keys Keys) (krb5.EncTicketPart, error) {
	if err := p.checkClient(part); err != nil {
		return krb5.EncTicketPart{}, err
	}
	if _, n := withPAC(part, nil); n != 0 {
		return krb5.EncTicketPart{}, fmt.Errorf("pac: the ticket has a PAC already")
	}
	p = p.clone(4)
	p.Remove(TypeServerChecksum, TypeKDCChecksum, TypeTicketChecksum, TypeFullChecksum)
	server, kdc := blank(keys.Server), blank(keys.KDC)
	p.Set(TypeServerChecksum, server)
	p.Set(TypeKDCChecksum, kdc)
	rest := part.AuthorizationData
	put := func(data []byte) { // a new list each time: part is the caller's
		part.AuthorizationData = append(krb5.AuthorizationData{{Type: krb5.ADWin2KPAC, Data: data}}.IfRelevant(), rest...)
	}
	if kind == Service {
		put(placeholder())
		ticket, full := blank(keys.KDC), blank(keys.KDC)
		sign(ticket, keys.KDC, part.Append(nil))
		p.Set(TypeTicketChecksum, ticket)
		p.Set(TypeFullChecksum, full)
		sign(full, keys.KDC, p.Append(nil))
	}
	whole := p.Append(nil)
	sign(server, keys.Server, whole)
	sign(kdc, keys.KDC, server[signatureHeader:])
	put(p.Append(whole[:0])) // it is as long as before
	return part, nil
}

// Open takes the PAC out of a ticket and verifies that it was made for it: every
// signature that the kind demands, and the client. A ticket without a PAC is
// ErrMissing, one with two is ErrMalformed.
func Open(part krb5.EncTicketPart, kind Kind, keys Keys) (PAC, error) {
	p, err := Extract(part)
	if err != nil {
		return PAC{}, err
	}
	if err := p.VerifyServer(keys.Server); err != nil {
		return PAC{}, err
	}
	if err := p.verifyKDC(keys.KDC); err != nil {
		return PAC{}, err
	}
	if kind == Service {
		signed, _ := withPAC(part, placeholder())
		if err := p.verify(TypeTicketChecksum, keys.KDC, signed.Append(nil)); err != nil {
			return PAC{}, err
		}
		if err := p.verifyFull(keys.KDC); err != nil {
			return PAC{}, err
		}
	}
	return p, p.checkClient(part)
}

// Extract takes the PAC out of a ticket and verifies nothing.
func Extract(part krb5.EncTicketPart) (PAC, error) {
	switch _, n := withPAC(part, nil); {
	case n == 0:
		return PAC{}, fmt.Errorf("pac: %w", ErrMissing)
	case n > 1:
		return PAC{}, fmt.Errorf("pac: %w: the ticket has %d", ErrMalformed, n)
	}
	b, _ := part.AuthorizationData.Find(krb5.ADWin2KPAC)
	return Parse(b)
}

// placeholder stands in a PAC's place while the ticket is signed, [MS-PAC] 2.8.3.
func placeholder() []byte { return []byte{0} }

// withPAC gives the ticket with data in place of its PACs, and says how many there
// were. The place for it is directly within AD-IF-RELEVANT; one on the outer level is
// counted too, so that there are never two readings of one ticket.
func withPAC(part krb5.EncTicketPart, data []byte) (changed krb5.EncTicketPart, n int) {
	list := make(krb5.AuthorizationData, 0, len(part.AuthorizationData))
	for _, e := range part.AuthorizationData {
		switch e.Type {
		case krb5.ADWin2KPAC:
			n++
			e.Data = data
		case krb5.ADIfRelevant:
			inner, err := krb5.ParseAuthorizationData(e.Data)
			if err != nil {
				break
			}
			found := false
			for i := range inner {
				if inner[i].Type == krb5.ADWin2KPAC {
					inner[i].Data = data
					n++
					found = true
				}
			}
			if found {
				e.Data = inner.Append(nil)
			}
		}
		list = append(list, e)
	}
	part.AuthorizationData = list
	return part, n
}

// checkClient compares CLIENT_INFO with the ticket, [MS-PAC] 2.7.
func (p PAC) checkClient(part krb5.EncTicketPart) error {
	c, err := p.ClientInfo()
	if err != nil {
		return err
	}
	if want := dtyp.FiletimeOf(part.AuthTime); c.ID != want {
		return fmt.Errorf("pac: %w: made for a ticket of %v, not of %v", ErrClient, c.ID, want)
	}
	if want := strings.Join(part.CName.Components, "/"); c.Name != want {
		return fmt.Errorf("pac: %w: made for %q, not for %q", ErrClient, c.Name, want)
	}
	return nil
}
