package ldapd

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
)

// pipe is a connection of an administrator on which a byte is written when the other
// side reads it: what the server sends stays outstanding until the test looks.
func (f *fixture) pipe(t *testing.T) *client {
	t.Helper()
	near, far := net.Pipe()
	_ = near.SetDeadline(time.Now().Add(30 * time.Second))
	c := newConn(f.server, far, netip.AddrPort{}, endpoint{})
	c.become(f.Caller(t, admin))
	var wg sync.WaitGroup
	wg.Go(func() { c.run(context.Background()) })
	t.Cleanup(func() { _ = near.Close(); wg.Wait() })
	return &client{near, t}
}

const schemaDN = "CN=Schema,CN=Configuration,DC=contoso,DC=com"

func TestOutstandingSearchesAreLimited(t *testing.T) {
	f := start(t, func(cfg *Config) { cfg.Limits.Outstanding = 3 })
	c := f.pipe(t)
	for id := range byte(4) {
		c.send(request(id+1, ldapmsg.OpSearchRequest, searchBody("CN=Users,DC=contoso,DC=com", 1, "(objectClass=group)", "cn")))
	}
	codes := map[int]int{}
	for done := 0; done < 4; {
		if a := c.next(); a.op == ldapmsg.OpSearchDone {
			codes[a.code]++
			done++
		} else if a.op != ldapmsg.OpSearchEntry {
			t.Fatalf("%+v", a)
		}
	}
	if codes[success] != 3 || codes[busy] != 1 {
		t.Errorf("results: %v, want three successes and one busy", codes)
	}
}

// TestOutstandingSearchesOfASourceAreLimited, on however many connections.
func TestOutstandingSearchesOfASourceAreLimited(t *testing.T) {
	f := start(t, func(cfg *Config) { cfg.Limits.OutstandingPerSource = 3 })
	ask := func(c *client, id byte) {
		c.send(request(id, ldapmsg.OpSearchRequest, searchBody("CN=Users,DC=contoso,DC=com", 1, "(objectClass=group)", "cn")))
	}
	var waiting []*client
	for range 3 {
		c := f.pipe(t)
		ask(c, 1)
		if a := c.next(); a.op != ldapmsg.OpSearchEntry { // it has begun, and is stuck
			t.Fatalf("%+v", a)
		}
		waiting = append(waiting, c)
	}
	c := f.pipe(t)
	ask(c, 1)
	if a := c.next(); a.op != ldapmsg.OpSearchDone || a.code != busy {
		t.Errorf("the fourth: %+v", a)
	}
	for a := waiting[0].next(); a.op != ldapmsg.OpSearchDone; a = waiting[0].next() {
		if a.op != ldapmsg.OpSearchEntry {
			t.Fatalf("the first: %+v", a)
		}
	}
	for id := byte(2); ; id++ { // it ends a moment after its last message
		ask(c, id)
		a := c.next()
		if a.op == ldapmsg.OpSearchEntry {
			break
		}
		if id == 100 {
			t.Fatalf("when one has ended: %+v", a)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAbandonedSearchesHaveNoEnd(t *testing.T) {
	f := start(t)
	for name, end := range map[string][]byte{
		"abandon": request(2, ldapmsg.OpAbandonRequest, []byte{1}),
		"a bind":  request(2, ldapmsg.OpBindRequest, bindBody("", 0x80, nil)),
	} {
		c := f.pipe(t)
		c.send(request(1, ldapmsg.OpSearchRequest, searchBody(schemaDN, 1, "(objectClass=*)")), end)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			c.send(request(3, ldapmsg.OpExtendedRequest, extended(adproto.OIDWhoAmI)))
		}()
		// Time for the server to take the second request while the first waits for us.
		time.Sleep(50 * time.Millisecond)
		entries := 0
		for {
			a := c.next()
			if a.id == 3 {
				break
			}
			if a.op == ldapmsg.OpSearchDone || a.op == 0 {
				t.Fatalf("%s: %+v", name, a)
			}
			if a.op == ldapmsg.OpSearchEntry {
				entries++
			}
		}
		<-sent
		if entries > 1000 {
			t.Errorf("%s: %d entries came all the same", name, entries)
		}
	}
}

func TestAnIdInUseEndsTheConnection(t *testing.T) {
	c := start(t).pipe(t)
	q := request(1, ldapmsg.OpSearchRequest, searchBody(schemaDN, 1, "(objectClass=*)"))
	c.send(q, q)
	for {
		a := c.next()
		if a.id == 0 {
			if a.code != protocolError {
				t.Errorf("%+v", a)
			}
			return
		}
		if a.op == ldapmsg.OpSearchDone {
			t.Fatal("the search ended before its id came again")
		}
	}
}
