package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// directory wants a sealed connection to the directory, and reads the domain's names.
func directory(ctx context.Context, f *Facts) []Finding {
	info, err := f.asker.Info(ctx)
	if err != nil {
		return []Finding{failed(err, "the directory cannot be read over a sealed connection")}
	}
	f.info = info
	level := "the domain's level is " + info.DomainLevel.String()
	if info.ControllerLevel < adproto.Level2012 {
		return []Finding{wrong("%s has the level %v: managed passwords need 2012", info.Controller, info.ControllerLevel).because(level)}
	}
	return []Finding{ok("%s answers, sealed", info.Controller).because(
		fmt.Sprintf("%s (%s) of the forest %s, SID %v, GUID %v", info.DNSName, info.NetBIOS, info.Forest, info.SID, info.GUID),
		level+", the controller's "+info.ControllerLevel.String())}
}

// certificate wants each controller's certificate to be for its name and signed by
// somebody who is trusted here.
func certificate(_ context.Context, f *Facts) []Finding {
	bad := warning
	if f.cfg.TLS {
		bad = wrong
	}
	var list []Finding
	for _, c := range f.place.controllers {
		switch {
		case !c.answers():
		case c.tls == nil:
			list = append(list, bad("%v has no certificate: TCP 636 is open and TLS fails", c).
				mend("give the controller a certificate for server authentication").mend("or connect sealed: protection: gss-spnego, the default"))
		default:
			list = append(list, f.chain(c, bad))
		}
	}
	return list
}

// chain judges the certificate of one controller.
func (f *Facts) chain(c *controller, bad func(string, ...any) Finding) Finding {
	leaf := c.tls.PeerCertificates[0]
	inter := x509.NewCertPool()
	for _, x := range c.tls.PeerCertificates[1:] {
		inter.AddCert(x)
	}
	name := c.name
	if name == c.addr.String() && len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0] // given by address: any of its own names will do
	}
	about := fmt.Sprintf("issued by %s, until %s", leaf.Issuer, leaf.NotAfter.Format(time.DateOnly))
	now := f.now()
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: f.cfg.RootCAs, Intermediates: inter, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err == nil {
		n := ok("the certificate of %v is trusted until %s", c, leaf.NotAfter.Format(time.DateOnly)).because(about)
		if leaf.NotAfter.Sub(now) < 30*24*time.Hour {
			n.Severity = Warning
			n = n.mend("renew it before that day")
		}
		return n
	}
	n := bad("the certificate of %v is not accepted here", c).because(err.Error(), about)
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return n.mend("write the authority's certificate into a file and name it: domains.%s.ca in agent.yaml", f.domain.Name()).
			mend("or trust it on the whole host: update-ca-certificates")
	case errors.As(err, &hostname):
		return n.because("its names: "+strings.Join(leaf.DNSNames, ", ")).mend("a certificate with %s as subjectAltName", c.name)
	}
	return n.mend("renew the controller's certificate")
}

// channelBinding binds by Kerberos inside TLS, as programs do that use LDAPS.
func channelBinding(ctx context.Context, f *Facts) []Finding {
	id := f.identity()
	var list []Finding
	for _, c := range f.home.controllers {
		if c.tls == nil {
			continue
		}
		err := f.at(ctx, c, id, ldapc.LDAPS, func(ctx context.Context, s *ad.Session) error {
			_, _, err := s.WhoAmI(ctx)
			return err
		})
		switch {
		case errors.Is(err, ldapc.ErrCertificate):
			list = append(list, info("%v: not tried, its certificate is not accepted", c))
		case errors.Is(err, ldapc.ErrChannelBinding), errors.Is(err, ldapc.ErrCredentials):
			list = append(list, wrong("%v refuses the channel binding", c).because(err.Error(), "something between decrypts TLS, or the policy of the controller and of this host differ").
				mend("LdapEnforceChannelBinding on the controller, and no proxy on the way to TCP 636"))
		case err != nil:
			list = append(list, failed(err, "no bind inside TLS at %v", c))
		default:
			list = append(list, ok("%v binds Kerberos to the TLS channel", c))
		}
	}
	return list
}

// at asks one controller alone.
func (f *Facts) at(ctx context.Context, c *controller, id ad.Identity, p ldapc.Protection, do func(context.Context, *ad.Session) error) error {
	server := fmt.Sprintf("%s:%d", c.addr, 389+c.shift)
	if c.addr.Is6() {
		server = fmt.Sprintf("[%s]:%d", c.addr, 389+c.shift)
	}
	d, err := ad.NewDomain(ad.Config{
		Locate:     locate.Config{Domain: f.domain.Name(), Servers: []string{server}, Dial: f.home.Dial, Now: f.cfg.Now, Resolver: f.home.resolver()},
		Protection: p, RootCAs: f.cfg.RootCAs, Timeout: defaultLimit,
	})
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	s, err := ad.Open(d, id)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return do(ctx, s)
}

// identity is whoever asks the directory.
func (f *Facts) identity() ad.Identity {
	switch tgt, held := f.asker.Held(); {
	case f.cfg.Asker != nil:
		return *f.cfg.Asker
	case held:
		return ad.WithTicket(tgt) // saves each of several controllers the logon
	}
	return ad.WithKeys(f.host.principal.Name, f.host.keys...)
}

// rootKeys wants a root key that passwords can be made from now.
func rootKeys(ctx context.Context, f *Facts) []Finding {
	keys, err := f.asker.RootKeys(ctx, false)
	if err != nil && !errors.Is(err, ldapc.ErrNoSuchObject) {
		return []Finding{failed(err, "the root keys cannot be listed")}
	}
	f.rootKey = keys
	if len(keys) == 0 {
		if !f.sees(ctx) {
			return []Finding{info("root keys are not shown to %s; ask as a member of Enterprise Admins: gmsa doctor -U", f.identity())}
		}
		return []Finding{wrong("the forest has no KDS root key: no managed password can be made").
			mend("gmsa kds add --effective-immediately  # then wait 10 hours").
			mend("gmsa kds add --effective-time -10h  # a test domain with one controller")}
	}
	var lines []string
	usable := false
	soonest := keys[0]
	for _, k := range keys {
		usable = usable || !k.FirstUse().After(f.realmNow())
		if k.FirstUse().Before(soonest.FirstUse()) {
			soonest = k
		}
		lines = append(lines, fmt.Sprintf("%v, first used %s", k.ID, k.FirstUse().UTC().Format(time.DateTime)+" UTC"))
	}
	if !usable {
		return []Finding{wrong("no KDS root key is in effect yet: the first one is from %s", soonest.FirstUse().UTC().Format(time.DateTime)+" UTC").because(lines...).
			mend("wait until then: every controller must have it first").
			mend("gmsa kds add --effective-time -10h  # a test domain with one controller")}
	}
	return []Finding{ok("%d root keys", len(keys)).because(lines...)}
}

// sees reports whether the asker would see root keys if there were some: whoever may
// read the descriptor of their container is an administrator.
func (f *Facts) sees(ctx context.Context) bool {
	id := f.asker.Domain().BaseDN().String()
	o, err := f.asker.Object(ctx, "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,"+id, "allowedChildClassesEffective")
	return err == nil && len(o.Values["allowedChildClassesEffective"]) > 0
}

// replicated wants every controller to have every root key.
func replicated(ctx context.Context, f *Facts) []Finding {
	type have struct {
		keys []dtyp.GUID
		err  error
	}
	controllers := slices.DeleteFunc(slices.Clone(f.home.controllers), func(c *controller) bool { return !c.answers() })
	if len(controllers) < 2 || len(f.rootKey) == 0 {
		return []Finding{ok("there is one controller, or no key that could be compared")}
	}
	found := make([]have, len(controllers))
	id := f.identity()
	var wg sync.WaitGroup
	for i, c := range controllers {
		wg.Go(func() {
			found[i].err = f.at(ctx, c, id, ldapc.Sealed, func(ctx context.Context, s *ad.Session) error {
				keys, err := s.RootKeys(ctx, false)
				for _, k := range keys {
					found[i].keys = append(found[i].keys, k.ID)
				}
				return err
			})
		})
	}
	wg.Wait()
	all := map[dtyp.GUID]bool{}
	for _, h := range found {
		for _, k := range h.keys {
			all[k] = true
		}
	}
	var list []Finding
	for i, c := range controllers {
		if found[i].err != nil {
			list = append(list, warning("the root keys of %v cannot be read", c).because(found[i].err.Error()))
			continue
		}
		for k := range all {
			if !slices.Contains(found[i].keys, k) {
				list = append(list, wrong("%v does not have the root key %v yet", c, k).because("what it cannot make a password from, it refuses").
					mend("samba-tool drs replicate, or repadmin /syncall, and wait").mend("gmsa kds list --dc %s", c.addr))
			}
		}
	}
	if len(list) == 0 {
		return []Finding{ok("%d controllers have the same %d root keys", len(controllers), len(all))}
	}
	return list
}

// duplicateSPNs wants every service principal name of the forest to have one owner.
func duplicateSPNs(ctx context.Context, f *Facts) []Finding {
	found, err := f.asker.DuplicateSPNs(ctx)
	if err != nil {
		return []Finding{failed(err, "service principal names cannot be compared")}
	}
	var list []Finding
	for _, d := range found {
		list = append(list, wrong("%d accounts have the service principal name %s: nobody gets a ticket for it", len(d.Owners), d.SPN).
			because(d.Owners...).mend("gmsa spn remove ACCOUNT %s  # from all but one", d.SPN))
	}
	if len(list) == 0 {
		return []Finding{ok("no service principal name has two owners")}
	}
	return list
}
