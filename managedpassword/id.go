package managedpassword

import (
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
)

// ID is msDS-ManagedPasswordId: which root key and interval the password comes
// from, and which domain can tell ([MS-ADTS] 3.1.1.4.5.39). It contains
// nothing secret.
type ID = gkdi.KeyEnvelope

// NewID is the ID of the password of interval id under root, as Windows writes
// it, for the DNS names of domain and forest.
func NewID(root dtyp.GUID, id gkdi.KeyID, domain, forest string) ID {
	return ID{Flags: gkdi.FlagEncrypt, KeyID: id, RootKeyID: root, Domain: domain, Forest: forest}
}

// ParseID decodes msDS-ManagedPasswordId; [ID.Append] encodes it. Errors wrap
// gkdi.ErrMalformed or gkdi.ErrKeyID.
func ParseID(b []byte) (ID, error) {
	id, err := gkdi.ParseKeyEnvelope(b)
	if err != nil {
		return ID{}, fmt.Errorf("msDS-ManagedPasswordId: %w", err)
	}
	return id, nil
}
