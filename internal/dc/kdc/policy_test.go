package kdc

import (
	"strings"
	"testing"
	"time"
)

func TestPolicyReportsAllFaults(t *testing.T) {
	for _, good := range []Policy{{}, {MaxTicketAge: 10 * time.Minute}, {MaxTicketAge: 30 * 24 * time.Hour}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	bad := Policy{MaxTicketAge: time.Second, MaxRenewAge: -1, Skew: 24 * time.Hour}
	err := bad.Validate()
	if err == nil || strings.Count(err.Error(), "want") != 3 {
		t.Errorf("%+v: %v", bad, err)
	}
}
