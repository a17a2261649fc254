package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The engines that are told apart.
var (
	withCDI     = Engine{CDI: true}
	withBoth    = Engine{CDI: true, Runtime: "gmsa"}
	withRuntime = Engine{Runtime: "gmsa"}
	byDefault   = Engine{Runtime: "gmsa", Default: true}
	windows     = Engine{Windows: true, Build: 20348}
	windows2016 = Engine{Windows: true, Build: 14393}
)

const specText = `{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":"webapp01","Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":"webapp01","Scope":"contoso.com"}]}}`

// translator has the credential spec contoso_webapp01 in a directory that stands as DIR
// in what tests expect.
func translator(t *testing.T, e Engine) Translator {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "contoso_webapp01.JSON"), specText)
	write(t, filepath.Join(dir, "contoso web.json"), strings.ReplaceAll(specText, "webapp01", "webapp03"))
	return Translator{
		Ask:       func(context.Context, []string) (Engine, error) { return e, nil },
		Specs:     Specs{Directories: []string{dir, "/nonexistent"}},
		Directory: dir, Getenv: func(string) string { return "" }, NetworkService: "1000:1000",
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const networkService = `NT AUTHORITY\NETWORK SERVICE`

func TestTranslate(t *testing.T) {
	const cred = "credentialspec=file://contoso_webapp01.json"
	device := []string{"--device", "gmsa.dev/credentialspec=contoso_webapp01"}
	volume := []string{"--mount", "type=bind,source=DIR/contoso_webapp01.JSON,target=/run/gmsa,readonly"}
	for name, c := range map[string]struct {
		engine Engine
		args   []string
		want   []string // nil: as it is
	}{
		"the guide's line": {withCDI, []string{"run", "--security-opt", cred, "--hostname", "webapp01", "-it", "image", "powershell"},
			slices.Concat([]string{"run", "--hostname", "webapp01", "-it"}, device, []string{"image", "powershell"})},
		"its second line": {withCDI, []string{"run", "--security-opt", cred, "--hostname", "webapp01", "--user", networkService, "-it", "image", "powershell"},
			slices.Concat([]string{"run", "--hostname", "webapp01", "--user", "1000:1000", "-it"}, device, []string{"image", "powershell"})},
		"before 25": {withRuntime, []string{"run", "--security-opt=" + cred, "image"},
			slices.Concat([]string{"run", "--runtime", "gmsa"}, volume, []string{"image"})},
		"with the default runtime": {byDefault, []string{"container", "create", "--security-opt=" + cred, "image"},
			slices.Concat([]string{"container", "create"}, volume, []string{"image"})},
		"one that restarts": {withBoth, []string{"run", "--restart", "always", "--security-opt=" + cred, "image"},
			slices.Concat([]string{"run", "--restart", "always", "--runtime", "gmsa"}, volume, []string{"image"})},
		"one that does not": {withBoth, []string{"run", "--restart=no", "--security-opt=" + cred, "image"},
			slices.Concat([]string{"run", "--restart=no"}, device, []string{"image"})},
		"any case of letters, others kept": {withCDI, []string{"-H", "unix:///s", "run", "--security-opt", "no-new-privileges", "--security-opt", "CredentialSpec=FILE://contoso_webapp01.JSON", "image"},
			slices.Concat([]string{"-H", "unix:///s", "run", "--security-opt", "no-new-privileges"}, device, []string{"image"})},
		"of two the last": {withCDI, []string{"run", "--security-opt", "credentialspec=registry://other", "--security-opt", cred, "image"},
			slices.Concat([]string{"run"}, device, []string{"image"})},
		"registry":                               {withCDI, []string{"run", "--security-opt", "credentialspec=registry://contoso_webapp01", "image"}, slices.Concat([]string{"run"}, device, []string{"image"})},
		"raw":                                    {withCDI, []string{"run", "--security-opt", "credentialspec=raw://" + strings.ReplaceAll(specText, "\n", " "), "image"}, slices.Concat([]string{"run"}, device, []string{"image"})},
		"a user alone":                           {withCDI, []string{"run", "-itu", networkService, "image"}, []string{"run", "-it", "--user", "1000:1000", "image"}},
		"SYSTEM":                                 {withCDI, []string{"run", `-uNT AUTHORITY\SYSTEM`, "image"}, []string{"run", "--user", "0", "image"}},
		"exec":                                   {withCDI, []string{"exec", "-it", "--user", networkService, "85d", "powershell"}, []string{"exec", "-it", "85d", "powershell"}},
		"behind the image it is the container's": {withCDI, []string{"run", "image", "--security-opt", cred}, nil},
		"behind -- too":                          {withCDI, []string{"run", "--", "image", "--security-opt", cred}, nil},
		"a value that looks like it":             {withCDI, []string{"run", "--name", "--security-opt=" + cred, "image"}, nil},
		"without such words":                     {withCDI, []string{"run", "--rm", "image"}, nil},
		"other commands":                         {withCDI, []string{"build", "--security-opt", cred, "."}, nil},
		"nothing":                                {withCDI, nil, nil},
		"a user of Linux":                        {withCDI, []string{"run", "--user", "1000", "image"}, nil},
		"for an engine on Windows all stays":     {windows, []string{"run", "--security-opt", cred, "-it", "image"}, nil},
		"on an old one the hostname is its own":  {windows2016, []string{"run", "--security-opt", cred, "-h", "WEBAPP01", "image"}, nil},
		"and its services":                       {windows, []string{"service", "create", "--credential-spec", "file://contoso_webapp01.json", "image"}, nil},
		"a service": {byDefault, []string{"service", "create", "--credential-spec", "file://contoso_webapp01.json", "--hostname", "WebApp01", "image", "sleep"},
			[]string{"service", "create", "--hostname", "WebApp01", "--mount", "type=bind,source=DIR/contoso_webapp01.JSON,target=/run/gmsa,readonly", "image", "sleep"}},
		"a service by a config": {byDefault, []string{"service", "create", "--credential-spec=config://contoso_webapp01", "image"},
			[]string{"service", "create", "--config", "source=contoso_webapp01,target=/run/gmsa/contoso_webapp01.json", "image"}},
		"a service gets another": {byDefault, []string{"service", "update", "web", "--credential-spec", "file://contoso_webapp01.json", "--force"},
			[]string{"service", "update", "web", "--force", "--mount-rm", "/run/gmsa", "--mount-add", "type=bind,source=DIR/contoso_webapp01.JSON,target=/run/gmsa,readonly"}},
		"a service loses it": {byDefault, []string{"service", "update", "--credential-spec", "", "web"}, []string{"service", "update", "web", "--mount-rm", "/run/gmsa"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := translator(t, c.engine)
			want := c.want
			if want == nil {
				want = c.args
			}
			p, err := tr.Translate(t.Context(), c.args)
			var got []string
			for _, a := range p.Args {
				got = append(got, strings.ReplaceAll(a, tr.Directory, "DIR"))
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%q, %v\nwant %q", got, err, want)
			}
		})
	}
}

// What is wrong is refused in the words of the engine or of the client.
func TestRefusals(t *testing.T) {
	run := func(opt string) []string { return []string{"run", "--security-opt", opt, "image"} }
	service := func(spec string) []string { return []string{"service", "create", "--credential-spec", spec, "image"} }
	const prefixes = "invalid credential spec security option - value must be prefixed by 'file://', 'registry://', or 'raw://' followed by a non-empty value"
	for name, c := range map[string]struct {
		engine Engine
		args   []string
		status int
		want   string
	}{
		"no scheme":                   {withCDI, run("credentialspec=x"), 125, prefixes},
		"no value":                    {withCDI, run("credentialspec=file://"), 125, prefixes},
		"a config of a swarm":         {withCDI, run("credentialspec=config://x"), 125, prefixes},
		"also on Windows":             {windows, run("credentialspec=x"), 125, prefixes},
		"an absolute path":            {withCDI, run("credentialspec=file:///etc/x.json"), 125, "path cannot be absolute"},
		"a path that leaves":          {withCDI, run("credentialspec=file://../x.json"), 125, "path must be under"},
		"a file that there is not":    {withCDI, run("credentialspec=file://nothing.json"), 125, "could not be read from file"},
		"nothing in the registry":     {withCDI, run("credentialspec=registry://nothing"), 125, `registry credential spec "nothing" for container was not found`},
		"raw that no file is":         {withCDI, run("credentialspec=raw://" + strings.ReplaceAll(specText, "webapp01", "webapp02")), 125, "no file in"},
		"raw that is no spec":         {withCDI, run("credentialspec=raw://{"), 125, "invalid JSON"},
		"an engine without means":     {Engine{}, run("credentialspec=file://contoso_webapp01.json"), 125, "without its identity"},
		"a service, no scheme":        {byDefault, service("x"), 1, `invalid argument "x" for "--credential-spec" flag`},
		"a service, raw":              {byDefault, service("raw://{}"), 1, "value must be prefixed with"},
		"a service by a config's id":  {byDefault, service("config://a/b"), 1, "invalid credential spec name"},
		"services without a default":  {withBoth, service("file://contoso_webapp01.json"), 1, "not this engine's default"},
		"the hostname of an old host": {windows2016, run("credentialspec=file://contoso_webapp01.json"), 125, "--hostname must be the name of the gMSA, webapp01"},
	} {
		p, err := translator(t, c.engine).Translate(t.Context(), c.args)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Status != c.status || !strings.Contains(e.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %d with %q", name, p.Args, err, c.status, c.want)
		}
	}
}

// An engine that does not answer is the client's to complain of, and the words are too.
func TestAnEngineThatDoesNotAnswer(t *testing.T) {
	tr := translator(t, Engine{})
	tr.Ask = func(context.Context, []string) (Engine, error) { return Engine{}, errors.New("no daemon") }
	args := []string{"run", "--security-opt", "credentialspec=file://contoso_webapp01.json", "image"}
	if p, err := tr.Translate(t.Context(), args); err != nil || !slices.Equal(p.Args, args) {
		t.Errorf("%v, %v", p.Args, err)
	}
}

func TestWarningOfAHostname(t *testing.T) {
	args := []string{"run", "--security-opt", "credentialspec=file://contoso_webapp01.json", "--hostname", "webapp01", "image"}
	if p, err := translator(t, windows).Translate(t.Context(), args); err != nil || len(p.Warnings) != 1 {
		t.Errorf("%v, %v", p.Warnings, err)
	}
}

const composeFile = `# the app
x-base: &base
  image: base # of all
services:
  web:
    <<: *base
    credential_spec:
      file: file://contoso_webapp01.json
    user: 'NT AUTHORITY\NETWORK SERVICE'
    deploy:
      resources:
        limits: {cpus: "1"}
  other:
    image: other
    security_opt: ["no-new-privileges:true", "credentialspec=file://contoso_webapp01.json"]
    restart: always
  plain:
    image: plain
`

func TestCompose(t *testing.T) {
	for name, c := range map[string]struct {
		engine Engine
		args   []string
		want   []string
		text   []string
	}{
		"devices": {withCDI, []string{"compose", "-p", "x", "up", "-d"}, []string{"compose", "-p", "x", "--project-directory", "DIR", "--file", "\x00compose-0.yaml", "up", "-d"},
			[]string{"driver: cdi\n", "- gmsa.dev/credentialspec=contoso_webapp01\n", `limits: {cpus: "1"}`, "user: 1000:1000\n", "# the app\n", "<<: *base\n", "image: base # of all\n", `security_opt: ["no-new-privileges:true"]`}},
		"the runtime": {withRuntime, []string{"compose", "--project-directory", "/d", "up"}, nil, nil},
		"the runtime, and the file": {withRuntime, []string{"compose", "--file", "compose.yml", "run", "web"}, []string{"compose", "--project-directory", "DIR", "--file", "\x00compose-0.yaml", "run", "web"},
			[]string{"runtime: gmsa\n", "- DIR/contoso_webapp01.JSON:/run/gmsa:ro\n"}},
		"one that restarts": {withBoth, []string{"compose", "up"}, []string{"compose", "--project-directory", "DIR", "--file", "\x00compose-0.yaml", "up"},
			[]string{"driver: cdi\n", "runtime: gmsa\n"}},
		"a command that makes nothing": {withCDI, []string{"compose", "logs"}, nil, nil},
		"Windows":                      {windows, []string{"compose", "up"}, nil, nil},
		"a stack": {byDefault, []string{"stack", "deploy", "--compose-file", "DIR/compose.yml", "name"}, []string{"stack", "deploy", "--compose-file", "\x00compose-0.yaml", "name"},
			[]string{"type: bind\n", "source: DIR/contoso_webapp01.JSON\n", "target: /run/gmsa\n", "read_only: true\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := translator(t, c.engine)
			write(t, filepath.Join(tr.Directory, "compose.yml"), composeFile)
			var args []string
			for _, a := range c.args {
				args = append(args, strings.ReplaceAll(a, "DIR", tr.Directory))
			}
			want := c.want
			if want == nil {
				want = args
			}
			p, err := tr.Translate(t.Context(), args)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(strings.Join(p.Args, " "), tr.Directory, "DIR"); got != strings.ReplaceAll(strings.Join(want, " "), tr.Directory, "DIR") {
				t.Errorf("%q, want %q", got, want)
			}
			if c.text == nil {
				if p.Files != nil {
					t.Errorf("files %v", p.Files)
				}
				return
			}
			text := strings.ReplaceAll(string(p.Files[0].Text), tr.Directory, "DIR")
			for _, part := range c.text {
				if !strings.Contains(text, part) {
					t.Errorf("no %q in:\n%s", part, text)
				}
			}
			for _, not := range []string{"credential_spec:", "credentialspec=file", "NT AUTHORITY"} {
				if strings.Contains(text, not) {
					t.Errorf("%q is left in:\n%s", not, text)
				}
			}
		})
	}
}

func TestComposeFilesThatAreWrong(t *testing.T) {
	for spec, want := range map[string]string{
		"{file: a.json, registry: b}":            `cannot specify both "File" and "Registry"`,
		"{config: c, file: a.json, registry: b}": `cannot specify both "Config", "File", and "Registry"`,
		"{config: c}":                            "must be prefixed by",
		"{file: nothing.json}":                   "could not be read from file",
	} {
		tr := translator(t, withCDI)
		write(t, filepath.Join(tr.Directory, "compose.yaml"), "services: {web: {image: x, credential_spec: "+spec+"}}")
		if _, err := tr.Translate(t.Context(), []string{"compose", "up"}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `service "web"`) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}

// docker info of Docker 20.10 and 26 on Linux, and of one on Windows, cut to what counts.
func TestWhatAnEngineIs(t *testing.T) {
	for text, want := range map[string]Engine{
		`{"OSType":"linux","Runtimes":{"runc":{"path":"runc"}},"DefaultRuntime":"runc","CDISpecDirs":null}`:                                                                                             {},
		`{"OSType":"linux","Runtimes":{"gmsa":{"path":"/usr/bin/gmsa","runtimeArgs":["oci-runtime","runc"]},"runc":{"path":"runc"}},"DefaultRuntime":"runc","CDISpecDirs":["/etc/cdi","/var/run/cdi"]}`: {CDI: true, Runtime: "gmsa"},
		`{"OSType":"linux","Runtimes":{"g":{"path":"/usr/bin/gmsa","runtimeArgs":["oci-runtime","--optional","runc"]},"runc":{"path":"runc"}},"DefaultRuntime":"g"}`:                                    {Runtime: "g", Default: true},
		`{"OSType":"windows","KernelVersion":"10.0 17763 (17763.1.amd64fre.rs5_release.180914-1434)","OSVersion":"1809"}`:                                                                               {Windows: true, Build: 17763},
		`{"OSType":"windows","KernelVersion":"10.0 20348 (20348.1.amd64fre.fe_release.210507-1500)","OSVersion":"10.0.20348.587"}`:                                                                      {Windows: true, Build: 20348},
	} {
		if got, err := parseInfo([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{`{"OSType":"","ServerErrors":["Cannot connect to the Docker daemon"]}`, `{}`, `x`} {
		if e, err := parseInfo([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, e)
		}
	}
}

func TestTheRealClient(t *testing.T) {
	dir := t.TempDir()
	program := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name, "docker")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(path)
	}
	shim, another := program("shim", string(Shim("/usr/bin/gmsa", "")), 0o755), program("another", string(Shim("/opt/it's/gmsa", "/x")), 0o755)
	self, file := program("self", "self", 0o755), program("file", "no program", 0o644)
	client := program("client", "#!/bin/sh\nexit 0\n", 0o755)
	link := filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(link, 0o755), os.Symlink(filepath.Join(self, "docker"), filepath.Join(link, "docker"))); err != nil {
		t.Fatal(err)
	}
	all := []string{".", "", shim, self, link, another, file, client}
	got, err := Client(strings.Join(all, string(os.PathListSeparator)), filepath.Join(self, "docker"))
	if err != nil || got != filepath.Join(client, "docker") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Client(strings.Join(all[:7], string(os.PathListSeparator)), filepath.Join(self, "docker")); !errors.Is(err, ErrNoClient) {
		t.Errorf("without the client: %v", err)
	}
}

func TestRemote(t *testing.T) {
	none := func(string) string { return "" }
	for line, want := range map[string]bool{
		"run x": false, "-H tcp://h:1 run x": true, "--host=ssh://h run": true, "-H unix:///s run": false, "run -H tcp://h": false,
	} {
		if got := Remote(strings.Fields(line), none); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if !Remote(nil, func(string) string { return "tcp://h:1" }) {
		t.Error("DOCKER_HOST")
	}
}
