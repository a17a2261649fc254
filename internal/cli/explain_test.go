package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/explain"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/krb5"
)

// An error that carries a protocol's code ends with how to learn more of it.
func TestErrorsWithCodesPointToExplain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a KDC's refusal":           {fmt.Errorf("log on: %w", &kclient.Error{Kind: kclient.ErrWrongKey, Err: &krb5.KRBError{Code: krb5.ErrPreauthFailed}}), "gmsa explain 24 KDC_ERR_PREAUTH_FAILED"},
		"a directory's refusal":     {fmt.Errorf("bind: %w", &ldapc.Error{Code: 49, Data: 0x533}), "gmsa explain LDAP 49 data 533"},
		"a code in front":           {&ldapc.Error{Code: 19, Win32: 0x21c7}, "gmsa explain LDAP 19 000021C7"},
		"the agent's":               {&agentapi.Failure{Code: "37 KRB_AP_ERR_SKEW"}, "gmsa explain 37 KRB_AP_ERR_SKEW"},
		"a code of the agent's own": {&agentapi.Failure{Code: agentapi.CodeNotInstalled}, ""},
		"an error without one":      {errors.New("x"), ""},
	} {
		var stderr bytes.Buffer
		a := &app{env: Env{Stderr: &stderr}, output: outputText}
		a.report(c.err)
		if got := explainHint(c.err); got != c.want || c.want != "" && !strings.HasSuffix(stderr.String(), "\nhint: "+c.want+"\n") {
			t.Errorf("%s: %q in\n%s", name, got, stderr.String())
		}
		if c.want == "" {
			continue
		}
		if entries := explain.Find(strings.TrimPrefix(c.want, "gmsa explain ")); len(entries) == 0 || entries[0].Cause == "" {
			t.Errorf("%s: %q explains nothing: %+v", name, c.want, entries)
		}
	}
}

// What is to be typed next is a command that the program has, with its options.
func TestNextStepsParse(t *testing.T) {
	n := 0
	for _, e := range explain.Advised() {
		for _, next := range e.Next {
			if !strings.HasPrefix(next, "gmsa ") {
				continue
			}
			n++
			if _, err := parseExample(next); err != nil {
				t.Errorf("%s %s: %q: %v", e.Kind, e.Code, next, err)
			}
		}
	}
	if n < 100 {
		t.Errorf("%d commands", n)
	}
}

// The statuses with which gmsa verify ends are explained, under the names that it prints.
func TestStatusesOfVerifyAreExplained(t *testing.T) {
	for _, s := range []win32Status{
		statusSuccess, statusAccessDenied, statusTimeout, statusNoLogonServers, statusLogonFailure, statusLogonHours, statusWorkstation,
		statusPasswordExpired, statusDisabled, statusNoSuchDomain, statusTimeSkew, statusNoTrustAccount, statusTrustFailure, statusAccountExpired, statusLockedOut,
	} {
		entries := explain.Find("Trust Verification Status = " + s.String())
		if len(entries) != 1 || entries[0].Code != fmt.Sprint(s.Code) || entries[0].Cause == "" {
			t.Errorf("%s: %+v", s, entries)
		}
	}
}
