package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/peer"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/secret"
)

// server answers the calls of gmsa.agent.v1. Each method checks who calls
// before it looks at anything else.
type server struct {
	agentapi.UnimplementedAgentServer
	a *Agent
}

// CreateLease makes a lease.
func (s server) CreateLease(ctx context.Context, r *agentapi.CreateLeaseRequest) (*agentapi.CreateLeaseResponse, error) {
	c, _ := callerOf(ctx)
	set := s.a.settings.Load()
	sub, err := s.subject(set, c, r)
	if err != nil {
		return nil, err
	}
	o, err := s.order(set, c, r, sub)
	if err != nil {
		return nil, err
	}
	e, err := s.a.book.create(ctx, o)
	if err != nil {
		return nil, err
	}
	s.a.log.Info("lease", slog.String("lease", e.ID.String()), slog.String("account", o.lease.Accounts[0].String()), slog.String("spec", e.Spec),
		slog.Uint64("uid", uint64(e.Owner.UID)), slog.Uint64("caller", uint64(c.UID)), slog.String("rule", sub.grant.Rule))
	return &agentapi.CreateLeaseResponse{Lease: s.lease(e), Warnings: sub.warnings}, nil
}

// subject is whose identity a caller may lease.
type subject struct {
	spec     string
	targets  []target
	warnings []string
	grant    policy.Grant
}

// subject decides whether the caller may have what it names, and resolves it. A
// caller whom the policy does not admit hears the same whether or not the thing
// exists.
func (s server) subject(set *settings, c caller, r *agentapi.CreateLeaseRequest) (subject, error) {
	var sub subject
	var names []string
	var parsed credspec.Spec
	var resolveErr error
	switch x := r.GetSubject().(type) {
	case *agentapi.CreateLeaseRequest_CredentialSpec:
		sub.spec = x.CredentialSpec
		parsed, sub.warnings, resolveErr = s.namedSpec(sub.spec)
		names = namesOf(parsed)
	case *agentapi.CreateLeaseRequest_RawCredentialSpec:
		if !set.cfg.RawCredentialSpecs {
			return sub, denied(errors.New("raw credential specs are off (raw_credential_specs)"))
		}
		parsed, sub.warnings, resolveErr = s.rawSpec(x.RawCredentialSpec)
		names = namesOf(parsed)
	case *agentapi.CreateLeaseRequest_Account:
		if name, err := adproto.ParseAccountName(x.Account); err == nil {
			names = []string{name.Bare()}
		} else {
			resolveErr = usage("account: %v", err)
		}
	default:
		return sub, usage("name a credential spec or an account")
	}
	grant, err := set.policy.Decide(subjectOf(c), policy.Request{
		Spec: sub.spec, Accounts: names, UID: r.GetUid(), GID: r.GetGid(), Keytab: r.GetKeytab(),
	})
	if err != nil {
		return sub, denied(err)
	}
	if resolveErr != nil {
		return sub, resolveErr
	}
	sub.grant = grant
	if x, ok := r.GetSubject().(*agentapi.CreateLeaseRequest_Account); ok {
		t, err := set.account(x.Account)
		sub.targets = []target{t}
		return sub, err
	}
	sub.targets, err = s.a.specTargets(set, parsed)
	return sub, err
}

func (s server) namedSpec(name string) (credspec.Spec, []string, error) {
	if err := credspec.CheckName(name); err != nil {
		return credspec.Spec{}, nil, usage("%v", err)
	}
	sp := s.a.specs.find(name)
	if sp == nil {
		err := notFound("there is no credential spec %s", name)
		if f, ok := errors.AsType[*agentapi.Failure](err); ok {
			f.Hints = []string{"put it into /etc/gmsa/credentialspecs; gmsa agent status lists those there are"}
		}
		return credspec.Spec{}, nil, err
	}
	if sp.err != nil {
		return credspec.Spec{}, nil, specFailure(sp.err, sp.path)
	}
	return sp.parsed, sp.warnings(), nil
}

func (s server) rawSpec(raw []byte) (credspec.Spec, []string, error) {
	if len(raw) > credspec.MaxSize {
		return credspec.Spec{}, nil, usage("the credential spec has %d bytes, the limit is %d", len(raw), credspec.MaxSize)
	}
	parsed, findings, err := credspec.Parse(raw)
	if err != nil {
		s.a.event(event.SpecUnparsable(err))
		return credspec.Spec{}, nil, specFailure(err, "FILE")
	}
	return parsed, (&spec{findings: findings}).warnings(), nil
}

func specFailure(err error, path string) error {
	return &agentapi.Failure{
		Kind: agentapi.Kind_KIND_USAGE, Message: err.Error(), EventID: uint32(event.IDSpecUnparsable),
		Hints: []string{"gmsa credspec check " + path},
	}
}

func namesOf(s credspec.Spec) []string {
	var names []string
	for _, a := range s.Accounts() {
		names = append(names, a.Name)
	}
	return names
}

// subjectOf is the caller as the policy sees it.
func subjectOf(c caller) policy.Subject {
	return policy.Subject{
		HostRoot: c.HostRoot(), UID: c.UID, GID: c.GID, Unit: c.Unit, Cgroup: c.Cgroup,
		SubordinateUID: func(id uint32) bool { return subordinate("/etc/subuid", c.UID, id) },
		SubordinateGID: func(id uint32) bool { return subordinate("/etc/subgid", c.UID, id) },
	}
}

// subordinate looks an id up in the ranges that root gave to a user.
func subordinate(file string, uid, id uint32) bool {
	b, err := readLimited(file, 1<<20)
	if err != nil {
		return false
	}
	name := ""
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		name = u.Username
	}
	return slices.ContainsFunc(peer.ParseSubordinate(string(b), name, uid), func(r peer.IDRange) bool { return r.Contains(id) })
}

// order checks the rest of a request.
func (s server) order(set *settings, c caller, r *agentapi.CreateLeaseRequest, sub subject) (order, error) {
	o, err := s.draft(set, c, r, sub)
	if err != nil {
		return order{}, err
	}
	err = s.workload(c, r, &o)
	return o, err
}

// draft is an order without its workload.
func (s server) draft(set *settings, c caller, r *agentapi.CreateLeaseRequest, sub subject) (order, error) {
	owner := lease.Owner{UID: r.GetUid(), GID: r.GetGid(), Mode: fs.FileMode(r.GetMode())}
	if owner.Mode == 0 {
		owner.Mode = 0o400
	}
	if err := owner.Validate(); err != nil {
		return order{}, usage("%v", err)
	}
	if n := len(r.GetPrefetchSpns()); n > maxSPNs {
		return order{}, usage("%d services to prefetch, at most %d", n, maxSPNs)
	}
	if name := r.GetOnRotate(); name != "" {
		if _, ok := set.cfg.OnRotate[name]; !ok {
			return order{}, usage("the configuration has no on_rotate command %q", name)
		}
	}
	options := lease.Options{
		Keytab: r.GetKeytab(), Isolated: r.GetIsolated(), Forwardable: r.GetForwardable(),
		OnRotate: r.GetOnRotate(), SPNs: r.GetPrefetchSpns(),
	}
	profile, err := profileOf(options, set.cfg)
	if err != nil {
		return order{}, err
	}
	o := order{
		lease: lease.Lease{
			ID: lease.NewID(), Spec: sub.spec, Accounts: accountsOf(sub.targets), Plugin: pluginOf(sub.targets), Owner: owner, Creator: c.UID,
			Options: options, Created: s.a.cfg.Now().UTC().Truncate(time.Second),
		},
		targets: sub.targets, profile: profile, total: set.cfg.Quotas.AllLeases,
	}
	if !c.HostRoot() {
		o.quota = set.cfg.Quotas.Leases
		if sub.grant.Leases > 0 {
			o.quota = sub.grant.Leases
		}
	}
	return o, nil
}

// workload fills in what the lease lives as long as.
func (s server) workload(c caller, r *agentapi.CreateLeaseRequest, o *order) error {
	switch x := r.GetWorkload().(type) {
	case *agentapi.CreateLeaseRequest_UntilRemoved:
		if !c.HostRoot() {
			return denied(errors.New("until_removed is root's alone"))
		}
		return nil
	case *agentapi.CreateLeaseRequest_Unit:
		if !c.HostRoot() {
			return denied(errors.New("unit is root's alone"))
		}
		id := s.a.book.invocation(c.Unit)
		if c.Unit == "" || id == "" {
			return usage("the caller is in no unit of systemd (control group %q)", c.Cgroup)
		}
		o.lease.Unit = lease.Unit{Name: c.Unit, Invocation: id}
		return nil
	case *agentapi.CreateLeaseRequest_Process:
		return o.follow(openWorkload(c, int(x.Process.GetPid()), x.Process.GetStartTime()))
	}
	return o.follow(c.Clone())
}

// follow has the lease live as long as a process, which is the order's to close.
func (o *order) follow(p *peer.Process, err error) error {
	if err != nil {
		return err
	}
	o.workload, o.lease.Workload = p, lease.Process{PID: p.PID, Start: p.StartTime}
	return nil
}

// openWorkload takes hold of a process that the caller names. One that is not
// the caller's to speak for is as good as not there.
func openWorkload(c caller, pid int, start uint64) (*peer.Process, error) {
	p, err := peer.OpenProcess(pid, start)
	if err != nil {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_NOT_FOUND, Message: fmt.Sprintf("process %d is not there", pid), Err: err}
	}
	if !speaksFor(c, p) {
		p.Close()
		return nil, notFound("process %d is not there", pid)
	}
	return p, nil
}

// speaksFor tells whether a process is the caller's own, or root calls.
func speaksFor(c caller, p *peer.Process) bool {
	return c.HostRoot() || p.UID == c.UID || subordinate("/etc/subuid", c.UID, p.UID)
}

// operates tells whether a caller may see and steer the whole agent: root of the host,
// and the user that the agent runs as, who may end it and reads its files anyway.
func operates(c caller) bool {
	uid := os.Geteuid()
	return c.HostRoot() || uid != 0 && c.UID == uint32(uid)
}

// mine finds a lease that the caller may see: its own, or any for who operates the agent.
func (s server) mine(c caller, id string) (*entry, error) {
	parsed, err := lease.ParseID(id)
	if err != nil {
		return nil, usage("%v", err)
	}
	e := s.a.book.find(parsed)
	if e == nil || !operates(c) && e.Creator != c.UID {
		return nil, notFound("there is no lease %s", id)
	}
	return e, nil
}

// GetLease shows one lease.
func (s server) GetLease(ctx context.Context, r *agentapi.GetLeaseRequest) (*agentapi.Lease, error) {
	c, _ := callerOf(ctx)
	e, err := s.mine(c, r.GetId())
	if err != nil {
		return nil, err
	}
	return s.lease(e), nil
}

// maxPage bounds the leases of one answer; MaxMessage bounds it too.
const maxPage = 200

// ListLeases shows the caller's leases in the order of their ids.
func (s server) ListLeases(ctx context.Context, r *agentapi.ListLeasesRequest) (*agentapi.ListLeasesResponse, error) {
	c, _ := callerOf(ctx)
	size := maxPage
	if n := int(r.GetPageSize()); n > 0 {
		size = min(size, n)
	}
	wanted := strings.TrimSuffix(r.GetAccount(), "$")
	reply := &agentapi.ListLeasesResponse{}
	for _, e := range s.a.book.all() {
		if e.ID.String() <= r.GetPageToken() || !operates(c) && e.Creator != c.UID {
			continue
		}
		if wanted != "" && !slices.ContainsFunc(e.now().Accounts, func(a lease.Account) bool { return strings.EqualFold(a.Name, wanted) }) {
			continue
		}
		if len(reply.Leases) == size {
			reply.NextPageToken = reply.Leases[size-1].Id
			break
		}
		reply.Leases = append(reply.Leases, s.lease(e))
	}
	return reply, nil
}

// RemoveLease ends a lease.
func (s server) RemoveLease(ctx context.Context, r *agentapi.RemoveLeaseRequest) (*agentapi.RemoveLeaseResponse, error) {
	c, _ := callerOf(ctx)
	var e *entry
	switch x := r.GetWhich().(type) {
	case *agentapi.RemoveLeaseRequest_Id:
		var err error
		if e, err = s.mine(c, x.Id); err != nil {
			return nil, err
		}
	case *agentapi.RemoveLeaseRequest_Unit:
		e = s.a.book.ofUnit(c.Unit)
		if !c.HostRoot() || e == nil {
			return nil, notFound("the caller's unit %q has no lease", c.Unit)
		}
	default:
		return nil, usage("name a lease")
	}
	s.a.book.remove(e, "it was removed")
	return &agentapi.RemoveLeaseResponse{}, nil
}

// Status tells how the agent is. Who does not operate it hears of the own leases
// alone.
func (s server) Status(ctx context.Context, r *agentapi.StatusRequest) (*agentapi.StatusResponse, error) {
	c, _ := callerOf(ctx)
	now := s.a.cfg.Now()
	reply := &agentapi.StatusResponse{
		Version: s.a.cfg.Version, Started: timestamppb.New(s.a.started), Uptime: durationpb.New(now.Sub(s.a.started)),
		LeaseDirectory: s.a.root.Path(), LeaseStorage: s.a.root.Kind(),
	}
	if !operates(c) {
		for _, e := range s.a.book.all() {
			if e.Creator == c.UID {
				reply.Leases++
			}
		}
		return reply, nil
	}
	reply.Leases = uint32(s.a.book.count())
	reply.Identities = s.a.cfg.Identities.Status()
	for _, sp := range s.a.specs.all() {
		reply.CredentialSpecs = append(reply.CredentialSpecs, &agentapi.CredentialSpec{
			Name: sp.name, Path: sp.path, Faults: sp.faults(), Warnings: sp.warnings(),
		})
	}
	if !r.GetSummary() {
		reply.Accounts = s.allAccounts()
	}
	return reply, nil
}

// allAccounts shows every account that is held, with how many leases use it.
func (s server) allAccounts() []*agentapi.Account {
	// Two portable identities of one plug-in have one name.
	type reader struct {
		key    account.Key
		domain account.Domain
	}
	byKey := map[reader]*agentapi.Account{}
	add := func(h hold, leases uint32, installed bool) {
		by := reader{h.key, h.identity.Domain}
		a := byKey[by]
		if a == nil {
			a = s.account(h)
			byKey[by] = a
		}
		a.Leases += leases
		a.Installed = a.Installed || installed
	}
	for _, e := range s.a.book.all() {
		e.mu.Lock()
		holds := slices.Clone(e.holds)
		e.mu.Unlock()
		for _, h := range holds {
			add(h, 1, false)
		}
	}
	for _, h := range s.a.installed.holds() {
		add(h, 0, true)
	}
	return slices.SortedFunc(maps.Values(byKey), func(a, b *agentapi.Account) int { return strings.Compare(a.Principal, b.Principal) })
}

// account shows what is known of an account now.
func (s server) account(h hold) *agentapi.Account {
	a := &agentapi.Account{Name: h.account.Name + "$", Domain: h.account.Domain, Principal: h.account.Name + "$@" + h.key.Realm}
	err := h.handle.Err()
	snap := h.handle.Snapshot()
	switch usable := snap.Usable(s.a.cfg.Now()); {
	case usable && err == nil:
		a.State = agentapi.AccountState_ACCOUNT_STATE_READY
	case usable:
		a.State = agentapi.AccountState_ACCOUNT_STATE_DEGRADED
	case err == nil:
		a.State = agentapi.AccountState_ACCOUNT_STATE_PENDING
	default:
		a.State = agentapi.AccountState_ACCOUNT_STATE_FAILED
	}
	if snap != nil {
		a.Principal = snap.Principal.String()
		a.Kvno = snap.Initiator.KVNO
		if !snap.GoodUntil.IsZero() {
			a.TicketExpires = timestamppb.New(snap.GoodUntil)
		}
	}
	outlook := h.handle.Outlook()
	a.Controller = outlook.Controller
	if !outlook.NextAction.IsZero() {
		a.NextAction = timestamppb.New(outlook.NextAction)
	}
	if !outlook.Expires.IsZero() {
		a.NextRollover = timestamppb.New(outlook.Expires)
	}
	if f, ok := errors.AsType[*agentapi.Failure](failureOrNil(err, h.account.Name)); ok {
		a.Error = f.Proto()
	}
	return a
}

func failureOrNil(err error, name string) error {
	if err == nil {
		return nil
	}
	return failureOf(err, name)
}

// lease shows a lease.
func (s server) lease(e *entry) *agentapi.Lease {
	e.mu.Lock()
	defer e.mu.Unlock()
	path := e.dir.Path()
	if !e.Unit.IsZero() {
		path = s.a.book.unitLink(e.Unit.Name)
	}
	l := &agentapi.Lease{
		Id: e.ID.String(), Directory: e.dir.Path(), CredentialSpec: e.Spec,
		Uid: e.Owner.UID, Gid: e.Owner.GID, Mode: uint32(e.Owner.Mode), Keytab: e.Options.Keytab, Isolated: e.Options.Isolated,
		Unit: e.Unit.Name, OnRotate: e.Options.OnRotate, Created: timestamppb.New(e.Created), Environment: map[string]string{},
		Container: e.Container,
	}
	if !e.Workload.IsZero() {
		l.Process = &agentapi.Process{Pid: int32(e.Workload.PID), StartTime: e.Workload.Start}
	}
	for i, h := range e.holds {
		a := s.account(h)
		a.Primary = i == 0
		l.Accounts = append(l.Accounts, a)
	}
	for _, v := range lease.Env(path) {
		name, value, _ := strings.Cut(v, "=")
		l.Environment[name] = value
	}
	return l
}

// Reload reads the configuration again.
func (s server) Reload(ctx context.Context, _ *agentapi.ReloadRequest) (*agentapi.ReloadResponse, error) {
	if c, _ := callerOf(ctx); !operates(c) {
		return nil, denied(errors.New("reload is for root and the agent's own user alone"))
	}
	warnings, err := s.a.Reload()
	if err != nil {
		return nil, &agentapi.Failure{
			Kind: agentapi.Kind_KIND_USAGE, Message: "the new configuration is not used: " + err.Error(),
			Hints: []string{"gmsa agent check-config"},
		}
	}
	return &agentapi.ReloadResponse{Warnings: warnings}, nil
}

// InstallAccount keeps accounts ready. It waits until they are, so that whoever
// installs learns at once what is wrong.
func (s server) InstallAccount(ctx context.Context, r *agentapi.InstallAccountRequest) (*agentapi.InstallAccountResponse, error) {
	if c, _ := callerOf(ctx); !c.HostRoot() {
		return nil, denied(errors.New("installing is root's alone"))
	}
	set := s.a.settings.Load()
	if len(r.GetStandalonePassword()) > 0 {
		defer clear(r.GetStandalonePassword())
		if err := s.adopt(ctx, r.GetAccount(), r.GetStandalonePassword()); err != nil {
			return nil, err
		}
	}
	in := installation{Account: r.GetAccount(), Spec: r.GetCredentialSpec()}
	if t, err := set.account(in.Account); err == nil {
		defer s.a.ccg.installing(t.key)()
	}
	holds, err := s.a.hold(set, in)
	if err != nil {
		return nil, err
	}
	for _, h := range holds {
		if _, err := h.handle.Wait(ctx); err != nil {
			closeHolds(holds)
			return nil, failureOf(err, h.account.Name)
		}
	}
	if err := s.a.installed.add(in, holds); err != nil {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_FAILED, Message: "cannot keep the account across restarts: " + err.Error()}
	}
	a := s.account(holds[0])
	a.Installed = true
	return &agentapi.InstallAccountResponse{Account: a}, nil
}

// UninstallAccount undoes InstallAccount.
func (s server) UninstallAccount(ctx context.Context, r *agentapi.UninstallAccountRequest) (*agentapi.UninstallAccountResponse, error) {
	if c, _ := callerOf(ctx); !c.HostRoot() {
		return nil, denied(errors.New("uninstalling is root's alone"))
	}
	t, err := s.a.settings.Load().account(r.GetAccount())
	if err != nil {
		return nil, err
	}
	was, err := s.a.installed.remove(t.account)
	if err != nil {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_FAILED, Message: err.Error()}
	}
	if keeper, ok := t.identity.Domain.(StandaloneKeeper); ok {
		if err := keeper.Abandon(t.key.Name); err != nil {
			return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_FAILED, Message: "cannot destroy the password: " + err.Error()}
		}
	}
	return &agentapi.UninstallAccountResponse{WasInstalled: was}, nil
}

// adopt takes over the password of a standalone account.
func (s server) adopt(ctx context.Context, name string, password []byte) error {
	t, err := s.a.settings.Load().account(name)
	if err != nil {
		return err
	}
	keeper, ok := t.identity.Domain.(StandaloneKeeper)
	if !ok {
		return usage("account %q: this host keeps no standalone accounts", name)
	}
	p := secret.Copy(password)
	defer p.Destroy()
	if err := keeper.Adopt(ctx, t.key.Name, p); err != nil {
		return failureOf(err, t.account.Name)
	}
	s.a.book.pool.Reread(t.key, t.identity.Domain)
	return nil
}

// now is the lease at this moment: its accounts change with its spec.
func (e *entry) now() lease.Lease {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Lease
}
