package krb5

import (
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Credential is a ticket together with what its owner must know to use it: the
// common currency of the client, the credential cache, the GSS-API and LDAP.
type Credential struct {
	// Client is the principal the ticket was issued to, as the KDC named it.
	Client Principal
	// Server is the principal the ticket is for, as the KDC named it.
	Server Principal
	// SessionKey is shared with the server.
	SessionKey *crypto.Key
	// AuthTime is when the client proved its password; StartTime and EndTime
	// bound the ticket; RenewTill is zero for a ticket that cannot be renewed.
	// All have a resolution of one second, in UTC.
	AuthTime, StartTime, EndTime, RenewTill time.Time
	// Flags are the ticket's flags as the KDC reported them in the reply.
	Flags TicketFlags
	// Ticket is the DER of the Ticket, exactly as it came from the KDC.
	Ticket []byte
}
