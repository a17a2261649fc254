package doctor

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Run asks every question that the configuration calls for and reports what it found.
// progress may be nil. An error means that nothing could be asked.
func Run(ctx context.Context, cfg Config, progress func(Result)) (Report, error) {
	start := time.Now()
	x, err := examine(cfg)
	if err != nil {
		return Report{}, err
	}
	defer x.close()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(cfg.Timeout, DefaultTimeout))
	defer cancel()
	r := Report{Time: x.shared.now().UTC(), Domain: x.shared.domain.Name(), Seen: cfg.Seen}
	r.Results = run(ctx, plan(checksFor(x.shared.cfg), x.subjects()), progress)
	r.sum()
	r.Millis = time.Since(start).Milliseconds()
	return r, nil
}

// examination is one run: the common facts and those of each subject.
type examination struct {
	shared   *shared
	places   []*placeFacts
	accounts []*accountFacts
}

// close ends what the checks opened, and drops the secrets that they came by.
func (x *examination) close() {
	sessions := []*ad.Session{x.shared.asker, x.shared.host.session}
	for _, s := range x.shared.specs {
		sessions = append(sessions, s.reader)
		s.password.Destroy()
	}
	for _, s := range sessions {
		if s != nil {
			_ = s.Close()
		}
	}
	for _, a := range x.accounts {
		if a.password != nil {
			a.password.Destroy()
		}
	}
	for _, k := range x.shared.host.keys {
		k.Secret().Destroy()
	}
	_ = x.shared.domain.Close()
}

func examine(cfg Config) (*examination, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if len(cfg.Places) == 0 {
		cfg.Places = []Place{{Name: "host"}}
	}
	s := &shared{cfg: cfg}
	x := &examination{shared: s}
	for i, p := range cfg.Places {
		if p.Dial == nil {
			cfg.Places[i].Dial = new(net.Dialer).DialContext
		}
		x.places = append(x.places, &placeFacts{Place: cfg.Places[i]})
	}
	s.home = x.places[0]
	var err error
	s.domain, err = ad.NewDomain(ad.Config{
		Locate:  locate.Config{Domain: cfg.Domain, Servers: cfg.Servers, Dial: s.home.Dial, Now: cfg.Now, Resolver: s.home.resolver()},
		RootCAs: cfg.RootCAs, Timeout: defaultLimit,
	})
	if err != nil {
		return nil, err
	}
	for _, f := range cfg.Specs {
		s.specs = append(s.specs, &specFacts{file: f})
	}
	x.addAccounts()
	return x, nil
}

// addAccounts lists the accounts that are named and those of the specs, each once.
// What a spec names must be known before the checks run; whether the file is in
// order is for the check of it.
func (x *examination) addAccounts() {
	add := func(name string, s *specFacts) {
		bare := bareName(name)
		same := func(a *accountFacts) bool { return strings.EqualFold(bareName(a.name), bare) }
		if i := slices.IndexFunc(x.accounts, same); i >= 0 {
			x.accounts[i].spec = cmp.Or(x.accounts[i].spec, s)
			return
		}
		x.accounts = append(x.accounts, &accountFacts{name: name, spec: s, primary: len(x.accounts) == 0})
	}
	for _, name := range x.shared.cfg.Accounts {
		add(name, nil)
	}
	for _, s := range x.shared.specs {
		spec, _, err := credspec.Parse(s.file.Content)
		if err != nil {
			continue
		}
		for _, a := range spec.Accounts() {
			if a.Domain == "" || strings.EqualFold(a.Domain, spec.DomainJoinConfig.DnsName) {
				add(a.Name, s)
			}
		}
	}
}

// bareName is an account's name for comparison.
func bareName(name string) string {
	n, err := adproto.ParseAccountName(name)
	if err != nil || n.Name == "" {
		return name
	}
	return n.Bare()
}

// subjects are the facts for each scope.
func (x *examination) subjects() map[Scope][]*Facts {
	m := map[Scope][]*Facts{OfDomain: {{shared: x.shared}}}
	for _, p := range x.places {
		m[OfPlace] = append(m[OfPlace], &Facts{shared: x.shared, place: p})
	}
	for _, s := range x.shared.specs {
		m[OfSpec] = append(m[OfSpec], &Facts{shared: x.shared, spec: s})
	}
	for _, a := range x.accounts {
		m[OfAccount] = append(m[OfAccount], &Facts{shared: x.shared, account: a, spec: a.spec})
	}
	if x.shared.cfg.Lease != nil {
		m[OfLease] = []*Facts{{shared: x.shared}}
	}
	return m
}
