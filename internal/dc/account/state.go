package account

import (
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5"
)

// logonHoursSize is the size of logonHours: a bit for each hour of a week, [MS-SAMR]
// 2.2.6.5.
const logonHoursSize = 7 * 24 / 8

// CheckStanding reports whether an account may be used at all at now: whether it is
// enabled, has not expired, is not locked out, and whether this is one of its hours
// ([MS-KILE] 3.3.5.7.1). The error is a *LogonError.
func (a *Accounts) CheckStanding(acct *Account, now dtyp.Filetime) error {
	var status krb5.NTStatus
	switch {
	case acct.Control.Disabled():
		status = krb5.StatusAccountDisabled
	case a.logons.locked(acct, now):
		status = krb5.StatusAccountLockedOut
	case acct.Expires != 0 && acct.Expires <= now:
		status = krb5.StatusAccountExpired
	case !acct.atHour(now.Time()):
		status = krb5.StatusInvalidLogonHours
	default:
		return nil
	}
	return &LogonError{Code: krb5.ErrClientRevoked, Status: status}
}

// CheckPassword reports whether the account may log on with its password at now, as
// far as the age of it goes ([MS-KILE] 3.3.5.6.3). A password that has expired is still
// good to change it with. The error is a *LogonError.
func (a *Accounts) CheckPassword(acct *Account, now dtyp.Filetime) error {
	expires := acct.PasswordExpires()
	switch {
	case acct.Control&adproto.UACSmartcardRequired != 0:
		return &LogonError{Code: krb5.ErrPolicy, Status: statusSmartcardRequired}
	case expires.IsZero():
		return nil
	case acct.PasswordSet == 0:
		return &LogonError{Code: krb5.ErrKeyExpired, Status: krb5.StatusPasswordMustChange}
	case !now.Time().Before(expires):
		return &LogonError{Code: krb5.ErrKeyExpired, Status: krb5.StatusPasswordExpired}
	}
	return nil
}

// atHour reports whether the account may log on at t.
func (a *Account) atHour(t time.Time) bool {
	if a.LogonHours == nil {
		return true
	}
	t = t.UTC()
	hour := int(t.Weekday())*24 + t.Hour()
	return a.LogonHours[hour/8]&(1<<(hour%8)) != 0
}
