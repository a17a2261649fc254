package ad

import (
	"context"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
)

// Catalog searches the global catalog, as forests of several domains need it, and
// gives the names of what it finds.
func (s *Session) Catalog(ctx context.Context, f adproto.Filter) ([]string, error) {
	entries, err := s.catalog(ctx, ldapc.Search{Scope: ldapc.Subtree, Filter: f, Attrs: []string{"sAMAccountName"}})
	var names []string
	for _, e := range entries {
		names = append(names, e.DN)
	}
	return names, err
}
