package lint

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// The variables that a lease sets, and where it is: what an image or manifest says of them
// itself keeps programs from finding the tickets.
var kerberosVariables = []string{"KRB5_CONFIG", "KRB5CCNAME", "KRB5_KTNAME", "KRB5_CLIENT_KTNAME"}

const (
	leasePath  = "/run/gmsa"
	configPath = "/etc/krb5.conf"
)

var (
	exported   = regexp.MustCompile(`\b(KRB5_CONFIG|KRB5CCNAME|KRB5_KTNAME|KRB5_CLIENT_KTNAME)=(\S*)`)
	kinit      = regexp.MustCompile(`(?:^|[\s;&|("'/])kinit(?:$|[\s;&|)"'])`)
	linkConfig = regexp.MustCompile(`\bln\s[^;&|\n]*\s` + regexp.QuoteMeta(configPath) + `(?:$|[\s;&|])`)
	makeConfig = regexp.MustCompile(`(?:>|\btee\b[^;&|\n]*|\b(?:cp|mv|install)\b[^;&|\n]*)\s*` + regexp.QuoteMeta(configPath) + `(?:$|[\s;&|])`)
)

// isLeases reports whether a variable's value is what a lease would set it to.
func isLeases(value string) bool {
	value = strings.Trim(value, `"'`)
	if _, after, ok := strings.Cut(value, ":"); ok && !strings.HasPrefix(value, "/") {
		value = after
	}
	return strings.HasPrefix(value, leasePath+"/")
}

// checkLinux looks for what hides a lease.
func (b *build) checkLinux() {
	for _, in := range b.stage.instructions {
		switch in.name {
		case "ENV":
			b.environment(in)
		case "COPY", "ADD":
			b.copied(in)
		case "VOLUME":
			b.volumes(in)
		case "RUN", "CMD", "ENTRYPOINT":
			b.command(in)
		}
	}
}

// environment looks at ENV, in both of its forms.
func (b *build) environment(in instruction) {
	if name, value, ok := strings.Cut(in.args, " "); ok && !strings.Contains(name, "=") {
		b.variable(in.line, name, value)
		return
	}
	for _, m := range exported.FindAllStringSubmatch(in.args, -1) {
		b.variable(in.line, m[1], m[2])
	}
}

// variable judges one that is set.
func (c *checker) variable(line int, name, value string) {
	if !slices.Contains(kerberosVariables, name) || isLeases(value) {
		return
	}
	c.add(line, Error, "kerberos-environment", "", name+" is set to "+strings.Trim(value, `"'`)+": programs look there and not into the lease",
		"leave "+name+" out")
}

// copied looks at what is copied into the image.
func (b *build) copied(in instruction) {
	w := in.words()
	if len(w) < 2 {
		return
	}
	to := w[len(w)-1]
	for _, from := range w[:len(w)-1] {
		target := to
		if strings.HasSuffix(to, "/") || len(w) > 2 {
			target = path.Join(to, path.Base(from))
		}
		if path.Clean(target) == configPath {
			b.add(in.line, Warning, "krb5.conf", "", "the image brings its own "+configPath+", which the lease's hides: what it says is not read",
				"leave it out: the lease has the realm, its controllers and the encryption types")
		}
		if strings.HasSuffix(strings.ToLower(from), ".keytab") || strings.HasSuffix(strings.ToLower(target), ".keytab") {
			b.add(in.line, Error, "keytab", "", "a keytab in an image is a password that everybody has who has the image, and ends with the next rollover",
				"leave it out, and ask for the keys in the lease: --device gmsa.dev/credentialspec=NAME:keytab")
		}
	}
}

// volumes looks for a volume in the lease's place.
func (b *build) volumes(in instruction) {
	for _, w := range in.words() {
		if p := path.Clean(w); p == leasePath || p == configPath {
			b.add(in.line, Error, "mount", "", "a volume at "+p+" is in the way of the lease: the container does not start", "leave the volume out")
		}
	}
}

// command looks at what is run, when the image is built or when it starts.
func (b *build) command(in instruction) {
	text := in.commandLine()
	for _, m := range exported.FindAllStringSubmatch(text, -1) {
		if in.name != "RUN" { // what RUN exports ends with it
			b.variable(in.line, m[1], m[2])
		}
	}
	if in.name != "RUN" && kinit.MatchString(text) {
		b.add(in.line, Warning, "kinit", "", "kinit asks for a ticket with a password or keytab of the image; the lease has one, which the agent keeps fresh", "leave kinit out")
	}
	switch {
	case linkConfig.MatchString(text):
		b.add(in.line, Error, "krb5.conf", "", "a symbolic link at "+configPath+" is in the way of the lease: the container does not start", "leave the link out")
	case in.name == "RUN" && makeConfig.MatchString(text):
		b.add(in.line, Warning, "krb5.conf", "", "the image makes its own "+configPath+", which the lease's hides: what it says is not read",
			"leave it out: the lease has the realm, its controllers and the encryption types")
	}
}

// mount judges a mount of a Compose file or manifest.
func (c *checker) mount(line int, target string) {
	if p := path.Clean(target); p == leasePath || p == configPath {
		c.add(line, Error, "mount", "", "a mount at "+p+" is in the way of the lease: the container does not start", "leave the mount out")
	}
}
