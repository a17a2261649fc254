package directory

import (
	"net/netip"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Caller is who asks for an operation, on which connection. Its zero value is an
// anonymous client on a connection that everybody can read.
type Caller struct {
	// SID is the account's own, zero for an anonymous client.
	SID dtyp.SID
	// Token is the account and its groups as the ticket or the bind had them, with
	// Everyone and Authenticated Users.
	Token secdesc.Token
	// Name is the NT account name: CONTOSO\alice.
	Name string
	// From is the peer's address.
	From netip.AddrPort
	// Encrypted reports whether the connection is confidential: TLS, or a SASL layer
	// that encrypts. Managed passwords and root keys are told on no other, and no
	// password is set on one.
	Encrypted bool
	// Controller is the domain controller itself, which every check lets pass. No
	// client ever is it.
	Controller bool
}

// Anonymous reports whether nobody has authenticated.
func (c Caller) Anonymous() bool { return !c.Controller && c.SID.IsZero() }
