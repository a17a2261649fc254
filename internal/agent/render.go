package agent

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// rendered are the files of one snapshot. Every lease of the account shares
// them.
type rendered struct {
	ccache       secret.Bytes // empty as long as there are no tickets
	keytab       secret.Bytes
	clientKeytab secret.Bytes
	keys         keyDigest
}

// keyDigest tells whether the keys of two snapshots are the same.
type keyDigest [sha256.Size]byte

// digestKeys is the digest of both keytabs, the times of their entries left out:
// the same keys at another time are no news for who uses them.
func digestKeys(keytabs ...keytab.Keytab) (keyDigest, error) {
	h := sha256.New()
	for _, kt := range keytabs {
		timeless := keytab.Keytab{Entries: slices.Clone(kt.Entries)}
		for i := range timeless.Entries {
			timeless.Entries[i].Timestamp = time.Time{}
		}
		b, err := timeless.Append(nil)
		if err != nil {
			return keyDigest{}, err
		}
		fmt.Fprintf(h, "%d\n", len(b))
		h.Write(b)
		clear(b)
	}
	return keyDigest(h.Sum(nil)), nil
}

// and is the digest of the keys of both.
func (d keyDigest) and(o keyDigest) keyDigest {
	return sha256.Sum256(append(d[:], o[:]...))
}

// renderer encodes each snapshot once, and forgets it when nobody holds the
// snapshot any more. The zero value is ready.
type renderer struct {
	cache sync.Map // weak.Pointer[account.Snapshot] to *rendered

	mu    sync.Mutex
	confs []encodedConf // the last used first
}

// encodedConf is a krb5.conf. Most leases of a domain have the same.
type encodedConf struct {
	from lease.Krb5Conf
	text []byte
}

// maxConfs bounds the files that are kept encoded.
const maxConfs = 16

// krb5Conf encodes a krb5.conf, or returns it as it was encoded before.
func (r *renderer) krb5Conf(c lease.Krb5Conf) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range r.confs {
		if sameConf(e.from, c) {
			copy(r.confs[1:i+1], r.confs[:i])
			r.confs[0] = e
			return e.text, nil
		}
	}
	text, err := c.Append(nil)
	if err != nil {
		return nil, err
	}
	r.confs = slices.Insert(r.confs, 0, encodedConf{c, text})
	r.confs = r.confs[:min(len(r.confs), maxConfs)]
	return text, nil
}

func sameConf(a, b lease.Krb5Conf) bool {
	return a.Dir == b.Dir && a.Forwardable == b.Forwardable && slices.Equal(a.ETypes, b.ETypes) &&
		slices.EqualFunc(a.Realms, b.Realms, func(a, b lease.Realm) bool {
			return a.Name == b.Name && a.Domain == b.Domain && slices.Equal(a.KDCs, b.KDCs) && slices.Equal(a.Kpasswd, b.Kpasswd)
		})
}

// render encodes a snapshot.
func (r *renderer) render(s *account.Snapshot) (*rendered, error) {
	key := weak.Make(s)
	if v, ok := r.cache.Load(key); ok {
		return v.(*rendered), nil
	}
	v, err := encode(s)
	if err != nil {
		return nil, fmt.Errorf("encode the credentials of %s: %w", s.Account, err)
	}
	if old, loaded := r.cache.LoadOrStore(key, v); loaded {
		return old.(*rendered), nil
	}
	runtime.AddCleanup(s, func(key weak.Pointer[account.Snapshot]) { r.cache.Delete(key) }, key)
	return v, nil
}

func encode(s *account.Snapshot) (*rendered, error) {
	acceptor, initiator := keytabOf(s.Acceptor, principals(s)), keytabOf([]account.KeySet{s.Initiator}, []krb5.Principal{s.Principal})
	keys, err := digestKeys(acceptor, initiator)
	if err != nil {
		return nil, err
	}
	v := &rendered{keys: keys}
	for _, f := range []struct {
		file *secret.Bytes
		of   keytab.Keytab
	}{{&v.keytab, acceptor}, {&v.clientKeytab, initiator}} {
		b, err := f.of.Append(nil)
		if err != nil {
			return nil, err
		}
		*f.file = secret.New(b)
	}
	if len(s.Credentials) > 0 {
		v.ccache = secret.New(ccache.Cache{
			Principal: s.Principal, Credentials: s.Credentials, Config: issuers(s), KDCOffset: s.Offset,
		}.Append(nil))
	}
	return v, nil
}

// issuers note which controller issued each ticket.
func issuers(s *account.Snapshot) []ccache.Config {
	var list []ccache.Config
	for i, kdc := range s.Issuers {
		if kdc != "" {
			list = append(list, ccache.Config{Key: lease.SettingKDC, Principal: s.Credentials[i].Server.String(), Value: []byte(kdc)})
		}
	}
	return list
}

// principals are the names under which clients may ask for a ticket to the
// account: its own, and its SPNs.
func principals(s *account.Snapshot) []krb5.Principal {
	list := []krb5.Principal{s.Principal}
	for _, spn := range s.SPNs {
		// What is no service and instance, or has a realm, is no principal's name.
		if !strings.Contains(spn, "/") || strings.Contains(spn, "@") || strings.Contains("/"+spn+"/", "//") {
			continue
		}
		for _, spelling := range []string{spn, conventional(spn)} {
			p := krb5.Principal{Realm: s.Principal.Realm, Name: krb5.NewName(krb5.NameSrvHst, strings.Split(spelling, "/")...)}
			if !slices.ContainsFunc(list, p.Equal) {
				list = append(list, p)
			}
		}
	}
	return list
}

// conventional is an SPN as clients spell it: the service as its protocol has
// it, the host in small letters. To the directory case means nothing, and
// people write http/WEB1 there; to an acceptor that looks a name up in its
// keytab it means everything, and the ticket has the client's spelling.
func conventional(spn string) string {
	service, rest, _ := strings.Cut(spn, "/")
	for _, known := range []string{
		"HTTP", "host", "ldap", "cifs", "nfs", "postgres", "MSSQLSvc", "DNS", "imap", "smtp", "pop", "ftp", "mariadb", "xmpp", "TERMSRV", "WSMAN", "RestrictedKrbHost",
	} {
		if strings.EqualFold(service, known) {
			service = known
		}
	}
	return service + "/" + strings.ToLower(rest)
}

// keytabOf lists every key under every name.
func keytabOf(sets []account.KeySet, names []krb5.Principal) keytab.Keytab {
	var kt keytab.Keytab
	for _, name := range names {
		for _, set := range sets {
			for _, key := range set.Keys {
				kt.Entries = append(kt.Entries, keytab.Entry{Principal: name, KVNO: set.KVNO, Timestamp: set.Since.Truncate(time.Second), Key: key})
			}
		}
	}
	return kt
}

// keySets reads the keys that an agent before this one left in a keytab, for
// the pool to accept with. The salt is not in a keytab; it is the one that the
// account's name gives, unless the account was renamed since.
func keySets(b []byte, principal string) []account.KeySet {
	kt, err := keytab.Parse(b)
	if err != nil {
		return nil
	}
	var sets []account.KeySet
	for _, e := range kt.Entries {
		if e.Key == nil || len(e.Principal.Name.Components) != 1 || !strings.EqualFold(e.Principal.Name.Components[0], principal) {
			continue
		}
		i := slices.IndexFunc(sets, func(s account.KeySet) bool { return s.KVNO == e.KVNO })
		if i < 0 {
			sets = append(sets, account.KeySet{KVNO: e.KVNO, Since: e.Timestamp, Salt: managedpassword.Salt(e.Principal.Realm, principal)})
			i = len(sets) - 1
		}
		sets[i].Keys = append(sets[i].Keys, e.Key)
	}
	return sets
}
