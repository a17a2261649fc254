package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// asGMSA is a variable that makes this test program gmsa.
const asGMSA = "GMSA_CLI_TEST"

// TestMain lets scripts and tests run gmsa as a program of its own.
func TestMain(m *testing.M) {
	if os.Getenv(asGMSA) != "" {
		program()
	}
	testscript.Main(m, map[string]func(){"gmsa": program})
}

// program is cmd/gmsa.
func program() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], OS())
	stop()
	os.Exit(code)
}

// TestScripts runs testdata/script: one file for each behaviour.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ccache":    writeSeedCache,
			"fakeagent": startFakeAgent,
			"status":    checkStatus,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(e.WorkDir, "krb5cc"))
			return nil
		},
	})
}

// checkStatus runs gmsa and wants an exit code: status CODE ARGS…. What the
// program printed is for stdout and stderr to look at, as with exec.
func checkStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// writeSeedCache writes a credential cache: ccache FILE. Its ticket has the
// values of the listing in Microsoft's guide.
func writeSeedCache(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ccache FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), seedCache().Append(nil), 0o600))
}

func seedCache() ccache.Cache {
	webapp01 := krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, "webapp01$")}
	return ccache.Cache{
		Principal: webapp01,
		Credentials: []krb5.Credential{
			seedCredential(webapp01, "krbtgt", "CONTOSO.COM"),
			seedCredential(webapp01, "ldap", "dc01.contoso.com"),
		},
		Config: []ccache.Config{{Key: lease.SettingKDC, Principal: "krbtgt/CONTOSO.COM@CONTOSO.COM", Value: []byte("dc01.contoso.com")}},
	}
}

func seedCredential(client krb5.Principal, server ...string) krb5.Credential {
	key, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		panic(err)
	}
	service := krb5.Principal{Realm: client.Realm, Name: krb5.NewName(krb5.NameSrvInst, server...)}
	ticket := krb5.Ticket{Realm: service.Realm, SName: service.Name, EncPart: krb5.EncryptedData{EType: crypto.AES256SHA1, KVNO: 2, Cipher: make([]byte, 64)}}
	start := time.Date(2019, 3, 21, 4, 17, 53, 0, time.UTC)
	cred := krb5.Credential{
		Client: client, Server: service, SessionKey: key,
		AuthTime: start, StartTime: start, EndTime: start.Add(10 * time.Hour), RenewTill: start.Add(7*24*time.Hour - 11*time.Second),
		Flags: 0x40a10000, Ticket: ticket.Append(nil),
	}
	if server[0] != "krbtgt" {
		cred.RenewTill = time.Time{}
		cred.Flags = 0x40250000
	}
	return cred
}

// startFakeAgent serves the agent's protocol with fixed answers: fakeagent
// SOCKET. The real one has its own tests; here it is the client that is tested.
func startFakeAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fakeagent SOCKET")
	}
	stop, err := serveFakeAgent(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(stop)
}

func serveFakeAgent(socket string) (stop func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	agentapi.RegisterAgentServer(server, &fakeAgent{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	return func() { server.Stop(); <-done }, nil
}
