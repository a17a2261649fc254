package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// installation is an account, or all accounts of a credential spec, that are
// kept ready without a lease.
type installation struct {
	Account string `json:"account,omitempty"`
	Spec    string `json:"credentialSpec,omitempty"`
}

// installed keeps installations across restarts, in a file of names.
type installed struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	list []kept
}

type kept struct {
	installation
	holds []hold // none for one that cannot be resolved now
}

// installedFile is the form of the file; later versions only add fields.
type installedFile struct {
	Version       int            `json:"version"`
	Installations []installation `json:"installations"`
}

// load reads the file and takes hold of what it names.
func (in *installed) load(open func(installation) ([]hold, error)) error {
	b, err := os.ReadFile(in.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("installed accounts: %w", err)
	}
	var f installedFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("installed accounts: %s: %w", in.path, err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, i := range f.Installations {
		holds, err := open(i)
		if err != nil {
			in.log.Error("an installed account cannot be kept ready", slog.String("account", i.Account), slog.String("spec", i.Spec), slog.Any("error", err))
		}
		in.list = append(in.list, kept{i, holds})
	}
	return nil
}

// reopen resolves all again, after the configuration or a spec has changed.
func (in *installed) reopen(open func(installation) ([]hold, error)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, k := range in.list {
		holds, err := open(k.installation)
		if err != nil {
			in.log.Error("an installed account cannot be kept ready", slog.String("account", k.Account), slog.String("spec", k.Spec), slog.Any("error", err))
			continue
		}
		in.list[i].holds = holds
		closeHolds(k.holds)
	}
}

// add owns the holds.
func (in *installed) add(i installation, holds []hold) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := append(slices.Clone(in.list), kept{i, holds})
	if n := slices.IndexFunc(in.list, func(k kept) bool { return k.installation == i }); n >= 0 {
		list = slices.Clone(in.list)
		list[n].holds = holds
	}
	if err := in.save(list); err != nil {
		closeHolds(holds)
		return err
	}
	for _, k := range in.list {
		if k.installation == i {
			closeHolds(k.holds)
		}
	}
	in.list = list
	return nil
}

// remove gives up an account, and the credential specs whose only account it is.
func (in *installed) remove(account lease.Account) (was bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var rest, gone []kept
	for _, k := range in.list {
		if len(k.holds) == 1 && strings.EqualFold(k.holds[0].account.Name, account.Name) && k.holds[0].account.Domain == account.Domain {
			gone = append(gone, k)
		} else {
			rest = append(rest, k)
		}
	}
	if len(gone) == 0 {
		return false, nil
	}
	if err := in.save(rest); err != nil {
		return false, err
	}
	for _, k := range gone {
		closeHolds(k.holds)
	}
	in.list = rest
	return true, nil
}

// save writes the file whole: it must survive a boot.
func (in *installed) save(list []kept) error {
	f := installedFile{Version: 1}
	for _, k := range list {
		f.Installations = append(f.Installations, k.installation)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(in.path), 0o755); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(in.path), ".installed-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(append(b, '\n'))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), in.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

// holds lists what is held.
func (in *installed) holds() []hold {
	in.mu.Lock()
	defer in.mu.Unlock()
	var all []hold
	for _, k := range in.list {
		all = append(all, k.holds...)
	}
	return all
}

// close gives everything up.
func (in *installed) close() { closeHolds(in.holds()) }

// hold resolves an installation and takes hold of its accounts.
func (a *Agent) hold(set *settings, i installation) ([]hold, error) {
	targets, err := a.installation(set, i)
	if err != nil {
		return nil, err
	}
	return a.book.open(targets, account.Profile{Lifetime: set.cfg.Tickets.Lifetime}, false, past{}), nil
}
