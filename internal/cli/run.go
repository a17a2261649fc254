package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// runOptions are the flags of gmsa run.
type runOptions struct {
	subject
	user        string
	keytab      bool
	isolated    bool
	forwardable bool
	spns        []string
	host        domainOptions
	leaseDir    string
	allowSwap   bool
}

func (a *app) run() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run {--account NAME | --credspec NAME|FILE} [flags] -- COMMAND [ARGUMENT…]",
		Short: "Run one command with a gMSA's identity",
		Long: `run asks the agent of this host for a lease and becomes the command, with
KRB5CCNAME, KRB5_CONFIG, KRB5_KTNAME and KRB5_CLIENT_KTNAME in its environment.
Signals and the exit status are the command's own; the lease ends with it.

Without a running agent, or with an option that says as whom to read the
password, it does the agent's work itself for as long as the command runs.`,
		Example: `  gmsa run --account webapp01 -- curl --negotiate -u : https://app.contoso.com/
  gmsa run --credspec contoso_webapp01 --user app -- psql -h db1.contoso.com
  gmsa run --account webapp01 -- gmsa klist
  gmsa run --account webapp01 --domain contoso.com -U alice -- psql -h db1.contoso.com`,
		Args:                  cobra.MinimumNArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			job, err := a.job(o.user, args)
			if err != nil {
				return err
			}
			return a.runJob(c.Context(), o, job)
		},
	}
	c.Flags().SetInterspersed(false)
	o.subject.addFlags(a, c)
	f := c.Flags()
	f.StringVar(&o.user, "user", "", "run the command as this user and its groups (root only)")
	f.BoolVar(&o.keytab, "with-keytab", false, "also a keytab to accept with and one to initiate with")
	f.BoolVar(&o.isolated, "isolated", false, "a ticket of its own, not the one that the account's leases share")
	f.BoolVar(&o.forwardable, "forwardable", false, "a ticket that may be delegated")
	f.StringSliceVar(&o.spns, "prefetch", nil, "put tickets for these service principal names into the cache")
	o.host.addHostFlags(c)
	f.StringVar(&o.leaseDir, "lease-dir", "", "without an agent: where to keep the lease (default: runs beside the agent's leases)")
	addSwapFlag(c, &o.allowSwap)
	return c
}

// job is a command to run, and as whom.
type job struct {
	path     string
	argv     []string
	env      []string
	uid, gid uint32
	groups   []int
	// switches says that the user is another than the caller.
	switches bool
}

// job finds the command and the user before anything is asked of a domain.
func (a *app) job(userName string, argv []string) (job, error) {
	path, err := exec.LookPath(argv[0])
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return job{}, failure(NotFound, fmt.Errorf("there is no command %s", argv[0]))
	case err != nil:
		return job{}, fmt.Errorf("command %s: %w", argv[0], err)
	}
	j := job{path: path, argv: argv, env: a.env.Environ, uid: uint32(max(os.Getuid(), 0)), gid: uint32(max(os.Getgid(), 0))}
	if userName == "" {
		return j, nil
	}
	u, err := lookupUser(userName)
	if err != nil {
		return job{}, err
	}
	if os.Getuid() != 0 && u.Uid != strconv.Itoa(os.Getuid()) {
		return job{}, failure(Denied, fmt.Errorf("only root may run a command as %s", userName)).hint("sudo gmsa run …")
	}
	return j.as(u)
}

// as is j run by u, with u's groups and its name and home in the environment.
func (j job) as(u *user.User) (job, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return job{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return job{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	j.uid, j.gid, j.switches = uint32(uid), uint32(gid), true
	j.groups = []int{int(gid)}
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil && !slices.Contains(j.groups, n) {
				j.groups = append(j.groups, n)
			}
		}
	}
	j.env = setEnv(j.env, map[string]string{"USER": u.Username, "LOGNAME": u.Username})
	if u.HomeDir != "" {
		j.env = setEnv(j.env, map[string]string{"HOME": u.HomeDir})
	}
	return j, nil
}

// setEnv is env with the variables set, each once.
func setEnv(env []string, vars map[string]string) []string {
	out := slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, replaced := vars[name]
		return replaced
	})
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, name+"="+vars[name])
	}
	return out
}

// runJob gets a lease and becomes the command.
func (a *app) runJob(ctx context.Context, o runOptions, j job) error {
	if !o.host.isZero() {
		return a.runInProcess(ctx, o, j)
	}
	lease, err := a.leaseForSelf(ctx, o, j)
	if errors.Is(err, agentapi.ErrNoAgent) && a.socket == "" {
		if own := a.runInProcess(ctx, o, j); own != nil {
			return fmt.Errorf("%w (done here, because no agent answers on %s)", own, agentapi.DefaultSocket)
		}
		return nil
	}
	if err != nil {
		return err
	}
	j.env = setEnv(j.env, lease.GetEnvironment())
	return j.exec()
}

// leaseForSelf asks the agent for a lease that lives as long as this process,
// which is the command's in a moment.
func (a *app) leaseForSelf(ctx context.Context, o runOptions, j job) (*agentapi.Lease, error) {
	r, err := a.request(o.subject)
	if err != nil {
		return nil, err
	}
	r.Uid, r.Gid, r.Mode = j.uid, j.gid, 0o400
	r.Keytab, r.Isolated, r.Forwardable, r.PrefetchSpns = o.keytab, o.isolated, o.forwardable, o.spns
	var lease *agentapi.Lease
	err = a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		created, err := client.CreateLease(ctx, r)
		for _, w := range created.GetWarnings() {
			a.warn(w)
		}
		lease = created.GetLease()
		return err
	})
	return lease, err
}
