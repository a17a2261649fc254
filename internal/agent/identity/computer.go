package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

const (
	// computerPasswordAge is when the password of a computer, or of a standalone
	// account, is changed: 30 days, the default of Windows' "Maximum machine account password age".
	computerPasswordAge = 30 * 24 * time.Hour
	// checkInterval is how often the ages are looked at.
	checkInterval = time.Hour
)

// otherKeepers are files that are there while a program runs which changes the
// computer's password itself: sssd (through adcli), winbind, and msktutil's job.
var otherKeepers = []string{"/run/sssd.pid", "/run/samba/winbindd.pid", "/etc/cron.daily/msktutil"}

// Run implements agent.Identities: it keeps the computer's password current in
// the domains where that is the agent's to do, and closes the sessions at the
// end.
func (s *Set) Run(ctx context.Context) error {
	defer s.closeSessions()
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		s.keepPasswords(ctx)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// closeSessions ends the connections of all identities.
func (s *Set) closeSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.forget()
	}
}

// keepPasswords looks at every computer account once.
func (s *Set) keepPasswords(ctx context.Context) {
	for _, k := range s.keepers() {
		changed, err := k.keep(ctx, s.opt.Now())
		switch {
		case err != nil:
			s.opt.Log.Warn("computer password not kept", "keytab", k.source.path, "error", err)
		case changed:
			s.opt.Log.Info("computer password changed", "keytab", k.source.path, "account", k.source.principal())
		}
	}
}

// keepers are the identities whose password is the agent's to change.
func (s *Set) keepers() []keeper {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []keeper
	for key, m := range s.members {
		src, ok := m.source.(*keytabSource)
		h := s.cfg.Domains[key.domain].Host
		if ok && h != nil && ours(h.RotatePassword, otherKeepers) {
			list = append(list, keeper{member: m, source: src})
		}
	}
	return list
}

// ours reports whether the agent changes the password under the setting.
func ours(setting string, others []string) bool {
	switch setting {
	case config.RotateAlways:
		return true
	case config.RotateNever:
		return false
	}
	return !slices.ContainsFunc(others, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// keeper changes one computer account's password and its keytab with it.
//
// The new keys go into the keytab before the domain hears of them, and the old
// ones stay behind them. Whatever happens between, and whenever the process or
// the host dies, one of the two is the password in force, and the keytab's
// reader tries both.
type keeper struct {
	member *member
	source *keytabSource
}

// keep changes the password if it is old enough.
func (k keeper) keep(ctx context.Context, now time.Time) (changed bool, err error) {
	kt, err := k.source.read()
	if err != nil {
		return false, err
	}
	client, versions, err := k.source.choose(kt)
	if err != nil {
		return false, err
	}
	name, err := adproto.ParseAccountName(client.Name.Components[0])
	if err != nil {
		return false, err
	}
	var self ad.Account
	err = k.member.with(ctx, false, func(s *ad.Session) (err error) {
		self, err = s.FindService(ctx, name)
		return err
	})
	if err != nil {
		return false, err
	}
	if self.Kind != ad.KindComputer || self.PasswordSet.IsZero() || now.Sub(self.PasswordSet) < computerPasswordAge {
		return false, nil
	}
	return k.change(ctx, kt, client, versions, self.KVNO)
}

// change makes a password, writes its keys, and tells the domain.
func (k keeper) change(ctx context.Context, kt keytab.Keytab, client krb5.Principal, versions []version, kvno uint32) (bool, error) {
	password, err := ad.RandomPassword(rand.Reader)
	if err != nil {
		return false, err
	}
	defer password.Destroy()

	next, err := withVersion(kt, client, versions[0], max(kvno, versions[0].kvno)+1, password, k.member.opt.Now())
	if err != nil {
		return false, err
	}
	before, err := os.ReadFile(k.source.path)
	if err != nil {
		return false, err
	}
	if err := replaceKeytab(k.source.path, next); err != nil {
		return false, err
	}
	err = k.member.with(ctx, false, func(s *ad.Session) error { return s.ChangePassword(ctx, password) })
	switch {
	case errors.Is(err, kclient.ErrIndeterminate):
		// Both passwords are in the keytab, and the reader finds out which holds.
		return false, err
	case err != nil:
		return false, errors.Join(err, replaceKeytab(k.source.path, before))
	}
	k.member.forget()
	return true, nil
}

// withVersion is the keytab with new keys for every principal that has the
// account's: the computer's own name and its service names share one password.
// Of the old versions the newest stays.
func withVersion(kt keytab.Keytab, client krb5.Principal, old version, kvno uint32, password secret.Bytes, now time.Time) ([]byte, error) {
	salt := managedpassword.Salt(client.Realm, client.Name.Components[0])
	fresh := map[crypto.EType]*crypto.Key{}
	for _, key := range old.keys {
		made, err := crypto.StringToKey(key.EType(), password.Reveal(), salt, nil)
		if err != nil {
			return nil, err
		}
		fresh[key.EType()] = made
	}
	kept := make([]keytab.Entry, 0, 2*len(kt.Entries))
	for _, e := range kt.Entries {
		same := e.Key != nil && fresh[e.Key.EType()] != nil && slices.ContainsFunc(old.keys, e.Key.Equal)
		if same {
			n := e
			n.KVNO, n.Key, n.Timestamp = kvno, fresh[e.Key.EType()], now
			kept = append(kept, n)
		}
		// An older version of the same principal is of no use to anybody.
		if e.Principal.Equal(client) && e.KVNO < old.kvno {
			continue
		}
		kept = append(kept, e)
	}
	kt.Entries = kept
	return kt.Append(nil)
}

// replaceKeytab writes the file anew with the owner and mode of the old one: all
// of it or nothing.
func replaceKeytab(path string, content []byte) error {
	defer clear(content)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("keytab: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keytab-*")
	if err != nil {
		return fmt.Errorf("keytab: %w", err)
	}
	defer os.Remove(f.Name()) // Fails after the rename, as it should.
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(info.Mode().Perm()), chown(f, info), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keytab: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// forget drops the session, whose credentials have just been replaced.
func (m *member) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session != nil {
		_ = m.session.Close()
		m.session = nil
	}
}
