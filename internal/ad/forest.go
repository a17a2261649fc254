package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// crossRefDomain is the bit of systemFlags that a cross-reference to a domain
// has: FLAG_CR_NTDS_DOMAIN, [MS-ADTS] 2.2.10.
const crossRefDomain = 2

// crossRef is a domain of the forest.
type crossRef struct {
	Base    adproto.DN
	NetBIOS string
}

// is reports whether the domain is called so: by its DNS name or its NetBIOS name.
func (c crossRef) is(name string) bool {
	return strings.EqualFold(name, c.NetBIOS) || strings.EqualFold(name, c.Base.DNSDomain())
}

// domains are the forest's domains.
func (d *desk) domains(ctx context.Context) ([]crossRef, error) {
	entries, err := d.Search(ctx, ldapc.Search{
		Base: "CN=Partitions," + d.names.Config.String(), Scope: ldapc.OneLevel, Attrs: []string{"nCName", "nETBIOSName"},
		Filter: adproto.And(adproto.Equal("objectClass", "crossRef"), adproto.BitsSet("systemFlags", crossRefDomain)),
	})
	if err != nil {
		return nil, fmt.Errorf("domains of the forest: %w", err)
	}
	domains := make([]crossRef, len(entries))
	for i, e := range entries {
		domains[i].NetBIOS = e.GetEqualFoldAttributeValue("nETBIOSName")
		if domains[i].Base, err = adproto.ParseDN(e.GetEqualFoldAttributeValue("nCName")); err != nil {
			return nil, fmt.Errorf("%s: %w", e.DN, err)
		}
	}
	return domains, nil
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

// others searches the global catalog where the forest has other domains than this one.
func (d *desk) others(ctx context.Context, f adproto.Filter, attributes ...string) ([]*ldap.Entry, error) {
	domains, err := d.domains(ctx)
	if err != nil || len(domains) <= 1 {
		return nil, err
	}
	return d.s.catalog(ctx, ldapc.Search{Scope: ldapc.Subtree, Filter: f, Attrs: attributes})
}

// abroad finds an object of another domain of the forest, in the global catalog, by a
// name that says of which: DOMAIN\NAME, a UPN, a distinguished name, a SID or a GUID. It
// fails as notFound where there is none, or the name is one of this domain's.
func (d *desk) abroad(ctx context.Context, text string, kinds []Kind, notFound error) (Object, error) {
	domains, err := d.domains(ctx)
	if err != nil {
		return Object{}, err
	}
	domains = slices.DeleteFunc(domains, func(c crossRef) bool { return c.Base.EqualFold(d.names.Base) })
	q, prefer, ok := foreignSearch(text, domains)
	if !ok {
		return Object{}, notFound
	}
	q.Attrs = objectAttrs
	entries, err := d.s.catalog(ctx, q)
	if errors.Is(err, ldapc.ErrNoSuchObject) {
		return Object{}, fmt.Errorf("%s: %w in the global catalog: %w", text, ErrNotFound, err)
	}
	if err != nil {
		return Object{}, err
	}
	e, err := choose(text, "the global catalog", entries, prefer, kinds)
	if err != nil {
		return Object{}, err
	}
	return parseObject(e)
}

// foreignSearch is the search of the global catalog that finds what text names in one of
// the domains; ok is false where it cannot be there.
func foreignSearch(text string, domains []crossRef) (q ldapc.Search, prefer []string, ok bool) {
	if len(domains) == 0 {
		return q, nil, false
	}
	q.Scope = ldapc.Subtree
	if f, ok := idFilter(text); ok {
		q.Filter = f
		return q, nil, true
	}
	name, err := adproto.ParseAccountName(text)
	if err != nil {
		return q, nil, false
	}
	home := func(is func(crossRef) bool) bool {
		i := slices.IndexFunc(domains, is)
		if i >= 0 {
			q.Base, q.Filter = domains[i].Base.String(), name.Filter(domains[i].Base.DNSDomain())
		}
		return i >= 0
	}
	switch name.Form {
	case adproto.FormDN:
		q.Base, q.Scope, q.Filter = name.DN.String(), ldapc.Base, adproto.Present("objectClass")
		ok = slices.ContainsFunc(domains, func(c crossRef) bool { return name.DN.Within(c.Base) })
	case adproto.FormNetBIOS:
		ok = home(func(c crossRef) bool { return c.is(name.Domain) })
	case adproto.FormUPN:
		// A UPN may have any suffix; where that is a domain, NAME@DOMAIN is its account.
		if ok = true; !home(func(c crossRef) bool { return strings.EqualFold(name.Domain, c.Base.DNSDomain()) }) {
			q.Filter = adproto.Equal("userPrincipalName", text)
		}
	}
	return q, []string{name.Name, name.SAM(), name.Bare()}, ok
}

// isReferral reports whether a controller says that another domain has what was asked.
func isReferral(err error) bool {
	e, ok := errors.AsType[*ldapc.Error](err)
	return ok && e.Code == ldap.LDAPResultReferral
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

// ForestObjects finds objects in all domains of the forest.
func (s *Session) ForestObjects(ctx context.Context, f adproto.Filter) ([]Object, error) {
	var list []Object
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		entries, err := d.forest(ctx, f, objectAttrs...)
		if err != nil {
			return fmt.Errorf("search the forest: %w", err)
		}
		for _, e := range entries {
			o, err := parseObject(e)
			if err != nil {
				return err
			}
			list = append(list, o)
		}
		return nil
	})
	return list, err
}
