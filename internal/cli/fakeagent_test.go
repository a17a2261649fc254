package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

const fakeLease = "5f0c0f6e2b7a4c1d9e8f7a6b5c4d3e2f"

// fakeAgent answers as an agent does that holds one lease of one account. What
// it was asked it puts into warnings, where scripts can see it.
type fakeAgent struct {
	agentapi.UnimplementedAgentServer
}

func moment() *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
}

func fakeAccount() *agentapi.Account {
	return &agentapi.Account{
		Name: "webapp01$", Domain: "contoso.com", Principal: "webapp01$@CONTOSO.COM", Primary: true,
		State: agentapi.AccountState_ACCOUNT_STATE_READY, Kvno: 3, TicketExpires: moment(), NextRollover: moment(), Leases: 1, Controller: "dc01.contoso.com",
	}
}

func (f *fakeAgent) CreateLease(_ context.Context, r *agentapi.CreateLeaseRequest) (*agentapi.CreateLeaseResponse, error) {
	if r.GetAccount() == "evil01" {
		return nil, &agentapi.Failure{
			Kind: agentapi.Kind_KIND_DENIED, Message: "this host may not read the password of evil01", Code: "attribute withheld",
			Hints: []string{"gmsa account hosts add evil01 web1"}, EventID: 8,
		}
	}
	l := &agentapi.Lease{
		Id: fakeLease, Directory: "/run/gmsa/leases/" + fakeLease, Accounts: []*agentapi.Account{fakeAccount()},
		Uid: r.GetUid(), Gid: r.GetGid(), Mode: r.GetMode(), Keytab: r.GetKeytab(), Process: r.GetProcess(), Created: moment(),
		CredentialSpec: r.GetCredentialSpec(),
		Environment:    map[string]string{"KRB5CCNAME": "FILE:/run/gmsa/leases/" + fakeLease + "/..data/ccache", "KRB5_CONFIG": "/run/gmsa/leases/" + fakeLease + "/krb5.conf"},
	}
	if r.GetUnit() {
		l.Unit = "nginx.service"
	}
	asked := fmt.Sprintf("asked for account=%q spec=%q raw=%d mode=%04o keytab=%v isolated=%v forwardable=%v until-removed=%v spns=%v",
		r.GetAccount(), r.GetCredentialSpec(), len(r.GetRawCredentialSpec()), r.GetMode(), r.GetKeytab(), r.GetIsolated(), r.GetForwardable(), r.GetUntilRemoved(), r.GetPrefetchSpns())
	return &agentapi.CreateLeaseResponse{Lease: l, Warnings: []string{asked}}, nil
}

func (f *fakeAgent) GetLease(_ context.Context, r *agentapi.GetLeaseRequest) (*agentapi.Lease, error) {
	if r.GetId() != fakeLease {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_NOT_FOUND, Message: "there is no lease " + r.GetId(), Hints: []string{"gmsa lease list"}}
	}
	return &agentapi.Lease{
		Id: fakeLease, Directory: "/run/gmsa/leases/" + fakeLease, Accounts: []*agentapi.Account{fakeAccount()}, Uid: 33, Gid: 33, Mode: 0o440,
		Unit: "nginx.service", Created: moment(), CredentialSpec: "contoso_webapp01", Environment: map[string]string{"KRB5_CONFIG": "/x/krb5.conf"},
	}, nil
}

// ListLeases has three pages of one lease.
func (f *fakeAgent) ListLeases(_ context.Context, r *agentapi.ListLeasesRequest) (*agentapi.ListLeasesResponse, error) {
	n, _ := strconv.Atoi(r.GetPageToken())
	l := &agentapi.Lease{
		Id: fmt.Sprintf("%032d", n), Accounts: []*agentapi.Account{fakeAccount()}, Uid: 1000, Gid: 100,
		Process: &agentapi.Process{Pid: 4711}, Created: moment(),
	}
	if n == 1 {
		l.Container = strings.Repeat("0123abcd", 8)
	}
	next := strconv.Itoa(n + 1)
	if n == 2 {
		next = ""
	}
	return &agentapi.ListLeasesResponse{Leases: []*agentapi.Lease{l}, NextPageToken: next}, nil
}

func (f *fakeAgent) RemoveLease(_ context.Context, r *agentapi.RemoveLeaseRequest) (*agentapi.RemoveLeaseResponse, error) {
	if r.GetId() != fakeLease && !r.GetUnit() {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_NOT_FOUND, Message: "there is no lease " + r.GetId()}
	}
	return &agentapi.RemoveLeaseResponse{}, nil
}

func (f *fakeAgent) Status(_ context.Context, r *agentapi.StatusRequest) (*agentapi.StatusResponse, error) {
	s := &agentapi.StatusResponse{
		Version: "v1.2.3\x1b[31m", Started: moment(), Uptime: durationpb.New(90 * time.Minute), Leases: 1,
		LeaseDirectory: "/run/gmsa/leases", LeaseStorage: "tmpfs, noswap",
		Identities: []*agentapi.HostIdentity{{Domain: "contoso.com", Principal: "web1$@CONTOSO.COM", Source: "keytab", TicketExpires: moment()}},
	}
	if r.GetSummary() {
		return s, nil
	}
	bad := fakeAccount()
	bad.Principal, bad.State = "evil01$@CONTOSO.COM", agentapi.AccountState_ACCOUNT_STATE_FAILED
	bad.Error = &agentapi.Error{Message: "withheld", Hints: []string{"gmsa account hosts add evil01 web1"}}
	s.Accounts = []*agentapi.Account{fakeAccount(), bad}
	s.CredentialSpecs = []*agentapi.CredentialSpec{{Name: "broken", Path: "/etc/gmsa/credentialspecs/broken.json", Faults: []string{"$: not JSON"}}}
	return s, nil
}

func (f *fakeAgent) Reload(context.Context, *agentapi.ReloadRequest) (*agentapi.ReloadResponse, error) {
	return &agentapi.ReloadResponse{Warnings: []string{"domains.contoso.com.site: no such site"}}, nil
}

func (f *fakeAgent) InstallAccount(_ context.Context, r *agentapi.InstallAccountRequest) (*agentapi.InstallAccountResponse, error) {
	if r.GetAccount() == "evil01" {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_DENIED, Message: "this host may not read the password of evil01"}
	}
	return &agentapi.InstallAccountResponse{Account: fakeAccount()}, nil
}

func (f *fakeAgent) UninstallAccount(_ context.Context, r *agentapi.UninstallAccountRequest) (*agentapi.UninstallAccountResponse, error) {
	return &agentapi.UninstallAccountResponse{WasInstalled: r.GetAccount() == "webapp02"}, nil
}
