package gss

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

func wrap(t testing.TB, c *Context, msg []byte, conf bool) []byte {
	t.Helper()
	token, err := c.Wrap(nil, msg, conf)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestMessagesPassBothWays(t *testing.T) {
	for _, e := range etypes {
		i, a := pair(t, e, DefaultFlags)
		for n := range 70 {
			msg := fill(n)
			for _, ends := range [][2]*Context{{i, a}, {a, i}} {
				for _, conf := range []bool{true, false} {
					token, err := ends[0].Wrap([]byte("pre"), msg, conf)
					if err != nil || !bytes.HasPrefix(token, []byte("pre")) {
						t.Fatalf("%x, %v", token, err)
					}
					got, gotConf, err := ends[1].Unwrap([]byte("dst"), token[3:])
					if err != nil || string(got) != "dst"+string(msg) || gotConf != conf {
						t.Fatalf("%v, %d bytes, conf %t: %q, %t, %v", e, n, conf, got, gotConf, err)
					}
				}
				if err := ends[1].VerifyMIC(msg, ends[0].GetMIC(nil, msg)); err != nil {
					t.Fatalf("%v, %d bytes: MIC: %v", e, n, err)
				}
			}
		}
	}
}

func TestWrapLimit(t *testing.T) {
	for _, e := range etypes {
		i, _ := pair(t, e, DefaultFlags)
		for _, conf := range []bool{true, false} {
			for _, max := range []int{0, 50, 100, 1000, 65536} {
				n := i.WrapLimit(max, conf)
				if n == 0 {
					continue
				}
				if got := len(wrap(t, i, fill(n), conf)); got != max {
					t.Errorf("%v, conf %t: %d bytes make a token of %d, want %d", e, conf, n, got, max)
				}
			}
		}
	}
}

// rotate turns a Wrap token into what a sender makes that rotates by rrc.
func rotate(token []byte, rrc int) []byte {
	out := bytes.Clone(token)
	binary.BigEndian.PutUint16(out[6:], uint16(rrc))
	body := token[headerSize:]
	by := len(body) - rrc%len(body)
	copy(out[headerSize:], append(bytes.Clone(body[by:]), body[:by]...))
	return out
}

// RFC 4121, Section 4.2.5: a receiver must take any RRC. Windows sends 28 with
// EC 16 when it seals and 12 when it signs.
func TestAnyRotation(t *testing.T) {
	for _, conf := range []bool{true, false} {
		for _, rrc := range []int{0, 1, 12, 16, 28, 44, 45, 46, 1000, 65535} {
			i, a := pair(t, crypto.AES256SHA1, DefaultFlags)
			msg := []byte("a message")
			got, _, err := a.Unwrap(nil, rotate(wrap(t, i, msg, conf), rrc))
			if err != nil || !bytes.Equal(got, msg) {
				t.Errorf("RRC %d, conf %t: %q, %v", rrc, conf, got, err)
			}
		}
	}
}

// A token with EC bytes of filler between message and header, as Windows makes.
func TestFiller(t *testing.T) {
	i, a := pair(t, crypto.AES256SHA1, DefaultFlags)
	for _, ec := range []int{0, 1, 16, 1000} {
		h := i.newHeader(tokenWrap, sealed)
		h.setExtra(ec)
		msg := []byte("a message")
		token, err := i.key.EncryptParts(h[:], krb5.UsageInitiatorSeal, i.rand, msg, make([]byte, ec), h[:])
		if err != nil {
			t.Fatal(err)
		}
		got, conf, err := a.Unwrap(nil, rotate(token, 28))
		if err != nil || !bytes.Equal(got, msg) || !conf {
			t.Errorf("EC %d: %q, %v", ec, got, err)
		}
	}
}

// EC that claims more than the plaintext, sealed by a peer that has the key.
func TestFillerBeyondTheMessage(t *testing.T) {
	i, a := pair(t, crypto.AES256SHA1, DefaultFlags)
	h := i.newHeader(tokenWrap, sealed)
	h.setExtra(10)
	token, err := i.key.EncryptParts(h[:], krb5.UsageInitiatorSeal, i.rand, fill(9), h[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Unwrap(nil, token); !errors.Is(err, ErrIntegrity) {
		t.Errorf("got %v", err)
	}
}

// Every changed bit and every prefix is refused, and nothing of the message
// reaches the destination.
func TestChangedMessages(t *testing.T) {
	msg := []byte("transfer 10 to account 4711, please")
	for _, conf := range []bool{true, false} {
		i, a := pair(t, crypto.AES256SHA2, DefaultFlags)
		token := wrap(t, i, msg, conf)
		try := func(what string, bad []byte) {
			t.Helper()
			dst := make([]byte, 0, 256)
			if got, _, err := a.Unwrap(dst, bad); err == nil || got != nil {
				t.Errorf("conf %t, %s: %q, %v", conf, what, got, err)
			}
			if bytes.Contains(dst[:cap(dst)], msg) {
				t.Errorf("conf %t, %s: the message lies in the destination", conf, what)
			}
		}
		for at := range token {
			for bit := range 8 {
				bad := bytes.Clone(token)
				bad[at] ^= 1 << bit
				if at == 6 || at == 7 {
					// RRC is not protected, but another one moves the body.
					if by := int(binary.BigEndian.Uint16(bad[6:])); by%(len(bad)-headerSize) == 0 {
						continue
					}
				}
				try(fmt.Sprintf("byte %d, bit %d", at, bit), bad)
			}
			try(fmt.Sprintf("%d bytes", at), token[:at])
		}
		try("a byte more", append(bytes.Clone(token), 0))
		if got, _, err := a.Unwrap(nil, token); err != nil || !bytes.Equal(got, msg) {
			t.Errorf("conf %t: the token itself: %v", conf, err)
		}
	}
}

func TestChangedMIC(t *testing.T) {
	i, a := pair(t, crypto.AES128SHA1, DefaultFlags)
	msg := []byte("message")
	mic := i.GetMIC(nil, msg)
	for at := range mic {
		bad := bytes.Clone(mic)
		bad[at] ^= 1
		if err := a.VerifyMIC(msg, bad); err == nil {
			t.Errorf("byte %d changed: accepted", at)
		}
		if err := a.VerifyMIC(msg, mic[:at]); err == nil {
			t.Errorf("%d bytes accepted", at)
		}
	}
	if err := a.VerifyMIC([]byte("messagE"), mic); !errors.Is(err, ErrIntegrity) {
		t.Errorf("another message: %v", err)
	}
	if err := a.VerifyMIC(msg, append(mic, 0)); !errors.Is(err, ErrIntegrity) {
		t.Errorf("a byte more: %v", err)
	}
}

// A token reflected to its sender, or sent into another context, is refused.
func TestForeignMessages(t *testing.T) {
	i, a := pair(t, crypto.AES256SHA1, DefaultFlags)
	_, other := pair(t, crypto.AES256SHA1, DefaultFlags)
	for _, conf := range []bool{true, false} {
		token := wrap(t, i, []byte("x"), conf)
		if _, _, err := i.Unwrap(nil, token); !errors.Is(err, ErrIntegrity) {
			t.Errorf("reflected: %v", err)
		}
		if _, _, err := other.Unwrap(nil, token); !errors.Is(err, ErrIntegrity) {
			t.Errorf("another context: %v", err)
		}
		if err := a.VerifyMIC([]byte("x"), token); !errors.Is(err, ErrToken) {
			t.Errorf("a Wrap token as MIC: %v", err)
		}
	}
	if _, _, err := a.Unwrap(nil, i.GetMIC(nil, nil)); !errors.Is(err, ErrToken) {
		t.Errorf("a MIC as a Wrap token: %v", err)
	}
}

func TestNoConfidentialityUnlessAgreed(t *testing.T) {
	i, a := pair(t, crypto.AES256SHA1, FlagMutual|FlagInteg)
	for _, c := range []*Context{i, a} {
		if _, err := c.Wrap(nil, []byte("secret"), true); !errors.Is(err, ErrState) {
			t.Errorf("got %v", err)
		}
	}
}

func TestReplayAndOrder(t *testing.T) {
	const ok = "ok"
	results := func(flags Flags, order ...int) []string {
		i, a := pair(t, crypto.AES128SHA1, flags)
		tokens := make([][]byte, 200)
		for n := range tokens {
			tokens[n] = wrap(t, i, []byte{byte(n)}, n%2 == 0)
		}
		var out []string
		for _, n := range order {
			_, _, err := a.Unwrap(nil, tokens[n])
			switch {
			case err == nil:
				out = append(out, ok)
			case errors.Is(err, ErrReplay):
				out = append(out, "replay")
			case errors.Is(err, ErrOrder):
				out = append(out, "order")
			default:
				out = append(out, err.Error())
			}
		}
		return out
	}
	base := FlagMutual | FlagConf | FlagInteg
	for name, c := range map[string]struct {
		flags Flags
		order []int
		want  []string
	}{
		"in order":                   {base | FlagSequence, []int{0, 1, 2}, []string{ok, ok, ok}},
		"sequence: a gap":            {base | FlagSequence, []int{0, 2}, []string{ok, "order"}},
		"sequence: the first late":   {base | FlagSequence, []int{1, 0}, []string{"order", ok}},
		"sequence: twice":            {base | FlagSequence, []int{0, 0}, []string{ok, "replay"}},
		"replay: a gap":              {base | FlagReplay, []int{0, 2, 1}, []string{ok, ok, ok}},
		"replay: twice":              {base | FlagReplay, []int{0, 2, 2, 0, 1, 1}, []string{ok, ok, "replay", "replay", ok, "replay"}},
		"replay: 63 back":            {base | FlagReplay, []int{63, 0, 0}, []string{ok, ok, "replay"}},
		"replay: 64 back, too old":   {base | FlagReplay, []int{64, 0}, []string{ok, "replay"}},
		"replay: a jump of 64":       {base | FlagReplay, []int{0, 64, 1, 0}, []string{ok, ok, ok, "replay"}},
		"replay: a jump beyond 64":   {base | FlagReplay, []int{0, 150, 100, 150, 100}, []string{ok, ok, ok, "replay", "replay"}},
		"neither: anything goes":     {base, []int{5, 5, 0, 3}, []string{ok, ok, ok, ok}},
		"both: the sequence decides": {DefaultFlags, []int{0, 1, 1, 3, 2}, []string{ok, ok, "replay", "order", ok}},
	} {
		if got := results(c.flags, c.order...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// The number before the first is nobody's, also when the first is 0.
func TestWindowBeforeTheFirst(t *testing.T) {
	for _, first := range []uint64{0, 1, 1 << 32, 1<<64 - 1} {
		w := window{replay: true, next: first, first: first}
		if err := w.accept(first - 1); !errors.Is(err, ErrOrder) {
			t.Errorf("first %d: %v", first, err)
		}
		for n := range uint64(3) {
			if err := w.accept(first + n); err != nil {
				t.Errorf("first %d, number %d: %v", first, n, err)
			}
		}
		if err := w.accept(first + 1); !errors.Is(err, ErrReplay) {
			t.Errorf("first %d: replayed: %v", first, err)
		}
	}
}

// One goroutine sends while another receives.
func TestBothDirectionsAtOnce(t *testing.T) {
	i, a := pair(t, crypto.AES256SHA1, DefaultFlags)
	toA, toI := make(chan []byte, 8), make(chan []byte, 8)
	var wg sync.WaitGroup
	send := func(c *Context, to chan<- []byte) {
		defer close(to)
		for n := range 200 {
			token, err := c.Wrap(nil, fill(n), true)
			if err != nil {
				t.Error(err)
				return
			}
			to <- token
		}
	}
	receive := func(c *Context, from <-chan []byte) {
		n := 0
		for token := range from {
			if msg, _, err := c.Unwrap(nil, token); err != nil || len(msg) != n {
				t.Errorf("message %d: %d bytes, %v", n, len(msg), err)
			}
			n++
		}
	}
	wg.Go(func() { send(i, toA) })
	wg.Go(func() { send(a, toI) })
	wg.Go(func() { receive(i, toI) })
	wg.Go(func() { receive(a, toA) })
	wg.Wait()
}

func FuzzUnwrap(f *testing.F) {
	key := crypto.AES256SHA1
	r := newRealm(f, key)
	fixed := func() (i, a *Context) {
		k := r.serverKey
		i = &Context{key: k, initiator: true, flags: DefaultFlags, rand: zeros{}, recv: newWindow(0, 1), sendSeq: 1}
		a = &Context{key: k, flags: DefaultFlags, rand: zeros{}, recv: newWindow(0, 1), sendSeq: 1}
		return i, a
	}
	i, _ := fixed()
	for _, conf := range []bool{true, false} {
		token := wrap(f, i, []byte("message"), conf)
		f.Add(token)
		f.Add(rotate(token, 28))
	}
	f.Add(i.GetMIC(nil, []byte("message")))
	f.Fuzz(func(t *testing.T, token []byte) {
		_, a := fixed()
		msg, _, err := a.Unwrap(nil, token)
		if err == nil && len(msg) >= len(token) {
			t.Errorf("%d bytes out of a token of %d", len(msg), len(token))
		}
		_ = a.VerifyMIC([]byte("message"), token)
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func BenchmarkWrap1K(b *testing.B) {
	for _, conf := range []bool{true, false} {
		b.Run(fmt.Sprintf("conf=%t", conf), func(b *testing.B) {
			i, _ := pair(b, crypto.AES256SHA1, DefaultFlags)
			i.rand = zeros{}
			msg, dst := fill(1024), make([]byte, 0, 2048)
			b.SetBytes(1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Wrap(dst, msg, conf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnwrap1K(b *testing.B) {
	for _, conf := range []bool{true, false} {
		b.Run(fmt.Sprintf("conf=%t", conf), func(b *testing.B) {
			i, a := pair(b, crypto.AES256SHA1, FlagConf|FlagInteg|FlagMutual)
			token, dst := wrap(b, i, fill(1024), conf), make([]byte, 0, 2048)
			b.SetBytes(1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := a.Unwrap(dst, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
