package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// standaloneGrace is how long after its hour a standalone account's password may still
// be the old one: the pool reads an account once an hour, and the reading that finds
// the password too old changes it.
const standaloneGrace = 2 * time.Hour

// standaloneStore keeps the passwords of standalone accounts, as the host's keytab does
// its own: in files of root's that survive a boot, since the domain gives a lost
// password to nobody. Each is an MSDS-MANAGEDPASSWORD_BLOB.
//
// A change has two files. The next password is written beside the one in force before
// the domain hears of it, and takes its place when the domain has taken it. Whenever
// the process or the host dies, one of the two is in force, and [member.settle] finds
// out which.
type standaloneStore struct{ dir string }

// file is where an account's password lies. The account's name is a caller's, and so
// no part of the path.
func (s standaloneStore) file(realm, name string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(realm + "\x00" + name)))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16]))
}

// nextOf is the file of the password that is to follow.
func nextOf(file string) string { return file + ".next" }

func readBlob(file string) (managedpassword.Blob, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return managedpassword.Blob{}, err
	}
	defer clear(b)
	blob, err := managedpassword.Parse(b)
	if err != nil {
		return managedpassword.Blob{}, fmt.Errorf("%s: %w", file, err)
	}
	return blob, nil
}

// writeBlob writes the file whole or not at all.
func (s standaloneStore) writeBlob(file string, blob managedpassword.Blob) error {
	content := blob.Append(nil)
	defer clear(content)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, ".password-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // Fails after the rename, as it should.
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

var _ agent.StandaloneKeeper = (*member)(nil)

// Adopt implements agent.StandaloneKeeper.
func (m *member) Adopt(ctx context.Context, name string, password secret.Bytes) error {
	parsed, err := adproto.ParseAccountName(name)
	if err != nil {
		return explain(err, "")
	}
	if password.Len() != managedpassword.PasswordSize {
		return explain(fmt.Errorf("password of %d bytes, want %d", password.Len(), managedpassword.PasswordSize), "")
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	err = m.with(ctx, false, func(s *ad.Session) error {
		self, err := standalone(ctx, s, parsed)
		if err != nil {
			return err
		}
		return s.LogOn(ctx, self, password)
	})
	if err != nil {
		return explain(err, "")
	}
	file := m.standalone.file(m.domain.Realm(), name)
	if err := m.standalone.writeBlob(file, managedpassword.Blob{Current: password}); err != nil {
		return explain(fmt.Errorf("keep the password: %w", err), "")
	}
	return removeFile(nextOf(file))
}

// Abandon implements agent.StandaloneKeeper.
func (m *member) Abandon(name string) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	file := m.standalone.file(m.domain.Realm(), name)
	return errors.Join(removeFile(nextOf(file)), removeFile(file))
}

func removeFile(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// standalone is the account if it is a standalone one of this host.
func standalone(ctx context.Context, s *ad.Session, name adproto.AccountName) (ad.Account, error) {
	self, err := s.FindService(ctx, name)
	if err != nil {
		return ad.Account{}, err
	}
	if self.Kind != ad.KindSMSA {
		return ad.Account{}, fmt.Errorf("%s: %w", self.DN, ad.ErrNotGMSA)
	}
	u, err := s.Usable(ctx, self.DN)
	switch {
	case err != nil:
		return ad.Account{}, err
	case !u.OK:
		return ad.Account{}, &account.Error{Reason: account.ErrNotLinked, Err: fmt.Errorf("%s: %w", self.Name, u.Reason)}
	}
	return self, nil
}

// readStandalone is ReadPassword for an account whose password this host keeps. When
// the password is old enough it is changed first, as a controller does with a gMSA's.
func (m *member) readStandalone(ctx context.Context, name string, parsed adproto.AccountName) (account.Reading, error) {
	m.changing.Lock()
	defer m.changing.Unlock()
	var r account.Reading
	err := m.with(ctx, false, func(s *ad.Session) error {
		self, err := standalone(ctx, s, parsed)
		if err != nil {
			return err
		}
		file := m.standalone.file(m.domain.Realm(), name)
		if err := m.settle(ctx, s, self, file); err != nil {
			return err
		}
		blob, err := readBlob(file)
		if errors.Is(err, fs.ErrNotExist) {
			return &account.Error{Reason: account.ErrNotInstalled}
		}
		if err != nil {
			return err
		}
		if now := m.opt.Now(); now.Sub(self.PasswordSet) >= computerPasswordAge {
			if self, blob, err = m.changeStandalone(ctx, s, self, blob, file); err != nil {
				return err
			}
		}
		left := self.PasswordSet.Add(computerPasswordAge).Sub(m.opt.Now())
		blob.QueryInterval = max(left, 0) + standaloneGrace
		blob.UnchangedInterval = blob.QueryInterval
		r = account.Reading{
			Blob: blob, KVNO: self.KVNO, Name: self.Name, SID: self.SID, DNSHostName: self.DNSHostName,
			SPNs: self.SPNs, EncTypes: uint32(self.EncTypes),
		}
		return nil
	})
	return r, err
}

// settle ends a change that was cut off: the domain says which password is in force.
func (m *member) settle(ctx context.Context, s *ad.Session, self ad.Account, file string) error {
	next, err := readBlob(nextOf(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer next.Destroy()
	err = s.LogOn(ctx, self, next.Current)
	switch {
	case err == nil:
		return os.Rename(nextOf(file), file)
	case errors.Is(err, kclient.ErrWrongKey):
		return removeFile(nextOf(file))
	}
	return err
}

// changeStandalone changes the password. If the domain does not take the next one, the
// old one stays, and serves; the next reading tries again.
func (m *member) changeStandalone(ctx context.Context, s *ad.Session, self ad.Account, old managedpassword.Blob, file string) (ad.Account, managedpassword.Blob, error) {
	text, err := ad.RandomPassword(rand.Reader)
	if err != nil {
		return self, old, err
	}
	defer text.Destroy()
	password, err := managedpassword.UTF16(text)
	if err != nil {
		return self, old, err
	}
	next := managedpassword.Blob{Current: password, Previous: old.Current}
	if err := m.standalone.writeBlob(nextOf(file), next); err != nil {
		return self, old, fmt.Errorf("keep the next password: %w", err)
	}
	err = s.ChangeStandalonePassword(ctx, self, old.Current, password)
	if errors.Is(err, kclient.ErrIndeterminate) {
		return self, old, err // the next reading settles it
	}
	if err != nil {
		m.opt.Log.Warn("password of a standalone account not changed", slog.String("account", self.Name), slog.Any("error", err))
		password.Destroy()
		return self, old, removeFile(nextOf(file))
	}
	if err := os.Rename(nextOf(file), file); err != nil {
		return self, old, err
	}
	old.Previous.Destroy()
	m.opt.Log.Info("password of a standalone account changed", slog.String("account", self.Name))
	parsed, err := adproto.ParseAccountName(self.DN)
	if err != nil {
		return self, next, err
	}
	self, err = s.FindService(ctx, parsed)
	return self, next, err
}
