package ldapd

import (
	"context"
	"errors"
	"net/netip"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/secret"
)

type nobody struct{}

func (nobody) Bind(context.Context, string, secret.Bytes, netip.AddrPort) (directory.Caller, error) {
	return directory.Caller{}, errors.New("x")
}
func (nobody) FromTicket(context.Context, krb5.EncTicketPart, krb5.Principal, netip.AddrPort) (directory.Caller, error) {
	return directory.Caller{}, errors.New("x")
}
func (nobody) ServiceKeys() gss.KeyFunc { return nil }
