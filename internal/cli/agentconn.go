package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// agentTimeout bounds one call to the agent, which may have to ask a domain.
const agentTimeout = 2 * time.Minute

// withAgent calls the agent on its socket.
func (a *app) withAgent(ctx context.Context, call func(context.Context, *agentapi.Client) error) error {
	client, err := agentapi.Dial(a.socket)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	err = call(ctx, client)
	if errors.Is(err, agentapi.ErrNoAgent) {
		return failure(Failed, err).hint("start the agent: systemctl start gmsa-agent, or gmsa agent serve").
			hint("or name its socket: --socket PATH (default %s)", agentapi.DefaultSocket)
	}
	return err
}

// printMessage prints a message of the protocol.
func (a *app) printMessage(m proto.Message, text func(io.Writer) error) error {
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	return a.print(json.RawMessage(b), text)
}

// subject is whose identity is asked for: an account or a credential spec.
type subject struct {
	account  string
	credspec string
}

// request puts the subject into a request. A credential spec that is a path
// (it has a slash or ends in .json) is sent as it is; any other is a name that
// the agent knows.
func (a *app) request(s subject) (*agentapi.CreateLeaseRequest, error) {
	r := &agentapi.CreateLeaseRequest{}
	switch {
	case s.account != "":
		r.Subject = &agentapi.CreateLeaseRequest_Account{Account: s.account}
	case isSpecFile(s.credspec):
		b, err := a.readFile(s.credspec, credspec.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("credential spec: %w", err)
		}
		r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: b}
	default:
		r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: s.credspec}
	}
	return r, nil
}

func isSpecFile(s string) bool { return strings.Contains(s, "/") || strings.HasSuffix(s, ".json") }

// lookupUser is the user of a name or number and the primary group.
func lookupUser(name string) (*user.User, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		u, err := user.LookupId(name)
		if err == nil {
			return u, nil
		}
		return &user.User{Uid: name, Gid: name, Username: name}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, failure(NotFound, fmt.Errorf("there is no user %s", name))
	}
	return u, nil
}

// lookupGroup is the number of a group.
func lookupGroup(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, failure(NotFound, fmt.Errorf("there is no group %s", name))
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err
}

// owner is the uid and gid of a lease: those of the user and group named, or of
// the caller.
func owner(userName, groupName string, uid, gid int) (uint32, uint32, error) {
	if userName != "" {
		u, err := lookupUser(userName)
		if err != nil {
			return 0, 0, err
		}
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return 0, 0, fmt.Errorf("user %s: %w", userName, err)
		}
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return 0, 0, fmt.Errorf("user %s: %w", userName, err)
		}
	}
	if groupName != "" {
		g, err := lookupGroup(groupName)
		if err != nil {
			return 0, 0, err
		}
		gid = int(g)
	}
	return uint32(max(uid, 0)), uint32(max(gid, 0)), nil
}

// stamp is a time of the protocol for people: empty for none.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil || t.AsTime().Unix() == 0 {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05")
}

// stateName is an account's state in a word.
func stateName(s agentapi.AccountState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "ACCOUNT_STATE_"))
}
