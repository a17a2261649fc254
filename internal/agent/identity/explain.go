package identity

import (
	"context"
	"errors"
	"net"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// explain gives an error of the layers below the reason that package account
// branches on. The order counts: an identity that was refused is the host's
// trouble, whatever the KDC's code for it was, and one that could not be checked
// because nobody answered is not.
func explain(err error, controller string) error {
	reasons := []struct{ is, reason error }{
		{context.Canceled, account.ErrNoController},
		{context.DeadlineExceeded, account.ErrNoController},
		{locate.ErrNoController, account.ErrNoController},
		{kclient.ErrUnreachable, account.ErrNoController},
		{kclient.ErrSkew, account.ErrSkew},
		{plugin.ErrLoad, account.ErrStore},
		{plugin.ErrFetch, account.ErrStore},
		{errStore, account.ErrStore},
		{ad.ErrIdentity, account.ErrHost},
		{ad.ErrWithheld, account.ErrWithheld},
		{ad.ErrNoRootKey, account.ErrNoRootKey},
		{ad.ErrInterval, account.ErrNoRootKey},
		{ad.ErrNotFound, account.ErrNotFound},
		{ad.ErrAmbiguous, account.ErrNotFound},
		{ad.ErrNotGMSA, account.ErrNotFound},
		{ldapc.ErrEncryptionRequired, account.ErrUnsealed},
		{ldapc.ErrNotEncrypted, account.ErrUnsealed},
		{kclient.ErrWrongKey, account.ErrWrongKey},
		{kclient.ErrRevoked, account.ErrDisabled},
		{kclient.ErrExpired, account.ErrDisabled},
		{kclient.ErrUnknownClient, account.ErrNotFound},
		{kclient.ErrEType, account.ErrNoEncType},
		{kclient.ErrTicket, account.ErrTicket},
		{ldapc.ErrCertificate, account.ErrUnsealed},
		{ldapc.ErrAnswer, account.ErrAnswer},
		{ldapc.ErrConnection, account.ErrNoController},
		{kclient.ErrReply, account.ErrAnswer},
	}
	if e, ok := errors.AsType[*account.Error](err); ok {
		return e
	}
	e := &account.Error{Reason: otherwise(err), Controller: controller, Err: err}
	if salt, ok := errors.AsType[*kclient.SaltError](err); ok {
		e.Reason, e.Salt = account.ErrSalt, salt.Salt
		if salt.Tried {
			e.Reason = account.ErrWrongKey
		}
		return e
	}
	for _, r := range reasons {
		if errors.Is(err, r.is) {
			e.Reason = r.reason
			break
		}
	}
	return e
}

// otherwise is the reason of an error that nobody foresaw: on the network's side
// nobody answered, on the domain's somebody did, and wrongly.
func otherwise(err error) error {
	if _, ok := errors.AsType[net.Error](err); ok {
		return account.ErrNoController
	}
	if e, ok := errors.AsType[*ldapc.Error](err); ok && e.Temporary() {
		return account.ErrNoController
	}
	return account.ErrAnswer
}
