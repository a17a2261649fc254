package kdc

import (
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// pacRequest is what the client said about the PAC: [MS-PAC] 2.14.
func (x *exchange) pacRequest() pac.Attributes {
	value, ok := krb5.MethodData(x.req.PAData).Find(krb5.PAPACRequest)
	if !ok {
		return pac.GivenImplicitly
	}
	if r, err := krb5.ParsePACRequest(value); err == nil && !r.IncludePAC {
		return 0
	}
	return pac.Requested
}

// clientInfo ties a PAC to the ticket that it is put into.
func clientInfo(part *krb5.EncTicketPart) pac.Buffer {
	name := strings.Join(part.CName.Components, "/")
	data := make([]byte, 0, clientInfoOverhead+2*len(name))
	return pac.Buffer{Type: pac.TypeClientInfo, Data: pac.ClientInfo{ID: dtyp.FiletimeOf(part.AuthTime), Name: name}.Append(data)}
}

// clientInfoOverhead is what CLIENT_INFO takes beside the name, in bytes.
const clientInfoOverhead = 10

// initialPAC is the PAC of a ticket of an AS exchange. A TGT has one even where the
// client wants none: it then says whose it is and nothing else, so that every TGS request
// can be held against the directory.
func (x *exchange) initialPAC(client, server *account.Account, part *krb5.EncTicketPart) (*pac.PAC, error) {
	asked := x.pacRequest()
	b := client.Buffers(x.filetime())
	if x.isTGS(server) {
		p := &pac.PAC{Buffers: make([]pac.Buffer, 0, 8)}
		if asked != 0 {
			p.Set(pac.TypeLogonInfo, b.LogonInfo)
		}
		p.Buffers = append(p.Buffers, clientInfo(part))
		if asked != 0 {
			p.Set(pac.TypeUPNInfo, b.UPNInfo)
			p.Set(pac.TypeClientClaims, nil) // the domain has no claims
		}
		p.Set(pac.TypeAttributes, asked.Append(nil))
		p.Set(pac.TypeRequestor, b.Requestor)
		return p, nil
	}
	return x.servicePAC(server, part, asked, b.LogonInfo, b.UPNInfo)
}

// servicePAC is the PAC of a service ticket, made of what the TGT says of the client; nil
// where none is wanted. kadmin/changepw always gets one, because with it the service
// tells tickets of its own from TGTs, which are encrypted in the same key.
func (x *exchange) servicePAC(server *account.Account, part *krb5.EncTicketPart, asked pac.Attributes, info, upn []byte) (*pac.PAC, error) {
	if !server.IsKrbtgt() && (asked == 0 || server.Control&adproto.UACNoAuthDataRequired != 0) {
		return nil, nil //nolint:nilnil // no PAC is no fault
	}
	uncompressed := server.Encryption&adproto.EncNoSIDCompress != 0
	info, err := x.cfg.Accounts.ServiceLogonInfo(x.ctx, info, uncompressed)
	if err != nil {
		return nil, err
	}
	return &pac.PAC{Buffers: append(make([]pac.Buffer, 0, 8),
		pac.Buffer{Type: pac.TypeLogonInfo, Data: info}, clientInfo(part),
		pac.Buffer{Type: pac.TypeUPNInfo, Data: upn}, pac.Buffer{Type: pac.TypeClientClaims})}, nil
}

// isTGS reports whether the ticket that is asked for is a TGT: one for krbtgt under any
// other name than kadmin/changepw.
func (x *exchange) isTGS(server *account.Account) bool {
	return server.IsKrbtgt() && !account.IsChangePassword(x.req.Body.SName)
}
