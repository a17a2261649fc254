package account

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// Policy is the domain's policy for passwords and lockout, as the head of the domain
// has it: [MS-SAMR] 3.1.1.5.
type Policy struct {
	MinLength  int // UTF-16 units: minPwdLength
	History    int // how many old passwords may not come back: pwdHistoryLength
	Properties PasswordProperties
	MinAge     time.Duration // before a change: minPwdAge
	MaxAge     time.Duration // 0: passwords do not expire: maxPwdAge
	// LockoutThreshold is how many wrong passwords lock an account, 0 for none.
	LockoutThreshold int
	// LockoutDuration is how long it stays locked, 0: until somebody unlocks it.
	LockoutDuration time.Duration
	// LockoutWindow is how long a wrong password counts.
	LockoutWindow time.Duration
}

// PasswordProperties is pwdProperties: [MS-SAMR] 2.2.3.1.
type PasswordProperties uint32

// The bits of pwdProperties that count here.
const (
	PasswordComplex    PasswordProperties = 0x1
	PasswordLockAdmins PasswordProperties = 0x8 // the account Administrator can be locked out too
)

// DefaultPolicy is what the default domain policy of AD says. It stands in where the
// head of the domain has no such attribute.
func DefaultPolicy() Policy {
	return Policy{
		MinLength: 7, History: 24, Properties: PasswordComplex,
		MinAge: 24 * time.Hour, MaxAge: 42 * 24 * time.Hour,
		LockoutThreshold: 0, LockoutDuration: 30 * time.Minute, LockoutWindow: 30 * time.Minute,
	}
}

// readPolicy reads the policy of the domain.
func readPolicy(r *directory.Reader, known *attributes) (Policy, error) {
	p := DefaultPolicy()
	head, err := r.Get(r.Domain().GUID)
	if errors.Is(err, rows.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	count := func(a *schema.Attribute, to *int) {
		if n, ok := number(head, a); ok && n >= 0 {
			*to = int(min(n, maxHistory))
		}
	}
	count(known.minPwdLength, &p.MinLength)
	count(known.pwdHistoryLength, &p.History)
	count(known.lockoutThreshold, &p.LockoutThreshold)
	if n, ok := number(head, known.pwdProperties); ok {
		p.Properties = PasswordProperties(n)
	}
	span := func(a *schema.Attribute, to *time.Duration) {
		if n, ok := number(head, a); ok {
			*to = interval(n)
		}
	}
	span(known.minPwdAge, &p.MinAge)
	span(known.maxPwdAge, &p.MaxAge)
	span(known.lockoutDuration, &p.LockoutDuration)
	span(known.lockoutWindow, &p.LockoutWindow)
	return p, nil
}

// interval reads a span of time as AD stores it: negative ticks of 100 ns. The
// smallest number stands for "never", which is 0 here, as is what is not negative.
func interval(ticks int64) time.Duration {
	const longest = int64(1<<63-1) / 100
	if ticks >= 0 || ticks <= -longest {
		return 0
	}
	return time.Duration(-ticks) * dtyp.Tick
}

// owner is of whom a password is.
type owner struct {
	name, displayName string
	uac               adproto.UserAccountControl
}

// trust reports whether the account is a machine's, whose passwords nobody types: they
// are neither restricted nor do they expire ([MS-SAMR] 3.1.1.7.1, UF_*_TRUST_ACCOUNT).
func trust(uac adproto.UserAccountControl) bool {
	return uac&(adproto.UACWorkstationTrust|adproto.UACServerTrust|adproto.UACInterdomainTrust) != 0
}

// check judges a new password of so many UTF-16 units: [MS-SAMR] 3.1.1.7.1. Its errors
// are *directory.Error; kpasswd shows their texts, which are Samba's.
func (p Policy) check(o owner, password []byte, units int) error {
	if trust(o.uac) {
		return nil
	}
	if units < p.MinLength {
		return restriction("Password too short, password must be at least %d characters long.", p.MinLength)
	}
	if p.Properties&PasswordComplex != 0 && !complexEnough(string(password), o) {
		return restriction("Password does not meet complexity requirements.")
	}
	return nil
}

// restriction is the error of a password that the policy refuses.
func restriction(format string, args ...any) error {
	return directory.Errorf(directory.ConstraintViolation, directory.Win32PasswordRestriction, format, args...)
}

// complexEnough is the complexity rule of [MS-SAMR] 3.1.1.7.2: characters of three of
// five kinds, and neither the account's name nor a word of its display name.
func complexEnough(password string, o owner) bool {
	lower := strings.ToLower(password)
	if name := strings.ToLower(o.name); utf8.RuneCountInString(name) >= 3 && strings.Contains(lower, name) {
		return false
	}
	for word := range strings.FieldsFuncSeq(strings.ToLower(o.displayName), func(r rune) bool { return strings.ContainsRune(",.-_ #\t", r) }) {
		if utf8.RuneCountInString(word) >= 3 && strings.Contains(lower, word) {
			return false
		}
	}
	var kinds [5]bool
	for _, r := range password {
		kinds[kindOf(r)] = true
	}
	n := 0
	for _, present := range kinds {
		if present {
			n++
		}
	}
	return n >= 3
}

// kindOf is which of the five kinds of characters r is.
func kindOf(r rune) int {
	switch {
	case unicode.IsUpper(r):
		return 0
	case unicode.IsLower(r):
		return 1
	case r >= '0' && r <= '9':
		return 2
	case unicode.IsLetter(r):
		return 3 // a letter that has no case
	}
	return 4
}
