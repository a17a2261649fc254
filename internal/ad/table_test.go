package ad_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
)

// The accounts of the table, by the way in which the host is allowed.
const (
	direct      = "tbl-direct"    // the host itself is a reader
	global      = "tbl-global"    // a global group that holds the host
	universal   = "tbl-universal" // a universal group
	domainLocal = "tbl-local"     // a domain-local group
	nested      = "tbl-nested"    // a domain-local group that holds a global one that holds the host
	notAllowed  = "tbl-none"      // another host
)

var (
	everyAccount = []string{direct, global, universal, domainLocal, nested, notAllowed}
	allowed      = []string{direct, global, universal, domainLocal, nested}
	byGroups     = []string{global, universal, domainLocal, nested}
	byTGT        = []string{global, universal, nested} // groups in the TGT, or of one
)

// The steps of the table: what happened to the host, and what it presents. Each
// has the accounts whose password the host then gets, the same over every
// protection. These are the outcomes on Samba 4.22 and on our own controller.
//
// A connection keeps the groups of its bind, and a ticket those that were put
// into it: universal and global ones with the TGT, domain-local ones with the
// ticket for the directory. A reader that is named directly counts as the
// account says at the moment of the read.
//
// They differ once: Samba's ticket-granting service also adds the groups of every kind that the
// host has joined since its TGT was issued (seen with MIT's tickets as well),
// where [MS-KILE] 3.3.5.7.3 has domain-local ones alone. So nobody may rely on
// an old TGT being enough: Session.Refresh gets a new one.
var steps = []struct {
	name         string
	onSamba, own []string
}{
	{"member since before the ticket", allowed, allowed},
	{"removed; connection still open", byGroups, byGroups},
	{"removed; new bind with the old ticket for the directory", byGroups, byGroups},
	{"removed; new ticket for the directory with the old TGT", byTGT, byTGT},
	{"removed; new TGT", nil, nil},
	{"added again; connection still open", []string{direct}, []string{direct}},
	{"added again; new ticket for the directory with the old TGT", allowed, []string{direct, domainLocal}},
	{"added again; new TGT", allowed, allowed},
}

// protections are the rows' connections, all bound by Kerberos.
var protections = []struct {
	name       string
	protection ldapc.Protection
	mechanism  ldapc.Mechanism
}{
	{"GSSAPI sealed", ldapc.Sealed, ldapc.GSSAPI},
	{"GSS-SPNEGO sealed", ldapc.Sealed, ldapc.SPNEGO},
	{"LDAPS", ldapc.LDAPS, ldapc.SPNEGO},
	{"StartTLS", ldapc.StartTLS, ldapc.SPNEGO},
}

// host is the host of the table over one protection, with what it has kept.
type host struct {
	name    string
	cfg     ad.Config
	domain  *ad.Domain
	open    *ad.Session // whose connection stays open
	tgt     krb5.Credential
	service krb5.Credential
}

const tableHost = "tblhost$"

func TestWhoGetsAManagedPassword(t *testing.T) {
	t.Run("Samba", func(t *testing.T) { testTable(t, lab.Samba(t, lab.SambaConfig{Private: true}), false) })
	t.Run("gmsa", func(t *testing.T) { testTable(t, lab.Own(t, lab.OwnConfig{Private: true}), true) })
}

func testTable(t *testing.T, dc *lab.DC, own bool) {
	prepareTable(t, dc)
	var hosts []*host
	for _, p := range protections {
		cfg := config(t, dc)
		cfg.Protection, cfg.Mechanism = p.protection, p.mechanism
		hosts = append(hosts, newHost(t, p.name, cfg, domain(t, cfg)))
	}
	report := &table{t: t, own: own}
	defer report.print()

	report.step(0, hosts, (*host).connectionOpen)
	removeFromTable(t, dc)
	report.step(1, hosts, (*host).connectionOpen)
	report.step(2, hosts, (*host).oldServiceTicket)
	report.step(3, hosts, (*host).oldTGT)
	report.step(4, hosts, (*host).newTGT)
	for _, h := range hosts { // without any group, for what follows
		*h = *newHost(t, h.name, h.cfg, h.domain)
	}
	addToTable(t, dc)
	report.step(5, hosts, (*host).connectionOpen)
	report.step(6, hosts, (*host).oldTGT)
	report.step(7, hosts, (*host).newTGT)
}

// TestRefreshIsEnoughForAHostThatWasAdded is the way of the agent: one session,
// which gets a new ticket and a new bind after the directory withheld a
// password.
func TestRefreshIsEnoughForAHostThatWasAdded(t *testing.T) { onBoth(t, testRefresh) }

func testRefresh(t *testing.T, dc *lab.DC) {
	dc.AddComputer(t, "late")
	dc.AddGroup(t, "LateHosts", lab.GlobalGroup)
	dc.AddGMSA(t, lab.GMSA{Name: "lateapp", Readers: []string{"LateHosts"}})
	t.Cleanup(func() { dc.Delete(t, "lateapp$"); dc.Delete(t, "LateHosts"); dc.Delete(t, "late$") })
	s := session(t, domain(t, config(t, dc)), password(t, "late$"))
	withheld := func(when string) {
		_, err := s.ManagedPassword(t.Context(), name(t, "lateapp"), ad.Hint{})
		if w, ok := errors.AsType[*ad.WithheldError](err); !ok || w.Controller != lab.DCHost || w.Client != "late$" || !strings.Contains(w.Hint(), "late$") {
			t.Fatalf("%s: %v", when, err)
		}
	}
	withheld("before")
	dc.AddMembers(t, "LateHosts", "late$")
	withheld("afterwards, on the connection that was open")
	s.Refresh()
	if _, err := s.ManagedPassword(t.Context(), name(t, "lateapp"), ad.Hint{}); err != nil {
		t.Errorf("after Refresh: %v", err)
	}
}

func prepareTable(t *testing.T, dc *lab.DC) {
	dc.AddComputer(t, "tblhost")
	dc.AddGroup(t, "TblGlobal", lab.GlobalGroup, tableHost)
	dc.AddGroup(t, "TblUniversal", lab.UniversalGroup, tableHost)
	dc.AddGroup(t, "TblLocal", lab.DomainLocalGroup, tableHost)
	dc.AddGroup(t, "TblInner", lab.GlobalGroup, tableHost)
	dc.AddGroup(t, "TblOuter", lab.DomainLocalGroup, "TblInner")
	for gmsa, reader := range map[string]string{
		direct: tableHost, global: "TblGlobal", universal: "TblUniversal", domainLocal: "TblLocal", nested: "TblOuter", notAllowed: "evil1$",
	} {
		dc.AddGMSA(t, lab.GMSA{Name: gmsa, Readers: []string{reader}})
	}
}

var tableGroups = []string{"TblGlobal", "TblUniversal", "TblLocal", "TblInner"}

func removeFromTable(t *testing.T, dc *lab.DC) {
	for _, g := range tableGroups {
		dc.RemoveMembers(t, g, tableHost)
	}
	dc.SetReaders(t, direct+"$", "evil1$")
}

func addToTable(t *testing.T, dc *lab.DC) {
	for _, g := range tableGroups {
		dc.AddMembers(t, g, tableHost)
	}
	dc.SetReaders(t, direct+"$", tableHost)
}

// newHost logs on, opens a connection and keeps both tickets.
func newHost(t *testing.T, protection string, cfg ad.Config, d *ad.Domain) *host {
	t.Helper()
	h := &host{name: protection, cfg: cfg, domain: d, open: session(t, d, password(t, tableHost))}
	if _, _, err := h.open.WhoAmI(t.Context()); err != nil {
		t.Fatalf("%s: %v", protection, err)
	}
	var err error
	if h.tgt, err = h.open.TGT(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, err := d.Kerberos().TGS(t.Context(), kclient.TGSRequest{TGT: h.tgt, Server: krb5.NewName(krb5.NameSrvInst, "ldap", lab.DCHost, lab.DNSDomain)})
	if err != nil {
		t.Fatal(err)
	}
	h.service = res.Credential
	return h
}

// reader reads the password of one account and says whether it came.
type reader func(t *testing.T, account string) bool

// get is a read through a session.
func get(s *ad.Session) reader {
	return func(t *testing.T, account string) bool {
		p, err := s.ManagedPassword(t.Context(), name(t, account), ad.Hint{})
		if err != nil && !errors.Is(err, ad.ErrWithheld) {
			t.Errorf("%s: %v", account, err)
		}
		if err == nil && p.Current.Len() != 256 {
			t.Errorf("%s: a password of %d bytes", account, p.Current.Len())
		}
		return err == nil
	}
}

func (h *host) connectionOpen(*testing.T) reader { return get(h.open) }

func (h *host) oldTGT(t *testing.T) reader { return get(session(t, h.domain, ad.WithTicket(h.tgt))) }

func (h *host) newTGT(t *testing.T) reader { return get(session(t, h.domain, password(t, tableHost))) }

// oldServiceTicket binds once more with the ticket that an earlier bind used.
func (h *host) oldServiceTicket(t *testing.T) reader {
	service := locate.LDAP
	if h.cfg.Protection == ldapc.LDAPS {
		service = locate.LDAPS
	}
	list, err := h.domain.Locator().Controllers(t.Context(), locate.GMSA)
	if err != nil {
		t.Fatal(err)
	}
	nc, c, err := h.domain.Locator().Dial(t.Context(), service, list)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ldapc.Open(t.Context(), nc, ldapc.Config{
		ServerName: c.Name, Protection: h.cfg.Protection, Mechanism: h.cfg.Mechanism, Kerberos: &h.service,
		RootCAs: h.cfg.RootCAs, Now: h.domain.Kerberos().Now, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(t *testing.T, account string) bool {
		e, err := conn.Read(t.Context(), "CN="+account+",CN=Managed Service Accounts,"+lab.BaseDN, "msDS-ManagedPassword")
		if err != nil {
			t.Errorf("%s: %v", account, err)
			return false
		}
		return len(e.GetRawAttributeValue("msDS-ManagedPassword")) > 0
	}
}

// table collects the outcomes.
type table struct {
	t    *testing.T
	own  bool // our own controller answers
	rows []string
}

// step reads every account over every protection and compares with steps[n].
func (r *table) step(n int, hosts []*host, how func(*host, *testing.T) reader) {
	gets := steps[n].onSamba
	if r.own {
		gets = steps[n].own
	}
	for _, h := range hosts {
		r.t.Run(steps[n].name+"/"+h.name, func(t *testing.T) {
			read := how(h, t)
			row := []string{steps[n].name, h.name}
			for _, a := range everyAccount {
				got, want := read(t, a), slices.Contains(gets, a)
				if got != want {
					t.Errorf("%s: got %t, want %t", a, got, want)
				}
				row = append(row, map[bool]string{true: "yes", false: "-"}[got])
			}
			r.rows = append(r.rows, strings.Join(row, "\t"))
		})
	}
}

func (r *table) print() {
	w := tabwriter.NewWriter(r.t.Output(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "what happened\tprotection\tdirect\tglobal\tuniversal\tdomain-local\tnested\tnot allowed\n%s\n", strings.Join(r.rows, "\n"))
	_ = w.Flush()
}
