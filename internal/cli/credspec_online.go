package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
)

// compareSpec asks the domain that a spec names about each of its fields, and adds
// what differs to the findings.
func (a *app) compareSpec(ctx context.Context, o domainOptions, v *specView) error {
	if o.domain = orElse(o.domain, v.Domain.DNS); o.domain == "" {
		return nil // the finding that it is missing says enough
	}
	return a.session(ctx, &o, func(ctx context.Context, s *ad.Session) error {
		info, err := s.Info(ctx)
		if err != nil {
			return err
		}
		for _, x := range info.Compare(v.domainFields()) {
			v.fault("$.DomainJoinConfig."+x.Field, fmt.Sprintf("%q, and the domain's is %q", x.Got, x.Want), "write "+x.Want)
		}
		for _, x := range v.Accounts {
			if x.Domain != "" && !strings.EqualFold(x.Domain, info.DNSName) {
				continue // of another domain, which is not asked
			}
			if err := v.compareAccount(ctx, s, x.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// domainFields are the spec's fields about its domain.
func (v *specView) domainFields() credspec.DomainJoinConfig {
	return credspec.DomainJoinConfig{Sid: v.Domain.SID, Guid: v.Domain.GUID, DnsTreeName: v.Domain.Forest, DnsName: v.Domain.DNS, NetBiosName: v.Domain.NetBIOS}
}

func (v *specView) fault(path, problem, remedy string) {
	v.Findings = append(v.Findings, findingView{Path: path, Problem: problem, Remedy: remedy})
	v.Usable = false
}

// compareAccount wants a gMSA that can be used.
func (v *specView) compareAccount(ctx context.Context, s *ad.Session, name string) error {
	const path = "$.ActiveDirectoryConfig.GroupManagedServiceAccounts"
	x, err := s.ServiceAccount(ctx, name)
	switch {
	case isAny(err, ad.ErrNotFound, ad.ErrAmbiguous, adproto.ErrAccountName):
		v.fault(path, fmt.Sprintf("%s: the domain has no such gMSA", name), "gmsa account list")
	case err != nil:
		return err
	case x.Kind != ad.KindGMSA:
		v.fault(path, fmt.Sprintf("%s is a %v", name, x.Kind), "containers use group managed service accounts")
	default:
		for _, f := range x.Findings() {
			problem, remedy, _ := strings.Cut(f, ": ")
			v.fault(path, name+": "+problem, remedy)
		}
	}
	return nil
}

// errOnline is a mistake in the use of --online's options.
var errOnline = errors.New("the options of a domain are for --online")
