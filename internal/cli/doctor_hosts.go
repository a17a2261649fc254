package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/doctor"
)

const (
	// maxHosts bounds a list of hosts, maxReport an answer of one, in bytes.
	maxHosts  = 4096
	maxReport = 4 << 20
	// sshConnect is how long ssh may take to connect.
	sshConnect = "10"
)

// hostReport is what became of one host.
type hostReport struct {
	Host string `json:"host"`
	// Joined, Passwords, Specs and Network are the guide's checklist.
	Joined    doctor.Severity `json:"joined"`
	Passwords doctor.Severity `json:"passwords"`
	Specs     doctor.Severity `json:"credentialSpecs"`
	Network   doctor.Severity `json:"network"`
	Healthy   bool            `json:"healthy"`
	Cause     *doctor.Cause   `json:"cause,omitempty"`
	// Error says why the host did not answer.
	Error  string         `json:"error,omitempty"`
	Report *doctor.Report `json:"report,omitempty"`
}

// runDoctorHosts asks each host of a file and prints one table.
func (a *app) runDoctorHosts(ctx context.Context, o doctorOptions) error {
	hosts, err := a.readHosts(o.hosts)
	if err != nil {
		return err
	}
	if o.user != "" || o.passwordFile != "" || o.ccache != "" || o.lease != "" {
		return failure(Usage, errors.New("with --hosts each host asks as itself: leave out the credentials and --lease"))
	}
	if o.parallel < 1 {
		return failure(Usage, fmt.Errorf("--parallel %d: want at least 1", o.parallel))
	}
	command := o.remoteCommand()
	reports := make([]hostReport, len(hosts))
	var wg sync.WaitGroup
	room := make(chan struct{}, o.parallel)
	for i, host := range hosts {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			reports[i] = askHost(ctx, host, o, command)
		})
	}
	wg.Wait()
	if err := a.print(reports, func(w io.Writer) error { return writeHosts(w, reports) }); err != nil {
		return err
	}
	bad := 0
	for _, r := range reports {
		if !r.Healthy {
			bad++
		}
	}
	if bad > 0 {
		return failure(Negative, fmt.Errorf("%d of %d hosts are not in order", bad, len(reports)))
	}
	return nil
}

// readHosts reads one host a line; # begins a comment.
func (a *app) readHosts(path string) ([]string, error) {
	b, err := a.readFile(path, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	var hosts []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		switch line = strings.TrimSpace(line); {
		case line == "":
		case strings.HasPrefix(line, "-") || strings.ContainsAny(line, " \t"):
			return nil, failure(Usage, fmt.Errorf("%s: %q is no host", path, line))
		default:
			hosts = append(hosts, line)
		}
	}
	if len(hosts) == 0 || len(hosts) > maxHosts {
		return nil, failure(Usage, fmt.Errorf("%s names %d hosts, want 1 to %d", path, len(hosts), maxHosts))
	}
	return hosts, nil
}

// remoteCommand is the command line on a host, for its shell.
func (o doctorOptions) remoteCommand() string {
	words := []string{"doctor", "-o", "json", "--from", doctor.SeenHost}
	option := func(name string, values ...string) {
		for _, v := range values {
			if v != "" {
				words = append(words, name, v)
			}
		}
	}
	option("--domain", o.domain)
	option("--dc", o.controllers...)
	option("--spec", o.specs...)
	option("--url", o.urls...)
	option("--keytab", o.hostKeytab)
	option("--ca", o.ca)
	option("--config", o.config)
	option("--timeout", o.timeout.String())
	words = append(append(words, "--"), o.accounts...)
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return o.remote + " " + strings.Join(words, " ")
}

// askHost runs the doctor on a host. ssh knows the host by its key, or refuses it.
func askHost(ctx context.Context, host string, o doctorOptions, command string) hostReport {
	r := hostReport{Host: host, Joined: doctor.Skipped, Passwords: doctor.Skipped, Specs: doctor.Skipped, Network: doctor.Skipped}
	ctx, cancel := context.WithTimeout(ctx, o.timeout+30*time.Second)
	defer cancel()
	args := []string{"-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=" + sshConnect}
	for _, x := range o.sshOptions {
		args = append(args, "-o", x)
	}
	user, address, named := strings.Cut(host, "@")
	if !named {
		user, address = "", host
	}
	if h, port, err := net.SplitHostPort(address); err == nil {
		address = h
		args = append(args, "-p", port)
	}
	if user != "" {
		args = append(args, "-l", user)
	}
	cmd := exec.CommandContext(ctx, "ssh", append(args, "--", address, command)...)
	var out, errs limitedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	runErr := cmd.Run()
	var report doctor.Report
	if err := json.Unmarshal(out.text, &report); err != nil || report.Domain == "" {
		r.Error = printable(lastLine(string(errs.text)))
		if r.Error == "" && runErr != nil {
			r.Error = runErr.Error()
		}
		return r
	}
	r.Report, r.Healthy, r.Cause = &report, report.Healthy, report.Cause
	r.check(report)
	return r
}

// limitedBuffer keeps the beginning of what a host says.
type limitedBuffer struct{ text []byte }

// Write drops what is too much.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(maxReport-len(b.text), len(p))]...)
	return len(p), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// check sums the checks of a report up as the checklist does: the worst of each part.
func (r *hostReport) check(report doctor.Report) {
	part := func(prefixes ...string) doctor.Severity {
		w := doctor.OK
		for _, x := range report.Results {
			in := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(x.Check, p) })
			if in && x.Severity.Worse(w) {
				w = x.Severity
			}
		}
		return w
	}
	r.Joined = part("host-", "agent-config", "credentials")
	r.Passwords = part("account", "root-key", "plugin-")
	r.Specs = part("spec-")
	r.Network = part("resolver", "dns-", "reach", "port-", "clock", "controllers", "directory")
}

// writeHosts prints the table.
func writeHosts(w io.Writer, reports []hostReport) error {
	rows := [][]string{{"HOST", "JOINED", "PASSWORDS", "CREDENTIAL SPECS", "NETWORK", "CAUSE"}}
	for _, r := range reports {
		cause := r.Error
		if r.Cause != nil {
			cause = r.Cause.Check + ": " + r.Cause.Problem
		}
		rows = append(rows, []string{r.Host, answer(r.Joined), answer(r.Passwords), answer(r.Specs), answer(r.Network), cause})
	}
	return table(w, rows)
}

// answer is a severity as an entry of the checklist.
func answer(s doctor.Severity) string {
	switch s {
	case doctor.Error:
		return "NO"
	case doctor.Skipped:
		return "?"
	case doctor.Warning:
		return "yes, but"
	}
	return "yes"
}
