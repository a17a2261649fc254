package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// The texts are those of the event table in Microsoft's troubleshooting guide
// for gMSAs in containers, with %1, %2 and %3 filled in.
func TestTexts(t *testing.T) {
	account := Account{Name: "WebApp01$", Domain: "contoso.com"}
	key, err := dtyp.ParseGUID("{8a921fa4-b627-210c-8e00-7f44dec454da}")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		event Event
		id    ID
		level Level
		want  string
	}{
		{PluginInstantiated("vault"), 1, Information, "Container Credential Guard instantiated the plug-in"},
		{Fetched(account, Keytab), 2, Information, "Container Credential Guard fetched gmsa credentials for WebApp01@contoso.com using plug-in: keytab"},
		{SpecUnparsable(errors.New("boom")), 3, Error, "Container Credential Guard failed to parse the credential spec. Error: boom"},
		{PluginFailed("vault", errors.New("boom")), 4, Error, "Container Credential Guard failed to instantiate the plug-in: vault. Error: boom"},
		{StoreFailed("vault", errors.New("boom")), 6, Error, "Container Credential Guard failed to fetch credentials from the plug-in: vault. Error: boom"},
		{Refetching(account, Keytab), 7, Information, "Container Credential Guard is refetching the credentials using the plug-in: keytab"},
		{FetchFailed(account, "vault", errors.New("boom")), 8, Error, "Container Credential Guard failed to fetch gmsa credentials for WebApp01@contoso.com using plugin vault. Error reason: boom"},
		{RootKeyCreated(key), 4004, Information, "Group Key Distribution Service created a master root key in AD.  The key ID is 8a921fa4-b627-210c-8e00-7f44dec454da."},
	} {
		if tt.event.Message != tt.want {
			t.Errorf("event %d:\n got %q\nwant %q", tt.id, tt.event.Message, tt.want)
		}
		if tt.event.ID != tt.id || tt.event.Level != tt.level {
			t.Errorf("event %d: id %d, level %s, want level %s", tt.id, tt.event.ID, tt.event.Level, tt.level)
		}
		if wantChannel := map[bool]string{true: ChannelKDS, false: ChannelCCG}[tt.id == 4004]; tt.event.Channel != wantChannel {
			t.Errorf("event %d: channel %s, want %s", tt.id, tt.event.Channel, wantChannel)
		}
	}
}

func TestHostileArguments(t *testing.T) {
	evil := errors.New("no\n{\"id\":2}\x1b[2J\u202e" + strings.Repeat("é", 5000))
	e := FetchFailed(Account{Name: "a\nb"}, "p\r", evil)
	if strings.ContainsAny(e.Message, "\n\r\x1b\u202e") {
		t.Errorf("control characters survive: %q", e.Message[:100])
	}
	if len(e.Reason) > maxArgument || !strings.HasSuffix(e.Reason, "é…") {
		t.Errorf("reason has %d bytes and ends in %q", len(e.Reason), e.Reason[len(e.Reason)-8:])
	}
	line, err := json.Marshal(e)
	if err != nil || len(line) > maxLine {
		t.Errorf("line of %d bytes, %v", len(line), err)
	}
}

func TestSecretInAnErrorStaysHidden(t *testing.T) {
	key := secret.New([]byte("hunter2hunter2"))
	e := StoreFailed("file", fmt.Errorf("value %v %x %s", key, key, key))
	if strings.Contains(e.Message, "hunter2") || strings.Contains(e.Message, "68756e746572") {
		t.Errorf("secret in %q", e.Message)
	}
}
