package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Windows is how Windows containers of one account are run, for the rules that are
// Windows' alone.
type Windows struct {
	// Version of the container host, one of [WindowsVersions].
	Version string
	// Hostnames are --hostname of each container that is to run at the same time; empty
	// for one without.
	Hostnames []string
	// HyperV is --isolation=hyperv.
	HyperV bool
	// User is whom the application runs as; empty for the image's own.
	User string
}

// Fault is a rule that is broken.
type Fault struct {
	Rule, Problem, Evidence string
	Fixes                   []string
	Guide                   string
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

// WindowsVersions are those that [Windows.Version] may be.
func WindowsVersions() []string {
	return []string{"1607", "2016", "1703", "1709", "1803", "1809", "2019", "2022", "2025"}
}

// The lines that the guides have: of the user that is the account on the network.
const (
	userLine = `USER "NT AUTHORITY\NETWORK SERVICE"`
	poolLine = `RUN %windir%\system32\inetsrv\appcmd.exe set AppPool DefaultAppPool -processModel.identityType:NetworkService`
	// poolLinePowerShell is the same for a Dockerfile whose shell is PowerShell, which
	// knows no %windir% and takes the name apart at its point unless it is quoted.
	poolLinePowerShell = `RUN & $env:windir\system32\inetsrv\appcmd.exe set AppPool DefaultAppPool -'processModel.identityType':NetworkService`
	serviceLine        = `RUN sc.exe config "YourServiceName" obj= "NT AUTHORITY\NETWORK SERVICE" password= ""`
)

// Judge applies all rules to containers of an account.
func (w Windows) Judge(account string) []Fault {
	return slices.Concat(w.judgeHostnames(account), w.judgeIsolation(), w.judgeUser())
}

// judgeHostnames applies the rules about names and about several containers.
func (w Windows) judgeHostnames(account string) []Fault {
	account = bareName(account)
	if slices.Contains(oneName, w.Version) {
		return w.judgeOneName(account)
	}
	var list []Fault
	seen := map[string]bool{}
	for _, h := range w.Hostnames {
		if h = strings.ToLower(h); h != "" && seen[h] {
			list = append(list, Fault{
				Rule: "hostname-unique", Guide: "5:32",
				Problem:  fmt.Sprintf("two containers have the host name %s: they disturb each other at the controller", h),
				Evidence: "with --hostname it must be another one for each container that runs at the same time",
				Fixes:    []string{fmt.Sprintf("leave --hostname out, or --hostname %s-2 for the second", h)},
			})
		}
		seen[h] = true
	}
	return list
}

// judgeOneName applies the rules of the versions before 1809.
func (w Windows) judgeOneName(account string) []Fault {
	var list []Fault
	for _, h := range w.Hostnames {
		if account != "" && !strings.EqualFold(h, account) {
			list = append(list, Fault{
				Rule: "hostname-account", Guide: "5:18",
				Problem:  fmt.Sprintf("on Windows %s the container's host name must be that of the account, %s, and is %q", w.Version, account, h),
				Evidence: "inbound NTLM and the translation of names and SIDs fail otherwise",
				Fixes:    []string{"--hostname " + account},
			})
		}
	}
	if len(w.Hostnames) > 1 {
		list = append(list, Fault{
			Rule: "one-container", Guide: "1:370",
			Problem:  fmt.Sprintf("on Windows %s two containers of one account disturb each other", w.Version),
			Evidence: "each new conversation with a controller ends the other's",
			Fixes:    []string{"one container for each account, or Windows Server 2019"},
		})
	}
	return list
}

func (w Windows) judgeIsolation() []Fault {
	if !w.HyperV || !slices.Contains(noHyperV, w.Version) {
		return nil
	}
	return []Fault{{
		Rule: "isolation", Guide: "5:26",
		Problem: fmt.Sprintf("on Windows %s a container with Hyper-V isolation and a gMSA hangs or fails at its start", w.Version),
		Fixes:   []string{"--isolation=process", "or Windows Server 2016, or 2019 and later"},
	}}
}

func (w Windows) judgeUser() []Fault {
	switch serviceUser(w.User) {
	case "network service":
		if slices.Contains(noServiceUser, w.Version) {
			return []Fault{{
				Rule: "user-version", Guide: "4:36",
				Problem: fmt.Sprintf("a container runs as Network Service since Windows Server 1709, and this is %s", w.Version),
				Fixes:   []string{"run it as it is, and the application as a service or application pool of Network Service"},
			}}
		}
		return nil
	case "", "system", "local system", "localsystem":
		return nil
	}
	return []Fault{{
		Rule: "user", Guide: "4:41",
		Problem: fmt.Sprintf("the application runs as %s, and only the system and Network Service use the gMSA", w.User),
		Fixes:   []string{userLine + "  # in the Dockerfile, or docker run --user"},
	}}
}

// serviceUser is a user in lower case, without quotes and the domain of the system's own
// accounts, however often its backslash was doubled.
func serviceUser(user string) string {
	user = strings.ToLower(strings.Trim(strings.TrimSpace(user), `"'`))
	for _, domain := range []string{`nt authority\\`, `nt authority\`, `.\`} {
		user = strings.TrimPrefix(user, domain)
	}
	if user == "networkservice" {
		return "network service"
	}
	return user
}

// bareName is the name of an account in lower case, without domain and dollar sign.
func bareName(name string) string {
	if _, after, ok := strings.Cut(name, `\`); ok {
		name = after
	}
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ".")
	return strings.ToLower(strings.TrimSuffix(name, "$"))
}

// image is what an image's name tells.
type image struct {
	windows bool
	iis     bool   // it starts a web site
	nano    bool   // its user is ContainerUser
	version string // of Windows; empty if the tag does not say
}

var versionTag = regexp.MustCompile(`(?:^|[-:_.])(?:ltsc|sac)?(1607|2016|1703|1709|1803|1809|1903|1909|2004|20h2|2019|2022|2025)(?:$|[-_.])`)

func imageOf(name string) image {
	name = strings.ToLower(name)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(name, p) })
	}
	i := image{
		windows: has("/windows/", "/windows:", "windowsservercore", "nanoserver", "servercore", "dotnet/framework", "microsoft/iis", "microsoft/aspnet:", "microsoft/windows"),
		iis:     has("servercore/iis", "microsoft/iis", "framework/aspnet", "framework/wcf", "microsoft/aspnet:", "microsoft/wcf"),
		nano:    has("nanoserver"),
	}
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	if m := versionTag.FindStringSubmatch(tag); m != nil && i.windows {
		i.version = m[1]
		if !slices.Contains(WindowsVersions(), m[1]) {
			i.version = "2019" // 1903 to 20H2 have the rules of 2019
		}
	}
	return i
}
