package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"

	"github.com/opengmsa/opengmsa/internal/agent/peer"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/hookapi"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// Where a container sees its identity, beside [lease.MountPoint].
const containerConf = "/etc/krb5.conf"

// Device is a credential spec that a rule for containers publishes, with keys or
// without.
type Device struct {
	CredentialSpec string
	Keytab         bool
}

// publish tells the engines which devices there are: of the specs that can be used,
// those that a rule publishes.
func (a *Agent) publish() {
	if a.cfg.Publish == nil {
		return
	}
	a.publishMu.Lock()
	defer a.publishMu.Unlock()
	var devices []Device
	p := a.settings.Load().policy
	for _, s := range a.specs.all() {
		tickets, keytab := p.Published(s.name)
		if s.err != nil || !tickets {
			continue
		}
		devices = append(devices, Device{CredentialSpec: s.name})
		if keytab {
			devices = append(devices, Device{CredentialSpec: s.name, Keytab: true})
		}
	}
	if err := a.cfg.Publish(devices); err != nil {
		a.log.Error("devices for containers", slog.Any("error", err))
	}
}

// maxContainerName bounds the runtime's name for a container, in bytes; engines use
// 64 hex digits.
const maxContainerName = 256

// serveHooks answers the hooks of container runtimes until ctx is done, one request a
// connection.
func (a *Agent) serveHooks(ctx context.Context, l *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { a.serveHook(ctx, conn) })
	}
}

// serveHook answers one hook. What the caller is, and how many there are, is judged
// as for the other socket (security 1 and 9).
func (a *Agent) serveHook(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, hookapi.Timeout-deadlineMargin)
	defer cancel()
	counted, info, err := a.admission.admit(conn, peer.OfHook)
	if err != nil {
		a.log.Warn("hook refused", slog.Any("error", err))
		return
	}
	defer counted.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline.Add(deadlineMargin)); err != nil {
		return
	}
	var request hookapi.Request
	files, err := hookapi.Receive(conn, &request)
	if err != nil {
		a.log.Warn("request of a hook", slog.Any("error", err))
		return
	}
	defer closeFiles(files)
	call := hookCall{a: a, caller: info.(caller), request: request, files: files}
	if err := call.answer(ctx, conn); err != nil {
		said := []any{slog.String("container", request.Container), slog.String("spec", request.CredentialSpec), slog.Any("error", err)}
		if cause := errors.Unwrap(err); cause != nil { // which the caller is not told
			said = append(said, slog.Any("because", cause))
		}
		a.log.Info("request of a hook failed", said...)
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// hookCall is one request of a hook.
type hookCall struct {
	a       *Agent
	caller  caller
	request hookapi.Request
	files   []*os.File
}

// answer does what is asked and sends the reply. A lease whose hook is gone before it
// has the reply ends: nobody else can attach it.
func (h hookCall) answer(ctx context.Context, conn *net.UnixConn) (err error) {
	e, mounts, err := h.do(ctx)
	defer closeFiles(mounts)
	if err != nil {
		return errors.Join(err, hookapi.Send(conn, hookapi.Reply{Failure: hookFailure(err)}))
	}
	reply := hookapi.Reply{}
	if e != nil {
		reply.Lease = e.ID.String()
		reply.Mounts = []hookapi.Mount{{Target: lease.MountPoint, Directory: true}, {Target: containerConf}}
	}
	if err := hookapi.Send(conn, reply, mounts...); err != nil {
		if e != nil {
			h.a.book.remove(e, "its hook has gone")
		}
		return err
	}
	return nil
}

// hookFailure is what the hook prints.
func hookFailure(err error) *hookapi.Failure {
	if f, ok := errors.AsType[*agentapi.Failure](err); ok {
		return &hookapi.Failure{Message: f.Error(), Hints: f.Hints}
	}
	return &hookapi.Failure{Message: err.Error()}
}

// do checks who calls and dispatches. A fault of ours ends one request and not the
// agent.
func (h hookCall) do(ctx context.Context) (e *entry, mounts []*os.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			h.a.log.Error("a request of a hook failed by a fault of the agent", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			err = errors.New("a fault of the agent; its log has the details")
		}
	}()
	if h.caller.refused != nil {
		return nil, nil, h.caller.refused
	}
	if name := h.request.Container; name == "" || len(name) > maxContainerName {
		return nil, nil, usage("a container's name has 1 to %d characters", maxContainerName)
	}
	switch h.request.Op {
	case hookapi.Attach:
		return h.attach(ctx)
	case hookapi.End:
		h.a.book.endContainer(h.request.Container)
		return nil, nil, nil
	}
	return nil, nil, usage("the agent does not know the hook's request %q", h.request.Op)
}

// attach makes the lease of a container and the mounts that show it.
func (h hookCall) attach(ctx context.Context) (*entry, []*os.File, error) {
	o, grant, err := h.order()
	if err != nil {
		return nil, nil, err
	}
	e, err := h.a.book.create(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	mounts, err := h.a.mounts(e.ID)
	if err != nil {
		h.a.book.remove(e, "it cannot be mounted")
		return nil, nil, err
	}
	h.a.log.Info("lease", slog.String("lease", e.ID.String()), slog.String("account", o.lease.Accounts[0].String()), slog.String("spec", e.Spec),
		slog.String("container", e.Container), slog.Uint64("uid", uint64(e.Owner.UID)), slog.String("rule", grant.Rule))
	return e, mounts, nil
}

// mounts are the detached mounts of a lease, in the order of the reply.
func (a *Agent) mounts(id lease.ID) ([]*os.File, error) {
	dir, err := a.root.Mount(id)
	if err != nil {
		return nil, mountFailure(err)
	}
	conf, err := a.root.MountConf()
	if err != nil {
		dir.Close()
		return nil, mountFailure(err)
	}
	return []*os.File{dir, conf}, nil
}

func mountFailure(err error) error {
	return &agentapi.Failure{
		Kind: agentapi.Kind_KIND_FAILED, Message: "the agent cannot make a mount for the container", Err: err,
		Hints: []string{"the agent needs CAP_SYS_ADMIN and Linux 5.12; its log has the reason"},
	}
}

// order checks a container's request. What decides is read from /proc of the process
// that the pidfd names: the user namespace, the control group (security 3 and 4).
func (h hookCall) order() (order, policy.Grant, error) {
	if len(h.files) != 1 {
		return order{}, policy.Grant{}, usage("%d descriptors, want the pidfd of the container", len(h.files))
	}
	process, err := peer.OpenPIDFD(int(h.files[0].Fd()))
	if err != nil {
		return order{}, policy.Grant{}, fmt.Errorf("process of the container: %w", err)
	}
	defer process.Close()
	if !speaksFor(h.caller, process) {
		return order{}, policy.Grant{}, notFound("process %d is not there", process.PID)
	}
	if m := process.Namespaces.Mount; m == h.a.admission.own.Mount || m == h.caller.Namespaces.Mount {
		return order{}, policy.Grant{}, usage("process %d is in no container: its mount namespace is the host's, or the hook's", process.PID)
	}
	program, err := toHost(process, policy.ContainerFiles{UID: h.request.UID, GID: h.request.GID})
	if err != nil {
		return order{}, policy.Grant{}, err
	}
	container := h.container(process, program)
	if o := h.request.Owner; o != nil {
		files, err := toHost(process, policy.ContainerFiles(*o))
		if err != nil {
			return order{}, policy.Grant{}, err
		}
		container.Files = &files
	}
	set := h.a.settings.Load()
	name, keytab := h.request.CredentialSpec, h.request.Keytab
	grant, err := set.policy.DecideContainer(container, policy.ContainerRequest{Spec: name, ByAnnotation: h.request.ByAnnotation, Keytab: keytab})
	if err != nil {
		return order{}, grant, notPublished(name, err)
	}
	files, err := filesOf(process, container, program, grant)
	if err != nil {
		return order{}, grant, err
	}
	s := server{a: h.a}
	parsed, _, err := s.namedSpec(name)
	if err != nil {
		return order{}, grant, err
	}
	targets, err := h.a.specTargets(set, parsed)
	if err != nil {
		return order{}, grant, err
	}
	o, err := s.draft(set, h.caller, &agentapi.CreateLeaseRequest{Uid: files.UID, Gid: files.GID, Mode: modeOf(files), Keytab: keytab}, subject{spec: name, targets: targets, grant: grant})
	if err != nil {
		return order{}, grant, err
	}
	o.lease.Container, o.lease.Options.Signal = h.request.Container, grant.ReloadSignal
	err = o.follow(process.Clone())
	return o, grant, err
}

// toHost maps ids of a container to those of the host.
func toHost(p *peer.Process, f policy.ContainerFiles) (policy.ContainerFiles, error) {
	uid, ok1 := peer.ToHost(p.UIDMap, f.UID)
	gid, ok2 := peer.ToHost(p.GIDMap, f.GID)
	if !ok1 || !ok2 {
		return policy.ContainerFiles{}, usage("user %d:%d does not exist in the container's user namespace", f.UID, f.GID)
	}
	return policy.ContainerFiles{UID: uid, GID: gid, Group: f.Group}, nil
}

// filesOf is whom the files of a lease are for: whom the container says, else the rule, else
// the container's program.
func filesOf(p *peer.Process, c policy.Container, program policy.ContainerFiles, g policy.Grant) (policy.ContainerFiles, error) {
	switch {
	case c.Files != nil:
		return *c.Files, nil
	case g.Files != nil:
		return toHost(p, *g.Files)
	}
	return program, nil
}

func modeOf(f policy.ContainerFiles) uint32 {
	if f.Group {
		return 0o440
	}
	return 0o400
}

// container is whom the policy judges. The names of Kubernetes are CRI's, and count where
// containerd of root is the runtime, by its control group: with podman an image could bring
// them.
func (h hookCall) container(p *peer.Process, program policy.ContainerFiles) policy.Container {
	c := policy.Container{Runtime: peer.RuntimeOf(p.Cgroup), Cgroup: p.Cgroup, UID: program.UID, GID: program.GID}
	switch {
	case !h.caller.HostRoot():
		user := subjectOf(h.caller)
		c.Runtime, c.User = policy.Rootless, &user
	case c.Runtime == policy.Containerd:
		c.Namespace, c.Pod = h.request.Namespace, h.request.Pod
	}
	return c
}

// notPublished is the whole answer for a spec that no rule publishes to the
// container, whether or not there is one of that name.
func notPublished(spec string, err error) error {
	return &agentapi.Failure{
		Kind: agentapi.Kind_KIND_DENIED, Message: fmt.Sprintf("the credential spec %q is not published to this container", spec), Err: err,
		Hints: []string{"rules under containers in /etc/gmsa/agent.yaml publish specs, and the agent's log names the reason"},
	}
}

// endContainer ends the leases of a container, if its process has ended: two runtimes
// may have a container of the same name.
func (b *book) endContainer(name string) {
	for _, e := range b.all() {
		if e.Container != name {
			continue
		}
		p, err := peer.OpenProcess(e.Workload.PID, e.Workload.Start)
		if err == nil {
			p.Close()
			continue
		}
		if errors.Is(err, peer.ErrGone) {
			b.remove(e, "its container has stopped")
		}
	}
}
