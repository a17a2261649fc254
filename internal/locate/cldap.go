package locate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Timing of one ping. A datagram may be lost, and a firewall may pass TCP
// alone: so the question is repeated, and asked over TCP as well.
const (
	pingRepeat = 200 * time.Millisecond
	pingTCP    = 350 * time.Millisecond
	// maxPing bounds the answer: one entry with one attribute.
	maxPing = 16 << 10 // bytes
)

// Protocol operations of RFC 4511, Section 4.1.1, as application tags.
const (
	opSearchRequest = 3
	opSearchEntry   = 4
	opSearchDone    = 5
)

// Ping asks the controller at address once, over one network, "udp" or "tcp", for those
// who want to know which of the two passes. An answer is a hint, as everything is that
// comes unauthenticated.
func Ping(ctx context.Context, dial DialFunc, network, address, domain string) (adproto.PingReply, error) {
	if network == "tcp" {
		return pingTCPSearch(ctx, dial, address, pingFor(domain))
	}
	return pingUDP(ctx, dial, address, pingFor(domain))
}

// pingFor asks a controller of the domain for all that it says of itself.
func pingFor(domain string) adproto.Ping {
	return adproto.Ping{
		DNSDomain: domain,
		NtVersion: adproto.NtVersion1 | adproto.NtVersion5 | adproto.NtVersion5Ex | adproto.NtVersionWithClosestSite,
	}
}

// ping asks the controller at address over UDP, repeats the question, and asks
// over TCP too when no answer comes. The first answer wins.
func ping(ctx context.Context, dial DialFunc, address string, p adproto.Ping) (adproto.PingReply, error) {
	type result struct {
		reply adproto.PingReply
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	run := func(f func(context.Context, DialFunc, string, adproto.Ping) (adproto.PingReply, error)) {
		running++
		go func() {
			r, err := f(ctx, dial, address, p)
			results <- result{r, err}
		}()
	}
	run(pingUDP)
	tcp := time.NewTimer(pingTCP)
	defer tcp.Stop()
	var errs []error
	for running > 0 || tcp != nil {
		var start <-chan time.Time
		if tcp != nil {
			start = tcp.C
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				return r.reply, nil
			}
			errs = append(errs, r.err)
			if tcp != nil {
				tcp.Reset(0)
			}
		case <-start:
			tcp = nil
			run(pingTCPSearch)
		}
	}
	return adproto.PingReply{}, errors.Join(errs...)
}

// pingUDP is the CLDAP ping, [MS-ADTS] 6.3.3.3: one datagram each way.
func pingUDP(ctx context.Context, dial DialFunc, address string, p adproto.Ping) (adproto.PingReply, error) {
	conn, err := dial(ctx, "udp", address)
	if err != nil {
		return adproto.PingReply{}, fmt.Errorf("CLDAP: %w", err)
	}
	defer func() { _ = conn.Close() }()
	id := rand.Int32()
	request := pingRequest(id, p)
	buf := make([]byte, maxPing)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return adproto.PingReply{}, fmt.Errorf("CLDAP: %w", err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(pingRepeat))
		stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
		r, err := readDatagrams(conn, buf, id)
		stop()
		if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
			continue
		}
		if err != nil {
			return adproto.PingReply{}, fmt.Errorf("CLDAP: %w", err)
		}
		return r, nil
	}
	return adproto.PingReply{}, fmt.Errorf("CLDAP: %w", context.Cause(ctx))
}

// readDatagrams reads until one is the answer to message id; others are passed
// over, because anybody can send them.
func readDatagrams(conn net.Conn, buf []byte, id int32) (adproto.PingReply, error) {
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return adproto.PingReply{}, err
		}
		size, err := adproto.MessageSize(buf[:n], maxPing)
		if err != nil || size == 0 || size > n {
			continue
		}
		if r, ok, err := pingAnswer(buf[:size], id); ok {
			return r, err
		}
	}
}

// pingTCPSearch is the LDAP ping, [MS-ADTS] 6.3.3.2: the same search over TCP,
// without a bind.
func pingTCPSearch(ctx context.Context, dial DialFunc, address string, p adproto.Ping) (adproto.PingReply, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return adproto.PingReply{}, fmt.Errorf("LDAP ping: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := rand.Int32()
	if _, err := conn.Write(pingRequest(id, p)); err != nil {
		return adproto.PingReply{}, fmt.Errorf("LDAP ping: %w", err)
	}
	b, err := readMessage(bufio.NewReader(conn))
	if err != nil {
		return adproto.PingReply{}, fmt.Errorf("LDAP ping: %w", err)
	}
	r, ok, err := pingAnswer(b, id)
	if err == nil && !ok {
		err = errors.New("answer to another message")
	}
	if err != nil {
		return adproto.PingReply{}, fmt.Errorf("LDAP ping: %w", err)
	}
	return r, nil
}

// readMessage reads one LDAP message of at most maxPing bytes.
func readMessage(r *bufio.Reader) ([]byte, error) {
	for need := 2; ; need++ {
		head, err := r.Peek(need)
		if err != nil {
			return nil, err
		}
		size, err := adproto.MessageSize(head, maxPing)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			b := make([]byte, size)
			_, err := io.ReadFull(r, b)
			return b, err
		}
	}
}

// pingRequest is a base search of the rootDSE for the ping attribute.
func pingRequest(id int32, p adproto.Ping) []byte {
	search := ber.Encode(ber.ClassApplication, ber.TypeConstructed, opSearchRequest, nil, "search")
	search.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", "base"))
	for _, v := range []int64{0, 0} { // scope base, never dereference
		search.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, v, ""))
	}
	for _, v := range []int64{0, 0} { // no size limit, no time limit
		search.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, v, ""))
	}
	search.AppendChild(ber.NewBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, false, "typesOnly"))
	filter, err := ber.DecodePacketErr(p.Filter().Append(nil))
	if err != nil {
		panic("locate: own filter does not decode: " + err.Error())
	}
	search.AppendChild(filter)
	attrs := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "attributes")
	attrs.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, adproto.PingAttribute, ""))
	search.AppendChild(attrs)

	msg := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "message")
	msg.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, int64(id), "id"))
	msg.AppendChild(search)
	return msg.Bytes()
}

// errNoNetlogon is what a server says that is not a controller of the domain
// asked for.
var errNoNetlogon = errors.New("not a domain controller of this domain: the answer has no netlogon attribute")

// pingAnswer reads the reply out of one LDAP message. ok is false when the
// message does not belong to the question.
func pingAnswer(b []byte, id int32) (r adproto.PingReply, ok bool, err error) {
	if err := adproto.CheckMessage(b); err != nil {
		return r, false, err
	}
	msg, err := ber.DecodePacketErr(b)
	if err != nil {
		return r, false, err
	}
	if len(msg.Children) < 2 || msg.Children[0].Value != int64(id) {
		return r, false, nil
	}
	op := msg.Children[1]
	if op.ClassType != ber.ClassApplication {
		return r, true, errors.New("answer is no LDAP response")
	}
	switch op.Tag {
	case opSearchEntry:
		v, err := firstValue(op)
		if err != nil {
			return r, true, err
		}
		r, err = adproto.ParsePingReply(v)
		return r, true, err
	case opSearchDone:
		return r, true, errNoNetlogon
	}
	return r, true, fmt.Errorf("answer with LDAP operation %d", op.Tag)
}

// firstValue is the value of a search entry's only attribute.
func firstValue(entry *ber.Packet) ([]byte, error) {
	if len(entry.Children) != 2 || len(entry.Children[1].Children) != 1 {
		return nil, errNoNetlogon
	}
	attr := entry.Children[1].Children[0]
	if len(attr.Children) != 2 || len(attr.Children[1].Children) != 1 {
		return nil, errNoNetlogon
	}
	return attr.Children[1].Children[0].ByteValue, nil
}
