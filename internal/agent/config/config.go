// Package config is the configuration of the credential guard, agent.yaml: one
// tree of structs whose comments are its manual, and its validation.
//
// It opens no file that the configuration names and asks no server: whether a
// keytab is readable or a domain answers is for the agent and the doctor to
// find. Read [Config] first, then [Load].
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/opengmsa/opengmsa/internal/agent/policy"
)

// DefaultPath is where the agent looks for its configuration.
const DefaultPath = "/etc/gmsa/agent.yaml"

// maxSize bounds the file, in bytes.
const maxSize = 1 << 20

// Config is agent.yaml. A key that is not given has the value of [Default].
type Config struct {
	// Socket is where the agent listens: a unix socket. Who may connect is for
	// SocketMode, who may lease for Rules.
	Socket string `yaml:"socket"`
	// SocketMode are the socket's permissions; the default is 0600 as long as
	// there are no rules, and 0666 with them.
	SocketMode FileMode `yaml:"socket_mode"`

	// Leases says where leases lie, and Quotas how many.
	Leases Leases `yaml:"leases"`
	Quotas Quotas `yaml:"quotas"`

	// CredentialSpecs are the directories of credential specs, *.json; where two
	// have a file of the same name, the first counts. A directory that does not
	// exist is empty.
	CredentialSpecs []string `yaml:"credential_specs"`
	// RawCredentialSpecs admits specs that the caller sends instead of naming
	// one.
	RawCredentialSpecs bool `yaml:"raw_credential_specs"`
	// StateDirectory keeps the list of installed accounts and, for root alone, the
	// passwords of standalone ones, which this host keeps as its keytab does its own.
	StateDirectory string `yaml:"state_directory"`

	// Domains are the domains whose accounts this host may use, by DNS name.
	Domains map[string]Domain `yaml:"domains"`
	// Plugins are the sources of portable identities, by name. The name appears
	// in the event log.
	Plugins map[string]Plugin `yaml:"plugins"`
	// Rules say who may lease what; without any, root alone may.
	Rules []policy.Rule `yaml:"rules"`
	// Containers says which credential specs the containers of this host may use.
	Containers Containers `yaml:"containers"`
	// ECS serves the Amazon ECS agent.
	ECS ECS `yaml:"ecs"`
	// OnRotate are commands that a lease may ask for by name.
	OnRotate map[string]Command `yaml:"on_rotate"`

	// EventLog is the CCG event log.
	EventLog EventLog `yaml:"event_log"`
	// Tickets are the wishes for tickets.
	Tickets Tickets `yaml:"tickets"`
}

// Leases says where leases lie.
type Leases struct {
	// Directory holds one directory for each lease; empty is /run/gmsa/leases
	// for root, and gmsa/leases below XDG_RUNTIME_DIR or a directory of the
	// user's own in /dev/shm for others. It must be on tmpfs or ramfs; root gets
	// one mounted there.
	Directory string `yaml:"directory"`
	// Units holds a link to the lease of each systemd unit; empty is the
	// directory "units" beside Directory.
	Units string `yaml:"units"`
	// Size bounds the tmpfs that the agent mounts, in bytes; 0 is 256 MiB.
	Size int64 `yaml:"size"`
	// AllowSwap accepts a tmpfs whose pages may be swapped to a disk.
	AllowSwap bool `yaml:"allow_swap"`
}

// Containers says which credential specs the containers of this host may use, and how
// their runtimes reach the agent.
type Containers struct {
	// Rules publish credential specs; without any, no container gets an identity.
	Rules []policy.ContainerRule `yaml:"rules"`
	// HookSocket is where the agent waits for gmsa-hook; empty is "hook.sock" beside
	// Socket. It is root's alone.
	HookSocket string `yaml:"hook_socket"`
	// Hook is the program gmsa-hook. It and its directory must be root's alone.
	Hook string `yaml:"hook"`
	// CDIDirectory is where the devices of the published specs are written for the
	// engines; "none" writes none.
	CDIDirectory string `yaml:"cdi_directory"`
	// NRISocket is where containerd and CRI-O wait for plug-ins that give pods their
	// identity by an annotation; "none" connects to no engine.
	NRISocket string `yaml:"nri_socket"`
	// NetworkService is who stands for the user "NT AUTHORITY\NETWORK SERVICE" of
	// gmsa docker, as UID or UID:GID; empty is the image's own user.
	NetworkService string `yaml:"network_service"`
}

// ECS is the interface of Amazon's credentials-fetcher, for the Amazon ECS agent. Its
// caller is a container itself, as root: whoever has the socket may use the accounts
// below, which is why there is none by default.
type ECS struct {
	// Socket is where the ECS agent calls; empty serves nobody. credentials-fetcher's
	// own is /var/credentials-fetcher/socket/credentials_fetcher.sock.
	Socket string `yaml:"socket"`
	// Directory has a directory of links for each of its leases.
	Directory string `yaml:"directory"`
	// Accounts are the sAMAccountNames without '$' that it may use, with the
	// wildcards of path.Match.
	Accounts []string `yaml:"accounts"`
	// UID and GID own the tickets, which are readable as Mode says: 0400 or 0440.
	// The interface does not say as whom a task runs.
	UID  uint32   `yaml:"uid"`
	GID  uint32   `yaml:"gid"`
	Mode FileMode `yaml:"mode"`
}

// Quotas bound what callers can make the agent do. They hold for each user of
// the host, apart from AllLeases.
type Quotas struct {
	// Connections open at once.
	Connections int `yaml:"connections"`
	// Requests in flight at once.
	Requests int `yaml:"requests"`
	// Leases alive at once; a rule may set another number for whom it matches.
	// Root has no quota of its own.
	Leases int `yaml:"leases"`
	// AllLeases alive at once, of all users together.
	AllLeases int `yaml:"all_leases"`
	// RequestTimeout is the longest that a request may take.
	RequestTimeout time.Duration `yaml:"request_timeout"`
}

// The ways to protect a connection to the directory.
const (
	ProtectionGSSAPI   = "gssapi"     // SASL GSSAPI with sealing
	ProtectionSPNEGO   = "gss-spnego" // SASL GSS-SPNEGO with sealing
	ProtectionLDAPS    = "ldaps"      // TLS with channel binding
	ProtectionStartTLS = "starttls"   // TLS with channel binding
)

// Domain is one Active Directory domain.
type Domain struct {
	// Realm is the Kerberos realm; the default is the domain in capitals.
	Realm string `yaml:"realm"`
	// NetBIOS is the domain's short name, by which specs and callers may name
	// it; the default is the first label, in capitals.
	NetBIOS string `yaml:"netbios"`
	// Servers are domain controllers to use instead of those that DNS names:
	// host names of the domain or addresses, with LDAP's port where that is not
	// 389: the other ports then lie as far from their standard.
	Servers []string `yaml:"servers"`
	// Site is the Active Directory site of this host; the default is what the
	// domain says.
	Site string `yaml:"site"`
	// Protection of the LDAP connection: gssapi, gss-spnego (the default), ldaps
	// or starttls.
	Protection string `yaml:"protection"`
	// CA is a PEM file with the certificates that ldaps and starttls trust; the
	// default are the system's.
	CA string `yaml:"ca"`
	// Host is this host's own identity in the domain. Without one, accounts can
	// be used through credential specs that name a plug-in.
	Host *Host `yaml:"host"`
	// PrefetchSPNs are services whose tickets are put into every lease of the
	// domain ahead of use.
	PrefetchSPNs []string `yaml:"prefetch_spns"`
}

// Host is an identity that reads managed passwords: a keytab, or a user and a
// password, or a plug-in.
type Host struct {
	// Keytab of the host's computer account, such as /etc/krb5.keytab. An agent
	// started with no domain configured tries that file.
	Keytab string `yaml:"keytab"`
	// Principal chooses among a keytab's entries; the default is the first
	// whose name ends in "$".
	Principal string `yaml:"principal"`
	// RotatePassword says who changes the computer account's password: "auto",
	// the agent unless sssd, winbind or adcli does (the default), "always" the
	// agent, "never" the agent.
	RotatePassword string `yaml:"rotate_password"`

	// User and PasswordFile are an ordinary account's; the file holds the
	// password alone, and a final newline is not part of it.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`

	// Plugin names an entry of plugins, and Input is what it is asked.
	Plugin string `yaml:"plugin"`
	Input  string `yaml:"input"`
}

// The values of [Host.RotatePassword].
const (
	RotateAuto   = "auto"
	RotateAlways = "always"
	RotateNever  = "never"
)

// Command is a program that runs as a lease's owner.
type Command struct {
	// Command is the program, by absolute path, and its arguments. There is no
	// shell, and nothing of the lease is put into it.
	Command []string `yaml:"command"`
	// Timeout ends it; the default is 30 s.
	Timeout time.Duration `yaml:"timeout"`
}

// EventLog says where CCG events go.
type EventLog struct {
	// Path of the file; "none" writes no file.
	Path string `yaml:"path"`
	// MaxSize in bytes of one file, and MaxFiles in all.
	MaxSize  int64 `yaml:"max_size"`
	MaxFiles int   `yaml:"max_files"`
	// Journal also writes to the systemd journal, where there is one.
	Journal bool `yaml:"journal"`
}

// Tickets are the wishes for ticket-granting tickets.
type Tickets struct {
	// Lifetime asked for; 0 is as long as the domain gives.
	Lifetime time.Duration `yaml:"lifetime"`
	// DomainMaximum is the longest life that the domain's policy gives a ticket:
	// old keys are kept as long. Active Directory's own default is 10 h.
	DomainMaximum time.Duration `yaml:"domain_maximum"`
	// InFlight bounds the accounts that talk to their domains at once.
	InFlight int `yaml:"in_flight"`
}

// FileMode is permission bits, written in octal: 0660.
type FileMode fs.FileMode

// UnmarshalYAML reads an octal number, quoted or not, with or without 0o.
func (m *FileMode) UnmarshalYAML(n *yaml.Node) error {
	var v uint32
	text := strings.TrimPrefix(strings.TrimPrefix(n.Value, "0o"), "0")
	if _, err := fmt.Sscanf(text, "%o", &v); err != nil || v > 0o777 || fmt.Sprintf("%o", v) != text {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is no file mode such as 0660", n.Line, n.Value)}}
	}
	*m = FileMode(v)
	return nil
}

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		Socket: "/run/gmsa/agent.sock",
		Quotas: Quotas{Connections: 16, Requests: 64, Leases: 256, AllLeases: 16384, RequestTimeout: time.Minute},
		CredentialSpecs: []string{
			"/etc/gmsa/credentialspecs",
			"/var/lib/docker/credentialspecs", "/var/lib/docker/CredentialSpecs",
		},
		StateDirectory: "/var/lib/gmsa/agent",
		ECS:            ECS{Directory: "/var/credentials-fetcher/krbdir", Mode: 0o400},
		Containers:     Containers{Hook: "/usr/libexec/gmsa/gmsa-hook", CDIDirectory: "/etc/cdi", NRISocket: "/var/run/nri/nri.sock"},
		EventLog:       EventLog{Path: "/var/log/gmsa/ccg.jsonl", MaxSize: 4 << 20, MaxFiles: 5, Journal: true},
		Tickets:        Tickets{DomainMaximum: 10 * time.Hour, InFlight: 32},
	}
}

// Load reads and validates a file. Relative paths in it are refused, so that it
// means the same wherever the agent is started.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("agent configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("agent configuration: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s:\n%w", path, err)
	}
	return c, nil
}

// Parse reads and validates a configuration. The error lists every fault, one a
// line, each with its key path.
func Parse(b []byte) (Config, error) {
	if len(b) > maxSize {
		return Config{}, fmt.Errorf("over %d bytes", maxSize)
	}
	c := Default()
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return c.withDefaults(), nil // an empty file
	}
	if err != nil {
		return Config{}, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("more than one YAML document")
	}
	faults := unknownKeys(&doc)
	if err := doc.Decode(&c); err != nil {
		return Config{}, errors.Join(append(faults, err)...)
	}
	c = c.withDefaults()
	if err := errors.Join(append(faults, c.Validate())...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// withDefaults fills in what depends on other keys.
func (c Config) withDefaults() Config {
	if c.SocketMode == 0 {
		c.SocketMode = 0o600
		if len(c.Rules) > 0 {
			c.SocketMode = 0o666
		}
	}
	if c.Leases.Directory != "" && c.Leases.Units == "" {
		c.Leases.Units = filepath.Join(filepath.Dir(c.Leases.Directory), "units")
	}
	domains := make(map[string]Domain, len(c.Domains))
	for name, d := range c.Domains {
		domains[strings.ToLower(name)] = d.withDefaults(name)
	}
	if len(domains) == len(c.Domains) { // else Validate reports the clash
		c.Domains = domains
	}
	if c.Containers.HookSocket == "" && filepath.IsAbs(c.Socket) { // else Validate reports the other
		c.Containers.HookSocket = filepath.Join(filepath.Dir(c.Socket), "hook.sock")
	}
	for name, command := range c.OnRotate {
		if command.Timeout == 0 {
			command.Timeout = 30 * time.Second
			c.OnRotate[name] = command
		}
	}
	return c
}

func (d Domain) withDefaults(name string) Domain {
	if d.Realm == "" {
		d.Realm = strings.ToUpper(name)
	}
	if d.NetBIOS == "" {
		label, _, _ := strings.Cut(name, ".")
		d.NetBIOS = strings.ToUpper(label[:min(len(label), 15)])
	}
	if d.Protection == "" {
		d.Protection = ProtectionSPNEGO
	}
	if d.Host != nil && d.Host.Keytab != "" && d.Host.RotatePassword == "" {
		host := *d.Host
		host.RotatePassword = RotateAuto
		d.Host = &host
	}
	return d
}
