package ldapd

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// rootDSE is what the server tells of itself to everybody: [MS-ADTS] 3.1.1.3.2. What
// does not change is in it; the time and the newest USN are added when it is read.
type rootDSE struct{ fixed []directory.Attribute }

// Object identifiers of supportedFeatures: RFC 3673 and RFC 4526.
const (
	featureAllOperational  = "1.3.6.1.4.1.4203.1.5.1"
	featureTrueFalseFilter = "1.3.6.1.4.1.4203.1.5.3"
)

// functionalLevel is Windows Server 2016's, of domain, forest and controller: [MS-ADTS]
// 6.1.4.2.
const functionalLevel = "7"

func newRootDSE(d directory.Domain) rootDSE {
	var r rootDSE
	add := func(name string, values ...string) {
		a := directory.Attribute{Name: name}
		for _, v := range values {
			a.Values = append(a.Values, []byte(v))
		}
		r.fixed = append(r.fixed, a)
	}
	dn, configuration, schema := d.DN().String(), d.ConfigurationDN().String(), d.SchemaDN().String()
	server := adproto.NewDN("CN", strings.ToUpper(d.Host), adproto.NewDN("CN", "Servers",
		adproto.NewDN("CN", d.Site, adproto.NewDN("CN", "Sites", d.ConfigurationDN()))))
	add("objectClass", "top")
	add("defaultNamingContext", dn)
	add("rootDomainNamingContext", dn)
	add("configurationNamingContext", configuration)
	add("schemaNamingContext", schema)
	add("namingContexts", dn, configuration, schema)
	add("subschemaSubentry", "CN=Aggregate,"+schema)
	add("serverName", server.String())
	add("dsServiceName", adproto.NewDN("CN", "NTDS Settings", server).String())
	add("dnsHostName", d.HostName())
	add("ldapServiceName", d.DNSName+":"+d.Host+"$@"+d.Realm())
	add("supportedLDAPVersion", "3")
	add("supportedSASLMechanisms", mechanismGSSAPI, mechanismSPNEGO)
	add("supportedCapabilities", adproto.CapabilityAD, adproto.CapabilityV51, adproto.CapabilityLDAPInt,
		adproto.CapabilityV60, adproto.CapabilityV61R2)
	add("supportedControl", controlOIDs()...)
	add("supportedExtension", adproto.OIDStartTLS, adproto.OIDWhoAmI)
	add("supportedFeatures", featureAllOperational, featureTrueFalseFilter)
	add("domainFunctionality", functionalLevel)
	add("forestFunctionality", functionalLevel)
	add("domainControllerFunctionality", functionalLevel)
	add("isSynchronized", "TRUE")
	add("isGlobalCatalogReady", "TRUE")
	add("vendorName", "OpenGMSA")
	return r
}

func controlOIDs() []string {
	var out []string
	for _, c := range controls {
		out = append(out, c.oid)
	}
	return out
}

// attributes are all of them as they are now.
func (r rootDSE) attributes(ctx context.Context, d *directory.Directory) ([]directory.Attribute, error) {
	var usn uint64
	err := d.View(ctx, func(r *directory.Reader) error {
		usn = r.HighestUSN()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(r.fixed),
		directory.Attribute{Name: "highestCommittedUSN", Values: [][]byte{strconv.AppendUint(nil, usn, 10)}},
		directory.Attribute{Name: "currentTime", Values: [][]byte{d.Now().UTC().AppendFormat(nil, "20060102150405.0Z")}},
	), nil
}

// searchRoot answers a base search of the empty name: the rootDSE, or a netlogon ping,
// which is such a search for the attribute Netlogon ([MS-ADTS] 6.3.3.2).
func (c *conn) searchRoot(ctx context.Context, m ldapmsg.Message, q ldapmsg.SearchRequest) error {
	i := slices.IndexFunc(q.Attributes, func(a string) bool { return strings.EqualFold(a, adproto.PingAttribute) })
	if i >= 0 && c.s.cfg.Ping != nil {
		return c.ping(ctx, m, q.Filter, q.Attributes[i])
	}
	all, err := c.s.root.attributes(ctx, c.s.cfg.Directory)
	if err != nil {
		return c.respond(ctx, m, err)
	}
	if !rootMatches(all, q.Filter) {
		return c.respond(ctx, m, nil)
	}
	return c.oneEntry(ctx, m, selectRoot(all, q.Attributes, q.TypesOnly))
}

// ping answers a netlogon ping. One that is not for this domain, or that cannot be
// read, finds no entry.
func (c *conn) ping(ctx context.Context, m ldapmsg.Message, f adproto.Filter, name string) error {
	p, err := adproto.ParsePing(f)
	if err != nil {
		return c.answer(ctx, m, ldapmsg.Result{}, err)
	}
	value, ok := c.s.cfg.Ping(p, c.caller.From.Addr())
	if !ok {
		return c.respond(ctx, m, nil)
	}
	return c.oneEntry(ctx, m, []directory.Attribute{{Name: name, Values: [][]byte{value}}})
}

// oneEntry answers a search of the rootDSE.
func (c *conn) oneEntry(ctx context.Context, m ldapmsg.Message, attributes []directory.Attribute) error {
	s := searching{c: c, m: m, buf: buffers.Get().(*buffer)}
	defer func() { s.buf.release() }()
	if err := s.entry(directory.SearchEntry{Attributes: attributes}); err != nil {
		return err
	}
	return s.finish(ctx, directory.SearchResult{}, nil)
}

// selectRoot takes what was asked for: all without a selection, and with "*" or "+",
// for every attribute of the rootDSE is operational and Active Directory gives all of
// them for either.
func selectRoot(all []directory.Attribute, selection []string, typesOnly bool) []directory.Attribute {
	every := len(selection) == 0 || slices.Contains(selection, "*") || slices.Contains(selection, "+")
	var out []directory.Attribute
	for _, a := range all {
		if !every && !slices.ContainsFunc(selection, func(s string) bool { return strings.EqualFold(s, a.Name) }) {
			continue
		}
		if typesOnly {
			a.Values = nil
		}
		out = append(out, a)
	}
	return out
}

// rootMatches evaluates a filter on the rootDSE, which no schema describes: presence
// and equality of texts; all else is false.
func rootMatches(all []directory.Attribute, f adproto.Filter) bool {
	match := func(child adproto.Filter) bool { return rootMatches(all, child) }
	switch f.Kind {
	case adproto.FilterAnd:
		return !slices.ContainsFunc(f.Children, func(child adproto.Filter) bool { return !match(child) })
	case adproto.FilterOr:
		return slices.ContainsFunc(f.Children, match)
	case adproto.FilterNot:
		return !match(f.Children[0])
	case adproto.FilterPresent, adproto.FilterEqual:
		return slices.ContainsFunc(all, func(a directory.Attribute) bool {
			return strings.EqualFold(a.Name, f.Attr) && (f.Kind == adproto.FilterPresent ||
				slices.ContainsFunc(a.Values, func(v []byte) bool { return strings.EqualFold(string(v), string(f.Value)) }))
		})
	}
	return false
}
