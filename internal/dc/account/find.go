package account

import (
	"context"
	"errors"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/krb5"
)

// role is what a name is asked for.
type role byte

const (
	asClient role = 'c'
	asServer role = 's'
)

// Client finds the account that a client calls itself by: a sAMAccountName, a user
// principal name, or an enterprise name ([MS-KILE] 3.3.5.6.1, RFC 6806, Section 5). The
// type of the name is not looked at. It fails with ErrUnknown.
//
// Deviation: [MS-KILE] has the KDC try a name that it does not find once more with "$"
// behind it; nobody does here, because whoever may rename a computer could then pass for
// another one (CVE-2021-42278).
func (a *Accounts) Client(ctx context.Context, name krb5.PrincipalName) (*Account, error) {
	return a.find(ctx, asClient, name)
}

// Server finds the account that a ticket is asked for: by an SPN, with the classes that
// host/ stands for, as krbtgt of this domain, as kadmin/changepw, or by the names of
// [Accounts.Client]. It fails with ErrUnknown.
func (a *Accounts) Server(ctx context.Context, name krb5.PrincipalName) (*Account, error) {
	return a.find(ctx, asServer, name)
}

// Krbtgt is the account whose keys make this a KDC.
func (a *Accounts) Krbtgt(ctx context.Context) (*Account, error) {
	return a.BySID(ctx, a.domain.SID.Child(dtyp.RIDKrbtgt))
}

func (a *Accounts) find(ctx context.Context, as role, name krb5.PrincipalName) (*Account, error) {
	c := a.current()
	key := cacheKey(as, name)
	if acct, ok := cached(c, c.names, key); ok {
		return acct, nil
	}
	var acct *Account
	err := a.cfg.Directory.View(ctx, func(r *directory.Reader) (err error) {
		acct, err = a.resolve(r, c, as, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	keep(c, c.names, key, acct)
	return acct, nil
}

// cacheKey tells names apart by role and components. No component holds NUL.
func cacheKey(as role, name krb5.PrincipalName) string {
	size := 1
	for _, part := range name.Components {
		size += len(part) + 1
	}
	b := append(make([]byte, 0, size), byte(as))
	for _, part := range name.Components {
		b = append(append(b, part...), 0)
	}
	return string(b)
}

func (a *Accounts) resolve(r *directory.Reader, c *cache, as role, name krb5.PrincipalName) (*Account, error) {
	parts := name.Components
	switch {
	case len(parts) == 0:
		return nil, unknown("")
	case as == asServer && isKrbtgt(parts, a.domain), as == asServer && IsChangePassword(name):
		return a.lookup(r, c, a.known.objectSID, a.domain.SID.Child(dtyp.RIDKrbtgt).Bytes())
	case len(parts) == 1:
		return a.byAccountName(r, c, parts[0])
	case as == asClient:
		// A name like host/web1 is a client's only where it is its userPrincipalName.
		return a.lookup(r, c, a.known.userPrincipalName, []byte(strings.Join(parts, "/")+"@"+a.domain.DNSName))
	}
	return a.bySPN(r, c, strings.Join(parts, "/"))
}

// isKrbtgt reports whether a name is that of this domain's ticket-granting service,
// by its DNS or NetBIOS name.
func isKrbtgt(parts []string, d directory.Domain) bool {
	return len(parts) == 2 && strings.EqualFold(parts[0], "krbtgt") && IsRealm(d, parts[1])
}

// IsRealm reports whether a realm's name is one of the domain's: Kerberos's realm is
// the DNS name in capitals, but clients send it in small letters and its NetBIOS name
// too.
func IsRealm(d directory.Domain, realm string) bool {
	return strings.EqualFold(realm, d.DNSName) || strings.EqualFold(realm, d.NetBIOS)
}

// IsChangePassword reports whether a name is kadmin/changepw, the service that changes
// passwords (RFC 3244, Section 2). In AD it is an SPN of krbtgt.
func IsChangePassword(n krb5.PrincipalName) bool {
	return len(n.Components) == 2 && strings.EqualFold(n.Components[0], "kadmin") && strings.EqualFold(n.Components[1], "changepw")
}

// byAccountName finds an account by a name of one component: as a sAMAccountName and
// then as the part of a user principal name before this domain's suffix, or with a
// suffix as a user principal name and then as a sAMAccountName of this domain.
func (a *Accounts) byAccountName(r *directory.Reader, c *cache, name string) (*Account, error) {
	local, suffix := name, ""
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		local, suffix = name[:i], name[i+1:]
	}
	if suffix == "" {
		acct, err := a.lookup(r, c, a.known.samAccountName, []byte(local))
		if !errors.Is(err, ErrUnknown) {
			return acct, err
		}
		return a.lookup(r, c, a.known.userPrincipalName, []byte(local+"@"+a.domain.DNSName))
	}
	acct, err := a.lookup(r, c, a.known.userPrincipalName, []byte(name))
	if !errors.Is(err, ErrUnknown) || !IsRealm(a.domain, suffix) {
		return acct, err
	}
	return a.lookup(r, c, a.known.samAccountName, []byte(local))
}

// bySPN finds the holder of an SPN, or of the host/ SPN that stands for it ([MS-KILE]
// 3.3.5.7, [MS-DRSR] 4.1.4.2.19 MapSPN).
func (a *Accounts) bySPN(r *directory.Reader, c *cache, spn string) (*Account, error) {
	acct, err := a.lookup(r, c, a.known.servicePrincipalName, []byte(spn))
	if !errors.Is(err, ErrUnknown) {
		return acct, err
	}
	class, rest, _ := strings.Cut(spn, "/")
	aliases, err := a.hostAliases(r, c)
	if err != nil {
		return nil, err
	}
	if !aliases[strings.ToLower(class)] {
		return nil, unknown(spn)
	}
	return a.lookup(r, c, a.known.servicePrincipalName, []byte("host/"+rest))
}

// lookup finds an account by a unique value.
func (a *Accounts) lookup(r *directory.Reader, c *cache, by *schema.Attribute, value []byte) (*Account, error) {
	e, err := r.Lookup(by, value)
	if errors.Is(err, rows.ErrNotFound) || errors.Is(err, schema.ErrSyntax) {
		return nil, unknown(string(value))
	}
	if err != nil {
		return nil, err
	}
	return a.loaded(r, c, e)
}

// defaultHostAliases is sPNMappings of a new forest of AD: the classes that a computer
// has with its host/ SPN.
const defaultHostAliases = "alerter,appmgmt,cisvc,clipsrv,browser,dhcp,dnscache,replicator,eventlog,eventsystem," +
	"policyagent,oakley,dmserver,dns,mcsvc,fax,msiserver,ias,messenger,netlogon,netman,netdde,netddedsm,nmagent," +
	"plugplay,protectedstorage,rasman,rpclocator,rpc,rpcss,remoteaccess,rsvp,samss,scardsvr,scesrv,seclogon,scm,dcom," +
	"cifs,spooler,snmp,schedule,tapisrv,trksvr,trkwks,ups,time,wins,www,http,w3svc,iisadmin,msdtc"

// hostAliases are the classes that host/ stands for, as CN=Directory Service has them
// in sPNMappings, or AD's own where that is missing.
func (a *Accounts) hostAliases(r *directory.Reader, c *cache) (map[string]bool, error) {
	c.mu.RLock()
	aliases := c.aliases
	c.mu.RUnlock()
	if aliases != nil {
		return aliases, nil
	}
	mappings := []string{"host=" + defaultHostAliases}
	container := adproto.NewDN("CN", "Services", a.domain.ConfigurationDN())
	container = adproto.NewDN("CN", "Directory Service", adproto.NewDN("CN", "Windows NT", container))
	guid, err := r.Resolve(container)
	if err == nil {
		e, err := r.Get(guid)
		if err != nil {
			return nil, err
		}
		if values := e.Values[a.known.spnMappings]; len(values) > 0 {
			mappings = mappings[:0]
			for _, v := range values {
				mappings = append(mappings, string(v))
			}
		}
	} else if !errors.Is(err, rows.ErrNotFound) {
		return nil, err
	}
	aliases = parseAliases(mappings)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aliases = aliases
	return aliases, nil
}

// parseAliases reads values of sPNMappings, "host=alerter,appmgmt,…".
func parseAliases(mappings []string) map[string]bool {
	aliases := map[string]bool{}
	for _, m := range mappings {
		class, list, _ := strings.Cut(m, "=")
		if !strings.EqualFold(class, "host") {
			continue
		}
		for alias := range strings.SplitSeq(strings.ToLower(list), ",") {
			aliases[alias] = true
		}
	}
	return aliases
}
