package kpasswdd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ap"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// fresh is how long after a client proved its present password the ticket is good for
// changing it: one that is stolen later gives nobody the account.
const fresh = 15 * time.Minute

// Texts that clients show. The first two are Samba's.
const (
	textChanged      = "Password changed"
	textNotPermitted = "Not permitted to change password"
	textNotFresh     = "A ticket got with the present password, a few minutes ago at most, is needed to change it"
	textFailed       = "The server could not change the password"
)

// answer is the reply to a message that came from a peer to one of our addresses, nil
// for one that is not even framed as a request: whoever sent it may not be who it says.
func (s *Server) answer(ctx context.Context, b []byte, from netip.AddrPort, local netip.Addr) []byte {
	q, err := kpasswd.ParseRequest(b)
	if err != nil {
		return nil
	}
	if q.Version != kpasswd.VersionChange && q.Version != kpasswd.VersionSet {
		return s.refusal(krb5.ErrGeneric, result(kpasswd.ResultBadVersion, "Versions 1 and 0xff80 are known, not %#x", q.Version))
	}
	r, data, err := s.open(q)
	if err != nil {
		return s.authError(err)
	}
	defer clear(data)
	caller, err := s.cfg.Accounts.FromTicket(ctx, r.Ticket, r.Server, from)
	if err != nil {
		return s.authError(err)
	}
	caller.Encrypted = true // by the KRB-PRIV
	reply, err := s.reply(r, s.change(ctx, caller, r.Ticket, q.Version, data), local)
	if err != nil {
		s.cfg.Log.Error("kpasswd: a password was changed or refused and the client not told", "client", r.Client.String(), "error", err)
		return s.refusal(krb5.ErrGeneric, result(kpasswd.ResultHardError, textFailed))
	}
	return reply
}

// open authenticates a request and decrypts what is asked.
//
// The sender's address in the KRB-PRIV is not looked at: it is another one behind
// address translation, and the number of the sequence binds the message to the AP-REQ,
// which is taken once.
func (s *Server) open(q kpasswd.Request) (r ap.Request, data []byte, err error) {
	req, err := krb5.ParseAPReq(q.APReq)
	if err != nil {
		return r, nil, fmt.Errorf("%w: %w", krb5.ErrMessageType, err)
	}
	r, err = s.acceptor.Open(req)
	if !r.Server.Name.IsZero() && !account.IsChangePassword(r.Server.Name) {
		return r, nil, fmt.Errorf("%w: a ticket for %v", krb5.ErrNotUs, r.Server)
	}
	if err != nil {
		return r, nil, err
	}
	if r.Subkey == nil {
		return r, nil, fmt.Errorf("%w: the AP-REQ has no subkey", krb5.ErrNoKey)
	}
	priv, err := krb5.ParseKRBPriv(q.Priv)
	if err != nil {
		return r, nil, fmt.Errorf("%w: %w", krb5.ErrModified, err)
	}
	body, err := priv.Open(r.Subkey)
	if err != nil {
		return r, nil, fmt.Errorf("%w: %w", krb5.ErrModified, err)
	}
	if body.SeqNumber != r.Authenticator.SeqNumber {
		return r, nil, fmt.Errorf("%w: sequence number %d, the AP-REQ has %d", krb5.ErrBadOrder, body.SeqNumber, r.Authenticator.SeqNumber)
	}
	return r, body.UserData, s.acceptor.Once(r)
}

// change does what the caller asks.
func (s *Server) change(ctx context.Context, caller directory.Caller, ticket krb5.EncTicketPart, version uint16, data []byte) kpasswd.Result {
	q := kpasswd.ChangePasswdData{NewPassword: secret.Copy(data)}
	if version == kpasswd.VersionSet {
		var err error
		if q, err = kpasswd.ParseChangePasswdData(data); err != nil {
			return result(kpasswd.ResultMalformed, "The request is malformed")
		}
	}
	defer q.NewPassword.Destroy()
	password, err := managedpassword.UTF16(q.NewPassword)
	if err != nil || q.NewPassword.Len() > kpasswd.MaxPassword {
		return result(kpasswd.ResultMalformed, "A password is at most %d bytes of UTF-8", kpasswd.MaxPassword)
	}
	defer password.Destroy()
	own := q.TargetName.IsZero()
	if own && !s.isFresh(ticket) {
		return result(kpasswd.ResultInitialFlagNeeded, textNotFresh)
	}
	object, err := s.target(ctx, caller, q)
	if err != nil {
		return s.outcome(caller, err)
	}
	return s.outcome(caller, s.cfg.Directory.SetPassword(ctx, caller, object, secret.Bytes{}, password, own))
}

// isFresh reports whether a ticket proves that its client knew its password just now:
// it came from the AS exchange, and not long ago.
func (s *Server) isFresh(t krb5.EncTicketPart) bool {
	return t.Flags.Has(krb5.FlagInitial) && s.cfg.Directory.Now().Sub(t.AuthTime) <= fresh
}

// errTarget is the error for an account that is not there; its text is for the client,
// who may look it up over LDAP as well.
var errTarget = errors.New("no such account in this domain")

// target is the object whose password is meant: the caller's own where none is named.
func (s *Server) target(ctx context.Context, caller directory.Caller, q kpasswd.ChangePasswdData) (dtyp.GUID, error) {
	if q.TargetName.IsZero() {
		acct, err := s.cfg.Accounts.BySID(ctx, caller.SID)
		if err != nil {
			return dtyp.GUID{}, err
		}
		return acct.GUID, nil
	}
	if q.TargetRealm != "" && !account.IsRealm(s.cfg.Directory.Domain(), q.TargetRealm) {
		return dtyp.GUID{}, fmt.Errorf("%w: realm %s", errTarget, q.TargetRealm)
	}
	acct, err := s.cfg.Accounts.Client(ctx, q.TargetName)
	if errors.Is(err, account.ErrUnknown) {
		return dtyp.GUID{}, fmt.Errorf("%w: %v", errTarget, q.TargetName)
	}
	if err != nil {
		return dtyp.GUID{}, err
	}
	return acct.GUID, nil
}

// outcome is the result of a change, in the texts of Samba, which clients show.
// Windows sends its policy in 30 bytes instead, which says the same to fewer clients.
func (s *Server) outcome(caller directory.Caller, err error) kpasswd.Result {
	if err == nil {
		return result(kpasswd.ResultSuccess, textChanged)
	}
	if errors.Is(err, errTarget) {
		return result(kpasswd.ResultHardError, "%v", err)
	}
	e := directory.AsError(err)
	switch {
	case e.Code == directory.InsufficientAccessRights:
		return result(kpasswd.ResultAccessDenied, textNotPermitted)
	case e.Win32 == directory.Win32PasswordRestriction:
		return result(kpasswd.ResultSoftError, "%s", e.Message)
	case e.Code == directory.OperationsError, e.Code == directory.Unavailable:
		s.cfg.Log.Error("kpasswd: a password was not changed", "caller", caller.Name, "error", err)
		return result(kpasswd.ResultHardError, textFailed)
	}
	return result(kpasswd.ResultHardError, "%s", e.Message)
}

func result(code kpasswd.ResultCode, format string, args ...any) kpasswd.Result {
	return kpasswd.Result{Code: code, Text: fmt.Appendf(nil, format, args...)}
}

// reply is the answer that is authenticated: the AP-REP, and the result under the
// client's subkey.
func (s *Server) reply(r ap.Request, res kpasswd.Result, local netip.Addr) ([]byte, error) {
	var b [4]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		return nil, fmt.Errorf("read random sequence number: %w", err)
	}
	// As for a context of RFC 4121: not 0, which means absent, and far from the end.
	seq := binary.BigEndian.Uint32(b[:])&0x3fffffff | 1
	rep, err := r.Reply(nil, seq, s.cfg.Rand)
	if err != nil {
		return nil, err
	}
	priv, err := krb5.SealPriv(r.Subkey, krb5.MessageBody{UserData: res.Append(nil), SeqNumber: seq, SAddress: krb5.AddressOf(local)}, s.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("encrypt KRB-PRIV: %w", err)
	}
	return kpasswd.Reply{APRep: rep, Priv: priv.Append(nil)}.Append(nil), nil
}

// authError refuses a request whose sender is not known: all it learns is the code.
func (s *Server) authError(err error) []byte {
	code, ok := errors.AsType[krb5.ErrorCode](err)
	if !ok {
		code = krb5.ErrGeneric
	}
	s.cfg.Log.Debug("kpasswd: request refused", "error", err)
	return s.refusal(code, result(kpasswd.ResultAuthError, "The request could not be authenticated"))
}

// refusal is an answer that is not authenticated: RFC 3244, Section 2.
func (s *Server) refusal(code krb5.ErrorCode, res kpasswd.Result) []byte {
	now := s.cfg.Directory.Now().UTC()
	e := krb5.KRBError{STime: now, SUsec: now.Nanosecond() / int(time.Microsecond), Code: code,
		Realm: s.cfg.Directory.Domain().Realm(), SName: krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw"), EData: res.Append(nil)}
	return kpasswd.Reply{Error: e.Append(nil)}.Append(nil)
}
