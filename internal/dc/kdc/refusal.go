package kdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
)

// refusal is why a request is not answered with a ticket: the code and data for the
// client, and the cause for our own log.
type refusal struct {
	code krb5.ErrorCode
	data []byte // e-data; nil for none
	err  error
}

// Error is the code and the cause.
func (r *refusal) Error() string { return fmt.Sprintf("%v: %v", r.code, r.err) }

// Unwrap is the code and the cause.
func (r *refusal) Unwrap() []error { return []error{r.code, r.err} }

// refuse makes a refusal without data.
func refuse(code krb5.ErrorCode, format string, args ...any) *refusal {
	return &refusal{code: code, err: fmt.Errorf(format, args...)}
}

// malformed is the answer to what cannot be parsed.
func malformed(err error) *refusal {
	if e, ok := errors.AsType[*krb5.SyntaxError](err); ok && e.Field == "pvno" {
		return &refusal{code: krb5.ErrBadPVNO, err: err}
	}
	return &refusal{code: krb5.ErrGeneric, err: err}
}

// appendError appends the KRB-ERROR for err: RFC 4120, Section 5.9.1. An error that says
// nothing for the client is a fault of ours.
func (x *exchange) appendError(dst []byte, err error) []byte {
	code, data := krb5.ErrGeneric, []byte(nil)
	level := slog.LevelDebug
	if r, ok := errors.AsType[*refusal](err); ok {
		code, data = r.code, r.data
	} else if l, ok := errors.AsType[*account.LogonError](err); ok {
		code, data = l.Code, statusData(l)
	}
	if code == krb5.ErrGeneric {
		level = slog.LevelError
		if _, ok := errors.AsType[*krb5.SyntaxError](err); ok {
			level = slog.LevelDebug // anybody can send what is malformed
		}
	}
	x.cfg.Log.LogAttrs(context.Background(), level, "request refused",
		slog.String("from", x.from.String()), slog.String("client", x.req.Body.CName.String()),
		slog.String("server", x.req.Body.SName.String()), slog.Any("error", err))
	body := &x.req.Body
	e := krb5.KRBError{
		STime: x.now, SUsec: x.now.Nanosecond() / int(time.Microsecond), Code: code,
		Realm: x.realm, SName: body.SName, EData: data,
	}
	if e.SName.IsZero() {
		e.SName = x.tgs
	}
	if !body.CName.IsZero() {
		e.CRealm, e.CName = x.realm, body.CName
	}
	return e.Append(dst)
}

// statusData is e-data with the NTSTATUS of a refused logon: KERB-ERROR-DATA, which on the
// wire is one PA-DATA of type PA-PW-SALT ([MS-KILE] 2.2.1, 2.2.2). Only of an account that is not in good standing the client is told
// more than the code.
func statusData(l *account.LogonError) []byte {
	switch l.Code {
	case krb5.ErrClientRevoked, krb5.ErrKeyExpired, krb5.ErrPolicy:
	default:
		return nil
	}
	if l.Status == 0 {
		return nil
	}
	const valid = 1 // the status is
	ext := krb5.ExtError{Status: l.Status, Flags: valid}.Append(nil)
	return krb5.ErrorData{Type: krb5.ErrorDataExtended, Value: ext}.Append(nil)
}
