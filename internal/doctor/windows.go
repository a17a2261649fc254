package doctor

import (
	"context"
	"slices"
	"strings"
)

// WindowsRun is how a Windows container is to be run, for the rules that are Windows'.
type WindowsRun struct {
	// Version of the container host, one of [WindowsVersions]; empty looks at nothing.
	Version string
	// Hostnames are --hostname of each container that is to run at the same time; empty
	// for one without.
	Hostnames []string
	// HyperV is --isolation=hyperv.
	HyperV bool
	// User is whom the application runs as; empty for the image's own.
	User string
}

// Versions of Windows by what they can do, in the words of the guide's known issues.
var (
	// oneName are those whose containers must be called like the account.
	oneName = []string{"1607", "2016", "1703", "1709", "1803"}
	// noHyperV hang or fail with a gMSA and Hyper-V isolation.
	noHyperV = []string{"1703", "1709", "1803"}
	// noServiceUser cannot run a container as Network Service.
	noServiceUser = []string{"1607", "2016", "1703"}
)

// WindowsVersions are those that [WindowsRun.Version] may be.
func WindowsVersions() []string {
	return []string{"1607", "2016", "1703", "1709", "1803", "1809", "2019", "2022", "2025"}
}

// Judge applies Windows' rules to containers of an account.
func (w WindowsRun) Judge(account string) []Finding {
	account = strings.ToLower(bareName(account))
	list := slices.Concat(w.hostnames(account), w.isolation(), w.user())
	if len(list) == 0 {
		return []Finding{ok("nothing is in the way on Windows %s", w.Version)}
	}
	return list
}

func (w WindowsRun) hostnames(account string) []Finding {
	var list []Finding
	if slices.Contains(oneName, w.Version) {
		for _, h := range w.Hostnames {
			if !strings.EqualFold(h, account) {
				list = append(list, wrong("on Windows %s the container's host name must be that of the account, %s, and is %q", w.Version, account, h).
					because("inbound NTLM and the translation of names and SIDs fail otherwise").mend("--hostname %s", account))
			}
		}
		if len(w.Hostnames) > 1 {
			list = append(list, wrong("on Windows %s two containers of one account disturb each other", w.Version).
				because("each new conversation with a controller ends the other's").mend("one container for each account, or Windows Server 2019"))
		}
		return list
	}
	seen := map[string]bool{}
	for _, h := range w.Hostnames {
		if h = strings.ToLower(h); h != "" && seen[h] {
			list = append(list, wrong("two containers have the host name %s: they disturb each other at the controller", h).
				because("with --hostname it must be another one for each container that runs at the same time").mend("leave --hostname out, or --hostname %s-2 for the second", h))
		}
		seen[h] = true
	}
	return list
}

func (w WindowsRun) isolation() []Finding {
	if w.HyperV && slices.Contains(noHyperV, w.Version) {
		return []Finding{wrong("on Windows %s a container with Hyper-V isolation and a gMSA hangs or fails at its start", w.Version).
			mend("--isolation=process").mend("or Windows Server 2016, or 2019 and later")}
	}
	return nil
}

func (w WindowsRun) user() []Finding {
	u := strings.ToLower(strings.ReplaceAll(w.User, `nt authority\`, ""))
	u = strings.TrimPrefix(u, `nt authority\`)
	switch u {
	case "", "system", "local system", "network service":
		if u == "network service" && slices.Contains(noServiceUser, w.Version) {
			return []Finding{wrong("a container runs as Network Service since Windows Server 1709, and this is %s", w.Version).
				mend("run it as it is, and the application as a service or application pool of Network Service")}
		}
		return nil
	}
	return []Finding{wrong("the application runs as %s, and only the system and Network Service use the gMSA", w.User).
		mend(`USER "NT AUTHORITY\NETWORK SERVICE"  # in the Dockerfile, or docker run --user`)}
}

func windowsRules(_ context.Context, f *Facts) []Finding { return f.cfg.Windows.Judge(f.account.name) }
