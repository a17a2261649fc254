package directory

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/managedpassword"
)

// maxUserName is the length of a user's sAMAccountName in characters: [MS-SAMR]
// 3.1.1.6. Names of machines and groups have the attribute's own bound.
const maxUserName = 20

// settleAccountName judges sAMAccountName ([MS-SAMR] 3.1.1.6): its characters, that
// names of computers and managed service accounts end in "$" and no user's does, and
// that no two accounts differ in the "$" alone (CVE-2021-42278).
func (d *draft) settleAccountName() error {
	if !d.changed("sAMAccountName") {
		return nil
	}
	name := string(d.value(d.e, "sAMAccountName"))
	if err := checkAccountName(name); err != nil {
		return err
	}
	bare, dollar := strings.CutSuffix(name, "$")
	switch {
	case !d.isAccount():
		return nil
	case d.isMachine() && !dollar:
		return constraint("the sAMAccountName of a %s ends in $", d.class.Structural().Name)
	case !d.isMachine() && dollar:
		return constraint("the sAMAccountName of a %s does not end in $", d.class.Structural().Name)
	case !d.isMachine() && utf8.RuneCountInString(name) > maxUserName:
		return constraint("a sAMAccountName of a user has %d characters at most", maxUserName)
	}
	other := bare
	if !dollar {
		other += "$"
	}
	if err := d.unheld("sAMAccountName", other, name); err != nil {
		return err
	}
	// Nobody else's principal name means the account either.
	if err := d.unheld("userPrincipalName", name+"@"+d.domain.DNSName, name); err != nil {
		return err
	}
	return d.renameSalt(name)
}

// unheld fails with the conflict of name if another account has value of an attribute.
func (d *draft) unheld(attribute, value, name string) error {
	holder, err := d.Lookup(d.mustAttribute(attribute), []byte(value))
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	class, err := d.classes(holder)
	if err != nil || holder.GUID == d.e.GUID || !class.Has("user") {
		return err
	}
	return conflict("sAMAccountName", []byte(name), fmt.Errorf("%s has the %s %q", holder.GUID, attribute, value))
}

// checkAccountName judges the characters of a sAMAccountName: [MS-SAMR] 3.1.1.6.
func checkAccountName(name string) error {
	if name == "" || strings.HasSuffix(name, ".") || strings.Trim(name, " $") == "" {
		return constraint("a sAMAccountName that is none")
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || strings.ContainsRune(`"/\[]:;|=,+*?<>@`, r) }); i >= 0 {
		return constraint("a sAMAccountName cannot contain %q", name[i:i+1])
	}
	return nil
}

// accountName is the sAMAccountName of an object that was given none: machines are
// called as their object is, others get a random name ([MS-SAMR] 3.1.1.8.4).
func (d *draft) accountName() (string, error) {
	if d.isMachine() {
		return strings.TrimSuffix(d.e.Name, "$") + "$", nil
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(d.cfg.Rand, b); err != nil {
		return "", err
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
	return "$" + text[:6] + "-" + text[6:18], nil
}

// settlePrincipalName judges userPrincipalName: its suffix, and that it is not the one
// that another account has without saying so ([MS-ADTS] 3.1.1.5.1.3), by either name of
// the domain: clients log on with both.
func (d *draft) settlePrincipalName() error {
	if !d.changed("userPrincipalName") {
		return nil
	}
	upn := string(d.value(d.e, "userPrincipalName"))
	i := strings.LastIndexByte(upn, '@')
	if i < 0 || !strings.EqualFold(upn[i+1:], d.domain.DNSName) && !strings.EqualFold(upn[i+1:], d.domain.NetBIOS) {
		return nil
	}
	for _, name := range []string{upn[:i], strings.TrimSuffix(upn[:i], "$"), upn[:i] + "$"} {
		holder, err := d.Lookup(d.mustAttribute("sAMAccountName"), []byte(name))
		if errors.Is(err, rows.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		class, err := d.classes(holder)
		if err != nil {
			return err
		}
		if holder.GUID != d.e.GUID && class.Has("user") {
			return conflict("userPrincipalName", []byte(upn), fmt.Errorf("%s is called %q", holder.GUID, name))
		}
	}
	return nil
}

// Values that new objects have.
const (
	accountNeverExpires   = "9223372036854775807"
	instanceTypeWritable  = "4" // [MS-ADTS] 2.2.15: IT_WRITE
	instanceTypeHead      = 1   // IT_NC_HEAD
	defaultManagedPwdDays = "30"
)

// principalDefaults completes a new security principal: [MS-SAMR] 3.1.1.8.
func (d *draft) principalDefaults() error {
	sid, err := d.NextSID()
	if err != nil {
		return err
	}
	d.set(d.e, "objectSid", sid.Bytes())
	if d.value(d.e, "sAMAccountName") == nil {
		name, err := d.accountName()
		if err != nil {
			return err
		}
		d.set(d.e, "sAMAccountName", []byte(name))
	}
	if d.isGroup() {
		d.setDefault("groupType", groupTypeText(adproto.GroupSecurity|adproto.GroupGlobal))
	}
	if d.isAccount() {
		d.accountDefaults()
	}
	return nil
}

// accountDefaults are the attributes that AD gives every account.
func (d *draft) accountDefaults() {
	d.setDefault("userAccountControl", fmt.Sprint(uint32(d.defaultControl())))
	d.setDefault("accountExpires", accountNeverExpires)
	for _, name := range []string{"badPasswordTime", "badPwdCount", "codePage", "countryCode", "lastLogoff", "lastLogon", "logonCount", "pwdLastSet"} {
		d.setDefault(name, "0")
	}
	if d.isMachine() {
		d.setDefault("localPolicyFlags", "0")
		d.setDefault("isCriticalSystemObject", "FALSE")
	}
	if d.isGMSA() {
		d.setDefault("msDS-ManagedPasswordInterval", defaultManagedPwdDays)
		d.setNumber("pwdLastSet", int64(d.now))
	}
}

// defaultControl is the userAccountControl of an account that was given none. Whoever
// has no password yet cannot log on; a gMSA has one from the beginning.
func (d *draft) defaultControl() adproto.UserAccountControl {
	switch {
	case d.isGMSA() || d.class.Has("msDS-ManagedServiceAccount"):
		return adproto.UACWorkstationTrust
	case d.isMachine():
		return adproto.UACWorkstationTrust | adproto.UACAccountDisable | adproto.UACPasswordNotRequired
	}
	return adproto.UACNormalAccount | adproto.UACAccountDisable | adproto.UACPasswordNotRequired
}

// salt is the salt of the Kerberos keys of a gMSA.
func (d *draft) salt() string {
	return managedpassword.Salt(d.domain.Realm(), string(d.value(d.e, "sAMAccountName")))
}
