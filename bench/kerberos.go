//go:build linux

package main

import (
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// kerberos measures what a ticket costs the domain controller, and other KDCs. MIT's and
// Heimdal's tell no account's groups and take nobody's directory with them; Samba does
// what ours does.
func kerberos(r *run) {
	apart(r)
	ours, mit, heimdal, samba := newController(r), mitKDC(r, workers, benchService), heimdalKDC(r, workers), sambaKDC(r)
	for _, peer := range []kdc{mit, heimdal, samba} {
		moveToFirst(r, peer.pid)
	}
	const n = 1500
	aims := func(c contender, bound float64) contender { c.aim = atMost(bound); return c }
	seldom := func(c contender) contender { c.share = 30; return c }

	duel(r, n, aims(ours.as(r, keptTCP), 45), aims(ours.as(r, freshTCP), 90),
		mit.as(r, freshTCP), heimdal.as(r, freshTCP), seldom(samba.as(r, keptTCP)))
	duel(r, n, aims(ours.as(r, overUDP), 35), mit.as(r, overUDP), heimdal.as(r, overUDP))
	duel(r, n, aims(ours.tgs(r, keptTCP), 60), aims(ours.tgs(r, freshTCP), 110),
		mit.tgs(r, freshTCP), mit.tgs(r, overUDP), heimdal.tgs(r, overUDP), seldom(samba.tgs(r, keptTCP)))
}

// benchService is what tickets are for at the KDCs that are no domain.
const benchService = "host/web1.bench.example"

// A transport is how requests go to a KDC.
type transport int

const (
	keptTCP  transport = iota // on TCP connections that stay
	freshTCP                  // on a TCP connection of its own
	overUDP                   // over UDP
)

func (t transport) String() string {
	return [...]string{"kept TCP connections", "a TCP connection each", "UDP"}[t]
}

// client asks the KDC that way.
func (k kdc) client(r *run, t transport) *kclient.Client {
	cfg := kclient.Config{Realm: k.realm, KDCs: k.kdcs(), ETypes: []crypto.EType{crypto.AES256SHA1}, UDP: t == overUDP}
	if t == freshTCP {
		cfg.IdleTimeout = -1
	}
	c, err := kclient.New(cfg)
	r.must(err)
	r.Cleanup(func() { _ = c.Close() })
	return c
}

// as is an AS exchange with the key of one account after the other. Over UDP it asks for
// no PAC, with which an answer does not fit into a overUDP.
func (k kdc) as(r *run, t transport) contender {
	client, pac := k.client(r, t), ", PAC"
	if t == overUDP {
		pac = ", no PAC"
	}
	return contender{name: k.name + ": AS" + pac + ", " + t.String(), pid: k.pid, do: func(i int) error {
		p := k.accounts[i%len(k.accounts)]
		_, err := client.AS(r.ctx, kclient.ASRequest{Client: p.name, Secret: kclient.Keys(p.key), NoPAC: t == overUDP})
		return err
	}}
}

// tgs is a TGS exchange for the KDC's service.
func (k kdc) tgs(r *run, t transport) contender {
	client, first := k.client(r, t), k.accounts[0]
	service := krb5.NewName(krb5.NameSrvInst, "host", "web1.bench.example")
	if k.realm == lab.Realm {
		service = krb5.NewName(krb5.NameSrvInst, "ldap", lab.DCHost)
	}
	tgt, err := client.AS(r.ctx, kclient.ASRequest{Client: first.name, Secret: kclient.Keys(first.key)})
	r.must(err)
	return contender{name: k.name + ": TGS, " + t.String(), pid: k.pid, do: func(int) error {
		_, err := client.TGS(r.ctx, kclient.TGSRequest{TGT: tgt.Credential, Server: service})
		return err
	}}
}
