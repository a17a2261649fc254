//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// sambaCosts are what Samba 4.22 takes of a core, for where nobody has measured.
var sambaCosts = costs{Read: 900 * time.Microsecond, FirstAS: 4400 * time.Microsecond, AS: 3400 * time.Microsecond, TGS: 2900 * time.Microsecond}

// TestManyAccountsRecover runs the guard's own pool of accounts against a model of a
// controller in simulated time: the controller answers one request after the other,
// as Samba's one process does, and takes for each what Samba was measured to take.
// The program bench runs it with the costs of its own machine.
func TestManyAccountsRecover(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	in := modelOrder{Costs: sambaCosts}
	file := os.Getenv(modelEnv)
	if file != "" {
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &in)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			took, most := simulate(t, in.Costs, restart)
			t.Logf("restart %v: %v, at most %d requests in flight", restart, took, most)
			in.Results = append(in.Results, modelResult{restart, took, most})
			if most > account.DefaultInFlight {
				t.Errorf("%d requests in flight, want at most %d", most, account.DefaultInFlight)
			}
			c := in.Costs
			busy := modelAccounts * c.AS // passwords are looked at later
			if restart {
				busy = modelAccounts * (c.Read + c.AS) // the journal knows the salts
			}
			// The longest pause between two probes, and a moment.
			if limit := busy + 7*time.Second; took > limit {
				t.Errorf("recovered after %v; the controller itself needs %v, want at most %v", took, busy, limit)
			}
		})
	}
	if file == "" {
		return
	}
	b, err := json.Marshal(in)
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// simulate returns how long the accounts take after the controller's return, and the
// most requests that were in flight.
func simulate(t *testing.T, c costs, restart bool) (took time.Duration, most int64) {
	ctx, cancel := context.WithCancel(t.Context())
	d := newModel(t, c)
	p := account.NewPool(account.Config{Derive: d.derive})
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	d.away.Store(restart)
	handles := make([]*account.Handle, modelAccounts)
	for i := range handles {
		name := fmt.Sprintf("svc%05d$", i)
		request := account.Request{Key: account.Key{Realm: modelRealm, Name: name, Host: "web1$@" + modelRealm}, Domain: d}
		if restart {
			request.Salt = account.KnownSalt{KVNO: 1, Salt: managedpassword.Salt(modelRealm, name)}
		}
		handles[i] = p.Open(request)
	}
	if restart {
		time.Sleep(time.Minute)
	} else {
		time.Sleep(time.Hour)
		d.away.Store(true)
		time.Sleep(12 * time.Hour)
	}
	for _, h := range handles {
		if h.Snapshot().Usable(time.Now()) {
			t.Error("a ticket outlived the outage")
			break
		}
	}
	d.most.Store(0)
	d.away.Store(false)
	begin := time.Now()
	for _, h := range handles {
		for !h.Snapshot().Usable(time.Now()) && time.Since(begin) < time.Hour {
			time.Sleep(10 * time.Millisecond)
		}
	}
	took, most = time.Since(begin), d.most.Load()
	cancel()
	<-ended
	return took, most
}

const modelRealm = "CONTOSO.COM"

// model is a domain with one controller that works on one request at a time.
type model struct {
	costs
	key  *crypto.Key
	turn chan struct{}

	away           atomic.Bool
	inFlight, most atomic.Int64
}

func newModel(t *testing.T, c costs) *model {
	key, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &model{costs: c, key: key, turn: make(chan struct{}, 1)}
}

// serve waits for the controller and keeps it busy for a time.
func (m *model) serve(ctx context.Context, d time.Duration) error {
	n := m.inFlight.Add(1)
	defer m.inFlight.Add(-1)
	m.most.Store(max(m.most.Load(), n))
	if m.away.Load() {
		return &account.Error{Reason: account.ErrNoController, Err: errors.New("connection refused")}
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	time.Sleep(d)
	<-m.turn
	return nil
}

// derive costs nothing here: that it costs a millisecond of this side is part of the
// figures with real accounts.
func (m *model) derive(_ secret.Bytes, _ string, etypes ...crypto.EType) ([]*crypto.Key, error) {
	if len(etypes) == 0 || etypes[0] != m.key.EType() {
		return nil, fmt.Errorf("keys of %v", etypes)
	}
	return []*crypto.Key{m.key}, nil
}

// ReadPassword implements account.Domain.
func (m *model) ReadPassword(ctx context.Context, name string, _ account.ReadHint) (account.Reading, error) {
	if err := m.serve(ctx, m.Read); err != nil {
		return account.Reading{}, err
	}
	const left = 20 * 24 * time.Hour
	password := make([]byte, managedpassword.PasswordSize)
	copy(password, name)
	return account.Reading{
		Blob: managedpassword.Blob{Current: secret.New(password), QueryInterval: left, UnchangedInterval: left - account.ClockSkew},
		KVNO: 1, Name: name, EncTypes: 0x10, Controller: "dc1",
	}, nil
}

// Authenticate implements account.Domain.
func (m *model) Authenticate(ctx context.Context, req account.AuthRequest) (account.Authentication, error) {
	d := m.FirstAS
	if req.Proven {
		d = m.AS
	}
	if err := m.serve(ctx, d); err != nil {
		return account.Authentication{}, err
	}
	return account.Authentication{KVNO: 1, Controller: "dc1", Credential: m.ticket(req.Client, krb5.NewName(krb5.NameSrvInst, "krbtgt", req.Client.Realm))}, nil
}

// ServiceTicket implements account.Domain.
func (m *model) ServiceTicket(ctx context.Context, tgt krb5.Credential, service krb5.PrincipalName) (krb5.Credential, string, error) {
	if err := m.serve(ctx, m.TGS); err != nil {
		return krb5.Credential{}, "", err
	}
	return m.ticket(tgt.Client, service), "dc1", nil
}

// ticket is one that the account's key opens.
func (m *model) ticket(client krb5.Principal, service krb5.PrincipalName) krb5.Credential {
	now := time.Now()
	sealed, err := krb5.Seal(m.key, krb5.UsageTicket, []byte("ticket"), rand.Reader)
	if err != nil {
		panic("bench: " + err.Error()) // crypto/rand does not fail
	}
	sealed.KVNO = 1
	return krb5.Credential{
		Client: client, Server: krb5.Principal{Realm: client.Realm, Name: service}, SessionKey: m.key,
		AuthTime: now, StartTime: now, EndTime: now.Add(10 * time.Hour),
		Ticket: krb5.Ticket{Realm: client.Realm, SName: service, EncPart: sealed}.Append(nil),
	}
}
