package ldapd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// security 15: what was made for one answer is dropped with it.
func TestSecretValuesAreErasedOnceSent(t *testing.T) {
	secret, other := []byte("managed password"), []byte("cn")
	s := searching{buf: &buffer{}}
	err := s.entry(directory.SearchEntry{DN: "CN=x", Attributes: []directory.Attribute{
		{Name: "msds-managedpassword", Values: [][]byte{secret}}, {Name: "cn", Values: [][]byte{other}}}})
	if err != nil || !bytes.Contains(s.buf.b, []byte("managed password")) {
		t.Errorf("%v: % x", err, s.buf.b)
	}
	if !bytes.Equal(secret, make([]byte, len(secret))) || string(other) != "cn" {
		t.Errorf("%q, %q", secret, other)
	}
	b := s.buf.b
	s.buf.release()
	if bytes.Contains(b[:cap(b)], []byte("managed password")) {
		t.Error("the buffer still has it")
	}
}

// An answer of many entries and megabytes comes whole, over both kinds of layer.
func TestTheWholeSchema(t *testing.T) {
	lab.Need(t, "ldapsearch")
	f := start(t)
	env := f.kerberosEnv(t, "alice", alicePassword)
	for name, args := range map[string][]string{
		"sealed": {"-H", url("ldap", f.plain), "-Y", "GSSAPI"},
		"TLS":    {"-H", url("ldaps", f.tls), "-x", "-D", "alice@contoso.com", "-w", alicePassword},
	} {
		out, err := lab.Try(env, "", "ldapsearch", append(args, "-LLL", "-E", "pr=500/noprompt", "-b", schemaDN, "(objectClass=attributeSchema)")...)
		if n := strings.Count(out, "\ndn: CN="); err != nil || n < 700 {
			t.Errorf("%s: %d attributes, %v", name, n, err)
		}
	}
}
