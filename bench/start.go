//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// start measures how soon a domain serves, and what its processes hold when nobody asks.
func start(r *run) {
	ours := figure{name: "gmsa dc init, gmsa dc serve, kinit", unit: "ms", aim: atMost(100)}
	mit := figure{name: "kdb5_util create, kadmin.local, krb5kdc, kinit", unit: "ms"}
	for range 5 {
		ours.rounds = append(ours.rounds, ms(firstTGT(r, r.tmpfs(), lab.Address(r).String())))
		mit.rounds = append(mit.rounds, ms(firstTGTOfMIT(r)))
	}
	r.add(ours)
	r.add(mit)
	c := newController(r)
	kinit(r, c.kdc.conf, "load00000@"+lab.Realm)
	slapd, samba := startSlapd(r), sambaKDC(r)
	time.Sleep(5 * time.Second) // after a burst of work Go gives memory back bit by bit
	r.add(figure{name: "gmsa dc serve, idle: anonymous", unit: "MB", rounds: sample{memoryOfPID(r, c.pid, "RssAnon")}, aim: atMost(16)})
	r.add(figure{name: "gmsa dc serve, idle: resident", unit: "MB", rounds: sample{memoryOfPID(r, c.pid, "VmRSS")}, aim: atMost(40)})
	for _, peer := range []struct {
		name string
		pid  int
	}{{"krb5kdc", slapd.realm.pid}, {"slapd", slapd.pid}, {"Samba, of all its processes the one that serves", samba.pid}} {
		r.add(figure{name: peer.name + ", idle: resident", unit: "MB", rounds: sample{memoryOfPID(r, peer.pid, "VmRSS")},
			note: number(memoryOfPID(r, peer.pid, "RssAnon")) + " MB anonymous"})
	}
}

// firstTGT is the time from an empty directory to a ticket of Administrator.
func firstTGT(r *run, dir, ip string) time.Duration {
	program, err := r.program.build()
	r.must(err)
	r.must(os.WriteFile(dir+"/password", []byte(accountPassword+"\n"), 0o600))
	begin := time.Now()
	tool(r, nil, "", program, "dc", "init", "--domain", lab.DNSDomain, "--data", dir+"/dc", "--admin-password-file", dir+"/password")
	d := lab.StartDaemon(r, nil, program, "dc", "serve", "--data", dir+"/dc", "--listen", ip)
	soon(r, func() error { _, err := os.Stat(dir + "/dc/krb5.conf"); return err }) // written when all sockets are open
	kinit(r, dir+"/dc/krb5.conf", lab.Administrator+"@"+lab.Realm)
	took := time.Since(begin)
	r.must(d.Stop())
	return took
}

// firstTGTOfMIT is the same with a KDC without a directory.
func firstTGTOfMIT(r *run) time.Duration {
	dir, address := r.tmpfs(), freeAddress(r)
	m := mitFiles{dir: dir, address: address}
	m.write(r)
	begin := time.Now()
	m.create(r, fmt.Sprintf("addprinc -pw %s admin\n", accountPassword))
	d := m.serve(r)
	soon(r, func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	kinit(r, m.conf(), "admin@"+mitRealm)
	took := time.Since(begin)
	r.must(d.Stop())
	return took
}

// kinit gets a ticket with MIT's program.
func kinit(r *run, conf, principal string) {
	tool(r, []string{"KRB5_CONFIG=" + conf, "KRB5CCNAME=MEMORY:"}, accountPassword+"\n", "kinit", principal)
}

// soon waits until f succeeds, for who measures how long that takes.
func soon(r *run, f func() error) {
	for begin := time.Now(); ; time.Sleep(500 * time.Microsecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(begin) > 10*time.Second {
			r.Fatal(err)
		}
	}
}
