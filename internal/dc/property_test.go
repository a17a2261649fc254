package dc

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// A life is what happens to one gMSA of a whole controller, as a random test draws it.
type life struct {
	*clocked
	rt     *rapid.T
	reader *ldap.Conn
	kdc    *kclient.Client
	name   string // sAMAccountName without $
	names  int
	told   []told
	kvno   int
}

// told is what a reader was told: a password, and until when it is in force.
type told struct {
	password, previous secret.Bytes
	key                *crypto.Key
	from, until        time.Time
}

// TestNoPasswordChangesInsideItsInterval is the promise of the design, kept by LDAP and
// KDC together: whatever root keys administrators add, with whatever times these claim, or
// remove while no password needs them, whatever is renamed and rotated, a reader's password
// stays the current one until it was said to expire, the KDC takes it for as long and five
// minutes more, and kvno never falls. A rotation alone ends what was told, and not before
// ten minutes.
func TestNoPasswordChangesInsideItsInterval(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLife(t, rt)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"add", "remove", "rename", "rotate", "read", "read", "read"}).Draw(rt, "what") {
			case "add":
				l.add()
			case "remove":
				l.remove()
			case "rename":
				l.rename()
			case "rotate":
				l.rotate()
			case "read":
				l.read()
			}
			l.pass(time.Duration(rapid.Int64Range(0, 30*3600).Draw(rt, "seconds pass")) * time.Second)
			if rapid.IntRange(0, 3).Draw(rt, "to the edge") == 0 {
				l.toTheEdge()
			}
		}
		l.read()
	})
}

func newLife(t *testing.T, rt *rapid.T) *life {
	l := &life{clocked: newClocked(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)), rt: rt, name: "app"}
	if err := l.addRootKey(newRootKey(t, l.clock.Now().Add(-24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	l.addComputer("web1", "Comp-web1-Pass!")
	l.reader = l.bind("web1$@contoso.com", "Comp-web1-Pass!")
	l.kdc = l.kerberos()
	l.addGMSA("app", rapid.Int64Range(1, 10).Draw(rt, "days"), "web1$")
	return l
}

// pass lets time pass, and the controller do in it what it does every hour.
func (l *life) pass(by time.Duration) {
	for ; by > 0; by -= time.Hour {
		l.clock.Advance(min(by, time.Hour))
		if err := l.Directory().RefreshTimelines(l.t.Context()); err != nil {
			l.rt.Fatal(err)
		}
	}
}

// toTheEdge goes to some minutes before or after the end of a password. In the hour before,
// in which the controller looks at nothing by itself, a root key may go.
func (l *life) toTheEdge() {
	timeline := l.timeline()
	p, err := timeline.At(dtyp.FiletimeOf(l.clock.Now()))
	if err != nil {
		l.rt.Fatal(err)
	}
	if rapid.Bool().Draw(l.rt, "a root key goes before") {
		before := time.Duration(rapid.Int64Range(601, 3599).Draw(l.rt, "before the edge")) * time.Second
		l.pass(p.End.Time().Add(-before).Sub(l.clock.Now()))
		l.remove()
	}
	off := time.Duration(rapid.Int64Range(-400, 400).Draw(l.rt, "from the edge")) * time.Second
	l.pass(p.End.Time().Add(off).Sub(l.clock.Now()))
	l.read()
}

func (l *life) timeline() (t kds.Timeline) {
	err := l.Directory().View(l.t.Context(), func(r *directory.Reader) error {
		sam, _ := r.Schema().Attribute("sAMAccountName")
		e, err := r.Lookup(sam, []byte(l.name+"$"))
		if err == nil {
			t, err = r.Timeline(e.GUID)
		}
		return err
	})
	if err != nil {
		l.rt.Fatal(err)
	}
	return t
}

// add adds a root key that claims to be of any time and usable since any.
func (l *life) add() {
	claims := func(what string) dtyp.Filetime {
		return dtyp.FiletimeOf(l.clock.Now().Add(time.Duration(rapid.Int64Range(-1000, 1000).Draw(l.rt, what)) * time.Hour))
	}
	key := newRootKey(l.t, l.clock.Now())
	key.Created, key.UseStart = claims("created"), claims("use")
	key.Hash = rapid.SampledFrom([]gkdi.Hash{gkdi.SHA1, gkdi.SHA256, gkdi.SHA384, gkdi.SHA512}).Draw(l.rt, "hash")
	if err := l.addRootKey(key); err != nil {
		l.rt.Fatal(err)
	}
}

// remove removes a root key that no password needs.
func (l *life) remove() {
	keys := l.Directory().Ring().Keys()
	id := keys[rapid.IntRange(0, len(keys)-1).Draw(l.rt, "removed")].ID
	used, err := l.timeline().UsesRootKey(id, dtyp.FiletimeOf(l.clock.Now()))
	if err != nil {
		l.rt.Fatal(err)
	}
	if used {
		return
	}
	if err := l.admin.Del(ldap.NewDelRequest(rootKeyDN(id), nil)); err != nil {
		l.rt.Fatal(err)
	}
}

const gmsaDN = "CN=app,CN=Managed Service Accounts,DC=contoso,DC=com"

func (l *life) modify(attribute, value string) {
	q := ldap.NewModifyRequest(gmsaDN, nil)
	q.Replace(attribute, []string{value})
	if err := l.admin.Modify(q); err != nil {
		l.rt.Fatalf("%s: %v", attribute, err)
	}
}

func (l *life) rename() {
	l.names++
	l.name = fmt.Sprintf("app%d", l.names)
	l.modify("sAMAccountName", l.name+"$")
}

// rotate ends the password in force, and so what readers were told, but not before
// kds.Notice.
func (l *life) rotate() {
	l.modify("pwdLastSet", "0")
	for i := range l.told {
		if end := l.clock.Now().Add(kds.Notice.Sub(0)); l.told[i].until.After(end) {
			l.told[i].until = end
		}
	}
}

// read reads as a host does, holds the answer against what hosts were told before, and
// asks the KDC to take all of that.
func (l *life) read() {
	now := l.clock.Now()
	m, err := readManaged(l.reader, "app")
	if err != nil {
		l.rt.Fatalf("at %v: %v", now, err)
	}
	blob, err := managedpassword.Parse(m.raw)
	if err != nil {
		l.rt.Fatal(err)
	}
	if m.kvno < l.kvno {
		l.rt.Fatalf("at %v: kvno %d after %d", now, m.kvno, l.kvno)
	}
	l.kvno = m.kvno
	window := blob.QueryInterval <= 5*time.Minute
	for _, p := range l.told {
		inForce := !now.Before(p.from) && now.Before(p.until)
		if inForce && p.until.Sub(now) > 5*time.Minute && !blob.Current.Equal(p.password) {
			l.rt.Fatalf("at %v: the current password is another than at %v, when it was to serve until %v", now, p.from, p.until)
		}
		if inForce && !window && p.until.Sub(now) > 5*time.Minute && !p.previous.IsZero() && !blob.Previous.Equal(p.previous) {
			l.rt.Fatalf("at %v: the previous password is another than at %v", now, p.from)
		}
		if !now.Before(p.from) && now.Before(p.until.Add(gkdi.MaxClockSkew.Sub(0))) {
			l.accepts(p.key, "that was told")
		}
	}
	current, next := l.salts()
	if window {
		l.accepts(l.key(blob.Current, next), "that comes next")
		l.accepts(l.key(blob.Previous, current), "in force, told as the previous one")
		return
	}
	key := l.key(blob.Current, current)
	l.accepts(key, "in force")
	l.told = append(l.told, told{blob.Current, blob.Previous, key, now, now.Add(blob.QueryInterval)})
}

// salts are those of the password in force and of the next.
func (l *life) salts() (current, next string) {
	timeline := l.timeline()
	p, err := timeline.At(dtyp.FiletimeOf(l.clock.Now()))
	if err != nil {
		l.rt.Fatal(err)
	}
	after, err := timeline.Next(p)
	if err != nil {
		l.rt.Fatal(err)
	}
	return p.Salt, after.Salt
}

// key is that of a password, which keeps the salt with which it began, whatever the account
// is called now.
func (l *life) key(password secret.Bytes, salt string) *crypto.Key {
	key, err := managedpassword.Key(crypto.AES256SHA1, password, salt)
	if err != nil {
		l.rt.Fatal(err)
	}
	return key
}

// accepts demands that the KDC takes the key of a password.
func (l *life) accepts(key *crypto.Key, what string) {
	client := krb5.NewName(krb5.NamePrincipal, l.name+"$")
	if _, err := l.kdc.AS(l.t.Context(), kclient.ASRequest{Client: client, Secret: kclient.Keys(key)}); err != nil {
		l.rt.Fatalf("at %v: the KDC refuses the password %s: %v", l.clock.Now(), what, err)
	}
}
