//go:build linux

package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// manyAccounts measures whether the number of accounts matters: the time that one client
// waits for an answer, and the memory of the controller.
func manyAccounts(r *run) {
	apart(r)
	few, many := newPopulated(r, 100), newPopulated(r, 100000)
	// They take turns, so that what else happens on the machine meets both.
	for range 5 {
		few.round(r)
		many.round(r)
	}
	for _, p := range []*populated{few, many} {
		p.report(r)
	}
}

// A populated is a domain with accounts.
type populated struct {
	*controller
	n         int
	tickets   *kclient.Client
	made      time.Duration
	logon     sample // ms
	look      sample
	logonTail sample // the 99th percentile of each round
	lookTail  sample
}

// newPopulated makes a domain with n users more. They are written past LDAP, before the
// controller is started, and have no passwords: by LDAP it would take a minute, and the
// key of a password takes 2 ms by design.
func newPopulated(r *run, n int) *populated {
	p := &populated{controller: initController(r), n: n}
	begin := time.Now()
	r.must(populate(r.ctx, p.data, n))
	p.made = time.Since(begin)
	p.serve(r)
	p.tickets = p.client(r, keptTCP)
	return p
}

func accountName(i int) string { return fmt.Sprintf("user%06d", i) }

// populate makes n users in a data directory, all after the first one's likeness.
func populate(ctx context.Context, dir string, n int) error {
	c, err := dc.Data{Dir: dir, Getenv: os.Getenv}.Open(ctx, dc.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	d := c.Directory()
	err = d.Add(ctx, directory.Caller{Controller: true}, directory.AddRequest{DN: "CN=" + accountName(0) + ",CN=Users," + lab.BaseDN,
		Attributes: []directory.Attribute{
			{Name: "objectClass", Values: [][]byte{[]byte("user")}},
			{Name: "sAMAccountName", Values: [][]byte{[]byte(accountName(0))}},
		}})
	const batch = 6 // as many as the limits of a transaction allow
	for i := 1; i < n && err == nil; i += batch {
		err = d.Update(ctx, func(w *directory.Writer) error { return likeFirst(w, i, min(i+batch, n)) })
	}
	return errors.Join(err, c.Close())
}

// likeFirst makes the users from first to before end.
func likeFirst(w *directory.Writer, first, end int) error {
	name, _ := w.Schema().Attribute("sAMAccountName")
	id, _ := w.Schema().Attribute("objectSid")
	model, err := w.Lookup(name, []byte(accountName(0)))
	for i := first; i < end && err == nil; i++ {
		var sid dtyp.SID
		if sid, err = w.NextSID(); err != nil {
			return err
		}
		e := *model
		e.Name, e.Values = accountName(i), maps.Clone(model.Values)
		e.Values[name], e.Values[id] = [][]byte{[]byte(e.Name)}, [][]byte{sid.Bytes()}
		if e.GUID, err = dtyp.NewGUID(crand.Reader); err == nil {
			err = w.Insert(&e)
		}
	}
	return err
}

// round measures 500 logons and as many searches for an account by its name.
func (p *populated) round(r *run) {
	var logon, look sample
	for i := range 500 {
		account := p.accounts[i%len(p.accounts)]
		begin := time.Now()
		_, err := p.tickets.AS(r.ctx, kclient.ASRequest{Client: account.name, Secret: kclient.Keys(account.key)})
		r.must(err)
		logon = append(logon, ms(time.Since(begin)))

		filter := "(sAMAccountName=" + accountName(rand.IntN(p.n)) + ")"
		begin = time.Now()
		found, err := p.admin.Search(ldap.NewSearchRequest(lab.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributesOfAD(), nil))
		r.must(err)
		look = append(look, ms(time.Since(begin)))
		if len(found.Entries) != 1 {
			r.Fatalf("%s finds %d entries", filter, len(found.Entries))
		}
	}
	p.logon, p.look = append(p.logon, logon.quantile(0.5)), append(p.look, look.quantile(0.5))
	p.logonTail, p.lookTail = append(p.logonTail, logon.quantile(0.99)), append(p.lookTail, look.quantile(0.99))
}

func (p *populated) report(r *run) {
	of := thousands(int64(p.n)) + " accounts: "
	r.add(figure{name: of + "AS exchange, p50", unit: "ms", rounds: p.logon})
	r.add(figure{name: of + "AS exchange, p99", unit: "ms", rounds: p.logonTail})
	r.add(figure{name: of + "search by name below the domain, p50", unit: "ms", rounds: p.look})
	r.add(figure{name: of + "search by name below the domain, p99", unit: "ms", rounds: p.lookTail})
	r.add(figure{name: of + "memory, anonymous", unit: "MB", rounds: sample{memoryOfPID(r, p.pid, "RssAnon")},
		note: fmt.Sprintf("%s MB resident; made in %s s, past LDAP", number(memoryOfPID(r, p.pid, "VmRSS")), number(p.made.Seconds()))})
}
