package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// seenFrom finds out whether this is a host, a container or neither.
func (a *app) seenFrom(x *examination, o doctorOptions, confErr error) error {
	path := x.hostKeytab(o)
	configured := !errors.Is(confErr, fs.ErrNotExist)
	_, noKeytab := os.Stat(path)
	switch {
	case o.from != "":
		x.cfg.Seen = o.from
	case strings.HasPrefix(a.cacheName(""), lease.MountPoint+"/") && !configured:
		x.cfg.Seen = doctor.SeenContainer
	case configured || noKeytab == nil || o.hostKeytab != "" || o.lease != "":
		x.cfg.Seen = doctor.SeenHost
	default:
		x.cfg.Seen = doctor.SeenDesk
	}
	switch x.cfg.Seen {
	case doctor.SeenDesk:
		return nil
	case doctor.SeenContainer:
		x.cfg.Lease = containerLease()
		return nil
	case doctor.SeenHost:
	default:
		return failure(Usage, fmt.Errorf("--from %s: want host, container or desk", o.from))
	}
	x.cfg.Host = &doctor.Host{Keytab: path, ConfigPath: o.config, ConfigErr: confErr}
	if d := x.agentDomain(o); d.Host != nil {
		x.cfg.Host.Principal = d.Host.Principal
	}
	if noKeytab != nil && o.hostKeytab == "" && x.portable() {
		x.cfg.Host.Keytab = ""
	}
	socket := a.socket
	if socket == "" {
		socket = x.agent.Socket
	}
	if _, err := os.Stat(socket); err == nil || configured || a.socket != "" {
		x.addAgent(socket, confErr)
	}
	return nil
}

// hostKeytab is the file of the host's keys.
func (x *examination) hostKeytab(o doctorOptions) string {
	if d := x.agentDomain(o); o.hostKeytab == "" && d.Host != nil && d.Host.Keytab != "" {
		return d.Host.Keytab
	}
	return orElse(o.hostKeytab, hostKeytab)
}

// agentDomain is the domain in the agent's configuration: the one that is named, or
// the only one.
func (x *examination) agentDomain(o doctorOptions) config.Domain {
	if d, found := x.agent.Domains[strings.ToLower(o.domain)]; found || len(x.agent.Domains) != 1 {
		return d
	}
	for _, d := range x.agent.Domains {
		return d
	}
	return config.Domain{}
}

// portable reports whether every spec brings an identity of its own.
func (x *examination) portable() bool {
	for _, f := range x.cfg.Specs {
		// One with faults counts too: its plug-in may be what is wrong with it.
		s, _, _ := credspec.Parse(f.Content)
		if s.ActiveDirectoryConfig.HostAccountConfig == nil {
			return false
		}
	}
	return len(x.cfg.Specs) > 0
}

// doctorDomain is the domain to look at: the one that is named, that of the named
// credentials, the host's, and else that of whatever is at hand.
func doctorDomain(x *examination, o doctorOptions) string {
	candidates := []string{o.domain, "", x.hostDomain(), x.creds.domain}
	if x.named {
		candidates[1] = x.creds.domain
	}
	for _, f := range x.cfg.Specs {
		if s, _, err := credspec.Parse(f.Content); err == nil {
			candidates = append(candidates, s.DomainJoinConfig.DnsName)
		}
	}
	return strings.ToLower(cmp.Or(candidates...))
}

// hostDomain is the domain of the host: the agent's only one, or its keytab's.
func (x *examination) hostDomain() string {
	if x.cfg.Host == nil {
		return ""
	}
	if len(x.agent.Domains) == 1 {
		return slices.Collect(maps.Keys(x.agent.Domains))[0]
	}
	b, err := readLimited(x.cfg.Host.Keytab, keytab.MaxSize)
	if err != nil {
		return ""
	}
	defer clear(b)
	kt, err := keytab.Parse(b)
	if err != nil || len(kt.Principals()) == 0 {
		return ""
	}
	return kt.Principals()[0].Realm
}

// trust reads the certificates that sign the controllers'.
func (x *examination) trust(o doctorOptions) error {
	d := x.agent.Domains[x.cfg.Domain]
	path := orElse(o.ca, d.CA)
	x.cfg.TLS = o.ca != "" || d.Protection == config.ProtectionLDAPS || d.Protection == config.ProtectionStartTLS
	if path == "" {
		return nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	x.cfg.RootCAs = x509.NewCertPool()
	if !x.cfg.RootCAs.AppendCertsFromPEM(pem) {
		return failure(Usage, fmt.Errorf("%s has no certificate in PEM", path))
	}
	return nil
}

// hostAgent is the agent of this host: its socket, and its configuration's plug-ins.
type hostAgent struct {
	socket  string
	plugins *plugin.Registry
	err     error // why there are no plug-ins
}

// addAgent lets the agent be asked, and its plug-ins.
func (x *examination) addAgent(socket string, confErr error) {
	h := &hostAgent{socket: socket}
	h.plugins, h.err = plugin.NewRegistry(x.agent.Plugins, plugin.ThisHost())
	if confErr != nil && !errors.Is(confErr, fs.ErrNotExist) {
		h.err = confErr
	}
	x.cfg.Agent = h
}

// Status implements doctor.Agent.
func (h *hostAgent) Status(ctx context.Context) (doctor.AgentStatus, error) {
	client, err := agentapi.Dial(h.socket)
	if err != nil {
		return doctor.AgentStatus{}, err
	}
	defer func() { _ = client.Close() }()
	s, err := client.Status(ctx, &agentapi.StatusRequest{})
	if err != nil {
		return doctor.AgentStatus{}, err
	}
	st := doctor.AgentStatus{Version: s.GetVersion(), Storage: s.GetLeaseStorage(), Leases: int(s.GetLeases())}
	for _, i := range s.GetIdentities() {
		st.Identities = appendFault(st.Identities, i.GetPrincipal(), i.GetError())
	}
	for _, x := range s.GetAccounts() {
		st.Accounts = appendFault(st.Accounts, x.GetName(), x.GetError())
	}
	for _, c := range s.GetCredentialSpecs() {
		if len(c.GetFaults()) > 0 {
			st.Specs = append(st.Specs, doctor.AgentFault{Of: c.GetPath(), Problem: strings.Join(c.GetFaults(), "; ")})
		}
	}
	return st, nil
}

func appendFault(list []doctor.AgentFault, of string, e *agentapi.Error) []doctor.AgentFault {
	if e == nil {
		return list
	}
	return append(list, doctor.AgentFault{Of: of, Problem: e.GetMessage(), Remedies: e.GetHints()})
}

// Plugin implements doctor.Agent.
func (h *hostAgent) Plugin(id credspec.PluginID) (string, error) {
	if h.err != nil {
		return "", h.err
	}
	p, err := h.plugins.Lookup(id)
	if err != nil {
		return "", err
	}
	return p.Name(), nil
}

// Portable implements doctor.Agent.
func (h *hostAgent) Portable(ctx context.Context, id credspec.PluginID, input secret.Bytes) (doctor.PortableIdentity, error) {
	if h.err != nil {
		return doctor.PortableIdentity{}, h.err
	}
	p, err := h.plugins.Lookup(id)
	if err != nil {
		return doctor.PortableIdentity{}, err
	}
	c, err := p.Fetch(ctx, input)
	return doctor.PortableIdentity{Domain: c.Domain, User: c.Username, Password: c.Password}, err
}

// addLease asks the agent for the lease that is to be looked at, and looks at its
// process.
func (a *app) addLease(ctx context.Context, x *examination, o doctorOptions) error {
	if o.lease == "" {
		return nil
	}
	var l *agentapi.Lease
	err := a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) (err error) {
		l, err = client.GetLease(ctx, &agentapi.GetLeaseRequest{Id: o.lease})
		return err
	})
	if err != nil {
		return err
	}
	x.cfg.Lease = &doctor.Lease{Name: l.GetId(), Directory: l.GetDirectory(), UID: l.GetUid(), GID: l.GetGid(), Mode: l.GetMode(), PID: int(l.GetProcess().GetPid())}
	if x.cfg.Lease.Mode == 0 {
		x.cfg.Lease.Mode = 0o400
	}
	for _, acc := range l.GetAccounts() {
		x.cfg.Accounts = append(x.cfg.Accounts, acc.GetName())
	}
	if pid := x.cfg.Lease.PID; pid != 0 {
		inspectProcess(x.cfg.Lease)
		x.cfg.Places = []doctor.Place{{Name: "host"}, doctor.PlaceOf(fmt.Sprintf("process %d", pid), pid)}
	}
	return nil
}

// containerLease is the lease of the container that this runs in.
func containerLease() *doctor.Lease {
	l := &doctor.Lease{Name: "of this container", Directory: lease.MountPoint, PID: os.Getpid(), UID: uint32(os.Getuid()), Mode: 0o400}
	inspectProcess(l)
	return l
}
