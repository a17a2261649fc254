package nrpc_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/nrpc"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func computer(t *testing.T, name, password string) nrpc.Computer {
	t.Helper()
	key, err := crypto.StringToKey(crypto.RC4HMAC, []byte(password), "", nil, crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return nrpc.Computer{Account: name + "$", Name: name, NTHash: key.Secret()}
}

func TestSamba(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	if err := nrpc.Verify(t.Context(), dc.IP, dc.Host, computer(t, "web1", lab.ComputerPassword("web1"))); err != nil {
		t.Errorf("the right password: %v", err)
	}
	for name, c := range map[string]struct {
		computer nrpc.Computer
		status   uint32
	}{
		"a wrong password": {computer(t, "web1", "wrong"), nrpc.StatusAccessDenied},
		"nobody's name":    {computer(t, "ghost", "wrong"), 0xc000018b}, // STATUS_NO_TRUST_SAM_ACCOUNT
	} {
		err := nrpc.Verify(t.Context(), dc.IP, dc.Host, c.computer)
		if e, ok := errors.AsType[*nrpc.StatusError](err); !ok || e.Status != c.status {
			t.Errorf("%s: %v", name, err)
		}
	}
}
