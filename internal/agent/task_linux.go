package agent

import (
	"context"
	"log/slog"
	"strings"

	"google.golang.org/grpc"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/peer"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// taskServer is for the launcher of tasks. It may be a container, but as root of the
// host's own user namespace (security 1).
func (a *Agent) taskServer() *grpc.Server {
	callers := newAdmission(a.admission.own, a.log, func() config.Quotas { return a.settings.Load().cfg.Quotas })
	callers.identify, callers.rootOnly = peer.OfContainer, true
	s := grpcServer(callers)
	a.cfg.TaskService(s, a)
	return s
}

// LeaseTask makes a lease of a raw credential spec that lasts until EndTask, and gives
// its directory. The host's own identity reads the passwords or, where there is one, the
// reader.
func (a *Agent) LeaseTask(ctx context.Context, raw []byte, owner lease.Owner, reader *lease.Reader) (lease.Lease, string, error) {
	set := a.settings.Load()
	s := server{a: a}
	parsed, _, err := s.rawSpec(raw)
	if err != nil {
		return lease.Lease{}, "", err
	}
	if err := set.policy.DecideTask(namesOf(parsed)); err != nil {
		return lease.Lease{}, "", denied(err)
	}
	profile, err := profileOf(lease.Options{}, set.cfg)
	if err != nil {
		return lease.Lease{}, "", err
	}
	o := order{profile: profile, total: set.cfg.Quotas.AllLeases}
	o.lease = lease.Lease{ID: lease.NewID(), Owner: owner, Created: a.cfg.Now().UTC()}
	if reader == nil {
		o.targets, err = a.specTargets(set, parsed)
	} else {
		o.targets, err = a.admitted(ctx, set, parsed, &o.lease, *reader)
	}
	if err != nil {
		a.dismiss(o.lease.Reader)
		return lease.Lease{}, "", err
	}
	o.lease.Accounts, o.lease.Plugin = accountsOf(o.targets), pluginOf(o.targets)
	e, err := a.book.create(ctx, o)
	if err != nil {
		a.dismiss(o.lease.Reader)
		return lease.Lease{}, "", err
	}
	a.log.Info("lease", slog.String("lease", e.ID.String()), slog.String("account", o.lease.Accounts[0].String()), slog.String("reader", e.Reader))
	return o.lease, e.dir.Path(), a.root.Alias(e.ID, taskCCache, lease.CCacheName)
}

// taskCCache is the cache's name in credentials-fetcher's directories.
const taskCCache = "krb5cc"

// admitted are the accounts of a spec for a lease by the reader, which reads in its own
// domain alone.
func (a *Agent) admitted(ctx context.Context, set *settings, s credspec.Spec, l *lease.Lease, r lease.Reader) ([]target, error) {
	id, err := a.admit(ctx, set, &r)
	if err != nil {
		return nil, err
	}
	l.Reader = r.String()
	var targets []target
	for _, account := range s.Accounts() {
		domain, err := set.domain(account.Domain, account.NetBIOS)
		if err != nil {
			return nil, err
		}
		if domain != r.Domain {
			return nil, usage("account %s is of %s, and its reader of %s", account.Name, domain, r.Domain)
		}
		t, err := set.read(account.Name, domain, id)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// admit tries the password of a reader, and puts the reader's domain in its DNS form.
func (a *Agent) admit(ctx context.Context, set *settings, r *lease.Reader) (Identity, error) {
	readers, ok := a.cfg.Identities.(Readers)
	if !ok {
		return Identity{}, usage("this host takes no readers")
	}
	domain, err := set.domain(r.Domain, r.Domain)
	if err != nil {
		return Identity{}, err
	}
	r.User, r.Domain = strings.ToLower(r.User), domain
	id, err := readers.Admit(ctx, *r)
	if err != nil {
		return Identity{}, failureOf(err, r.String())
	}
	return id, nil
}

// readerTargets are the accounts of a lease whose reader was admitted. After a restart
// none is, until its password is brought again.
func (a *Agent) readerTargets(set *settings, l lease.Lease) ([]target, error) {
	readers, ok := a.cfg.Identities.(Readers)
	if !ok {
		return nil, usage("this host takes no readers")
	}
	user, domain := splitReader(l.Reader)
	id, err := readers.Reader(user, domain)
	if err != nil {
		return nil, err
	}
	var targets []target
	for _, acc := range l.Accounts {
		t, err := set.read(acc.Name, acc.Domain, id)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// splitReader reads lease.Reader's text.
func splitReader(s string) (user, domain string) {
	i := strings.LastIndexByte(s, '@')
	return s[:max(i, 0)], s[i+1:]
}

// RenewTasks takes the password of a reader for the leases that it reads, and gives
// them.
func (a *Agent) RenewTasks(ctx context.Context, r lease.Reader) ([]lease.ID, error) {
	set := a.settings.Load()
	id, err := a.admit(ctx, set, &r)
	if err != nil {
		return nil, err
	}
	var renewed []lease.ID
	for _, e := range a.book.all() {
		if e.Reader != r.String() {
			continue
		}
		if err := a.renewTask(e, id); err != nil {
			return nil, err
		}
		renewed = append(renewed, e.ID)
	}
	if len(renewed) == 0 {
		a.dismiss(r.String())
		return nil, notFound("no lease is read by %v", r)
	}
	return renewed, nil
}

// renewTask has a lease's accounts read by id, at once.
func (a *Agent) renewTask(e *entry, id Identity) error {
	targets, profile, err := a.resolveAgain(e.now())
	if err != nil {
		return err
	}
	a.book.retarget(e, targets, profile)
	for _, t := range targets {
		a.book.pool.Reread(t.key, id.Domain)
	}
	return nil
}

// EndTask ends a lease of LeaseTask, if it is there.
func (a *Agent) EndTask(id lease.ID) {
	if e := a.book.find(id); e != nil {
		a.book.remove(e, "its task has ended")
		a.dismiss(e.Reader)
	}
}

// dismiss forgets a reader when no lease needs it any more.
func (a *Agent) dismiss(reader string) {
	readers, ok := a.cfg.Identities.(Readers)
	if !ok || reader == "" {
		return
	}
	for _, e := range a.book.all() {
		if e.Reader == reader {
			return
		}
	}
	readers.Dismiss(splitReader(reader))
}
