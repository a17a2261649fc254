package lint

import (
	"fmt"
	"regexp"
	"strings"
)

// build is what a Dockerfile's last stage says about whom the application runs as.
type build struct {
	*checker
	stage      *stage
	image      image
	escape     byte
	powershell bool
	windows    Windows

	user     instruction // the last USER
	pools    int         // application pools whose identity is set
	services int         // services whose account is set
	sites    int         // signs of IIS
}

// dockerfile checks the stage that the image is made of.
func (c *checker) dockerfile(content []byte) {
	d := readDockerfile(content)
	s := d.last()
	if s == nil {
		c.add(1, Error, "dockerfile", "", "there is no FROM: it is no Dockerfile, or too large")
		return
	}
	b := &build{checker: c, stage: s, image: imageOf(s.image), escape: d.escape}
	if strings.HasPrefix(strings.ToLower(s.platform), "windows") || d.escape == '`' {
		b.image.windows = true
	}
	b.windows.Version = b.image.version
	if c.o.Windows != "" {
		b.windows.Version = c.o.Windows
	}
	if b.image.windows {
		b.checkWindows()
		return
	}
	b.checkLinux()
}

// checkWindows looks for the three ways of the guide: a pool, a service, a user.
func (b *build) checkWindows() {
	if b.image.iis {
		b.sites++
	}
	for _, in := range b.stage.instructions {
		switch in.name {
		case "SHELL":
			b.powershell = isPowerShell(in.args)
		case "USER":
			b.user = in
		case "RUN":
			b.run(in)
		}
	}
	b.windows.User = b.userName()
	b.addFaults(b.userLine(), Error, b.judgeUserOfImage())
	switch {
	case b.sites > 0 && b.pools == 0:
		b.add(b.stage.from.line, Error, "app-pool", "4:21", "the application pool runs as ApplicationPoolIdentity, and only Network Service and Local System use the gMSA", b.poolLine())
	case b.sites == 0 && b.pools == 0 && b.services == 0 && b.user.name == "":
		b.add(b.stage.from.line, Error, "user", "4:41", "nothing says whom the application runs as: the image's own user, "+b.defaultUser()+", does not use the gMSA",
			userLine, serviceLine+"  # for a Windows service", b.poolLine()+"  # for a web site of IIS")
	}
}

// judgeUserOfImage judges USER, except where a service or pool does the work: then only
// what Docker would refuse is a fault.
func (b *build) judgeUserOfImage() []Fault {
	faults := b.windows.judgeUser()
	if b.sites+b.pools+b.services == 0 || len(faults) == 0 || faults[0].Rule != "user" {
		return faults
	}
	return nil
}

func (b *build) userLine() int {
	if b.user.name == "" {
		return b.stage.from.line
	}
	return b.user.line
}

func (b *build) defaultUser() string {
	if b.image.nano {
		return "ContainerUser"
	}
	return "ContainerAdministrator"
}

func (b *build) poolLine() string {
	if b.powershell {
		return poolLinePowerShell
	}
	return poolLine
}

// userName is the value of USER as Docker takes it: without quotes the escape character
// takes the place of the backslash.
func (b *build) userName() string {
	arg := b.user.args
	if variable.MatchString(arg) {
		return "" // set when the image is built
	}
	if b.escape == '\\' && strings.Contains(arg, `\`) && !strings.ContainsAny(arg, `"'`) && !strings.Contains(arg, `\\`) {
		b.add(b.user.line, Error, "user-quotes", "4:41", "without quotes the backslash in "+arg+" is taken for an escape", userLine)
		return ""
	}
	return strings.Trim(arg, `"'`)
}

func isPowerShell(args string) bool {
	args = strings.ToLower(args)
	return strings.Contains(args, "powershell") || strings.Contains(args, "pwsh")
}

// The commands that set whom a pool or a service runs as. Pools are set by appcmd, whose
// option the guides write with and without quotes, or by PowerShell's IIS: drive.
var (
	appcmd       = regexp.MustCompile(`(?i)\bappcmd(?:\.exe)?\b`)
	identityType = regexp.MustCompile(`(?i)identityType['"]?\s*(?:[:=]|-Value\b|\s)\s*(?:-Value\s+)?['"]?([A-Za-z0-9]+)`)
	poolUser     = regexp.MustCompile(`(?i)processModel\.(?:userName|password)\b`)
	webServer    = regexp.MustCompile(`(?i)\b(?:Web-Server|Web-Asp-Net45|IIS-WebServer)\b`)
	scCommand    = regexp.MustCompile(`(?i)(?:^|[\s&;|"(])sc(\.exe)?['"]?\s+(config|create)\s+("[^"]*"|'[^']*'|\S+)([^;&|\n]*)`)
	scAccount    = regexp.MustCompile(`(?i)\bobj\s*=(\s*)("[^"]*"|'[^']*'|[^\s]+)`)
	newService   = regexp.MustCompile(`(?i)\b(?:New|Set)-Service\b[^;\n]*\s-Credential\b`)
)

// poolIdentities are the numbers that PowerShell takes for identityType.
var poolIdentities = map[string]string{"0": "LocalSystem", "1": "LocalService", "2": "NetworkService", "3": "SpecificUser", "4": "ApplicationPoolIdentity"}

// run looks at one RUN.
func (b *build) run(in instruction) {
	text := in.commandLine()
	shell := b.powershell || isPowerShell(text)
	if webServer.MatchString(text) {
		b.sites++
	}
	if appcmd.MatchString(text) && shell && strings.Contains(strings.ToLower(text), "%windir%") {
		b.add(in.line, Error, "app-pool-shell", "4:21", "PowerShell does not know %windir%", poolLinePowerShell)
	}
	for _, m := range identityType.FindAllStringSubmatch(text, -1) {
		b.pool(in, m[1], shell)
	}
	if poolUser.MatchString(text) {
		b.add(in.line, Error, "static-credentials", "4:24", "the application pool has a user and password of its own, in the image; the gMSA takes their place", b.poolLine())
	}
	for _, m := range scCommand.FindAllStringSubmatch(text, -1) {
		b.service(in, m, shell)
	}
	if newService.MatchString(text) {
		b.services++
		b.add(in.line, Error, "service-account", "4:31", "the service runs with credentials of its own, which the gMSA takes the place of", serviceLine)
	}
}

// pool judges whom a pool runs as.
func (b *build) pool(in instruction, identity string, shell bool) {
	b.pools++
	if name, ok := poolIdentities[identity]; ok {
		identity = name
	}
	fix := poolLine
	if shell {
		fix = poolLinePowerShell
	}
	if !strings.EqualFold(identity, "NetworkService") && !strings.EqualFold(identity, "LocalSystem") {
		b.add(in.line, Error, "app-pool", "4:21", fmt.Sprintf("the application pool runs as %s, and only Network Service and Local System use the gMSA", identity), fix)
	}
}

// service judges what sc.exe is told: m is a match of scCommand.
func (b *build) service(in instruction, m []string, shell bool) {
	exe, verb, name, rest := m[1], strings.ToLower(m[2]), m[3], m[4]
	line := strings.Replace(serviceLine, `"YourServiceName"`, name, 1)
	if shell && exe == "" {
		b.add(in.line, Error, "service-shell", "4:31", "in PowerShell sc is Set-Content: the service is not changed", line)
		return
	}
	account := scAccount.FindStringSubmatch(rest)
	if account == nil {
		if verb == "create" {
			b.services++ // Local System, which uses the gMSA
		}
		return
	}
	b.services++
	if account[1] == "" {
		b.add(in.line, Error, "service-spelling", "4:31", "sc.exe wants a space behind obj=", line)
	}
	switch serviceUser(account[2]) {
	case "network service", "system", "localsystem":
	default:
		b.add(in.line, Error, "service-account", "4:31", fmt.Sprintf("the service %s runs as %s, and only Local System and Network Service use the gMSA", strings.Trim(name, `"'`), strings.Trim(account[2], `"'`)), line)
	}
}
