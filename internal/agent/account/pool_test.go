package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// directory is a domain of many accounts whose passwords never change, to see
// what a pool asks of it: how often, how much at once, and after which answers.
type directory struct {
	latency time.Duration
	life    time.Duration         // of a password from the first read; 0: 30 days
	fail    atomic.Pointer[Error] // what every request ends with
	reads   atomic.Int64
	auths   atomic.Int64
	tickets atomic.Int64
	// salt is what the KDC announces to a client that does not begin with
	// pre-authentication, or with another salt's key; "": any will do.
	salt atomic.Pointer[string]
	// kvno is what the directory says, if not the number of the password, and
	// issued what the KDC puts on tickets to the account and on its replies; 0
	// for neither.
	kvno, issued atomic.Uint32
	// spoiled: somebody changes the ticket-granting tickets on their way.
	spoiled atomic.Bool
	// generation is the number of the password.
	generation atomic.Int64

	mu      sync.Mutex
	flight  int
	most    int
	hints   []ReadHint
	authReq []AuthRequest
	byName  map[string]int
	began   time.Time
}

func (d *directory) enter() func() {
	d.mu.Lock()
	d.flight++
	d.most = max(d.most, d.flight)
	d.mu.Unlock()
	time.Sleep(d.latency)
	return func() {
		d.mu.Lock()
		d.flight--
		d.mu.Unlock()
	}
}

// requests are the AS exchanges so far, asked the reads.
func (d *directory) requests() []AuthRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.authReq)
}

func (d *directory) asked() []ReadHint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.hints)
}

func (d *directory) failure() error {
	if e := d.fail.Load(); e != nil {
		return e
	}
	return nil
}

func (d *directory) ReadPassword(_ context.Context, account string, hint ReadHint) (Reading, error) {
	defer d.enter()()
	d.reads.Add(1)
	d.mu.Lock()
	d.hints = append(d.hints, hint)
	if d.byName == nil {
		d.byName = make(map[string]int)
	}
	d.byName[account]++
	d.mu.Unlock()
	if err := d.failure(); err != nil {
		return Reading{}, err
	}
	n := d.generation.Load()
	text := fmt.Sprintf("%s %d ", account, n)
	password := slices.Repeat([]byte(text), managedpassword.PasswordSize)[:managedpassword.PasswordSize]
	left := d.left()
	return Reading{
		Blob: managedpassword.Blob{Current: secret.New(password), QueryInterval: left, UnchangedInterval: max(left-ClockSkew, 0)},
		KVNO: d.version(n), Name: account, EncTypes: 0x18, Controller: "dc1",
	}, nil
}

func (d *directory) version(n int64) uint32 {
	if v := d.kvno.Load(); v != 0 {
		return v
	}
	return uint32(n + 1)
}

// left is how long the password lives yet.
func (d *directory) left() time.Duration {
	if d.life == 0 {
		return 720 * time.Hour
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.began.IsZero() {
		d.began = time.Now()
	}
	return time.Until(d.began.Add(d.life * time.Duration(d.generation.Load()+1)))
}

func (d *directory) Authenticate(_ context.Context, req AuthRequest) (Authentication, error) {
	defer d.enter()()
	d.auths.Add(1)
	d.mu.Lock()
	d.authReq = append(d.authReq, req)
	d.mu.Unlock()
	if err := d.failure(); err != nil {
		return Authentication{}, err
	}
	if s := d.salt.Load(); s != nil && *s != req.Salt {
		return Authentication{}, &Error{Reason: ErrSalt, Controller: "dc1", Salt: *s}
	}
	now := time.Now().Truncate(time.Second)
	quality := "tgt "
	if d.spoiled.Load() {
		quality = "spoiled "
	}
	return Authentication{Credential: krb5.Credential{
		Client: req.Client, AuthTime: now, StartTime: now, EndTime: now.Add(10 * time.Hour),
		Ticket: fmt.Append(nil, quality, req.Client, d.auths.Load()),
	}, KVNO: d.issued.Load(), Controller: "dc1"}, nil
}

func (d *directory) ServiceTicket(_ context.Context, tgt krb5.Credential, service krb5.PrincipalName) (krb5.Credential, string, error) {
	defer d.enter()()
	d.tickets.Add(1)
	if err := d.failure(); err != nil {
		return krb5.Credential{}, "", err
	}
	if strings.HasPrefix(string(tgt.Ticket), "spoiled") {
		return krb5.Credential{}, "", &Error{Reason: ErrTicket, Controller: "dc1"}
	}
	if n := d.issued.Load(); n != 0 && service.Components[0] == tgt.Client.Name.Components[0] {
		d.mu.Lock()
		k := d.authReq[len(d.authReq)-1].Keys[0]
		d.mu.Unlock()
		cipher, err := k.Encrypt(nil, krb5.UsageTicket, []byte("a ticket"), rand.Reader)
		if err != nil {
			return krb5.Credential{}, "", err
		}
		tgt.Ticket = krb5.Ticket{Realm: tgt.Client.Realm, SName: service,
			EncPart: krb5.EncryptedData{EType: k.EType(), KVNO: n, Cipher: cipher}}.Append(nil)
		return tgt, "dc1", nil
	}
	tgt.Server = krb5.Principal{Realm: tgt.Client.Realm, Name: service}
	tgt.Ticket = []byte("ticket for " + service.String())
	return tgt, "dc1", nil
}

// quickKeys makes keys that cost nothing, where only their number matters.
func quickKeys(password secret.Bytes, salt string, etypes ...crypto.EType) ([]*crypto.Key, error) {
	var out []*crypto.Key
	for _, e := range etypes {
		print := FingerprintOf(secret.New([]byte(salt + string(password.Reveal()))))
		n := 32
		if e == crypto.AES128SHA1 {
			n = 16
		}
		k, err := crypto.NewKey(e, secret.Copy(print[:n]))
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// journal records what the event log would.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) Fetched(k Key)           { j.add("2 %s", k) }
func (j *journal) Refetching(k Key)        { j.add("7 %s", k) }
func (j *journal) Failed(k Key, err error) { j.add("8 %s: %v", k, errors.Unwrap(errReason{err})) }

// errReason unwraps to the reason of an Error.
type errReason struct{ error }

func (e errReason) Unwrap() error {
	if x, ok := errors.AsType[*Error](e.error); ok {
		return x.Reason
	}
	return e.error
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// withPool runs fn beside a pool in a bubble.
func withPool(t *testing.T, cfg Config, fn func(ctx context.Context, p *Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Derive == nil {
			cfg.Derive = quickKeys
		}
		p := NewPool(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		fn(ctx, p)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func key(name string) Key { return Key{Realm: "CONTOSO.COM", Name: name, Host: "web1$"} }

// A ticket that somebody has changed on its way never replaces a good one, and a
// first one is replaced soon after the domain's answers come through again.
func TestSpoiledTicketsReplaceNoGoodOnes(t *testing.T) {
	d := &directory{}
	events := &journal{}
	withPool(t, Config{Events: events}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		first, err := h.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d.spoiled.Store(true)
		time.Sleep(9 * time.Hour)
		if h.Snapshot() != first {
			t.Errorf("the ticket %q was replaced by %q", first.Credentials[0].Ticket, h.Snapshot().Credentials[0].Ticket)
		}
		if want := "8 webapp01$@CONTOSO.COM: " + ErrAnswer.Error(); !strings.Contains(events.String(), want) {
			t.Errorf("no event %q among\n%s", want, events)
		}
		d.spoiled.Store(false)
		time.Sleep(backoffLast)
		if got := h.Snapshot(); got == first || strings.HasPrefix(string(got.Credentials[0].Ticket), "spoiled") {
			t.Errorf("the ticket %q is still there", got.Credentials[0].Ticket)
		}
	})
}

func TestASpoiledFirstTicketIsReplacedSoon(t *testing.T) {
	d := &directory{}
	d.spoiled.Store(true)
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		if _, err := h.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := d.auths.Load(); n > 10 {
			t.Errorf("%d AS exchanges within a minute", n)
		}
		d.spoiled.Store(false)
		time.Sleep(backoffFirst)
		if got := h.Snapshot().Credentials[0].Ticket; strings.HasPrefix(string(got), "spoiled") {
			t.Errorf("the ticket %q is still there", got)
		}
	})
}

func TestHundredCallersCauseOneFetch(t *testing.T) {
	d := &directory{latency: 20 * time.Millisecond}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				h := p.Open(Request{Key: key("webapp01$"), Domain: d})
				defer h.Close()
				s, err := h.Wait(ctx)
				if err != nil || !s.Usable(time.Now()) || len(s.Initiator.Keys) != 2 {
					t.Errorf("Wait: %+v, %v", s, err)
				}
			})
		}
		wg.Wait()
		if r, a := d.reads.Load(), d.auths.Load(); r != 1 || a != 1 {
			t.Errorf("%d reads and %d AS exchanges, want one each", r, a)
		}
		// The account stays warm for a while: the next lease asks nobody.
		time.Sleep(linger / 2)
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		if _, err := h.Wait(ctx); err != nil || d.reads.Load() != 1 || d.auths.Load() != 1 {
			t.Errorf("a warm lease: %v, %d reads, %d AS exchanges", err, d.reads.Load(), d.auths.Load())
		}
	})
}

func TestAccountIsForgottenWhenNobodyUsesIt(t *testing.T) {
	d := &directory{}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		if _, err := h.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		h.Close()
		h.Close()
		time.Sleep(3 * time.Hour)
		p.mu.Lock()
		n := len(p.accounts)
		p.mu.Unlock()
		before := d.reads.Load()
		time.Sleep(24 * time.Hour)
		if n != 0 || d.reads.Load() != before {
			t.Errorf("%d accounts left, %d reads since", n, d.reads.Load()-before)
		}
	})
}

func TestProfilesShareTicketsOrDoNot(t *testing.T) {
	d := &directory{}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		http := []krb5.PrincipalName{krb5.NewName(krb5.NameSrvHst, "http", "db.contoso.com")}
		requests := []Request{
			{}, {}, // one ticket
			{Profile: Profile{Forwardable: true}},
			{Profile: Profile{Lifetime: time.Hour}},
			{Profile: Profile{EncTypes: []crypto.EType{crypto.AES128SHA1}}},
			{Profile: Profile{Services: http}},
			{Isolated: true}, {Isolated: true}, // two tickets
		}
		seen := make(map[string]bool)
		for i, r := range requests {
			r.Key, r.Domain = key("webapp01$"), d
			h := p.Open(r)
			defer h.Close()
			s, err := h.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			seen[string(s.Credentials[0].Ticket)] = true
			if want := 1 + len(r.Profile.Services); len(s.Credentials) != want {
				t.Errorf("request %d: %d credentials, want %d", i, len(s.Credentials), want)
			}
		}
		if len(seen) != 7 || d.reads.Load() != 1 {
			t.Errorf("%d tickets and %d reads, want 7 and 1", len(seen), d.reads.Load())
		}
		var etypes [][]crypto.EType
		for _, r := range d.requests() {
			var es []crypto.EType
			for _, k := range r.Keys {
				es = append(es, k.EType())
			}
			etypes = append(etypes, es)
		}
		if !slices.ContainsFunc(etypes, func(es []crypto.EType) bool { return slices.Equal(es, []crypto.EType{crypto.AES128SHA1}) }) {
			t.Errorf("no exchange was limited to AES128: %v", etypes)
		}
	})
}

func TestTicketsAreReplacedInTime(t *testing.T) {
	d := &directory{}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		first, err := h.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		changed := make(chan *Snapshot, 1)
		h.Watch(func(s *Snapshot) { changed <- s })
		start := time.Now()
		second := <-changed
		if after := time.Since(start); after < 5*time.Hour || after > 8*time.Hour {
			t.Errorf("a ticket of 10 h was replaced after %v", after)
		}
		if string(second.Credentials[0].Ticket) == string(first.Credentials[0].Ticket) || h.Snapshot() != second {
			t.Error("the snapshot was not replaced")
		}
	})
}

// The directory withholds the password without a word: the host's groups may
// have changed, so that it is asked once more with a new ticket of the host, once
// a minute at the most; and then the caller is told.
func TestWithheld(t *testing.T) {
	d, j := &directory{}, &journal{}
	d.fail.Store(&Error{Reason: ErrWithheld, Controller: "dc1"})
	withPool(t, Config{Events: j}, func(ctx context.Context, p *Pool) {
		for range 5 {
			h := p.Open(Request{Key: key("webapp01$"), Domain: d})
			if _, err := h.Wait(ctx); !errors.Is(err, ErrWithheld) {
				t.Errorf("Wait: %v, want ErrWithheld", err)
			}
			defer h.Close()
			time.Sleep(10 * time.Second)
		}
		fresh := 0
		for _, h := range d.asked() {
			if h.FreshTicket {
				fresh++
			}
		}
		if fresh != 1 {
			t.Errorf("%d fresh tickets of the host within a minute, want 1", fresh)
		}
		if got := j.String(); got != "8 webapp01$@CONTOSO.COM: "+ErrWithheld.Error() {
			t.Errorf("events:\n%s", got)
		}
		// The host is added to the group: the next lease has it, without a restart.
		time.Sleep(time.Minute)
		d.fail.Store(nil)
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		if _, err := h.Wait(ctx); err != nil {
			t.Errorf("after the host was added: %v", err)
		}
		if got := j.String(); !strings.HasSuffix(got, "\n2 webapp01$@CONTOSO.COM") {
			t.Errorf("events:\n%s", got)
		}
	})
}

// A failure of one account does not slow another one, and callers in a hurry do
// not hammer the domain.
func TestFailingAccountIsNotHammered(t *testing.T) {
	d := &directory{latency: time.Millisecond}
	d.fail.Store(&Error{Reason: ErrDisabled, Controller: "dc1", Err: errors.New("KDC_ERR_CLIENT_REVOKED (18)")})
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		end := time.Now().Add(time.Minute)
		for time.Now().Before(end) {
			h := p.Open(Request{Key: key("webapp01$"), Domain: d})
			if _, err := h.Wait(ctx); !errors.Is(err, ErrDisabled) {
				t.Fatalf("Wait: %v", err)
			}
			h.Close()
			time.Sleep(100 * time.Millisecond)
		}
		if n := d.reads.Load(); n > 31 {
			t.Errorf("%d reads in a minute, want one in %v at the most", n, demandPause)
		}
	})
}

// What the KDC says of its salt is believed for a password that is new and in
// force. Of one that was accepted before it says nothing: another password with
// another salt is in force by now, and tickets under the old keys live on.
func TestSaltIsThatOfThePasswordInForce(t *testing.T) {
	d := &directory{}
	salt := "CONTOSO.COMhostold.contoso.com"
	d.salt.Store(&salt)
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		s, err := h.Wait(ctx)
		if err != nil || s.Initiator.Salt != salt || s.Acceptor[0].Salt != salt {
			t.Fatalf("initiator salt %q, %v", s.Initiator.Salt, err)
		}
		if n := d.auths.Load(); n != 2 || d.requests()[0].Proven || d.requests()[1].Salt != salt {
			t.Errorf("%d AS exchanges: %+v", n, d.requests())
		}
		other := "CONTOSO.COMhostnew.contoso.com"
		d.salt.Store(&other)
		time.Sleep(9 * time.Hour)
		if s := h.Snapshot(); s.Initiator.Salt != salt || len(s.Acceptor) != 1 || s.Acceptor[0].Salt != salt {
			t.Errorf("the keys of a proven password were replaced: %+v", s.Acceptor)
		}
		for _, r := range d.requests()[2:] {
			if r.Salt != salt {
				t.Errorf("a key with salt %q was tried", r.Salt)
			}
		}
	})
}

// What the directory says of kvno is not the last word: the KDC's own tickets are,
// and a number that nothing explains makes the guard read again at once.
func TestVersionIsProvedByATicket(t *testing.T) {
	d := &directory{}
	d.kvno.Store(4)
	d.issued.Store(5)
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		if _, err := h.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		var kvnos []uint32
		for _, s := range h.Snapshot().Acceptor {
			kvnos = append(kvnos, s.KVNO)
		}
		slices.Sort(kvnos)
		if !slices.Equal(kvnos, []uint32{4, 5}) || h.Snapshot().Initiator.KVNO != 5 {
			t.Errorf("acceptor kvno %v, initiator %d, want 4 and 5", kvnos, h.Snapshot().Initiator.KVNO)
		}
		d.issued.Store(9)
		reads := d.reads.Load()
		refreshed := make(chan bool, 1)
		h.Watch(func(*Snapshot) {
			select {
			case refreshed <- true:
			default:
			}
		})
		<-refreshed
		time.Sleep(10 * time.Second)
		if n := d.reads.Load() - reads; n < 1 || d.auths.Load() != 2 {
			t.Errorf("%d AS exchanges; %d reads after an unknown kvno", d.auths.Load(), n)
		}
	})
}

// saltedDirectory tells salts too.
type saltedDirectory struct {
	directory
	announced string
	err       error
	asked     atomic.Int64
}

func (d *saltedDirectory) Salt(context.Context, krb5.Principal, string, ...crypto.EType) (string, error) {
	d.asked.Add(1)
	return d.announced, d.err
}

// Where the salt was announced while the keys were derived, the exchange does not
// ask for it; an answer that does not fit, or none, changes nothing.
func TestSaltIsAskedForMeanwhile(t *testing.T) {
	const ours = "CONTOSO.COMhostwebapp01.contoso.com"
	for name, c := range map[string]struct {
		announced string
		err       error
		proven    bool
	}{
		"the one that the name yields": {ours, nil, true},
		"another one":                  {"CONTOSO.COMhostold.contoso.com", nil, false},
		"no answer":                    {ours, &Error{Reason: ErrNoController}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := &saltedDirectory{announced: c.announced, err: c.err}
			withPool(t, Config{}, func(ctx context.Context, p *Pool) {
				h := p.Open(Request{Key: key("webapp01$"), Domain: d})
				defer h.Close()
				if _, err := h.Wait(ctx); err != nil {
					t.Fatal(err)
				}
				if r := d.requests(); len(r) != 1 || r[0].Proven != c.proven {
					t.Errorf("%d exchanges, proven %v, want %v", len(r), r[0].Proven, c.proven)
				}
				time.Sleep(24 * time.Hour)
				if n := d.asked.Load(); n != 1 {
					t.Errorf("asked %d times for the salt", n)
				}
			})
		})
	}
}

// refusingDirectory is a saltedDirectory whose KDC refuses keys of another salt than
// the announced one, and says which it has unless it is silent.
type refusingDirectory struct {
	saltedDirectory
	silent bool
}

func (d *refusingDirectory) Authenticate(ctx context.Context, req AuthRequest) (Authentication, error) {
	auth, err := d.saltedDirectory.Authenticate(ctx, req)
	switch {
	case err != nil || req.Salt == d.announced:
		return auth, err
	case !req.Proven:
		return Authentication{}, &Error{Reason: ErrSalt, Controller: "dc1", Salt: d.announced}
	case d.silent:
		return Authentication{}, &Error{Reason: ErrWrongKey, Controller: "dc1"}
	}
	return Authentication{}, &Error{Reason: ErrWrongKey, Controller: "dc1", Salt: d.announced}
}

// A salt that an earlier run knew saves the question for it while the password is the
// same. A wrong one costs a refusal, once: the KDC has the last word.
func TestSaltOfAnEarlierRun(t *testing.T) {
	const ours, old = "CONTOSO.COMhostwebapp01.contoso.com", "CONTOSO.COMhostold.contoso.com"
	for name, c := range map[string]struct {
		known  KnownSalt
		salt   string // of the domain
		silent bool
		asked  int64
		tried  []string // salts of the keys that were sent
	}{
		"nothing is known":                     {KnownSalt{}, ours, false, 1, []string{ours}},
		"the salt of the name":                 {KnownSalt{1, ours}, ours, false, 0, []string{ours}},
		"the salt of an earlier name":          {KnownSalt{1, old}, old, false, 0, []string{old}},
		"of another password":                  {KnownSalt{2, old}, ours, false, 1, []string{ours}},
		"wrong, and the KDC says so":           {KnownSalt{1, old}, ours, false, 0, []string{old, ours}},
		"wrong, and the KDC says so if asked":  {KnownSalt{1, old}, ours, true, 1, []string{old, ours}},
		"right, though the name gives another": {KnownSalt{1, old}, old, true, 0, []string{old}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &refusingDirectory{saltedDirectory: saltedDirectory{announced: c.salt}, silent: c.silent}
			withPool(t, Config{}, func(ctx context.Context, p *Pool) {
				h := p.Open(Request{Key: key("webapp01$"), Domain: d, Salt: c.known})
				defer h.Close()
				s, err := h.Wait(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if s.Initiator.Salt != c.salt || !s.Initiator.Proven {
					t.Errorf("salt %q, proven %v, want %q", s.Initiator.Salt, s.Initiator.Proven, c.salt)
				}
				var tried []string
				for _, r := range d.requests() {
					tried = append(tried, r.Salt)
				}
				if !slices.Equal(tried, c.tried) || !d.requests()[0].Proven {
					t.Errorf("keys with the salts %q were sent, proven %v, want %q", tried, d.requests()[0].Proven, c.tried)
				}
				time.Sleep(24 * time.Hour)
				if n := d.asked.Load(); n != c.asked {
					t.Errorf("asked %d times for the salt, want %d", n, c.asked)
				}
			})
		})
	}
}

// The event log tells once that a password has expired and once why there is no
// other, however often the guard tries, and then that there is.
func TestEventsOfALongOutage(t *testing.T) {
	d, j := &directory{life: 20 * time.Hour}, &journal{}
	withPool(t, Config{Events: j}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		if _, err := h.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(19 * time.Hour)
		d.fail.Store(&Error{Reason: ErrUnsealed})
		time.Sleep(2*time.Hour - 10*time.Minute)
		d.generation.Add(1)
		d.fail.Store(nil)
		time.Sleep(10 * time.Minute)
		name := "webapp01$@CONTOSO.COM"
		failed := "8 " + name + ": " + ErrUnsealed.Error()
		want := []string{"2 " + name, failed, "7 " + name, failed, "2 " + name}
		if got := j.String(); got != strings.Join(want, "\n") {
			t.Errorf("events:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	d := &directory{}
	d.fail.Store(&Error{Reason: ErrNoController})
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		h := p.Open(Request{Key: key("webapp01$"), Domain: d})
		defer h.Close()
		short, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		start := time.Now()
		_, err := h.Wait(short)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoController) || time.Since(start) != 30*time.Second {
			t.Errorf("Wait: %v after %v", err, time.Since(start))
		}
		// A controller returns: who waits has it within a few seconds.
		time.Sleep(10 * time.Minute)
		d.fail.Store(nil)
		start = time.Now()
		if _, err := h.Wait(ctx); err != nil || time.Since(start) > 2*time.Second {
			t.Errorf("after the return: %v, %v", err, time.Since(start))
		}
	})
}

// Ten thousand accounts lose their domain for half a day, through the end of all
// their tickets. A minute after a controller's return all have tickets, and never
// are more than 32 requests in flight. No account costs a goroutine.
func TestTenThousandAccountsRecover(t *testing.T) {
	accounts := short(10_000)
	d := &directory{latency: 40 * time.Millisecond}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		before := runtime.NumGoroutine()
		handles := make([]*Handle, accounts)
		for i := range handles {
			handles[i] = p.Open(Request{Key: key(fmt.Sprintf("svc%04d$", i)), Domain: d})
			defer handles[i].Close()
		}
		usable := func() (n int) {
			for _, h := range handles {
				if h.Snapshot().Usable(time.Now()) {
					n++
				}
			}
			return n
		}
		time.Sleep(time.Minute)
		if n := usable(); n != accounts {
			t.Fatalf("%d of %d accounts ready after a minute", n, accounts)
		}
		if n := runtime.NumGoroutine() - before; n > DefaultInFlight+8 {
			t.Errorf("%d goroutines", n)
		}
		d.fail.Store(&Error{Reason: ErrNoController})
		time.Sleep(12 * time.Hour)
		if n := usable(); n != 0 {
			t.Fatalf("%d accounts with live tickets after half a day", n)
		}
		asked := d.reads.Load() + d.auths.Load()
		time.Sleep(time.Minute)
		if n := d.reads.Load() + d.auths.Load() - asked; n > int64(time.Minute/(probeLast*3/4)) {
			t.Errorf("%d probes of a dead domain in a minute", n)
		}
		d.fail.Store(nil)
		time.Sleep(time.Minute)
		if n := usable(); n != accounts {
			t.Errorf("%d of %d accounts ready a minute after the return", n, accounts)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.most > DefaultInFlight {
			t.Errorf("%d requests in flight, want %d at the most", d.most, DefaultInFlight)
		}
	})
}

// Accounts that wait for their first ticket go before the proof of versions, which
// comes later, for each account.
func TestProofsWaitForTickets(t *testing.T) {
	const accounts = 1000
	d := &directory{latency: 40 * time.Millisecond}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		for i := range accounts {
			defer p.Open(Request{Key: key(fmt.Sprintf("svc%04d$", i)), Domain: d}).Close()
		}
		for d.auths.Load() < accounts {
			time.Sleep(10 * time.Millisecond)
		}
		if n := d.tickets.Load(); n > 2*DefaultInFlight { // the first and the last workers
			t.Errorf("%d tickets to accounts themselves before the last account had a ticket to the domain", n)
		}
		time.Sleep(proveLater + proveOver + time.Minute)
		if n := d.tickets.Load(); n != accounts {
			t.Errorf("%d tickets to accounts themselves, want %d", n, accounts)
		}
	})
}

// After an outage that has outlived all tickets, every account gets a ticket with the
// key that it has before any password is read, and the passwords are read after that.
func TestTicketsComeBeforePasswordsAfterAnOutage(t *testing.T) {
	const accounts = 500
	d := &directory{latency: 40 * time.Millisecond}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		var handles []*Handle
		for i := range accounts {
			h := p.Open(Request{Key: key(fmt.Sprintf("svc%04d$", i)), Domain: d})
			defer h.Close()
			handles = append(handles, h)
		}
		time.Sleep(10 * time.Minute)
		d.fail.Store(&Error{Reason: ErrNoController})
		time.Sleep(12 * time.Hour)
		reads := d.reads.Load()
		d.fail.Store(nil)
		for slices.ContainsFunc(handles, func(h *Handle) bool { return !h.Snapshot().Usable(time.Now()) }) {
			time.Sleep(10 * time.Millisecond)
		}
		if n := d.reads.Load() - reads; n > 2*DefaultInFlight { // the first and the last workers
			t.Errorf("%d passwords were read before the last account had a ticket", n)
		}
		time.Sleep(proveLater + proveOver + time.Minute)
		if n := d.reads.Load() - reads; n < accounts {
			t.Errorf("%d passwords of %d were read in the minutes after", n, accounts)
		}
	})
}

// rotated is a directory that has gone on to other passwords out of turn: it refuses
// the keys that it took before.
type rotated struct {
	*directory

	mu   sync.Mutex
	old  map[string]bool
	over bool
}

func (r *rotated) Authenticate(ctx context.Context, req AuthRequest) (Authentication, error) {
	key := string(req.Keys[0].Secret().Reveal())
	r.mu.Lock()
	if !r.over {
		r.old[key] = true
	}
	refused := r.over && r.old[key]
	r.mu.Unlock()
	if refused && r.failure() == nil {
		return Authentication{}, &Error{Reason: ErrWrongKey, Controller: "dc1"}
	}
	return r.directory.Authenticate(ctx, req)
}

// All passwords were rotated out of turn while no controller answered: the keys that
// the guard tries first are refused, and every account has its new one within a minute
// all the same.
func TestRotationDuringAnOutage(t *testing.T) {
	const accounts = 200
	d := &rotated{directory: &directory{latency: 40 * time.Millisecond}, old: map[string]bool{}}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		var handles []*Handle
		for i := range accounts {
			h := p.Open(Request{Key: key(fmt.Sprintf("svc%04d$", i)), Domain: d})
			defer h.Close()
			handles = append(handles, h)
		}
		time.Sleep(10 * time.Minute)
		d.fail.Store(&Error{Reason: ErrNoController})
		time.Sleep(12 * time.Hour)
		d.mu.Lock()
		d.over = true
		d.mu.Unlock()
		d.generation.Store(1)
		d.fail.Store(nil)
		time.Sleep(time.Minute)
		for _, h := range handles {
			if s := h.Snapshot(); !s.Usable(time.Now()) || s.Initiator.KVNO != 2 {
				t.Fatalf("%v after a minute: usable %t, initiator kvno %d", s.Account, s.Usable(time.Now()), s.Initiator.KVNO)
			}
		}
	})
}

// Many accounts of one host spread their requests: nothing comes at once.
func TestRefreshesSpread(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const accounts = 3000
	d := &directory{latency: time.Millisecond}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		for i := range accounts {
			defer p.Open(Request{Key: key(fmt.Sprintf("svc%04d$", i)), Domain: d}).Close()
		}
		time.Sleep(5 * time.Hour)
		var most int64
		for range 180 {
			before := d.auths.Load()
			time.Sleep(time.Minute)
			most = max(most, d.auths.Load()-before)
		}
		if even := int64(accounts / 180); most > 3*even {
			t.Errorf("%d AS exchanges in one minute, %d would be even", most, even)
		}
	})
}

// Memory of an account with its leases, without tickets' own bytes.
func TestMemoryOfLeases(t *testing.T) {
	const leases = 10_000
	d := &directory{}
	withPool(t, Config{}, func(ctx context.Context, p *Pool) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		handles := make([]*Handle, leases)
		for i := range handles {
			handles[i] = p.Open(Request{Key: key(fmt.Sprintf("svc%03d$", i%100)), Domain: d})
			handles[i].Watch(func(*Snapshot) {})
		}
		for _, h := range handles {
			if _, err := h.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if per := int64(after.HeapAlloc-before.HeapAlloc) / leases; per > 1024 {
			t.Errorf("%d bytes for each of %d leases of 100 accounts", per, leases)
		} else {
			t.Logf("%d bytes a lease", per)
		}
		for _, h := range handles {
			h.Close()
		}
	})
}
