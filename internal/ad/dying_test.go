package ad_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// TestAControllerThatDiesInTheMiddle lets each operation of several steps meet the death
// of its controller at each message. Either nothing is left behind, or the error says
// what.
func TestAControllerThatDiesInTheMiddle(t *testing.T) { onBoth(t, testDeaths) }

func testDeaths(t *testing.T, dc *lab.DC) {
	root := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
	for name, c := range map[string]operation{
		"a host joins": {
			do: func(s *ad.Session, name string) error {
				_, err := s.JoinComputer(t.Context(), ad.Join{Name: name})
				return err
			},
			undo: func(name string) error { _, err := root.RemoveComputer(t.Context(), name); return err },
		},
		"an account with hosts is made": {
			do: func(s *ad.Session, name string) error {
				_, _, err := s.CreateServiceAccount(t.Context(), ad.NewServiceAccount{
					Name: name, OutboundOnly: true, Readers: []string{"web1$", "WebHosts"}, SPNs: []string{"http/" + name},
				})
				return err
			},
			undo: func(name string) error { _, err := root.RemoveServiceAccount(t.Context(), name); return err },
		},
		"an account of a single computer is made": {
			do: func(s *ad.Session, name string) error {
				_, _, err := s.CreateServiceAccount(t.Context(), ad.NewServiceAccount{Name: name, Standalone: true, Computer: "web1"})
				return err
			},
			undo: func(name string) error { _, err := root.RemoveServiceAccount(t.Context(), name); return err },
			also: func(dn, said string) error {
				computer, err := root.LinkedComputer(t.Context(), ad.Account{DN: dn})
				if computer != "" && !strings.Contains(said, computer) {
					return fmt.Errorf("it is linked to %s, and the error does not say that it may be", computer)
				}
				return err
			},
		},
		"a group with members is made": {
			do: func(s *ad.Session, name string) error {
				_, err := s.CreateGroup(t.Context(), ad.NewGroup{
					Name: name, Type: adproto.GroupSecurity | adproto.GroupUniversal, Members: []string{"web1$", "web2$"},
				})
				return err
			},
			undo: func(name string) error { _, err := root.RemoveGroup(t.Context(), name); return err },
		},
	} {
		for _, heard := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, last message heard %t", name, heard), func(t *testing.T) {
				m := lab.NewMortal(1<<20, false)
				if err := c.do(sessionBy(t, dc, m), "lives"); err != nil || c.undo("lives") != nil {
					t.Fatal(err)
				}
				messages, said := 1<<20-m.Left(), 0
				// Nothing is made while a session begins, which is the first half.
				for n := messages / 2; n < messages; n++ {
					if testDeath(t, c, root, sessionBy(t, dc, lab.NewMortal(n, heard)), fmt.Sprintf("dies%d", n)) {
						said++
					}
				}
				if said == 0 {
					t.Errorf("of %d deaths none left something behind", messages-messages/2)
				}
			})
		}
	}
}

// operation is one of several steps, with what takes away what it made.
type operation struct {
	do   func(s *ad.Session, name string) error
	undo func(name string) error
	// also looks at what is left, and at what the error says of it; may be nil.
	also func(dn, said string) error
}

// testDeath reports whether something was left behind.
func testDeath(t *testing.T, c operation, root, s *ad.Session, name string) bool {
	err := c.do(s, name)
	if err == nil {
		t.Errorf("%s: it went well", name)
	}
	left, findErr := root.Objects(t.Context(), ad.Query{
		Scope: ldapc.Subtree, Filter: adproto.Or(adproto.Equal("sAMAccountName", name), adproto.Equal("sAMAccountName", name+"$")),
	})
	if findErr != nil {
		t.Fatal(findErr)
	}
	if len(left) == 0 {
		return false
	}
	if e, ok := errors.AsType[*ad.StandsError](err); !ok || !strings.Contains(e.What, left[0].DN) {
		t.Errorf("%s is left, and the error is: %v", left[0].DN, err)
	}
	if c.also != nil {
		if wrong := c.also(left[0].DN, fmt.Sprint(err)); wrong != nil {
			t.Errorf("%s is left, and %v: %v", left[0].DN, wrong, err)
		}
	}
	if err := c.undo(name); err != nil {
		t.Error(err)
	}
	return true
}

// sessionBy is the administrator's, by way of a mortal controller.
func sessionBy(t *testing.T, dc *lab.DC, m *lab.Mortal) *ad.Session {
	t.Helper()
	cfg := config(t, dc)
	cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: []string{dc.IP.String()}, Dial: m.Dial, Now: dc.Now}
	return session(t, domain(t, cfg), password(t, "Administrator"))
}
