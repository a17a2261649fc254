package account

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// Passwords keeps the stored keys of accounts for the directory. It needs no
// Directory, so that a Directory can be made with it; the zero value works.
type Passwords struct {
	// Rand gives random bytes; nil stands for crypto/rand.
	Rand io.Reader
}

var _ directory.Passwords = (*Passwords)(nil)

// maxPassword is the longest password in bytes of UTF-16LE: twice the 512 that [MS-SAMR]
// 2.2.6.21 has room for, a bound that neither LDAP nor kpasswd has.
const maxPassword = 1024

// win32InvalidPassword is ERROR_INVALID_PASSWORD of [MS-ERREF] 2.2: the old password of
// a change is not the present one.
const win32InvalidPassword directory.Win32 = 0x56

// Set gives an account a password: see [directory.Passwords].
func (p *Passwords) Set(w *directory.Writer, e *rows.Entry, n directory.NewPassword) error {
	known, err := findAttributes(w.Schema())
	if err != nil {
		return err
	}
	policy, err := readPolicy(&w.Reader, known)
	if err != nil {
		return err
	}
	old, err := readStored(&w.Reader, e.GUID)
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		return err
	}
	if n.Password.Len() > maxPassword {
		return restriction("Password too long, password must be at most %d characters long.", maxPassword/2)
	}
	text, err := managedpassword.UTF8(n.Password)
	if err != nil {
		return restriction("Password is not UTF-16.")
	}
	defer text.Destroy()
	o := owner{name: textOf(e, known), displayName: nameOf(e, known), uac: uacOf(e, known)}
	if n.Change {
		if err := checkChange(w, e, known, policy, old, n); err != nil {
			return err
		}
	}
	if isKrbtgtAccount(w.Domain(), e, known) {
		return p.RandomKeys(w, e)
	}
	if err := policy.check(o, text.Reveal(), n.Password.Len()/2); err != nil {
		return err
	}
	next, err := p.succeed(old, policy)
	if err != nil {
		return err
	}
	next.password = newVerifier(next.verify, text.Reveal())
	if n.Change && !trust(o.uac) && next.remembers(next.password, policy.History) {
		return restriction("Password is already in password history. New password must not match any of your %d previous passwords.", policy.History)
	}
	next.current.salt = saltOf(w.Domain().Realm(), o)
	if next.current.keys, err = passwordKeys(n.Password, text, next.current.salt, etypesOf(e, known)); err != nil {
		return err
	}
	return store(w, e, known, next)
}

// isKrbtgtAccount: a password for krbtgt is taken for the wish to have other keys. Whoever
// could choose it, or guess it, would make tickets for everybody; AD chooses itself too
// (AD Forest Recovery, "Reset the krbtgt password").
func isKrbtgtAccount(d directory.Domain, e *rows.Entry, known *attributes) bool {
	return text(e, known.objectSID) == string(d.SID.Child(dtyp.RIDKrbtgt).Bytes())
}

// RandomKeys gives an account random keys and no password: krbtgt's, and those of the
// controller itself.
func (p *Passwords) RandomKeys(w *directory.Writer, e *rows.Entry) error {
	known, err := findAttributes(w.Schema())
	if err != nil {
		return err
	}
	old, err := readStored(&w.Reader, e.GUID)
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		return err
	}
	next, err := p.succeed(old, DefaultPolicy())
	if err != nil {
		return err
	}
	next.current.salt = saltOf(w.Domain().Realm(), owner{name: textOf(e, known), uac: uacOf(e, known)})
	for _, t := range etypesOf(e, known) {
		key, err := crypto.Generate(t, p.rand(), crypto.AllowRC4)
		if err != nil {
			return fmt.Errorf("make random key: %w", err)
		}
		next.current.keys = append(next.current.keys, key)
	}
	return store(w, e, known, next)
}

// KVNO is the version of the stored keys: see [directory.Passwords].
func (p *Passwords) KVNO(r *directory.Reader, e *rows.Entry) (kvno uint32, ok bool, err error) {
	s, err := readStored(r, e.GUID)
	if errors.Is(err, rows.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return s.current.kvno, true, nil
}

func (p *Passwords) rand() io.Reader {
	if p.Rand == nil {
		return crand.Reader
	}
	return p.Rand
}

// succeed is the row that follows old, without its new keys: the present password
// becomes the previous one and enters the history. old is nil for an account that had
// none.
func (p *Passwords) succeed(old *stored, policy Policy) (*stored, error) {
	if old == nil {
		key := make([]byte, verifierKeySize)
		if _, err := io.ReadFull(p.rand(), key); err != nil {
			return nil, fmt.Errorf("make key of the verifiers: %w", err)
		}
		return &stored{verify: secret.New(key), current: generation{kvno: 1}}, nil
	}
	if old.current.kvno == math.MaxUint32 {
		return nil, errors.New("the account has had 2^32 passwords")
	}
	next := &stored{verify: old.verify, previous: old.current, current: generation{kvno: old.current.kvno + 1}}
	if len(old.password) > 0 {
		next.history = append(next.history, old.password)
	}
	next.history = append(next.history, old.history...)
	next.history = next.history[:min(len(next.history), policy.History)]
	return next, nil
}

// remembers reports whether one of the last n passwords is v.
func (s *stored) remembers(v verifier, n int) bool {
	found := false
	for _, h := range s.history[:min(n, len(s.history))] {
		found = h.equal(v) || found
	}
	return found
}

// checkChange judges a change by the account's owner: the old password, unless it was
// proven otherwise, and the age of it ([MS-SAMR] 3.1.1.7.1). One that must be changed
// can be changed at once.
func checkChange(w *directory.Writer, e *rows.Entry, known *attributes, policy Policy, s *stored, n directory.NewPassword) error {
	if !n.Proven {
		if err := checkOld(s, n.Old); err != nil {
			return err
		}
	}
	set := filetime(e, known.pwdLastSet)
	if !trust(uacOf(e, known)) && set != 0 && dtyp.FiletimeOf(w.Now()) < set.Add(policy.MinAge) {
		return restriction("Password is too young to change, it must be at least %s old.", inDays(policy.MinAge))
	}
	return nil
}

const day = 24 * time.Hour

// inDays is a duration as people are told it: policies count in days.
func inDays(d time.Duration) string {
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// checkOld compares the old password with the stored one.
func checkOld(s *stored, old secret.Bytes) error {
	wrong := directory.Errorf(directory.ConstraintViolation, win32InvalidPassword, "the old password is wrong")
	if s == nil {
		return wrong
	}
	text, err := managedpassword.UTF8(old)
	if err != nil {
		return wrong
	}
	defer text.Destroy()
	if !s.password.equal(newVerifier(s.verify, text.Reveal())) {
		return wrong
	}
	return nil
}

// store writes the row, and the time into the entry.
func store(w *directory.Writer, e *rows.Entry, known *attributes, s *stored) error {
	setNumber(e, known.pwdLastSet, int64(dtyp.FiletimeOf(w.Now())))
	return w.SetPrivate(e.GUID, PrivateKeys, secret.New(s.encode()))
}

// readStored reads the stored keys of an account. It fails with rows.ErrNotFound.
func readStored(r *directory.Reader, g dtyp.GUID) (*stored, error) {
	row, err := r.Private(g, PrivateKeys)
	if err != nil {
		return nil, err
	}
	defer row.Destroy()
	return parseStored(row)
}

// passwordKeys are the keys of a password.
func passwordKeys(password, utf8 secret.Bytes, salt string, etypes []crypto.EType) ([]*crypto.Key, error) {
	salted := make([]crypto.EType, 0, len(etypes))
	for _, t := range etypes {
		if t != crypto.RC4HMAC {
			salted = append(salted, t)
		}
	}
	keys, err := crypto.StringToKeys(salted, utf8.Reveal(), salt)
	if err != nil || len(salted) == len(etypes) {
		return keys, err
	}
	rc4, err := managedpassword.Key(crypto.RC4HMAC, password, "", crypto.AllowRC4)
	return append(keys, rc4), err
}

// etypesOf are the types that an account gets keys of, strongest first: those of AES
// with SHA-1, and others only where the account demands them, because keys of SHA-2
// take 10 ms to compute and one of RC4 is as good as the password.
func etypesOf(e *rows.Entry, known *attributes) []crypto.EType {
	n, _ := number(e, known.supportedTypes)
	return (adproto.EncryptionTypes(n) | adproto.EncDefaultAccounts).ETypes()
}

// saltOf is the salt of a password that is set now: [MS-KILE] 3.1.1.2.
func saltOf(realm string, o owner) string {
	if trust(o.uac) {
		return managedpassword.Salt(realm, o.name)
	}
	return realm + strings.TrimSuffix(o.name, "$")
}

func textOf(e *rows.Entry, known *attributes) string { return text(e, known.samAccountName) }

func nameOf(e *rows.Entry, known *attributes) string { return text(e, known.displayName) }

func uacOf(e *rows.Entry, known *attributes) adproto.UserAccountControl {
	n, _ := number(e, known.userAccountControl)
	return adproto.UserAccountControl(n)
}
