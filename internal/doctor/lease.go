package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5/ccache"
)

// leaseFiles wants the files of the lease where the workload looks for them.
func leaseFiles(_ context.Context, f *Facts) []Finding {
	l := f.cfg.Lease
	var list []Finding
	for _, name := range []string{lease.CCacheName, lease.Krb5ConfName} {
		path := filepath.Join(l.Directory, name)
		st, err := os.Stat(path)
		if err != nil {
			list = append(list, wrong("the lease has no %s", name).because(err.Error()).mend("start the workload anew").mend("gmsa lease list"))
			continue
		}
		if uid, known := ownerOf(st); known && uint32(uid) != l.UID {
			list = append(list, wrong("%s belongs to the user %d, and the lease to %d", path, uid, l.UID).mend("gmsa agent reload"))
		}
	}
	if len(list) == 0 {
		return []Finding{ok("%s", l.Directory)}
	}
	return list
}

// leaseTicket wants a ticket-granting ticket that is valid now.
func leaseTicket(_ context.Context, f *Facts) []Finding {
	path := filepath.Join(f.cfg.Lease.Directory, lease.CCacheName)
	b, err := os.ReadFile(path)
	if err != nil {
		return []Finding{info("the tickets are the workload's own to read").because(err.Error())}
	}
	defer clear(b)
	cache, err := ccache.Parse(b)
	if err != nil {
		return []Finding{wrong("%s is no credential cache", path).because(err.Error())}
	}
	tgt, found := cache.TGT()
	switch now := f.realmNow(); {
	case !found:
		return []Finding{wrong("the lease has no ticket-granting ticket").mend("gmsa agent status")}
	case !now.Before(tgt.EndTime):
		return []Finding{wrong("the ticket of %v ended at %s: nothing renews it", tgt.Client, tgt.EndTime.Local().Format("15:04:05")).
			mend("systemctl start gmsa-agent  # the agent keeps tickets fresh")}
	}
	return []Finding{ok("%v has a ticket until %s", tgt.Client, tgt.EndTime.Local().Format("15:04:05"))}
}

// leaseIdentity wants the application to use the lease: Kerberos programs look where
// the environment says, with the rights of their user.
func leaseIdentity(_ context.Context, f *Facts) []Finding {
	l := f.cfg.Lease
	if l.PID == 0 || l.Environ == nil {
		return []Finding{info("the lease's process cannot be looked at")}
	}
	var list []Finding
	reads := l.ProcessUID == 0 || l.ProcessUID == l.UID || l.Mode&0o040 != 0 && slices.Contains(l.ProcessGIDs, l.GID)
	if !reads {
		list = append(list, wrong("the application runs as the user %d, and the lease belongs to %d with mode %04o: it cannot read its tickets", l.ProcessUID, l.UID, l.Mode).
			mend("uid: %d in the rule or request of the lease", l.ProcessUID).mend("or run the application as user %d: USER %d in the Dockerfile, user: \"%d\" in compose, runAsUser: %d in the manifest", l.UID, l.UID, l.UID, l.UID))
	}
	if !slices.ContainsFunc(l.Environ, func(v string) bool { return strings.HasPrefix(v, "KRB5CCNAME=") }) {
		list = append(list, wrong("the application's environment has no KRB5CCNAME: it does not find its tickets").
			because(fmt.Sprintf("process %d", l.PID)).mend("KRB5CCNAME=%s in its environment", lease.CCachePath(lease.MountPoint)).
			mend("or start it by the device gmsa.dev/credentialspec=NAME, which sets it"))
	}
	if len(list) == 0 {
		return []Finding{ok("the application finds its tickets and may read them").because(fmt.Sprintf("process %d, user %d", l.PID, l.ProcessUID))}
	}
	return list
}
