// Vault runs HashiCorp Vault's own core and HTTP handler, in memory, unsealed,
// with the KV secrets engine and the AppRole method, on a port of the loopback
// interface, and prints its address and root token. It is for the tests of
// package plugin only: see GMSA_TEST_VAULT there.
//
// It is a Go module of its own, so that nothing of Vault enters ours. Building
// it takes some minutes:
//
//	cd internal/agent/plugin/testdata/vault && go build -o /tmp/test-vault .
//	GMSA_TEST_VAULT=/tmp/test-vault go test ./internal/agent/plugin
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	log "github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	logger := log.New(&log.LoggerOptions{Level: log.Error, Output: os.Stderr})
	store, err := inmem.NewTransactionalInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: store, DisableMlock: true, Logger: logger, BuiltinRegistry: builtin{},
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
	})
	if err != nil {
		return err
	}
	seal := func() *vault.SealConfig { return &vault.SealConfig{SecretShares: 1, SecretThreshold: 1} }
	init, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: seal(), RecoveryConfig: seal()})
	if err != nil {
		return err
	}
	if _, err := core.Unseal(init.SecretShares[0]); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr(), init.RootToken)
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	return http.Serve(l, handler)
}

// builtin is the catalogue of what is compiled in.
type builtin struct{}

func (builtin) Keys(t consts.PluginType) []string {
	switch t {
	case consts.PluginTypeSecrets:
		return []string{"kv"}
	case consts.PluginTypeCredential:
		return []string{"approle"}
	}
	return nil
}

func (b builtin) Contains(name string, t consts.PluginType) bool {
	return slices.Contains(b.Keys(t), name)
}

func (b builtin) Get(name string, t consts.PluginType) (func() (any, error), bool) {
	switch {
	case !b.Contains(name, t):
		return nil, false
	case name == "kv":
		return func() (any, error) { return logical.Factory(kv.Factory), nil }, true
	}
	return func() (any, error) { return logical.Factory(approle.Factory), nil }, true
}

func (b builtin) DeprecationStatus(name string, t consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, t)
}
