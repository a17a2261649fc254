package ldapd

import (
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// Result codes of RFC 4511, Section 4.1.9 that are the protocol's and not the
// directory's.
const (
	success                      = int(directory.Success)
	operationsError              = int(directory.OperationsError)
	protocolError                = 2
	compareFalse                 = 5
	compareTrue                  = 6
	authMethodNotSupported       = 7
	strongerAuthRequired         = 8
	unavailableCriticalExtension = int(directory.UnavailableCriticalExtension)
	saslBindInProgress           = 14
	inappropriateMatching        = 18
	inappropriateAuthentication  = 48
	invalidCredentials           = 49
	busy                         = int(directory.Busy)
	unavailable                  = int(directory.Unavailable)
	unwillingToPerform           = int(directory.UnwillingToPerform)
)

// failure is a result that is told to a client, with what only our log is told.
type failure struct {
	ldapmsg.Result
	err error
}

func (f *failure) Error() string {
	s := fmt.Sprintf("%s (LDAP %d)", f.Diagnostic, f.Code)
	if f.err != nil {
		s += ": " + f.err.Error()
	}
	return s
}

func (f *failure) Unwrap() error { return f.err }

// fail makes a failure whose text is in the form of AD's diagnostic messages: a
// Windows code in eight digits, or 0 for none, and the text.
func fail(code int, win32 uint32, text string) *failure {
	if win32 != 0 {
		text = fmt.Sprintf("%08X: %s", win32, text)
	}
	return &failure{Result: ldapmsg.Result{Code: code, Diagnostic: text}}
}

// comment is a text as AD's own parser of LDAP writes it. Clients look for what stands
// behind "data"; the number behind DSID names a line of Windows' source and tells
// nothing here.
func comment(dsid uint32, text string, data uint32) string {
	return fmt.Sprintf("LdapErr: DSID-%08X, comment: %s, data %x, v1db1", dsid, text, data)
}

// resultOf is the result of any error.
func resultOf(err error) ldapmsg.Result {
	if err == nil {
		return ldapmsg.Result{}
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.Result
	}
	e := directory.AsError(err)
	return ldapmsg.Result{Code: int(e.Code), MatchedDN: e.Matched, Diagnostic: e.Diagnostic(), Referral: e.Referral}
}
