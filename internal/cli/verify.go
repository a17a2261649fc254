package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/internal/nrpc"
	"github.com/opengmsa/opengmsa/krb5"
)

// verifyTimeout bounds the whole check.
const verifyTimeout = 30 * time.Second

// Flags of NETLOGON_INFO_2, [MS-NRPC] 2.2.1.7.2, as nltest prints them.
const (
	netlogonHasIP          = 0x10
	netlogonHasTimeServ    = 0x20
	netlogonVerifyReturned = 0x80
)

// verification is what gmsa verify finds out.
type verification struct {
	Domain     string `json:"domain"`
	Flags      uint32 `json:"flags"`
	Controller string `json:"controller,omitempty"`
	Address    string `json:"address,omitempty"`
	Site       string `json:"site,omitempty"`
	Client     string `json:"client,omitempty"`
	// WhoAmI is who the directory says that the caller is.
	WhoAmI string `json:"whoAmI,omitempty"`
	// Connection is the outcome up to the directory's ticket, Trust that of the
	// question that was asked over the sealed connection.
	Connection win32Status `json:"trustedDCConnectionStatus"`
	Trust      win32Status `json:"trustVerificationStatus"`
	// SecureChannel is what Netlogon says of the computer's password: verified, refused,
	// "not offered", or why it was not asked.
	SecureChannel string `json:"secureChannel,omitempty"`
	// located says that a controller was found.
	located bool
}

// win32Status is a Windows status code.
type win32Status struct {
	Code uint32 `json:"code"`
	Name string `json:"name"`
}

// String is the status as nltest prints it.
func (s win32Status) String() string { return fmt.Sprintf("%d 0x%x %s", s.Code, s.Code, s.Name) }

// The statuses that a check can end with, [MS-ERREF] 2.2.
var (
	statusSuccess         = win32Status{0, "NERR_Success"}
	statusAccessDenied    = win32Status{5, "ERROR_ACCESS_DENIED"}
	statusTimeout         = win32Status{1460, "ERROR_TIMEOUT"}
	statusNoLogonServers  = win32Status{1311, "ERROR_NO_LOGON_SERVERS"}
	statusLogonFailure    = win32Status{1326, "ERROR_LOGON_FAILURE"}
	statusLogonHours      = win32Status{1328, "ERROR_INVALID_LOGON_HOURS"}
	statusWorkstation     = win32Status{1329, "ERROR_INVALID_WORKSTATION"}
	statusPasswordExpired = win32Status{1330, "ERROR_PASSWORD_EXPIRED"}
	statusDisabled        = win32Status{1331, "ERROR_ACCOUNT_DISABLED"}
	statusNoSuchDomain    = win32Status{1355, "ERROR_NO_SUCH_DOMAIN"}
	statusTimeSkew        = win32Status{1398, "ERROR_TIME_SKEW"}
	statusNoTrustAccount  = win32Status{1787, "ERROR_NO_TRUST_SAM_ACCOUNT"}
	statusTrustFailure    = win32Status{1790, "ERROR_TRUST_FAILURE"}
	statusAccountExpired  = win32Status{1793, "ERROR_ACCOUNT_EXPIRED"}
	statusLockedOut       = win32Status{1909, "ERROR_ACCOUNT_LOCKED_OUT"}
)

const verifyLong = `verify finds a domain controller, gets a ticket for its directory as the
caller, and asks the directory over a sealed connection who the caller is. It
prints the outcome in the words of nltest /sc_verify. As a computer whose password is at
hand (-U HOST$, or a keytab that has its RC4 key) it asks the controller's Netlogon too,
where there is one: each side proves to the other that it knows the password. A secure
channel that the host's own Netlogon or winbind has is set up anew at its next use.`

func (a *app) verify() *cobra.Command {
	var o domainOptions
	c := &cobra.Command{
		Use:   "verify [DOMAIN]",
		Short: "Check the connection to a domain, in the words of nltest",
		Long:  verifyLong,
		Example: `  gmsa verify contoso.com
  gmsa run --account webapp01 -- gmsa verify contoso.com
  gmsa verify contoso.com -U alice --dc dc01.contoso.com`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.domain = args[0]
			}
			return a.runVerify(c.Context(), &o)
		},
	}
	o.addFlags(c)
	a.addOutputFlag(c)
	return c
}

// nltest is verify under the name that guides use.
func (a *app) nltest() *cobra.Command {
	var o domainOptions
	c := &cobra.Command{
		Use:     "nltest /sc_verify:DOMAIN",
		Short:   "gmsa verify, for those who know nltest",
		Long:    verifyLong,
		Example: "  gmsa nltest /sc_verify:contoso.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			const option = "/sc_verify:"
			if len(args[0]) <= len(option) || !strings.EqualFold(args[0][:len(option)], option) {
				return failure(Usage, fmt.Errorf("%q is not an option of nltest that gmsa has", args[0])).hint("gmsa nltest /sc_verify:DOMAIN")
			}
			o.domain = args[0][len(option):]
			return a.runVerify(c.Context(), &o)
		},
	}
	o.addFlags(c)
	a.addOutputFlag(c)
	return c
}

// runVerify makes the check, prints it, and turns a negative outcome into an
// exit code.
func (a *app) runVerify(ctx context.Context, o *domainOptions) error {
	creds, err := a.credentials(o)
	if err != nil {
		return err
	}
	d, err := a.openDomain(o, creds)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	v, err := check(ctx, d, creds)
	if printErr := a.print(v, v.write); printErr != nil {
		return printErr
	}
	if err == nil {
		return nil
	}
	// The check was made, and its outcome is printed: what refused the caller is
	// its result. That nobody was there to make it with is another matter.
	if codeOf(err) == NoController {
		return failure(NoController, err)
	}
	return failure(Negative, err)
}

// check does what verify reports: locate, AS or the cache's ticket, a service
// ticket, a sealed connection, who am I.
func check(ctx context.Context, d *ad.Domain, creds credentials) (verification, error) {
	v := verification{Domain: d.Name(), Flags: netlogonVerifyReturned, Connection: statusNoLogonServers, Trust: statusNoLogonServers}
	controllers, err := d.Locator().Controllers(ctx, locate.Any)
	if err != nil {
		v.fail(err)
		return v, err
	}
	v.use(controllers[0])
	session, err := ad.Open(d, creds.identity)
	if err != nil {
		v.fail(err)
		return v, err
	}
	defer func() { _ = session.Close() }()
	tgt, err := session.TGT(ctx)
	if err != nil {
		v.fail(err)
		return v, err
	}
	v.Client = tgt.Client.String()
	v.Connection = statusSuccess
	who, name, err := session.WhoAmI(ctx)
	if err != nil {
		v.Trust = statusOf(err)
		if reached := errors.Is(err, ldapc.ErrCredentials) || errors.Is(err, ldapc.ErrNotEncrypted); !reached {
			v.Connection = v.Trust
		}
		return v, err
	}
	answered := controllers[0]
	for _, c := range controllers {
		if c.Name == name {
			answered = c
			v.use(c)
		}
	}
	v.WhoAmI, v.Trust = who, statusSuccess
	if !sameClient(who, tgt.Client) {
		v.Trust = statusTrustFailure
		return v, fmt.Errorf("%s takes %v for %q", name, tgt.Client, who)
	}
	return v, v.netlogon(ctx, answered, creds)
}

// netlogon proves the computer's password to Netlogon too, and has the controller prove
// that it knows it, where both are possible. That nobody can be asked, as through a
// firewall, is no failure.
func (v *verification) netlogon(ctx context.Context, c locate.Controller, creds credentials) error {
	if creds.ntHash == nil {
		v.SecureChannel = "not tried: it takes a computer's password, or a keytab with its RC4 key"
		return nil
	}
	err := nrpc.Verify(ctx, c.Addr, c.Name, nrpc.Computer{
		Account: creds.account, Name: adproto.AccountName{Name: creds.account}.Bare(), NTHash: creds.ntHash.Secret(),
	})
	status, refused := errors.AsType[*nrpc.StatusError](err)
	switch {
	case err == nil:
		v.SecureChannel = "verified"
	case refused || errors.Is(err, nrpc.ErrServer):
		v.SecureChannel, v.Trust = "refused: "+err.Error(), statusTrustFailure
		if refused && status.Status == nrpc.StatusAccessDenied {
			v.Trust = statusAccessDenied
		}
		return fmt.Errorf("secure channel with %s: %w", c.Name, err)
	case errors.Is(err, nrpc.ErrNotOffered):
		v.SecureChannel = "not offered"
	default:
		v.SecureChannel = "not tried: " + err.Error()
	}
	return nil
}

// use takes down what is known of the controller.
func (v *verification) use(c locate.Controller) {
	v.located = true
	v.Controller, v.Address, v.Site = c.Name, c.Addr.String(), c.Site
	v.Flags = netlogonVerifyReturned | netlogonHasIP
	if c.Flags&(adproto.DSTimeServ|adproto.DSGoodTimeServ) != 0 {
		v.Flags |= netlogonHasTimeServ
	}
}

func (v *verification) fail(err error) {
	v.Connection = statusOf(err)
	v.Trust = v.Connection
}

// sameClient compares the directory's answer, u:DOMAIN\name, with the name in
// the ticket.
func sameClient(who string, p krb5.Principal) bool {
	_, name, ok := strings.Cut(who, `\`)
	return ok && strings.EqualFold(name, p.Name.String())
}

// write prints the outcome in nltest's words. A domain that no controller
// answers for has no lines about one.
func (v verification) write(w io.Writer) error {
	var b strings.Builder
	if !v.located {
		fmt.Fprintf(&b, "I_NetLogonControl failed: Status = %v\n", v.Connection)
	} else {
		fmt.Fprintf(&b, "\nFlags: %x%s\n", v.Flags, netlogonFlagNames(v.Flags))
		fmt.Fprintf(&b, "Trusted DC Name \\\\%s\n", printable(v.Controller))
		fmt.Fprintf(&b, "Trusted DC Connection Status Status = %v\n", v.Connection)
		fmt.Fprintf(&b, "Trust Verification Status = %v\n", v.Trust)
		if v.SecureChannel != "" && !strings.HasPrefix(v.SecureChannel, "not ") {
			fmt.Fprintf(&b, "Secure Channel %s\n", printable(v.SecureChannel))
		}
		b.WriteString("The command completed successfully\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// netlogonFlagNames are the flags as nltest writes them, with its two spaces.
func netlogonFlagNames(flags uint32) string {
	s := ""
	if flags&netlogonHasIP != 0 {
		s += " HAS_IP "
	}
	if flags&netlogonHasTimeServ != 0 {
		s += " HAS_TIMESERV"
	}
	return strings.TrimRight(s, " ")
}

// statusOf is the Windows status that stands for an error.
func statusOf(err error) win32Status {
	if k, ok := errors.AsType[*krb5.KRBError](err); ok {
		if s, ok := statusOfLogon(k); ok {
			return s
		}
	}
	for _, e := range [...]struct {
		is     error
		status win32Status
	}{
		{locate.ErrNoRecords, statusNoSuchDomain},
		{locate.ErrNoController, statusNoLogonServers},
		{kclient.ErrUnreachable, statusNoLogonServers},
		{kclient.ErrUnknownClient, statusNoTrustAccount},
		{kclient.ErrExpired, statusPasswordExpired},
		{kclient.ErrRevoked, statusDisabled},
		{kclient.ErrSkew, statusTimeSkew},
		{kclient.ErrWrongKey, statusAccessDenied},
		{ldapc.ErrCredentials, statusLogonFailure},
		{ldapc.ErrConnection, statusNoLogonServers},
		{ldapc.ErrNotEncrypted, statusTrustFailure},
		{ldapc.ErrAccess, statusAccessDenied},
		{context.DeadlineExceeded, statusTimeout},
	} {
		if errors.Is(err, e.is) {
			return e.status
		}
	}
	return statusTrustFailure
}

// statusOfLogon is the reason that a KDC of Active Directory gives beside
// Kerberos' own code.
func statusOfLogon(k *krb5.KRBError) (win32Status, bool) {
	status, ok := k.NTStatus()
	if !ok {
		return win32Status{}, false
	}
	switch status {
	case krb5.StatusAccountDisabled:
		return statusDisabled, true
	case krb5.StatusAccountLockedOut:
		return statusLockedOut, true
	case krb5.StatusAccountExpired:
		return statusAccountExpired, true
	case krb5.StatusPasswordExpired, krb5.StatusPasswordMustChange:
		return statusPasswordExpired, true
	case krb5.StatusInvalidLogonHours:
		return statusLogonHours, true
	case krb5.StatusInvalidWorkstation:
		return statusWorkstation, true
	}
	return win32Status{}, false
}
