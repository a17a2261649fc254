package directory

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// Domain is what a directory knows of itself: a domain that is its own forest. It is
// immutable.
type Domain struct {
	DNSName string    `json:"dnsName"` // contoso.com, in lower case; the forest's name too
	NetBIOS string    `json:"netBIOS"` // CONTOSO
	SID     dtyp.SID  `json:"sid"`     // S-1-5-21-…
	GUID    dtyp.GUID `json:"guid"`    // objectGUID of the head of the domain
	// Site is the one site there is.
	Site string `json:"site"`
	// Host is the controller's host name without a domain, in lower case: dc1.
	Host string `json:"host"`
}

// Realm is the Kerberos realm: CONTOSO.COM.
func (d Domain) Realm() string { return strings.ToUpper(d.DNSName) }

// HostName is the controller's DNS name: dc1.contoso.com.
func (d Domain) HostName() string { return d.Host + "." + d.DNSName }

// DN is the default naming context: DC=contoso,DC=com.
func (d Domain) DN() adproto.DN { return adproto.DomainDN(d.DNSName) }

// ConfigurationDN is the configuration naming context.
func (d Domain) ConfigurationDN() adproto.DN { return adproto.NewDN("CN", "Configuration", d.DN()) }

// SchemaDN is the schema naming context.
func (d Domain) SchemaDN() adproto.DN { return adproto.NewDN("CN", "Schema", d.ConfigurationDN()) }

// metaDomain is the name of the row that holds the domain.
const metaDomain = "domain"

func readDomain(r store.Reader) (d Domain, err error) {
	b, err := rows.Meta(r, metaDomain)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("%w: domain: %w", rows.ErrCorrupt, err)
	}
	return d, nil
}

func writeDomain(tx store.Tx, d Domain) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return rows.SetMeta(tx, metaDomain, b)
}
