package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/dc"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/auditlog"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/kdc"
	"github.com/opengmsa/opengmsa/internal/dc/keysource"
	"github.com/opengmsa/opengmsa/internal/dc/ldapd"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/bolt"
	"github.com/opengmsa/opengmsa/internal/harden"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// defaultData is where a controller keeps its domain.
const defaultData = "/var/lib/gmsa/dc"

func (a *app) dc() *cobra.Command {
	c := &cobra.Command{
		Use:   "dc",
		Short: "A domain controller",
		Long: `A domain controller: Kerberos, LDAP, DNS, password changes and the Key Distribution
Service of a domain of your own, in one process and one data directory.`,
		Example: `  gmsa dc init --domain contoso.com --data ./dc --local
  gmsa dc serve --data ./dc --port-offset 10000
  gmsa dc status --data ./dc`,
	}
	c.AddCommand(a.dcInit(), a.dcServe(), a.dcStatus(), a.dcExportKeytab(), a.dcRekey(), a.dcRotateKeys(), a.dcAudit())
	return c
}

// dataOptions are the flags that name a data directory and its key.
type dataOptions struct {
	dir, keyFile, keyCredential, keyCommand string
}

func (o *dataOptions) add(c *cobra.Command) {
	c.Flags().StringVar(&o.dir, "data", defaultData, "the data directory")
	c.Flags().StringVar(&o.keyFile, "key-file", "", "file with the key-encryption key, 32 bytes or base64 (default store.key in the data directory)")
	c.Flags().StringVar(&o.keyCredential, "key-credential", "", "systemd credential with that key instead")
	c.Flags().StringVar(&o.keyCommand, "key-command", "", "program that prints that key instead")
	c.MarkFlagsMutuallyExclusive("key-file", "key-credential", "key-command")
	_ = c.MarkFlagDirname("data")
}

func (a *app) data(o dataOptions) dc.Data {
	return dc.Data{Dir: o.dir, Getenv: a.env.Getenv,
		Key: keysource.Source{File: o.keyFile, Credential: o.keyCredential, Command: o.keyCommand}}
}

// dcFailure gives the errors of a data directory exit codes and hints.
func (a *app) dcFailure(o dataOptions, err error) error {
	var refused *directory.Error
	data := a.data(o)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dc.ErrName):
		return failure(Usage, err)
	case errors.Is(err, directory.ErrInitialized):
		return failure(Failed, err).hint("gmsa dc serve --data %s", o.dir).hint("for another domain name another directory: --data DIR")
	case errors.Is(err, directory.ErrNotInitialized):
		return failure(NotFound, err).hint("gmsa dc init --domain contoso.com --data %s", o.dir)
	case errors.Is(err, dc.ErrOwner):
		return failure(Denied, err).hint("run this as the owner of %s", o.dir)
	case errors.Is(err, bolt.ErrInUse):
		return failure(Failed, err).hint("a controller runs there: gmsa dc status --data %s", o.dir)
	case errors.Is(err, store.ErrNewer):
		return failure(Failed, err).hint("use the program that wrote %s, or a later version of it", o.dir)
	case errors.Is(err, atrest.ErrKey):
		return failure(Denied, err).hint("the key must be the one that the domain was made with; now it is read from: %s", data.KeySource())
	case errors.Is(err, keysource.ErrUnsafe) && o.keyCommand == "":
		return failure(Denied, err).hint("chmod 600 %s", data.KeySource().File)
	case errors.Is(err, keysource.ErrUnsafe):
		return failure(Denied, err).hint("chmod go-w %s", o.keyCommand)
	case errors.Is(err, account.ErrUnknown):
		return failure(NotFound, err)
	case errors.Is(err, syscall.EADDRINUSE):
		return failure(Failed, err).hint("another program has the port: name another address with --listen, or other ports with --port-offset")
	case errors.Is(err, syscall.EACCES) && strings.Contains(err.Error(), "bind"):
		return failure(Denied, err).hint("ports below 1024 need root or CAP_NET_BIND_SERVICE; else --port-offset 10000")
	case errors.As(err, &refused):
		return failure(Failed, err)
	}
	return err
}

// initOptions are the flags of gmsa dc init.
type initOptions struct {
	data              dataOptions
	domain, netBIOS   string
	host              string
	adminPasswordFile string
	local, noRootKey  bool
}

func (a *app) dcInit() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init --domain DOMAIN",
		Short: "Make a domain",
		Long: `init makes a domain, the only one of its forest, in a data directory: containers,
groups, Administrator, the controller's own account, a certificate authority, and a
KDS root key that can be used at once. Administrator gets the password of
--admin-password-file, or one that is made up and shown once.

The KDS root key is as if it had been made ten hours ago, so that gMSAs can be created
right away. That is for a domain with this one controller: where there are more, each
must have learnt of a key before it is used.

Secrets in the store are encrypted under a key-encryption key. By default that is a file
beside the store, so that a copy of the whole directory has both; keep it elsewhere with
--key-file, --key-credential or --key-command.`,
		Example: `  gmsa dc init --domain contoso.com
  gmsa dc init --domain contoso.com --data ./dc --local
  gmsa dc init --domain contoso.com --netbios CONTOSO --host dc1 --admin-password-file admin.password`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.initDC(c.Context(), o) },
	}
	o.data.add(c)
	c.Flags().StringVar(&o.domain, "domain", "", "DNS name of the domain (required)")
	c.Flags().StringVar(&o.netBIOS, "netbios", "", "short name of the domain (default its first label)")
	c.Flags().StringVar(&o.host, "host", "dc1", "name of the controller, without the domain")
	c.Flags().StringVar(&o.adminPasswordFile, "admin-password-file", "", "file with Administrator's password on its first line; - is standard input")
	c.Flags().BoolVar(&o.local, "local", false, "clients on this machine may call the controller localhost, or by the machine's name")
	c.Flags().BoolVar(&o.noRootKey, "no-root-key", false, "make no KDS root key: gmsa kds add does")
	_ = c.MarkFlagRequired("domain")
	a.addOutputFlag(c)
	return c
}

// madeDomain is what init prints.
type madeDomain struct {
	Domain    string `json:"domain"`
	NetBIOS   string `json:"netBIOS"`
	SID       string `json:"sid"`
	Host      string `json:"host"`
	Data      string `json:"data"`
	CA        string `json:"ca"`
	Key       string `json:"key"`
	RootKey   string `json:"rootKey,omitempty"`
	Password  string `json:"adminPassword,omitempty"`
	generated bool
}

func (a *app) initDC(ctx context.Context, o initOptions) error {
	password, generated, err := a.adminPassword(o.adminPasswordFile)
	if err != nil {
		return err
	}
	units, err := managedpassword.UTF16(password)
	if err != nil {
		return failure(Usage, fmt.Errorf("password file: %w", err))
	}
	cfg := dc.DomainConfig{DNSName: o.domain, NetBIOS: strings.ToUpper(o.netBIOS), Host: o.host, AdminPassword: units, NoRootKey: o.noRootKey, Now: a.env.Now}
	if o.local {
		cfg.Aliases = localNames(o.host)
	}
	data := a.data(o.data)
	made, err := data.Init(ctx, cfg)
	if err != nil {
		return a.dcFailure(o.data, err)
	}
	domain := made.Domain
	m := madeDomain{Domain: domain.DNSName, NetBIOS: domain.NetBIOS, SID: domain.SID.String(), Host: domain.HostName(),
		Data: o.data.dir, CA: data.CAPath(), Key: data.KeySource().String(), generated: generated}
	if generated {
		m.Password = string(password.Reveal())
	}
	if !made.RootKey.IsZero() {
		m.RootKey = made.RootKey.String()
		a.warn("the KDS root key can be used at once, which is for a domain with this single controller only: another that has not heard of a key cannot make its passwords")
	}
	return a.print(m, m.write)
}

// localNames are what programs on this machine call 127.0.0.1.
func localNames(controller string) []string {
	names := []string{"localhost"}
	if host, err := os.Hostname(); err == nil && !strings.EqualFold(host, "localhost") && !strings.EqualFold(host, controller) {
		names = append(names, host)
	}
	return names
}

func (m madeDomain) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "made the domain %s (%s), SID %s\n", m.Domain, m.NetBIOS, m.SID)
	fmt.Fprintf(&b, "controller: %s\nkey-encryption key: %s\ncertificate authority for clients: %s\n", m.Host, m.Key, m.CA)
	if m.RootKey != "" {
		fmt.Fprintf(&b, "KDS root key: %s\n", m.RootKey)
	}
	if m.generated {
		fmt.Fprintf(&b, "Administrator's password, shown this once: %s\n", m.Password)
	}
	fmt.Fprintf(&b, "next: gmsa dc serve --data %s\n", m.Data)
	_, err := io.WriteString(w, b.String())
	return err
}

// adminPassword is the one of the file, or a new one.
func (a *app) adminPassword(file string) (password secret.Bytes, generated bool, err error) {
	if file != "" {
		password, err = a.passwordFrom(file, "")
		return password, false, err
	}
	// 120 random bits; the marks are for the policy, which wants three kinds of characters.
	random := make([]byte, 15)
	if _, err := io.ReadFull(rand.Reader, random); err != nil {
		return secret.Bytes{}, false, err
	}
	return secret.New([]byte("G7-" + base64.RawURLEncoding.EncodeToString(random))), true, nil
}

// serveDCOptions are the flags of gmsa dc serve.
type serveDCOptions struct {
	data       dataOptions
	listen     []string
	offset     uint16
	ports      dc.Ports
	bindPolicy string
	kerberos   kdc.Policy
	debug      bool
}

func (a *app) dcServe() *cobra.Command {
	o := serveDCOptions{ports: dc.StandardPorts()}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the domain controller",
		Long: `serve runs the controller of a data directory until it is ended: Kerberos, LDAP,
the global catalog, DNS, password changes and the netlogon ping, on the standard ports.
It logs to standard error; who read which password and who changed what goes to the
audit log, which gmsa dc audit prints.

The life of tickets is the default of AD unless an option says otherwise: 10 h, and
renewals for 7 days. What --allow-no-preauth and --allow-missing-checksum take, other
controllers refuse or should: docs/controller.md says what it risks.

Ports below 1024 need root or CAP_NET_BIND_SERVICE. --port-offset moves all of them; a
port of 0 lets the system choose.`,
		Example: `  gmsa dc serve --listen 192.0.2.10
  gmsa dc serve --data ./dc --port-offset 10000
  gmsa dc serve --data ./dc --listen 127.0.0.1 --ldap-port 3890 --kerberos-port 8800`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.serveDC(c.Context(), o) },
	}
	o.data.add(c)
	c.Flags().StringSliceVar(&o.listen, "listen", []string{"127.0.0.1"}, "addresses to listen on; 0.0.0.0 and :: stand for all of this machine")
	c.Flags().Uint16Var(&o.offset, "port-offset", 0, "number to add to the standard ports")
	for _, p := range []struct {
		name, what string
		port       *uint16
	}{{"dns", "DNS", &o.ports.DNS}, {"kerberos", "Kerberos", &o.ports.Kerberos}, {"ldap", "LDAP", &o.ports.LDAP}, {"kpasswd", "password changes", &o.ports.Kpasswd},
		{"ldaps", "LDAP over TLS", &o.ports.LDAPS}, {"gc", "the global catalog", &o.ports.GC}, {"gcs", "the global catalog over TLS", &o.ports.GCS}} {
		c.Flags().Uint16Var(p.port, p.name+"-port", *p.port, "port of "+p.what)
		c.MarkFlagsMutuallyExclusive("port-offset", p.name+"-port")
	}
	c.Flags().StringVar(&o.bindPolicy, "channel-binding", "when-supported", "what a Kerberos bind inside TLS must prove: never, when-supported or always")
	_ = c.RegisterFlagCompletionFunc("channel-binding", cobra.FixedCompletions([]string{"never", "when-supported", "always"}, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().DurationVar(&o.kerberos.MaxTicketAge, "ticket-lifetime", 0, "how long a ticket is good (default 10h)")
	c.Flags().DurationVar(&o.kerberos.MaxRenewAge, "renew-lifetime", 0, "how long a ticket can be renewed (default 168h)")
	c.Flags().DurationVar(&o.kerberos.Skew, "clock-skew", 0, "how far clocks of Kerberos clients may be off (default 5m)")
	c.Flags().BoolVar(&o.kerberos.AllowNoPreauth, "allow-no-preauth", false, "give accounts marked DONT_REQ_PREAUTH tickets without proof: their passwords can be guessed offline")
	c.Flags().BoolVar(&o.kerberos.AllowMissingChecksum, "allow-missing-checksum", false, "take ticket requests that are not protected against changes on the way")
	c.Flags().BoolVar(&o.debug, "debug", false, "log more")
	return c
}

func channelBinding(name string) (ldapd.ChannelBinding, error) {
	switch name {
	case "never":
		return ldapd.BindNever, nil
	case "when-supported":
		return ldapd.BindWhenSupported, nil
	case "always":
		return ldapd.BindAlways, nil
	}
	return 0, failure(Usage, fmt.Errorf("--channel-binding %q: want never, when-supported or always", name))
}

// gcPercent lets a controller's heap grow to three times of what is in use before it is
// collected. In use are a few MiB, so that with Go's own 100 a collection would come after
// some 600 logons and take a twentieth of the processor.
const gcPercent = 200

func (a *app) serveDC(ctx context.Context, o serveDCOptions) (err error) {
	policy, err := channelBinding(o.bindPolicy)
	if err != nil {
		return err
	}
	addresses, err := listenAddresses(o.listen)
	if err != nil {
		return err
	}
	ports, err := o.ports.Offset(o.offset)
	if err != nil {
		return failure(Usage, err)
	}
	if err := o.kerberos.Validate(); err != nil {
		return failure(Usage, err)
	}
	if err := harden.Process(); err != nil {
		return err
	}
	if a.env.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	data := a.data(o.data)
	log := slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: level}))
	var domain directory.Domain
	ready := func(s *dc.Sockets) error {
		_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without a service manager nobody is told
		return writeUse(a.env.Stdout, domain, data, s)
	}
	c, err := data.Open(ctx, dc.Config{Log: log, ChannelBinding: policy, Kerberos: o.kerberos, Ready: ready, Now: a.env.Now})
	if err != nil {
		return a.dcFailure(o.data, err)
	}
	domain = c.Directory().Domain()
	defer func() { err = errors.Join(err, c.Close()) }()
	sockets, err := dc.Listen(ctx, addresses, ports)
	if err != nil {
		return a.dcFailure(o.data, err)
	}
	defer func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }()
	return c.Run(ctx, sockets)
}

func listenAddresses(texts []string) (addresses []netip.Addr, err error) {
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, failure(Usage, fmt.Errorf("--listen %s: want an IP address", text)).hint("ports have options of their own: --port-offset, --ldap-port and so on")
		}
		expanded, err := dc.Expand(addr)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, expanded...)
	}
	return addresses, nil
}

// writeUse tells where the controller is and how clients of this machine find it.
func writeUse(w io.Writer, d directory.Domain, data dc.Data, s *dc.Sockets) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s serves %s (%s) on", d.HostName(), d.DNSName, d.NetBIOS)
	for _, addr := range s.Addresses {
		fmt.Fprintf(&b, " %s", addr)
	}
	p := s.Ports
	fmt.Fprintf(&b, "\nports: kerberos %d, ldap %d, ldaps %d, gc %d, gcs %d, dns %d, kpasswd %d\n", p.Kerberos, p.LDAP, p.LDAPS, p.GC, p.GCS, p.DNS, p.Kpasswd)
	at := netip.AddrPortFrom(s.Addresses[0], p.LDAPS)
	fmt.Fprintf(&b, "\non this machine:\n  export KRB5_CONFIG=%s LDAPTLS_CACERT=%s\n  kinit Administrator\n  ldapsearch -x -W -H ldaps://%s -D Administrator@%s -b %s\n",
		absolute(data.Krb5ConfPath()), absolute(data.CAPath()), at, d.DNSName, d.DN())
	if p == dc.StandardPorts() && !s.Addresses[0].IsLoopback() {
		fmt.Fprintf(&b, "on others: use %s as DNS server for %s\n", s.Addresses[0], d.DNSName)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// absolute is a path that holds in other directories too.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// quietLog is for commands that report what fails themselves.
func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (a *app) dcStatus() *cobra.Command {
	var o dataOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell how the domain controller is",
		Long:  `status tells what the controller of a data directory is and whether it runs. It exits with 6 when it does not.`,
		Example: `  gmsa dc status
  gmsa dc status --data ./dc -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.data(o).Status(c.Context(), dc.Config{Log: quietLog(), Now: a.env.Now})
			if err != nil {
				return a.dcFailure(o, err)
			}
			if err := a.print(s, func(w io.Writer) error { return writeDCStatus(w, s) }); err != nil || s.Running {
				return err
			}
			err = errors.New("the controller does not run")
			return failure(Negative, err).hint("gmsa dc serve --data %s", o.dir)
		},
	}
	o.add(c)
	a.addOutputFlag(c)
	return c
}

func writeDCStatus(w io.Writer, s dc.Status) error {
	rows := [][]string{
		{"domain", s.Domain.DNSName + " (" + s.Domain.NetBIOS + ")"}, {"sid", s.Domain.SID.String()}, {"controller", s.Domain.HostName()},
		{"highest USN", fmt.Sprint(s.USN)}, {"certificate authority until", s.CAExpires.UTC().Format(time.RFC3339)},
	}
	for _, k := range s.RootKeys {
		rows = append(rows, []string{"KDS root key", k.ID.String() + ", in use from " + k.UseStart.UTC().Format(time.RFC3339)})
	}
	if s.Running {
		var addresses []string
		for _, addr := range s.Addresses {
			addresses = append(addresses, addr.String())
		}
		rows = append(rows, []string{"runs", fmt.Sprintf("pid %d, since %s", s.PID, s.Started.UTC().Format(time.RFC3339))},
			[]string{"addresses", strings.Join(addresses, " ")},
			[]string{"ports", fmt.Sprintf("kerberos %d, ldap %d, ldaps %d, gc %d, gcs %d, dns %d, kpasswd %d",
				s.Ports.Kerberos, s.Ports.LDAP, s.Ports.LDAPS, s.Ports.GC, s.Ports.GCS, s.Ports.DNS, s.Ports.Kpasswd)})
	}
	return table(w, rows)
}

func (a *app) dcExportKeytab() *cobra.Command {
	var o dataOptions
	var out string
	c := &cobra.Command{
		Use:   "export-keytab PRINCIPAL… --keytab FILE",
		Short: "Write the keys of principals into a keytab",
		Long: `export-keytab writes the present and previous keys of accounts into a keytab: to
decrypt a capture, say. It is for the owner of the data directory, runs beside a
controller that serves, and tells the audit log of every account.

A keytab of krbtgt is the whole domain: whoever has it can be anybody.`,
		Example: `  gmsa dc export-keytab HTTP/web1.contoso.com --keytab web1.keytab
  gmsa dc export-keytab --data ./dc 'webapp01$' krbtgt/CONTOSO.COM --keytab capture.keytab`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, principals []string) error {
			b, err := a.data(o).ExportKeytab(c.Context(), dc.Config{Log: quietLog(), Now: a.env.Now}, principals)
			if err != nil {
				return a.dcFailure(o, err)
			}
			kt, err := keytab.Parse(b.Reveal())
			if err != nil {
				return err
			}
			if err := writeKeytab(out, kt); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.env.Stdout, "wrote %d keys to %s\n", len(kt.Entries), out)
			return err
		},
	}
	o.add(c)
	c.Flags().StringVar(&out, "keytab", "", "the file to write (required)")
	_ = c.MarkFlagRequired("keytab")
	return c
}

func (a *app) dcRekey() *cobra.Command {
	var o dataOptions
	var next string
	c := &cobra.Command{
		Use:   "rekey --new-key-file FILE",
		Short: "Encrypt the store under another key-encryption key",
		Long: `rekey makes another key-encryption key, or takes the one that the file has, and
encrypts the keys of the store under it. The controller must not run meanwhile.`,
		Example: `  gmsa dc rekey --data ./dc --new-key-file /run/keys/dc.key`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.data(o).Rekey(c.Context(), keysource.Source{File: next}); err != nil {
				return a.dcFailure(o, err)
			}
			_, err := fmt.Fprintf(a.env.Stdout, "the store takes the key of %s from now on, and no other\nnext: gmsa dc serve --data %s --key-file %s\n", next, o.dir, next)
			return err
		},
	}
	o.add(c)
	c.Flags().StringVar(&next, "new-key-file", "", "file with the next key; it is made if it does not exist (required)")
	_ = c.MarkFlagRequired("new-key-file")
	return c
}

func (a *app) dcRotateKeys() *cobra.Command {
	var o dataOptions
	var force bool
	c := &cobra.Command{
		Use:     "rotate-keys [krbtgt|controller]",
		Aliases: []string{"rotate-krbtgt"},
		Short:   "Give krbtgt, or the controller itself, new keys",
		Long: `rotate-keys gives krbtgt new random keys, in which tickets are encrypted and signed from
now on; with "controller" it does so for the account of the controller itself, for
whose keys tickets for LDAP are. Nothing does it by itself. It runs beside a
controller that serves and tells the audit log.

Tickets under the keys before stay good until they end, and those under the keys before
these do not: so a second rotation is refused until such tickets have ended, 10 hours
later by default. After krbtgt's keys were stolen rotate them twice, the second time
with --force if no ticket shall outlive it; all clients then log on anew.`,
		Example: `  gmsa dc rotate-keys
  gmsa dc rotate-keys controller --data ./dc`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{string(dc.OwnerKrbtgt), string(dc.OwnerController)},
		RunE: func(c *cobra.Command, args []string) error {
			owner := dc.OwnerKrbtgt
			if len(args) > 0 {
				owner = dc.KeyOwner(args[0])
			}
			return a.rotateKeys(c.Context(), o, owner, force)
		},
	}
	o.add(c)
	c.Flags().BoolVar(&force, "force", false, "although tickets that are in use end with it")
	return c
}

func (a *app) rotateKeys(ctx context.Context, o dataOptions, owner dc.KeyOwner, force bool) error {
	r, err := a.data(o).RotateKeys(ctx, dc.Config{Log: quietLog(), Now: a.env.Now}, owner, force)
	if err != nil {
		return a.dcFailure(o, err)
	}
	until := r.Until.UTC().Format(time.RFC3339)
	if !r.Done {
		return failure(Failed, fmt.Errorf("tickets can be alive until %s that a rotation of %s would end", until, r.Account)).
			hint("wait until then").hint("or end them: --force")
	}
	_, err = fmt.Fprintf(a.env.Stdout, "%s has keys of version %d; tickets under those before are good until %s\n", r.Account, r.KVNO, until)
	return err
}

// auditOptions are the flags of gmsa dc audit.
type auditOptions struct {
	data  dataOptions
	kinds []string
	since time.Duration
}

func (a *app) dcAudit() *cobra.Command {
	var o auditOptions
	c := &cobra.Command{
		Use:   "audit",
		Short: "Print the controller's audit log",
		Long: `audit prints who read which managed password, who changed what, and which logons
failed, oldest first. It holds no passwords and no keys.`,
		Example: `  gmsa dc audit --since 1h
  gmsa dc audit --data ./dc --kind 'read managed password' -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.printAudit(o) },
	}
	o.data.add(c)
	c.Flags().StringSliceVar(&o.kinds, "kind", nil, "only events of these kinds")
	c.Flags().DurationVar(&o.since, "since", 0, "only events of so long ago or later")
	a.addOutputFlag(c)
	return c
}

func (a *app) printAudit(o auditOptions) error {
	var events []audit.Event
	for e, err := range auditlog.Read(a.data(o.data).AuditPath()) {
		if err != nil {
			a.warn(err.Error())
			continue
		}
		wanted := len(o.kinds) == 0
		for _, k := range o.kinds {
			wanted = wanted || string(e.Kind) == k
		}
		if wanted && (o.since == 0 || a.env.Now().Sub(e.Time) <= o.since) {
			events = append(events, e)
		}
	}
	return a.print(auditlog.Lines(events), func(w io.Writer) error {
		rows := [][]string{{"TIME", "KIND", "WHO", "FROM", "OBJECT", "ATTRIBUTES", "ERROR"}}
		for _, e := range events {
			from := ""
			if e.From.IsValid() {
				from = e.From.String()
			}
			rows = append(rows, []string{e.Time.UTC().Format(time.RFC3339), string(e.Kind), e.Name, from, e.Object, strings.Join(e.Attributes, " "), e.Error})
		}
		return table(w, rows)
	})
}
