package ldapc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCodesOfActiveDirectoryAreParsed(t *testing.T) {
	const notAuthenticated = "00002020: Operation unavailable without authentication"
	for _, c := range []struct {
		name        string
		code        uint16
		message     string
		win32, data uint32
		is          error
		cause       string
	}{
		{"a wrong password on Windows", 49, "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52e, v1db1", 0x80090308, 0x52e, ErrCredentials, "password or key is wrong"},
		{"a wrong password on Samba", 49, "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52e, v1db1", 0x80090308, 0x52e, ErrCredentials, "wrong"},
		{"an expired password", 49, "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 532, v2580\x00", 0x80090308, 0x532, ErrCredentials, "expired"},
		{"missing channel binding", 49, "80090346: LdapErr: DSID-0C0905BE, comment: AcceptSecurityContext error, data 80090346, v4563", 0x80090346, 0x80090346, ErrChannelBinding, "channel binding"},
		{"a plain connection", 1, "0000202D: Viewing msDS-ManagedPassword requires an encrypted connection", 0x202d, 0, ErrEncryptionRequired, "encrypted"},
		{"no root key", 32, "8009000D", 0x8009000d, 0, ErrNoSuchObject, "KDS root key"},
		{"no bind", 1, notAuthenticated, 0x2020, 0, nil, "could not"},
		{"no rights", 50, "00002098: SecErr: DSID-031514A0, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0", 0x2098, 0, ErrAccess, "rights"},
		{"signing required", 8, "00002028: LdapErr: DSID-0C090202, comment: The server requires binds to turn on integrity checking", 0x2028, 0, ErrNotEncrypted, "stronger"},
		{"an entry twice", 68, "00002071: samldb: Account name (sAMAccountName) 'x' already in use!", 0x2071, 0, ErrExists, "exists"},
		{"text without codes", 53, "Unwilling. data is missing", 0, 0, nil, ""},
	} {
		e := newError("search", c.code, c.message)
		if e.Win32 != c.win32 || e.Data != c.data {
			t.Errorf("%s: Win32 %#x, data %#x", c.name, e.Win32, e.Data)
		}
		for _, s := range []error{ErrCredentials, ErrChannelBinding, ErrEncryptionRequired, ErrNoSuchObject, ErrAccess, ErrExists, ErrNotEncrypted} {
			if want := c.is != nil && errors.Is(s, c.is); errors.Is(e, s) != want {
				t.Errorf("%s: is %v: %t", c.name, s, errors.Is(e, s))
			}
		}
		if code := e.ProtocolCode(); !strings.HasPrefix(code, fmt.Sprintf("LDAP %d", c.code)) || c.data == 0x52e && !strings.HasSuffix(code, "data 52e") || c.win32 == 0x202d && code != "LDAP 1 0000202D" {
			t.Errorf("%s: %s", c.name, code)
		}
		if !strings.Contains(e.Cause(), c.cause) || !strings.Contains(e.Error(), c.message) {
			t.Errorf("%s: %v", c.name, e)
		}
	}
}
