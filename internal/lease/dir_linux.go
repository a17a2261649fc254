package lease

import (
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is the directory of one lease:
//
//	ID/                the inode that a container has mounted: never replaced
//	  ccache      ->   ..data/ccache
//	  krb5.conf   ->   ..data/krb5.conf
//	  keytab      ->   ..data/keytab          where asked for
//	  client.keytab -> ..data/client.keytab   where asked for
//	  accounts    ->   ..data/accounts
//	  ..data      ->   ..7                    swapped by one rename
//	  ..7/             the seventh version
//	    ccache, krb5.conf, keytab, client.keytab
//	    accounts/webapp01 -> ..               the primary account
//	    accounts/webapp02/ccache …            any other
//
// The directories belong to the agent, so that no owner of a lease can put
// anything in the agent's way; the files belong to the lease's owner, who gets
// each only when it is complete.
// Files are not shared between leases by hard links, not even krb5.conf: the
// inode's owner could change its mode and then its content for everybody else.
//
// A killed agent leaves a version that nothing points to; [Root.Open] removes
// it. A Dir is for one goroutine at a time.
type Dir struct {
	root  *Root
	id    ID
	owner Owner

	version int      // of the directory ..data points to; 0 before the first
	primary string   // the account whose directory is a link to the version's
	names   []string // of the files in that version, sorted; nil if unknown
	sums    []uint64 // of their contents, under root.seed
	stale   []int    // versions to remove
}

const dataLink = "..data"

func versionName(v int) string { return ".." + strconv.Itoa(v) }

// Path is the directory's path on the host.
func (d *Dir) Path() string { return path.Join(d.root.dir.path, d.id.String()) }

// Write makes c what the directory shows. Either all files change or, with an
// error such as ENOSPC or EROFS, none does. What has not changed is not written
// again; one changed file is replaced by a rename in the version in force,
// several come as a new version. The version before stays until [Dir.Reap], for
// readers that are on their way through it, unless its room is needed.
func (d *Dir) Write(c Content) error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("lease %s: %w", d.id, err)
	}
	files := c.files()
	names, sums := d.digest(files)
	var err error
	switch changed := d.changed(files, names, sums); {
	case len(changed) == 0:
		return nil
	case len(changed) == 1 && slices.Equal(names, d.names):
		err = d.replace(changed[0])
	default:
		err = d.swap(c, files, sums)
		if errors.Is(err, unix.ENOSPC) && len(d.stale) > 0 && d.Reap() == nil {
			err = d.swap(c, files, sums)
		}
	}
	if err != nil {
		return fmt.Errorf("lease %s: %w", d.id, err)
	}
	d.primary, d.names, d.sums = c.Accounts[0].Name, names, sums
	return nil
}

func (d *Dir) digest(files []file) (names []string, sums []uint64) {
	names, sums = make([]string, len(files)), make([]uint64, len(files))
	for i, f := range files {
		names[i], sums[i] = f.name, maphash.Bytes(d.root.seed, f.data)
	}
	return names, sums
}

// changed lists the files that the directory does not show as they are; all of
// them if other names are shown.
func (d *Dir) changed(files []file, names []string, sums []uint64) []file {
	if !slices.Equal(names, d.names) {
		return files
	}
	var list []file
	for i := range files {
		if sums[i] != d.sums[i] {
			list = append(list, files[i])
		}
	}
	return list
}

// replace puts f in the place of the file of its name, in the version in force.
// The path is walked from the root's descriptor at once: all directories on it are
// the agent's, so that nobody can have put a link there. This is what a renewed
// ticket costs, and opening them one by one is a quarter of it.
func (d *Dir) replace(f file) error {
	name := d.id.String() + "/" + versionName(d.version) + "/" + f.name
	temporary := path.Dir(name) + "/..new"
	err := d.root.dir.create(temporary, f.data, d.owner)
	if err == nil {
		err = d.root.dir.rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, d.root.dir.remove(temporary))
	}
	return nil
}

// swap writes the next version and turns ..data to it.
func (d *Dir) swap(c Content, files []file, sums []uint64) error {
	dir, err := d.open(d.root.dir, d.id.String())
	if err != nil {
		return err
	}
	defer dir.close()
	next := d.version + 1
	const temporary = "..data_new"
	err = d.fill(dir, next, c, files, sums)
	if err == nil {
		err = d.link(dir, files)
	}
	switch {
	case err != nil:
	case d.version == 0: // nobody knows the directory yet
		err = dir.symlink(versionName(next), dataLink)
	default:
		if err = dir.symlink(versionName(next), temporary); err == nil {
			err = dir.rename(temporary, dataLink)
		}
	}
	if err != nil {
		return errors.Join(err, dir.remove(temporary), dir.removeAll(versionName(next), maxDepth))
	}
	if d.version > 0 {
		d.stale = append(d.stale, d.version)
	}
	d.version = next
	return nil
}

// open opens a directory below parent. In a lease that is being made it need not
// be opened.
func (d *Dir) open(parent dirFD, name string) (dirFD, error) {
	if d.version == 0 {
		return parent.below(name), nil
	}
	return parent.openDir(name)
}

// fill writes version v into dir. A file that has not changed is a second name
// of the one in force, which costs no memory.
func (d *Dir) fill(dir dirFD, v int, c Content, files []file, sums []uint64) error {
	if err := dir.mkdir(versionName(v)); err != nil {
		return err
	}
	version, err := d.open(dir, versionName(v))
	if err != nil {
		return err
	}
	defer version.close()
	if err := version.mkdir(AccountsDir); err != nil {
		return err
	}
	for i, a := range c.Accounts {
		if i == 0 {
			err = version.symlink("..", AccountsDir+"/"+a.Name)
		} else {
			err = version.mkdir(AccountsDir + "/" + a.Name)
		}
		if err != nil {
			return err
		}
	}
	for i, f := range files {
		if old, ok := slices.BinarySearch(d.names, f.name); ok && d.sums[old] == sums[i] {
			if dir.link(versionName(d.version)+"/"+f.name, versionName(v)+"/"+f.name) == nil {
				continue
			}
		}
		if err := version.create(f.name, f.data, d.owner); err != nil {
			return err
		}
	}
	return nil
}

// link makes the links at the top that the files need. They hang in the air
// until ..data is turned.
func (d *Dir) link(dir dirFD, files []file) error {
	top := []string{AccountsDir}
	for _, f := range files {
		if !strings.Contains(f.name, "/") {
			top = append(top, f.name)
		}
	}
	for _, name := range top {
		if _, ok := slices.BinarySearch(d.names, name); ok || name == AccountsDir && d.names != nil {
			continue
		}
		if err := dir.symlink(dataLink+"/"+name, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// Remove removes the directory. It removes what it knows to be there, which is
// cheaper than to look, and looks only if that was not all.
func (d *Dir) Remove() error {
	if err := d.removeKnown(); err == nil {
		return nil
	}
	return d.root.Remove(d.id)
}

func (d *Dir) removeKnown() error {
	dir, err := d.root.dir.openDir(d.id.String())
	if err != nil {
		return err
	}
	defer dir.close()
	version, err := dir.openDir(versionName(d.version))
	if err != nil {
		return err
	}
	defer version.close()
	for _, name := range d.names {
		if err := version.remove(name); err != nil {
			return err
		}
		if !strings.Contains(name, "/") {
			if err := dir.remove(name); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(version.remove(AccountsDir+"/"+d.primary), dir.remove(AccountsDir), dir.remove(dataLink)); err != nil {
		return err
	}
	// From here on any other account or version stands in the way.
	if err := version.removeDir(AccountsDir); err != nil {
		return err
	}
	if err := dir.removeDir(versionName(d.version)); err != nil {
		return err
	}
	return d.root.dir.removeDir(d.id.String())
}

// Reap removes the versions that are no longer in force. A reader that looked
// up ..data before the last [Dir.Write] may still be opening files of the one
// before: call it a moment later.
func (d *Dir) Reap() error {
	for len(d.stale) > 0 {
		dir, err := d.root.dir.openDir(d.id.String())
		if err != nil {
			return fmt.Errorf("lease %s: remove an old version: %w", d.id, err)
		}
		err = dir.removeAll(versionName(d.stale[0]), maxDepth)
		dir.close()
		if err != nil {
			return fmt.Errorf("lease %s: remove an old version: %w", d.id, err)
		}
		d.stale = d.stale[1:]
	}
	return nil
}

// recover finds the version in force after a restart and removes all others,
// and what a killed [Dir.replace] left in this one.
func (d *Dir) recover() error {
	dir, err := d.root.dir.openDir(d.id.String())
	if err != nil {
		return err
	}
	defer dir.close()
	if d.version, err = currentVersion(dir); err != nil {
		return err
	}
	target := versionName(d.version)
	return errors.Join(removeHidden(dir, dataLink, target), removeUnfinished(dir, target))
}

// currentVersion reads which version is in force.
func currentVersion(dir dirFD) (int, error) {
	target, err := dir.readlink(dataLink)
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(strings.TrimPrefix(target, ".."))
	if err != nil || v <= 0 || versionName(v) != target {
		return 0, fmt.Errorf("%s points to %q", dataLink, target)
	}
	return v, nil
}

// removeHidden removes what begins with two dots, but not what keep names.
func removeHidden(dir dirFD, keep ...string) error {
	names, err := dir.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "..") && !slices.Contains(keep, name) {
			if err := dir.removeAll(name, maxDepth); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeUnfinished removes unfinished files from a version's directories.
func removeUnfinished(dir dirFD, version string) error {
	top, err := dir.openDir(version)
	if err != nil {
		return err
	}
	defer top.close()
	if err := removeHidden(top); err != nil {
		return err
	}
	accounts, err := top.openDir(AccountsDir)
	if err != nil {
		return err
	}
	defer accounts.close()
	names, err := accounts.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		sub, err := accounts.openDir(name)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // the primary account's link
		}
		if err != nil {
			return err
		}
		err = removeHidden(sub)
		sub.close()
		if err != nil {
			return err
		}
	}
	return nil
}
