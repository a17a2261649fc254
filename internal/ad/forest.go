package ad

import (
	"context"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// crossRefDomain is the bit of systemFlags that a cross-reference to a domain
// has: FLAG_CR_NTDS_DOMAIN, [MS-ADTS] 2.2.10.
const crossRefDomain = 2

// domains are the naming contexts of the forest's domains.
func (d *desk) domains(ctx context.Context) ([]string, error) {
	entries, err := d.Search(ctx, ldapc.Search{
		Base: "CN=Partitions," + d.names.Config.String(), Scope: ldapc.OneLevel, Attrs: []string{"nCName"},
		Filter: adproto.And(adproto.Equal("objectClass", "crossRef"), adproto.BitsSet("systemFlags", crossRefDomain)),
	})
	if err != nil {
		return nil, fmt.Errorf("domains of the forest: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.GetEqualFoldAttributeValue("nCName")
	}
	return names, nil
}

// forest searches all domains of the forest: the domain itself where it is the
// only one, else the global catalog, which holds a part of every object's
// attributes.
func (d *desk) forest(ctx context.Context, f adproto.Filter, attributes ...string) ([]*ldap.Entry, error) {
	domains, err := d.domains(ctx)
	if err != nil {
		return nil, err
	}
	search := ldapc.Search{Base: d.names.Base.String(), Scope: ldapc.Subtree, Filter: f, Attrs: attributes}
	if len(domains) <= 1 {
		return d.Search(ctx, search)
	}
	search.Base = ""
	return d.s.catalog(ctx, search)
}

// catalog searches the global catalog.
func (s *Session) catalog(ctx context.Context, q ldapc.Search) ([]*ldap.Entry, error) {
	controllers, err := s.controllers(ctx, locate.Catalog, Hint{})
	if err != nil {
		return nil, fmt.Errorf("global catalog: %w", err)
	}
	nc, c, err := s.d.locator.Dial(ctx, locate.GC, controllers)
	if err != nil {
		return nil, fmt.Errorf("global catalog: %w", err)
	}
	cfg := ldapc.Config{
		ServerName: c.Name, Mechanism: s.d.cfg.Mechanism, RootCAs: s.d.cfg.RootCAs,
		Timeout: s.d.cfg.Timeout, Now: s.d.kerberos.Now, Rand: s.d.cfg.Rand,
	}
	ticket, err := s.ldapTicket(ctx, c)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	cfg.Kerberos = &ticket
	conn, err := ldapc.Open(ctx, nc, cfg)
	if err != nil {
		return nil, fmt.Errorf("global catalog of %v: %w", c, err)
	}
	defer func() { _ = conn.Close() }()
	return conn.Search(ctx, q)
}
