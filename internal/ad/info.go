package ad

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Info is a domain's identity card.
type Info struct {
	DNSName string // contoso.com
	NetBIOS string // CONTOSO
	Forest  string // DNS name of the forest's root domain
	BaseDN  string
	SID     dtyp.SID
	GUID    dtyp.GUID // objectGUID of the domain, what a credential spec calls Guid
	// DomainLevel, ForestLevel and ControllerLevel are functional levels; the
	// last is that of the controller that answered.
	DomainLevel, ForestLevel, ControllerLevel adproto.FunctionalLevel
	// Controller is the DNS name of the controller that answered, by its own
	// word, and Time its clock.
	Controller string
	Time       time.Time
}

// Difference is a field of a credential spec that is not what the domain has.
type Difference struct {
	Field, Got, Want string
}

// Compare lists the fields in which a credential spec differs from the domain.
func (i Info) Compare(d credspec.DomainJoinConfig) []Difference {
	var list []Difference
	for _, x := range []Difference{
		{"Sid", d.Sid, i.SID.String()},
		{"Guid", strings.Trim(d.Guid, "{}"), i.GUID.String()},
		{"DnsTreeName", d.DnsTreeName, i.Forest},
		{"DnsName", d.DnsName, i.DNSName},
		{"NetBiosName", d.NetBiosName, i.NetBIOS},
	} {
		if !strings.EqualFold(x.Got, x.Want) {
			list = append(list, x)
		}
	}
	return list
}

// Info reads the domain's names and numbers.
func (s *Session) Info(ctx context.Context) (Info, error) {
	return read(ctx, s, locate.Any, Hint{}, func(ctx context.Context, conn *ldapc.Conn, _ locate.Controller) (Info, error) {
		info, config, err := readRootDSE(ctx, conn)
		if err != nil {
			return Info{}, err
		}
		e, err := conn.Read(ctx, info.BaseDN, "objectSid", "objectGUID")
		if err != nil {
			return Info{}, err
		}
		r := attrs{e: e}
		if info.SID, info.GUID = r.sid("objectSid"), r.guid("objectGUID"); r.err != nil {
			return Info{}, fmt.Errorf("%s: %w", e.DN, r.err)
		}
		info.NetBIOS, err = netBIOSName(ctx, conn, config, info.BaseDN)
		return info, err
	})
}

// readRootDSE reads what the rootDSE knows, and the name of the configuration
// naming context: [MS-ADTS] 3.1.1.3.2.
func readRootDSE(ctx context.Context, conn *ldapc.Conn) (info Info, config string, err error) {
	e, err := conn.Read(ctx, "", "defaultNamingContext", "rootDomainNamingContext", "configurationNamingContext", "dnsHostName",
		"domainFunctionality", "forestFunctionality", "domainControllerFunctionality", "currentTime")
	if err != nil {
		return Info{}, "", err
	}
	r := attrs{e: e}
	level := func(name string) adproto.FunctionalLevel { return adproto.FunctionalLevel(r.number(name)) }
	base, err := adproto.ParseDN(r.string("defaultNamingContext"))
	if err != nil {
		return Info{}, "", err
	}
	root, err := adproto.ParseDN(r.string("rootDomainNamingContext"))
	if err != nil {
		return Info{}, "", err
	}
	info = Info{
		DNSName: strings.ToLower(base.DNSDomain()), Forest: strings.ToLower(root.DNSDomain()), BaseDN: base.String(),
		DomainLevel: level("domainFunctionality"), ForestLevel: level("forestFunctionality"), ControllerLevel: level("domainControllerFunctionality"),
		Controller: r.string("dnsHostName"), Time: r.time("currentTime"),
	}
	if r.err != nil {
		return Info{}, "", fmt.Errorf("rootDSE: %w", r.err)
	}
	return info, r.string("configurationNamingContext"), nil
}

// netBIOSName reads the domain's cross-reference: [MS-ADTS] 6.1.1.2.1.1.
func netBIOSName(ctx context.Context, conn *ldapc.Conn, config, base string) (string, error) {
	entries, err := conn.Search(ctx, ldapc.Search{
		Base: "CN=Partitions," + config, Scope: ldapc.OneLevel, Limit: 1, Attrs: []string{"nETBIOSName"},
		Filter: adproto.And(adproto.Equal("nCName", base), adproto.Present("nETBIOSName")),
	})
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", fmt.Errorf("cross-reference of %s: %w", base, ldapc.ErrNoSuchObject)
	}
	return entries[0].GetEqualFoldAttributeValue("nETBIOSName"), nil
}
