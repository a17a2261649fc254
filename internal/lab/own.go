package lab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The programs of this project that the lab starts. It knows them as any other peer: by
// their commands and by what they answer.
const (
	ownProgram     = "github.com/opengmsa/opengmsa/cmd/gmsa"
	hookProgram    = "github.com/opengmsa/opengmsa/cmd/gmsa-hook"
	clockedProgram = "github.com/opengmsa/opengmsa/internal/lab/clocked"
)

// Program is the path of gmsa, built for the tests of this process.
func Program(t testing.TB) string { return mustBuild(t, ownProgram) }

// BuildHook is the path of gmsa-hook as it is shipped, in a directory to which root alone
// writes and all come.
func BuildHook(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gmsa-hook-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "gmsa-hook")
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(path, mustBuild(t, hookProgram), 0o755)); err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

func mustBuild(t testing.TB, pkg string) string {
	t.Helper()
	Need(t, "go")
	path, err := built(pkg)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

// OwnProgram is the path of gmsa with this controller's clock, and its environment.
func (d *DC) OwnProgram(t testing.TB) (path string, env []string) {
	t.Helper()
	if d.clock == "" {
		return Program(t), nil
	}
	return mustBuild(t, clockedProgram), []string{"CLOCK=" + d.clock}
}

// OwnConfig says what kind of controller of our own a test needs. The zero value is the
// shared one.
type OwnConfig struct {
	// Private gives the test a domain of its own. Clock implies it.
	Private bool
	// Clock lets the test move the controller's clock, see [DC.SetClock].
	Clock bool
}

// Own gives the test the domain contoso.com on a controller of our own, gmsa dc serve, on
// the standard ports of an address of its own. It is used as the one of [Samba] is, so that
// a test can run on both, but its domain's identifiers are its own, and of accounts it
// has web1$, web2$ and evil1$, WebHosts, webapp01, webapp02 and smsa01.
//
// The database tools of Samba change and search it over LDAPS, as Administrator.
func Own(t testing.TB, cfg OwnConfig) *DC {
	t.Helper()
	Need(t, "root", "go", "ldbmodify", "ldbsearch", "kinit")
	program := ownProgram
	if cfg.Clock {
		Need(t, "libfaketime") // for programs beside the controller
		program = clockedProgram
	}
	open := func() (*DC, error) { return openOwn(SambaConfig{Private: true, Clock: cfg.Clock}, program) }
	var dc *DC
	var err error
	if cfg.Private || cfg.Clock {
		dc, err = open()
	} else {
		sharedOwn.once.Do(func() { sharedOwn.dc, sharedOwn.err = open() })
		dc, err = sharedOwn.dc, sharedOwn.err
	}
	if err != nil {
		t.Fatalf("lab: start gmsa dc serve: %v", err)
	}
	if dc != sharedOwn.dc {
		dc.closeAfter(t)
	}
	return dc
}

// sharedOwn is to Own what shared is to Samba.
var sharedOwn sharedDC

func openOwn(cfg SambaConfig, program string) (*DC, error) {
	d, err := newDC(cfg, Realm, "dc1")
	if err != nil {
		return nil, err
	}
	if err := d.makeOwn(program); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// makeOwn makes the domain and starts its controller.
func (d *DC) makeOwn(program string) (err error) {
	if d.own, err = built(program); err != nil {
		return err
	}
	d.CAFile, d.KRB5Config = d.ownData()+"/ca.pem", d.ownData()+"/krb5.conf"
	if d.cfg.Clock {
		if err := d.makeClock(); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf("[global]\nrealm = %s\nworkgroup = %s\ntls cafile = %s\ntls verify peer = ca_only\n", d.Realm, NetBIOSDomain, d.CAFile)
	password := d.Dir + "/password"
	if err := errors.Join(os.WriteFile(d.ownConf(), []byte(conf), 0o600), os.WriteFile(password, []byte(AdminPassword+"\n"), 0o600)); err != nil {
		return err
	}
	if _, err := run(d.ownEnv(), "", d.own, "dc", "init", "--domain", d.DNSDomain, "--data", d.ownData(), "--admin-password-file", password); err != nil {
		return err
	}
	if err := d.start(); err != nil {
		return err
	}
	return d.seedOwn()
}

func (d *DC) ownData() string { return d.Dir + "/data" }
func (d *DC) ownConf() string { return d.Dir + "/smb.conf" }

func (d *DC) ownEnv() []string {
	if d.clock == "" {
		return nil
	}
	return []string{"CLOCK=" + d.clock}
}

// ownServe is the command of a controller of our own.
func (d *DC) ownServe() []string {
	return []string{d.own, "dc", "serve", "--data", d.ownData(), "--listen", d.IP.String()}
}

// ownDatabase are the arguments with which the database tools reach it.
func (d *DC) ownDatabase() []string {
	return []string{"-H", "ldaps://" + d.IP.String(), "--simple-bind-dn=" + Administrator + "@" + d.DNSDomain, "--password=" + AdminPassword}
}

// seedOwn makes the accounts that a domain of Samba's has from its snapshot.
func (d *DC) seedOwn() error {
	var hosts strings.Builder
	for _, host := range []string{"web1", "web2", "evil1"} {
		hosts.WriteString(d.computerRecord(host) + "\n")
	}
	hosts.WriteString(d.groupRecord("WebHosts", GlobalGroup) + "member: CN=web1,CN=Computers," + d.BaseDN + "\n")
	if err := d.modify(hosts.String()); err != nil {
		return err
	}
	sids := map[string]string{}
	for _, reader := range []string{"WebHosts", "web2$"} {
		found, err := ldbSearch(d.database(), d.smbConf(), d.BaseDN, "(sAMAccountName="+reader+")", "objectSid")
		if err != nil || len(found) != 1 {
			return errors.Join(err, fmt.Errorf("%d accounts called %s", len(found), reader))
		}
		sids[reader] = found[0].Value("objectSid")
	}
	accounts := d.gmsaRecord(GMSA{Name: "webapp01", Interval: 30, SPNs: []string{"http/webapp01.contoso.com", "http/webapp01"}}, sids["WebHosts"], sids["web2$"]) +
		"\n" + d.gmsaRecord(GMSA{Name: "webapp02", Interval: 1}, sids["WebHosts"]) +
		"\ndn: CN=smsa01,CN=Managed Service Accounts," + d.BaseDN + "\nobjectClass: msDS-ManagedServiceAccount\nsAMAccountName: smsa01$\nuserAccountControl: 4096\n"
	return d.modify(accounts)
}

// Gmsa builds the program as it is shipped, for tests that run it, and gives its path.
func Gmsa(t testing.TB) string {
	t.Helper()
	Need(t, "go")
	path, err := built(ownProgram)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// programs are those that were built for the tests of this process, by import path.
var programs sync.Map

// built is the path of a program of this project, which each process builds once, with the
// cache of go build. It stays in the lab's cache, where each work tree has its own.
func built(pkg string) (string, error) {
	build, _ := programs.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		cache, err := cacheDir()
		if err != nil {
			return "", err
		}
		tree, err := exec.Command(find("go"), "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			return "", fmt.Errorf("go list: %w", err)
		}
		path := filepath.Join(cache, fmt.Sprintf("%s-%.6x", filepath.Base(pkg), sha256.Sum256(tree)))
		lock, err := lockFile(path+".lock", true)
		if err != nil {
			return "", err
		}
		defer lock.Close()
		// One that runs may not be written to, but it may be replaced.
		unfinished := path + ".new"
		cmd := exec.Command(find("go"), "build", "-o", unfinished, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are shipped, for containers too
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		return path, os.Rename(unfinished, path)
	}))
	return build.(func() (string, error))()
}
