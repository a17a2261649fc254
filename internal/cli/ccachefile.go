package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opengmsa/opengmsa/internal/kcm"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5/ccache"
)

// kerberosEnv is a variable that Kerberos knows. Where none is set in a container that has
// a lease, as for what docker exec starts, they are those of the lease.
func (a *app) kerberosEnv(name string) string {
	if v := a.env.Getenv(name); v != "" || a.env.Getenv("KRB5CCNAME")+a.env.Getenv("KRB5_CONFIG") != "" {
		return v
	}
	if _, err := os.Stat(filepath.Join(lease.MountPoint, lease.Krb5ConfName)); err != nil {
		return ""
	}
	for _, v := range lease.Env(lease.MountPoint) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// cacheName is the credential cache that a command works on: the option
// --ccache, else KRB5CCNAME, else MIT's default.
func (a *app) cacheName(option string) string {
	if option != "" {
		return option
	}
	if name := a.kerberosEnv("KRB5CCNAME"); name != "" {
		return name
	}
	return fmt.Sprintf("FILE:/tmp/krb5cc_%d", os.Getuid())
}

// cachePath is the file behind the name of a cache: TYPE:REST as MIT writes it,
// or a bare path.
func cachePath(name string) (string, error) {
	kind, rest, found := strings.Cut(name, ":")
	switch {
	case !found || strings.ContainsAny(kind, `/\`) || len(kind) == 1: // a path, perhaps C:\…
		return name, nil
	case kind == "FILE":
		return rest, nil
	case kind == "DIR" && strings.HasPrefix(rest, ":"):
		return rest[1:], nil
	case kind == "DIR":
		return primaryOf(rest)
	}
	return "", failure(Usage, fmt.Errorf("credential cache %s: kind %s is not one that gmsa reads", name, kind)).
		hint("name a file: KRB5CCNAME=FILE:/path or --ccache /path")
}

// primaryOf is the cache that a directory of caches is used as: the one that
// the file "primary" names, else tkt.
func primaryOf(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "primary"))
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Join(dir, "tkt"), nil
	}
	if err != nil {
		return "", fmt.Errorf("credential cache DIR:%s: %w", dir, err)
	}
	name := strings.TrimSpace(string(b))
	if !strings.HasPrefix(name, "tkt") || name != filepath.Base(name) {
		return "", fmt.Errorf("credential cache DIR:%s: its file primary does not name a cache", dir)
	}
	return filepath.Join(dir, name), nil
}

// openCache reads a cache and says where it was.
func (a *app) openCache(name string) (ccache.Cache, string, error) {
	if rest, ok := strings.CutPrefix(name, "KCM:"); ok {
		return a.managedCache(rest)
	}
	path, err := cachePath(name)
	if err != nil {
		return ccache.Cache{}, "", err
	}
	b, err := readLimited(path, ccache.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return ccache.Cache{}, path, failure(NotFound, fmt.Errorf("there is no credential cache at %s", path)).
			hint("run the command with an identity: gmsa run --account NAME -- gmsa klist").
			hint("or name a cache: --ccache FILE")
	}
	if err != nil {
		return ccache.Cache{}, path, fmt.Errorf("credential cache: %w", err)
	}
	c, err := ccache.Parse(b)
	if err != nil {
		return ccache.Cache{}, path, fmt.Errorf("%s: %w", path, err)
	}
	return c, path, nil
}

// managerSocket is where the host's cache manager listens: kcm_socket of a krb5.conf that
// KRB5_CONFIG names, or of the system's.
func (a *app) managerSocket() string {
	paths := orElse(a.kerberosEnv("KRB5_CONFIG"), "/etc/krb5.conf")
	for path := range strings.SplitSeq(paths, ":") {
		b, err := readLimited(path, maxKrb5Conf)
		if err != nil {
			continue
		}
		if socket := libDefault(string(b), "kcm_socket"); socket != "" {
			return socket
		}
	}
	return kcm.DefaultSocket
}

// dialManager connects to the host's cache manager.
func (a *app) dialManager() (*kcm.Client, error) {
	socket := a.managerSocket()
	c, err := kcm.Dial(context.Background(), socket) // which bounds itself
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure(NotFound, err).hint("no cache manager listens at %s: start sssd-kcm, or in a container mount its socket", socket)
	}
	return c, err
}

// managedCache reads a cache of the manager: the one of the name, or the user's default.
func (a *app) managedCache(name string) (ccache.Cache, string, error) {
	where := "KCM:" + name
	c, err := a.dialManager()
	if err != nil {
		return ccache.Cache{}, where, err
	}
	defer func() { _ = c.Close() }()
	if name == "" {
		if name, err = c.Default(); err != nil {
			return ccache.Cache{}, where, err
		}
		where = "KCM:" + name
	}
	b, err := c.Read(name)
	if errors.Is(err, kcm.ErrNotFound) {
		return ccache.Cache{}, where, failure(NotFound, fmt.Errorf("there is no credential cache %s", where)).
			hint("gmsa klist --all lists the caches that there are")
	}
	if err != nil {
		return ccache.Cache{}, where, err
	}
	parsed, err := ccache.Parse(b)
	if err != nil {
		return ccache.Cache{}, where, fmt.Errorf("%s: %w", where, err)
	}
	return parsed, where, nil
}

// cacheNames are the names of all caches of the collection that a name is one of: a
// manager's, or a directory's. Other names are those of themselves.
func (a *app) cacheNames(name string) ([]string, error) {
	kind, rest, _ := strings.Cut(name, ":")
	var names []string
	switch kind {
	case "KCM":
		c, err := a.dialManager()
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.Close() }()
		list, err := c.Names()
		for _, n := range list {
			names = append(names, "KCM:"+n)
		}
		return names, err
	case "DIR":
		dir := rest
		if file, isFile := strings.CutPrefix(rest, ":"); isFile {
			dir = filepath.Dir(file)
		}
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "tkt") {
				names = append(names, "DIR::"+filepath.Join(dir, e.Name()))
			}
		}
		return names, err
	}
	return []string{name}, nil
}

// readLimited reads a whole file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAllLimited(f, path, limit)
}
