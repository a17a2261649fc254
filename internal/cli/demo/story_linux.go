package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The names of the story are those of Microsoft's documents.
const (
	domain    = "contoso.com"
	host      = "ContainerHost01"
	group     = "WebApp01Hosts"
	account   = "WebApp01"
	spec      = "contoso_webapp01"
	siteName  = "mysite." + domain
	siteOwner = "MySite"
	container = "webapp01"
)

// The clock begins so long ago that the first rollover of an account made then, 30 days
// later at most, is past by now. Thus the last move of the clock can be to the present.
const (
	passwordInterval = 30 * 24 * time.Hour
	beginAgo         = passwordInterval + 15*time.Minute
	beforeRollover   = 10 * time.Minute
	afterRollover    = time.Minute
)

// story is a demo under way.
type story struct {
	*stage
	site    string // where it listens, host:port
	lease   string // the directory of the workload's
	created accountState
	inside  func(args ...string) []string
}

// Run tells the story and ends all that it started. The report is there on an error too.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	st, err := newStage(cfg)
	if err != nil {
		return r, err
	}
	s := &story{stage: st}
	err = s.whole(ctx)
	if err = errors.Join(err, s.close()); err == nil {
		s.printf("\n%d steps in %.2f s. What was started has ended, and its files are gone.\n", len(s.report.Steps), s.report.Seconds)
	}
	return s.report, err
}

// whole is the story from its beginning to when all may end.
func (s *story) whole(ctx context.Context) error {
	started := time.Now()
	err := s.tell(ctx)
	s.report.OK, s.report.Seconds = err == nil, seconds(started)
	if s.cfg.Kept == nil || ctx.Err() != nil {
		return err
	}
	s.report.Kept = filepath.Join(s.dir, envFile)
	if err == nil {
		s.printf("\nAll %d steps were made and checked in %.2f s.\n", len(s.report.Steps), s.report.Seconds)
	}
	s.keepHints(ctx, err == nil)
	return errors.Join(err, s.cfg.Kept(ctx, s.report))
}

// tell makes the steps, and stops at the first that fails.
func (s *story) tell(ctx context.Context) error {
	steps := []struct {
		title, what string
		make        func(context.Context) error
	}{
		{"A domain", `A controller of its own: Kerberos, LDAP, DNS and the Key Distribution Service in one
			process, on ports of 127.0.0.1 that need no root.`, s.makeDomain},
		{"A root key", `Every managed password is derived from it, and none is stored. As in the guides for a
			test domain it is made as if ten hours ago, so that it can be used at once.`, s.makeRootKey},
		{"A host, and the group of hosts that may use the account", `Joining gives the host a computer account
			and a keytab with its keys.`, s.makeHost},
		{"A gMSA", `An account whose password nobody knows; the domain gives it to the hosts of the group alone.`, s.makeAccount},
		{"A credential spec", `The file by which a container is given the account. There is no secret in it.`, s.makeSpec},
		{"The guard of the host", `It reads the password as the host, over a sealed connection, and hands out Kerberos
			tickets in memory.`, s.startGuard},
		{"A web site that knows its visitors by Kerberos alone", `It is another gMSA, and opens tickets with the keytab of its lease.`, s.startSite},
		{"The workload logs in to the site", "", s.startWorkload},
		{"What the workload sees", `The two checks of the guides, inside the workload.`, s.look},
		{"30 days pass", `The demo's clock moves to just before the password changes. The guard gets new
			tickets; the workload keeps one for the site in a file.`, s.passMonth},
		{"The rollover", `The clock moves on by a few minutes, and the domain has another password for both
			accounts. Nobody set it, and nothing was told to the workload.`, s.passRollover},
		{"The workload still works", `With a new ticket, of the new key; and the ticket from before the rollover is still
			good, because the site's keytab keeps the previous key.`, s.workAfterRollover},
		{"What was logged", `Who read which password, in the controller's audit log, and the guard's events.`, s.logged},
	}
	if s.cfg.Kept != nil {
		steps = append(steps, struct {
			title, what string
			make        func(context.Context) error
		}{"The present", `The demo's clock is the machine's from here on, so that programs of other terminals
			have the domain's time.`, s.present})
	}
	for _, step := range steps {
		if err := s.step(step.title, step.what, func() error { return step.make(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) makeDomain(ctx context.Context) (err error) {
	if s.clock, err = CreateClock(filepath.Join(s.dir, clockFile), -beginAgo); err != nil {
		return err
	}
	// Of 130 bits, and of all kinds of characters that a domain wants.
	if err := s.write("admin.password", rand.Text()+"-a1\n"); err != nil {
		return err
	}
	if _, err := s.run(ctx, view{want: []string{"made the domain " + domain}}, "gmsa", "dc", "init", "--domain", domain, "--data", "dc",
		"--admin-password-file", "admin.password", "--no-root-key", "--local"); err != nil {
		return err
	}
	offset, err := freeOffset(ctx)
	if err != nil {
		return err
	}
	s.controller = fmt.Sprintf("127.0.0.1:%d", 389+offset)
	return s.start(ctx, "controller", "ldapsearch", "gmsa", "dc", "serve", "--data", "dc", "--port-offset", fmt.Sprint(offset))
}

// asAdministrator are the options that every command of the administrator has.
func asAdministrator(args ...string) []string {
	return append(args, "-U", "Administrator@"+domain, "--password-file", "admin.password")
}

func (s *story) makeRootKey(ctx context.Context) error {
	_, err := s.run(ctx, view{}, asAdministrator("gmsa", "kds", "add", "--effective-time", "-10h")...)
	return err
}

func (s *story) makeHost(ctx context.Context) error {
	if _, err := s.run(ctx, view{}, asAdministrator("gmsa", "computer", "join", host, "--out", "host.keytab")...); err != nil {
		return err
	}
	_, err := s.run(ctx, view{want: []string{group}}, asAdministrator("gmsa", "group", "create", group, "--scope", "DomainLocal", "--member", host)...)
	return err
}

// newAccount shows what matters of gmsa account create.
var newAccount = view{lines: []string{"account ", "SPNs", "interval", "rollover", "MAY RETRIEVE", group}}

func (s *story) makeAccount(ctx context.Context) error {
	if _, err := s.run(ctx, newAccount, asAdministrator("gmsa", "account", "create", account, "--dns", "webapp01."+domain, "--hosts", group,
		"--spn", "host/"+account+",host/webapp01."+domain)...); err != nil {
		return err
	}
	if _, err := s.run(ctx, view{want: []string{"True"}}, "gmsa", "account", "test", account, "--keytab", "host.keytab"); err != nil {
		return err
	}
	a, err := s.show(ctx)
	s.created = a
	return err
}

// accountState is what a story needs of gmsa account show.
type accountState struct {
	KVNO     uint32    `json:"keyVersionNumber"`
	Rollover time.Time `json:"nextRollover"`
}

// show shows the account and returns what the story goes on with.
func (s *story) show(ctx context.Context) (a accountState, err error) {
	if _, err = s.run(ctx, view{lines: []string{"account ", "interval", "key version", "rollover"}}, asAdministrator("gmsa", "account", "show", account)...); err != nil {
		return a, err
	}
	out, err := s.silent(ctx, asAdministrator("gmsa", "account", "show", account, "-o", "json")...)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(out), &a)
}

func (s *story) makeSpec(ctx context.Context) error {
	file := filepath.Join("credentialspecs", spec+".json")
	if _, err := s.run(ctx, view{}, asAdministrator("gmsa", "credspec", "create", account, "--out", file)...); err != nil {
		return err
	}
	_, err := s.run(ctx, view{want: []string{`"MachineAccountName"`}}, "cat", file)
	return err
}

func (s *story) startGuard(ctx context.Context) error {
	config := fmt.Sprintf(`socket: %[1]s/agent.sock
leases: {directory: %[2]s/leases, allow_swap: true}
credential_specs: [%[1]s/credentialspecs]
state_directory: %[1]s/state
event_log: {path: %[1]s/ccg.jsonl, journal: false}
domains:
  %[3]s:
    servers: [%[4]s]
    host: {keytab: %[1]s/host.keytab, rotate_password: never}
rules:
  - {users: [%[5]d], credential_specs: [%[6]s], accounts: [%[7]s, %[8]s], keytab: true}
`, s.dir, s.leases, domain, s.controller, os.Getuid(), spec, account, siteOwner)
	if err := s.write("agent.yaml", config); err != nil {
		return err
	}
	s.showFile("agent.yaml", config)
	if err := s.start(ctx, "guard", "", "gmsa", "agent", "serve", "--config", "agent.yaml"); err != nil {
		return err
	}
	answers := func() error { _, err := s.silent(ctx, "gmsa", "agent", "status"); return err }
	if err := s.eventually(ctx, answers); err != nil {
		return err
	}
	_, err := s.run(ctx, view{}, "gmsa", "agent", "status")
	return err
}

func (s *story) startSite(ctx context.Context) error {
	if _, err := s.run(ctx, newAccount, asAdministrator("gmsa", "account", "create", siteOwner, "--dns", siteName, "--hosts", group, "--spn", "http/"+siteName)...); err != nil {
		return err
	}
	const ready = "the site listens on "
	err := s.start(ctx, "site", ready, "gmsa", "run", "--account", siteOwner, "--with-keytab", "--", "gmsa", "demo", "site", "--name", siteName, "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(s.log("site"), ready)
	s.site, _, _ = strings.Cut(rest, "\n")
	return nil
}

// visit is the workload's command line.
func (s *story) visit(options ...string) []string {
	return append(append([]string{"gmsa", "demo", "visit"}, options...), "--at", s.site, "http://"+siteName+"/")
}

// admitted is what the site says to the workload.
const admitted = "200 OK: http/" + siteName + "@CONTOSO.COM let in " + account + "$@CONTOSO.COM"

func (s *story) startWorkload(ctx context.Context) error {
	out, err := s.run(ctx, view{}, "gmsa", "lease", "create", "--credspec", spec, "--pid", fmt.Sprint(os.Getpid()))
	if err != nil {
		return err
	}
	s.lease = strings.TrimSpace(out)
	reason := s.startContainer(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.inside = func(args ...string) []string {
		return slices.Concat([]string{s.runtime, "--root", "runtime", "exec", container}, args)
	}
	s.report.Workload = "a container of " + s.runtime
	if reason != nil {
		s.inside = func(args ...string) []string { return slices.Concat([]string{"env"}, leaseEnv(s.lease), args) }
		s.report.Workload = fmt.Sprintf("a process, because no container can be run here: %v", reason)
	}
	s.say("The workload is %s.", s.report.Workload)
	_, err = s.run(ctx, view{want: []string{admitted}}, s.inside(s.visit()...)...)
	return err
}

func (s *story) look(ctx context.Context) error {
	if _, err := s.run(ctx, view{want: []string{"A ticket to krbtgt has been retrieved successfully.",
		"Client: " + account + "$ @ CONTOSO.COM",
		"Server: krbtgt/CONTOSO.COM @ CONTOSO.COM"}}, s.inside("gmsa", "klist", "get", "krbtgt")...); err != nil {
		return err
	}
	_, err := s.run(ctx, view{want: []string{"Trusted DC Connection Status Status = 0 0x0 NERR_Success",
		"Trust Verification Status = 0 0x0 NERR_Success",
		"The command completed successfully"}}, s.inside("gmsa", "nltest", "/sc_verify:"+domain)...)
	return err
}

// moveTo moves the clock, and tells the guard, which else would notice a little later. Where
// time passes by itself nobody needs to.
func (s *story) moveTo(ctx context.Context, t time.Time) error {
	if err := s.clock.Set(time.Until(t)); err != nil {
		return err
	}
	s.say("The demo's clock: %s", s.clock.Now().Format(time.DateTime))
	_, err := s.run(ctx, view{}, "sh", "-c", fmt.Sprintf("kill -HUP %d", s.pid("guard")))
	return err
}

func (s *story) passMonth(ctx context.Context) error {
	if err := s.moveTo(ctx, s.created.Rollover.Add(-beforeRollover)); err != nil {
		return err
	}
	if _, err := s.run(ctx, view{want: []string{admitted}}, append([]string{"gmsa", "run", "--credspec", spec, "--"}, s.visit("--keep-ticket", "before.ccache")...)...); err != nil {
		return err
	}
	return s.showLease(ctx, s.created)
}

// showLease shows what the guard knows of the account, once it knows as much as the
// domain. NEXT PASSWORD is from the query interval of msDS-ManagedPassword.
func (s *story) showLease(ctx context.Context, a accountState) error {
	show := []string{"gmsa", "lease", "show", filepath.Base(s.lease)}
	err := s.eventually(ctx, func() error {
		out, err := s.silent(ctx, append(show, "-o", "json")...)
		var l leaseState
		switch {
		case err != nil:
			return err
		case json.Unmarshal([]byte(out), &l) != nil || len(l.Accounts) != 1:
			return fmt.Errorf("%s -o json: unexpected answer", line(show))
		case l.Accounts[0].KVNO != a.KVNO || l.Accounts[0].NextRollover.Sub(a.Rollover).Abs() > clockSkew:
			return fmt.Errorf("the guard has kvno %d until %v, and the domain %d until %v", l.Accounts[0].KVNO, l.Accounts[0].NextRollover, a.KVNO, a.Rollover)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = s.run(ctx, view{lines: []string{"KVNO", account + "$"}}, show...)
	return err
}

// leaseState is what a story needs of gmsa lease show.
type leaseState struct {
	Accounts []struct {
		KVNO         uint32    `json:"kvno"`
		NextRollover time.Time `json:"nextRollover"`
	} `json:"accounts"`
}

// clockSkew is how far the clocks of host and controller may differ: intervals end that
// much early or late.
const clockSkew = 5 * time.Minute

func (s *story) passRollover(ctx context.Context) error {
	if err := s.moveTo(ctx, s.created.Rollover.Add(afterRollover)); err != nil {
		return err
	}
	now, err := s.show(ctx)
	if err == nil && (now.KVNO != s.created.KVNO+1 || !now.Rollover.Equal(s.created.Rollover.Add(passwordInterval))) {
		return fmt.Errorf("key version %d and next rollover %v do not follow %d and %v", now.KVNO, now.Rollover, s.created.KVNO, s.created.Rollover)
	}
	if err != nil {
		return err
	}
	return s.showLease(ctx, now)
}

// settle waits until the workload is let in again after the clock has jumped: tickets and
// keys that the guard renews ahead of time where it passes by itself are late by as long
// as that takes.
func (s *story) settle(ctx context.Context) error {
	return s.eventually(ctx, func() error { _, err := s.silent(ctx, s.inside(s.visit()...)...); return err })
}

func (s *story) workAfterRollover(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	if _, err := s.run(ctx, view{want: []string{admitted}}, s.inside(s.visit()...)...); err != nil {
		return err
	}
	_, err := s.run(ctx, view{want: []string{admitted}}, s.visit("--ccache", "before.ccache")...)
	return err
}

func (s *story) logged(ctx context.Context) error {
	if _, err := s.run(ctx, view{lines: []string{"WHO", "CN=" + account}, want: []string{host}}, "gmsa", "dc", "audit", "--data", "dc", "--kind", "read managed password"); err != nil {
		return err
	}
	_, err := s.run(ctx, view{}, "gmsa", "events", "--file", "ccg.jsonl")
	return err
}

// keepHints tells how to use what is kept: after a whole story with programs of others too,
// where they are at hand.
func (s *story) keepHints(ctx context.Context, whole bool) {
	s.printf("All of it runs until Ctrl-C, or kill %d. In another terminal:\n    . %s\n", os.Getpid(), s.report.Kept)
	if !whole {
		return
	}
	hints := []string{line(asAdministrator("gmsa", "account", "list")), line(s.inside("gmsa", "klist"))}
	if out, err := s.silent(ctx, "curl", "--version"); err == nil && strings.Contains(out, "SPNEGO") {
		hints = append(hints, line([]string{"gmsa", "run", "--account", account, "--", "curl", "-sS", "--negotiate", "-u", ":",
			"--connect-to", siteName + ":80:" + s.site, "http://" + siteName + "/"}))
	}
	if s.lookPath("kinit") != "kinit" {
		hints = append(hints, "kinit Administrator < admin.password && gmsa kds list")
	}
	for _, h := range append(hints, "gmsa run --account "+account+" -- sh") {
		s.printf("    %s\n", h)
	}
}

func (s *story) present(ctx context.Context) error {
	if err := s.moveTo(ctx, time.Now()); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	_, err := s.run(ctx, view{want: []string{admitted}}, s.inside(s.visit()...)...)
	return err
}
