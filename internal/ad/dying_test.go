package ad_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// mortal is the way to a controller that dies at a message: before it arrives, or when
// it was answered and nobody hears the answer. From then on nothing is there.
type mortal struct {
	heard bool // the last message arrives

	mu       sync.Mutex
	left     int // messages until then
	dead     bool
	conns    []net.Conn
	answered chan struct{}
}

var errDead = errors.New("connection refused")

func newMortal(left int, heard bool) *mortal {
	return &mortal{left: left, heard: heard, answered: make(chan struct{}, 1)}
}

func (m *mortal) dial(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errDead
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m.conns = append(m.conns, c)
	return mortalConn{c, m}, nil
}

// next counts a message; last says that it is the one to die at.
func (m *mortal) next() (last bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return false, errDead
	}
	m.left--
	m.dead = m.left < 0
	return m.dead, nil
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

type mortalConn struct {
	net.Conn
	m *mortal
}

func (c mortalConn) Write(b []byte) (int, error) {
	last, err := c.m.next()
	if err != nil {
		return 0, err
	}
	if !last {
		return c.Conn.Write(b)
	}
	if c.m.heard {
		if _, err := c.Conn.Write(b); err == nil {
			select { // so that what was asked for is done before anybody looks
			case <-c.m.answered:
			case <-time.After(2 * time.Second):
			}
		}
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for _, conn := range c.m.conns {
		_ = conn.Close()
	}
	return 0, errDead
}

func (c mortalConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.m.isDead() {
		return n, err
	}
	select {
	case c.m.answered <- struct{}{}:
	default:
	}
	return 0, errDead
}

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
				m := newMortal(1<<20, false)
				if err := c.do(sessionBy(t, dc, m), "lives"); err != nil || c.undo("lives") != nil {
					t.Fatal(err)
				}
				messages, said := 1<<20-m.left, 0
				// Nothing is made while a session begins, which is the first half.
				for n := messages / 2; n < messages; n++ {
					if testDeath(t, c, root, sessionBy(t, dc, newMortal(n, heard)), fmt.Sprintf("dies%d", n)) {
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
	if err := c.undo(name); err != nil {
		t.Error(err)
	}
	return true
}

// sessionBy is the administrator's, by way of a mortal controller.
func sessionBy(t *testing.T, dc *lab.DC, m *mortal) *ad.Session {
	t.Helper()
	cfg := config(t, dc)
	cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: []string{dc.IP.String()}, Dial: m.dial, Now: dc.Now}
	return session(t, domain(t, cfg), password(t, "Administrator"))
}
