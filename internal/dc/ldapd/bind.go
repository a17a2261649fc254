package ldapd

import (
	"context"
	"errors"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/secret"
)

// ldapVersion is the only version that is spoken.
const ldapVersion = 3

// Windows codes in front of the diagnostic messages of binds: [MS-ERREF] 2.1 and 2.2.
const (
	secInvalidToken  = 0x80090308 // SEC_E_INVALID_TOKEN
	secBadBindings   = 0x80090346 // SEC_E_BAD_BINDINGS
	dsAuthUnknown    = 0x2027     // ERROR_DS_AUTH_METHOD_NOT_SUPPORTED
	dsStrongAuth     = 0x2028     // ERROR_DS_STRONG_AUTH_REQUIRED
	dsInappropriate  = 0x2029     // ERROR_DS_INAPPROPRIATE_AUTH
	dsUnwilling      = 0x2035     // ERROR_DS_UNWILLING_TO_PERFORM
	logonFailureData = 0x52e      // ERROR_LOGON_FAILURE
)

// bind answers a bind request: RFC 4511, Section 4.2. It ends whatever else runs. A
// bind that fails leaves the connection anonymous; its layer of protection stays.
func (c *conn) bind(ctx context.Context, m ldapmsg.Message) error {
	defer clear(m.Body) // it may have been a password
	c.settle()
	q, err := m.Bind()
	if err != nil {
		return c.respond(ctx, m, malformed(err))
	}
	pending := c.sasl
	c.sasl = nil
	c.become(directory.Caller{})
	switch {
	case q.Version != ldapVersion:
		return c.respond(ctx, m, fail(protocolError, 0, "LDAP version 3 is spoken here"))
	case q.Auth == ldapmsg.AuthSimple:
		return c.respond(ctx, m, c.bindSimple(ctx, q))
	case q.Auth == ldapmsg.AuthSASL:
		return c.bindSASL(ctx, m, q, pending)
	}
	return c.respond(ctx, m, errMethod())
}

// errMethod is what Active Directory says of a method that it does not know. NTLM is
// not spoken, so that Sicily ([MS-ADTS] 5.1.1.1.3), which is nothing else, is neither.
func errMethod() error {
	return fail(authMethodNotSupported, dsAuthUnknown, comment(0x0C0905F4, "Invalid Authentication method", 0))
}

// become makes the connection another's, or nobody's.
func (c *conn) become(who directory.Caller) {
	who.From, who.Encrypted = c.caller.From, c.caller.Encrypted
	c.caller, c.expires = who, time.Time{}
}

// bindSimple is the bind by a name and a password: RFC 4513, Section 5.1.
func (c *conn) bindSimple(ctx context.Context, q ldapmsg.BindRequest) error {
	switch {
	case q.Name == "" && len(q.Password) == 0:
		return nil // anonymous
	case len(q.Password) == 0:
		// Whoever asks with a name and gets success believes that a password was
		// checked: RFC 4513, Sections 5.1.2 and 6.3.1, have this result for it. Samba
		// 4.22 says that the password is wrong.
		return fail(unwillingToPerform, dsUnwilling, "unauthenticated binds are not allowed: the password is empty")
	case c.cert == nil:
		return fail(strongerAuthRequired, dsStrongAuth, comment(0x0C090202,
			`The server requires binds to turn on integrity checking if SSL\TLS are not already active on the connection`, 0))
	}
	password := secret.Copy(q.Password)
	defer password.Destroy()
	who, err := c.s.cfg.Accounts.Bind(ctx, q.Name, password, c.caller.From)
	if err != nil {
		return refusal(err)
	}
	c.become(who)
	return nil
}

// logonError is a refused logon; *account.LogonError is one.
type logonError interface {
	error
	LDAPData() uint32
}

// refusal is what a client is told of a logon that account refused: the text is AD's,
// and clients read the code behind "data". Anything else is a fault of ours.
func refusal(err error) error {
	e, ok := errors.AsType[logonError](err)
	if !ok {
		return err
	}
	f := fail(invalidCredentials, secInvalidToken, comment(0x0C0903A9, "AcceptSecurityContext error", e.LDAPData()))
	f.err = err
	return f
}
