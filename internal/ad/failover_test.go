package ad_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

// relay stands between a session and the lab's controller and plays a second
// controller, which can die in each of the ways that controllers do.
type relay struct {
	dc *lab.DC

	mu     sync.Mutex
	state  string // "", "frozen", "unroutable" or "dead"
	thaw   chan struct{}
	conns  []net.Conn
	copies sync.WaitGroup
}

// relayAddress is where the session believes the relay to be (RFC 5737).
const relayAddress = "192.0.2.10"

func newRelay(t *testing.T, dc *lab.DC) *relay {
	r := &relay{dc: dc, thaw: make(chan struct{})}
	t.Cleanup(func() { r.become("dead"); r.copies.Wait() })
	return r
}

// dial is the session's way to all controllers.
func (r *relay) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != relayAddress {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	r.mu.Lock()
	state := r.state
	r.mu.Unlock()
	switch state {
	case "dead":
		return nil, errors.New("connection refused")
	case "unroutable":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	out, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(r.dc.IP.String(), port))
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	r.mu.Lock()
	r.conns = append(r.conns, inner, out)
	r.mu.Unlock()
	r.copies.Go(func() { r.copy(out, inner) })
	r.copies.Go(func() { r.copy(inner, out) })
	return client, nil
}

// copy passes on what comes, message by message, unless the relay is frozen.
func (r *relay) copy(dst, src net.Conn) {
	defer func() { _, _ = dst.Close(), src.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		frozen, thaw := r.state == "frozen", r.thaw
		r.mu.Unlock()
		if frozen {
			<-thaw
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

// become changes the state; a dead relay's connections are closed.
func (r *relay) become(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == "frozen" {
		close(r.thaw)
		r.thaw = make(chan struct{})
	}
	r.state = state
	if state == "dead" {
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
	}
}

// viaRelay prefers the relay to the controller itself.
func viaRelay(t *testing.T, dc *lab.DC, r *relay) *ad.Domain {
	cfg := config(t, dc)
	cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: []string{relayAddress, dc.IP.String()}, Dial: r.dial, Now: dc.Now}
	return domain(t, cfg)
}

// within fails the test if f takes longer.
func within(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	start := time.Now()
	err := f()
	if d := time.Since(start); err != nil || d > limit {
		t.Errorf("%s: %v after %v, want success within %v", what, err, d, limit)
	} else {
		t.Logf("%s: %v", what, d.Round(time.Millisecond))
	}
}

func TestReadsSurviveTheDeathOfAController(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddGMSA(t, lab.GMSA{Name: "survivor", Readers: []string{"web1$"}})
	t.Cleanup(func() { dc.Delete(t, "survivor$") })
	for _, death := range []string{"frozen", "unroutable", "dead"} {
		t.Run(death, func(t *testing.T) {
			r := newRelay(t, dc)
			d := viaRelay(t, dc, r)
			list, err := d.Locator().Controllers(t.Context(), locate.GMSA)
			if err != nil || len(list) != 2 || list[0].Addr.String() != relayAddress {
				t.Fatal(list, err)
			}
			s, fresh := session(t, d, password(t, "web1$")), session(t, d, password(t, "web2$"))
			read := func() error {
				_, err := s.ManagedPassword(t.Context(), name(t, "survivor"), ad.Hint{})
				return err
			}
			within(t, 5*time.Second, "before", read)
			r.become(death)
			within(t, time.Second, "at once after", read)
			within(t, 300*time.Millisecond, "the next one", read)
			within(t, time.Second, "a host that logs on now", func() error {
				_, err := fresh.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{})
				return err
			})
			r.become("")
			d.Locator().Forget()
			within(t, 2*time.Second, "when it is back", read)
		})
	}
}

// Two real controllers of one domain, of which the one in use freezes or is killed:
// password, ticket and a new host's logon come from the other within a second.
func TestTwoControllers(t *testing.T) {
	dc1 := lab.Samba(t, lab.SambaConfig{Private: true})
	dc2 := dc1.Join(t, "dc2")
	cfg := config(t, dc1)
	cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: []string{dc1.IP.String(), dc2.IP.String()}, Now: dc1.Now}
	controllers := map[string]*lab.DC{dc1.Host: dc1, dc2.Host: dc2}
	for death, do := range map[string]struct{ end, mend func(*lab.DC, testing.TB) }{
		"frozen": {(*lab.DC).Pause, (*lab.DC).Resume},
		"killed": {(*lab.DC).Kill, (*lab.DC).Start},
	} {
		t.Run(death, func(t *testing.T) {
			d := domain(t, cfg)
			s, fresh := session(t, d, password(t, "web1$")), session(t, d, password(t, "web2$"))
			var from string
			read := func(s *ad.Session) func() error {
				return func() error {
					p, err := s.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{})
					from = p.Controller
					return err
				}
			}
			ticket := func() error {
				_, err := d.Kerberos().AS(t.Context(), kclient.ASRequest{
					Client: krb5.NewName(krb5.NamePrincipal, "web1$"), Secret: kclient.Password(secret.Copy([]byte(lab.ComputerPassword("web1")))),
				})
				return err
			}
			within(t, 5*time.Second, "a password before", read(s))
			within(t, 5*time.Second, "a ticket before", ticket)
			before := from
			in, ok := controllers[before]
			if !ok {
				t.Fatalf("the password is from %q", before)
			}
			do.end(in, t)
			defer do.mend(in, t)
			within(t, time.Second, "a password at once after", read(s))
			within(t, time.Second, "a ticket at once after", ticket)
			within(t, time.Second, "a host that logs on now", read(fresh))
			if from == before || controllers[from] == nil {
				t.Errorf("%s is dead, and the password is from %q", before, from)
			}
		})
	}
}

func TestHostThatLogsOnWhileAControllerIsDead(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	for _, death := range []string{"frozen", "unroutable", "dead"} {
		t.Run(death, func(t *testing.T) {
			r := newRelay(t, dc)
			known, unknown := viaRelay(t, dc, r), viaRelay(t, dc, r)
			if _, err := known.Locator().Controllers(t.Context(), locate.GMSA); err != nil {
				t.Fatal(err)
			}
			r.become(death)
			for what, d := range map[string]*ad.Domain{"remembered as alive": known, "never seen": unknown} {
				s := session(t, d, password(t, "web1$"))
				within(t, time.Second, what, func() error {
					_, err := s.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{})
					return err
				})
			}
		})
	}
}

func TestKeptConnectionThatTheControllerClosedIsReplaced(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	r := newRelay(t, dc)
	cfg := config(t, dc)
	cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: []string{relayAddress}, Dial: r.dial, Now: dc.Now}
	d := domain(t, cfg)
	s := session(t, d, password(t, "web1$"))
	read := func() error {
		_, err := s.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{})
		return err
	}
	within(t, 5*time.Second, "before", read)
	r.become("dead") // as a controller does with idle connections
	r.become("")
	within(t, time.Second, "after", read)
	r.become("dead")
	if err := read(); err == nil {
		t.Error("the only controller is dead and something answers")
	}
	s2 := session(t, d, password(t, "web1$"))
	if _, err := s2.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{}); !errors.Is(err, locate.ErrNoController) && !isUnreachable(err) {
		t.Errorf("%v", err)
	}
}

func TestAvoidedControllerIsAskedLast(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	p, err := s.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{Avoid: []string{lab.DCHost}})
	if err != nil || p.Controller != lab.DCHost {
		t.Errorf("the only controller, avoided: %q, %v", p.Controller, err)
	}
}

func TestManyReadersShareOneConnection(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	var mu sync.Mutex
	dialled := map[string]int{}
	cfg := config(t, dc)
	cfg.Locate.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		mu.Lock()
		dialled[network+port]++
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	s := session(t, domain(t, cfg), password(t, "web1$"))
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if _, err := s.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if dialled["tcp389"] != 1 {
		t.Errorf("connections: %v, want one for LDAP", dialled)
	}
}

func isUnreachable(err error) bool { return errors.Is(err, kclient.ErrUnreachable) }
