// Package ccache reads and writes credential cache files: MIT's format 4, and
// 3 for reading (doc/formats/ccache_file_format of MIT Kerberos). It turns
// bytes into a [Cache] and back; where the file lies and how it is replaced
// without anybody seeing half of it is the caller's business.
//
// Read [Parse] first.
package ccache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/internal/cursor"
	"github.com/opengmsa/opengmsa/secret"
)

// MaxSize is the largest file that [Parse] accepts, in bytes. A ticket with a
// large PAC has 64 KiB.
const MaxSize = 64 << 20

// ErrFormat is wrapped by every error of [Parse].
var ErrFormat = errors.New("not a valid credential cache")

// Cache is the contents of a credential cache file.
type Cache struct {
	// Principal is whom the cache belongs to: the default client.
	Principal krb5.Principal
	// Credentials are in the order of the file.
	Credentials []krb5.Credential
	// Config are the entries that hold settings rather than tickets.
	Config []Config
	// KDCOffset is how far the KDC's clock is ahead of the local one, as the
	// header has it, to the microsecond.
	KDCOffset time.Duration
	// Skipped tells which tickets of the file are not in Credentials, and why.
	// It is not written.
	Skipped []Skipped
}

// Config is a setting kept in the cache: MIT's X-CACHECONF entries.
type Config struct {
	// Key is the name of the setting, such as fast_avail, pa_type, start_realm
	// or refresh_time.
	Key string
	// Principal is whom the setting is about, usually a ticket-granting
	// service in the form krbtgt/REALM@REALM; "" for the whole cache.
	Principal string
	// Value is the setting's value, usually text.
	Value []byte
}

// Skipped is a ticket that the file has and [Cache.Credentials] has not.
type Skipped struct {
	Server krb5.Principal
	Reason string
}

const (
	magic    = 5
	version3 = 3
	version4 = 4

	tagOffset = 1 // header field: time offset of the KDC

	confRealm = "X-CACHECONF:"
	confName  = "krb5_ccache_conf_data"
	// removedConfRealm is the realm that MIT gives to a removed setting.
	removedConfRealm = "X-RMED-CONF:"
)

// Parse reads a credential cache file of version 3 or 4. Entries that are
// marked as removed are left out; tickets with a session key of a type that is
// not supported or not allowed and user-to-user tickets are listed in
// [Cache.Skipped]. Addresses, authorization data and second tickets are not
// kept: Active Directory's tickets have none outside their encrypted part.
func Parse(b []byte, allow ...crypto.Allowance) (Cache, error) {
	if len(b) > MaxSize {
		return Cache{}, fmt.Errorf("ccache: %w: size %d, want at most %d", ErrFormat, len(b), MaxSize)
	}
	r := reader{Cursor: cursor.New("ccache", binary.BigEndian, b), allow: allow}
	c, err := r.cache()
	if err != nil {
		return Cache{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return c, nil
}

// reader reads a file of one version.
type reader struct {
	*cursor.Cursor
	version uint8
	allow   []crypto.Allowance
}

func (r *reader) cache() (Cache, error) {
	var c Cache
	if m := r.Uint8("magic"); m != magic {
		r.Fail("magic", "got %d, want %d", m, magic)
	}
	r.version = r.Uint8("version")
	if r.Err() == nil && r.version != version3 && r.version != version4 {
		r.Fail("version", "got %d, want %d or %d", r.version, version3, version4)
	}
	if r.version == version4 {
		c.KDCOffset = r.header()
	}
	c.Principal = r.principal("default principal")
	for r.Len() > 0 {
		if err := r.credential(&c); err != nil {
			return c, err
		}
	}
	return c, r.Err()
}

// header reads the tagged fields of version 4; unknown ones are skipped, as
// the format demands.
func (r *reader) header() time.Duration {
	h := cursor.New("ccache header", binary.BigEndian, r.Counted16("header"))
	var offset time.Duration
	for h.Len() > 0 {
		tag := h.Uint16("tag")
		value := cursor.New("ccache header", binary.BigEndian, h.Counted16("field"))
		if tag != tagOffset || h.Err() != nil {
			continue
		}
		sec, usec := int32(value.Uint32("offset")), int32(value.Uint32("offset"))
		if value.Err() != nil || value.Len() != 0 {
			h.Fail("time offset", "got a field of %d bytes, want 8", value.Offset()+value.Len())
		}
		offset = time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond
	}
	if h.Err() != nil {
		r.Fail("header", "%v", h.Err())
	}
	return offset
}

func (r *reader) principal(field string) krb5.Principal {
	var p krb5.Principal
	p.Name.Type = krb5.NameType(int32(r.Uint32(field)))
	n := r.Count32(field, 4)
	p.Realm = string(r.Counted32(field))
	if r.Err() != nil {
		return p
	}
	p.Name.Components = make([]string, n)
	for i := range n {
		p.Name.Components[i] = string(r.Counted32(field))
	}
	return p
}

// credential reads one entry and puts it where it belongs in c.
func (r *reader) credential(c *Cache) error {
	cred := krb5.Credential{Client: r.principal("client"), Server: r.principal("server")}
	etype := crypto.EType(int16(r.Uint16("key type")))
	if r.version == version3 {
		r.Uint16("key type")
	}
	key := r.Counted32("key")
	authTime := r.Uint32("authtime")
	cred.AuthTime, cred.StartTime = unix(authTime), unix(r.Uint32("starttime"))
	cred.EndTime, cred.RenewTill = unix(r.Uint32("endtime")), unix(r.Uint32("renew till"))
	userToUser := r.Uint8("is_skey") != 0
	cred.Flags = krb5.TicketFlags(r.Uint32("ticket flags"))
	r.typed("addresses")
	r.typed("authorization data")
	cred.Ticket = append([]byte(nil), r.Counted32("ticket")...)
	second := r.Counted32("second ticket")
	if r.Err() != nil {
		return r.Err()
	}
	if cred.EndTime.IsZero() && authTime != 0 || cred.Server.Realm == removedConfRealm {
		return nil // removed, by MIT or Heimdal
	}
	if conf, ok := asConfig(cred); ok {
		c.Config = append(c.Config, conf)
		return nil
	}
	if userToUser || len(second) > 0 {
		c.Skipped = append(c.Skipped, Skipped{cred.Server, "user-to-user ticket"})
		return nil
	}
	var err error
	if cred.SessionKey, err = crypto.NewKey(etype, secret.Copy(key), r.allow...); err != nil {
		c.Skipped = append(c.Skipped, Skipped{cred.Server, "session key: " + err.Error()})
		return nil //nolint:nilerr // one ticket that cannot be used does not spoil the others
	}
	c.Credentials = append(c.Credentials, cred)
	return nil
}

// typed skips a list of pairs of a type and counted bytes.
func (r *reader) typed(field string) {
	for range r.Count32(field, 6) {
		r.Uint16(field)
		r.Counted32(field)
	}
}

// asConfig recognises a setting.
func asConfig(cred krb5.Credential) (Config, bool) {
	n := cred.Server.Name.Components
	if cred.Server.Realm != confRealm || len(n) < 2 || len(n) > 3 || n[0] != confName {
		return Config{}, false
	}
	conf := Config{Key: n[1], Value: cred.Ticket}
	if len(n) == 3 {
		conf.Principal = n[2]
	}
	return conf, true
}

// Append appends the cache as a file of version 4: header, principal, settings,
// credentials.
func (c Cache) Append(dst []byte) []byte {
	be := binary.BigEndian
	dst = slices.Grow(dst, c.room())
	dst = append(dst, magic, version4)
	dst = be.AppendUint16(dst, 12) // length of the header
	dst = be.AppendUint16(dst, tagOffset)
	dst = be.AppendUint16(dst, 8)
	// Seconds round down, so that the microseconds are positive, as MIT has it.
	sec := c.KDCOffset.Truncate(time.Second)
	if sec > c.KDCOffset {
		sec -= time.Second
	}
	dst = be.AppendUint32(dst, uint32(int32(sec/time.Second)))
	dst = be.AppendUint32(dst, uint32((c.KDCOffset-sec)/time.Microsecond))
	dst = appendPrincipal(dst, c.Principal)
	for _, conf := range c.Config {
		dst = AppendConfig(dst, c.Principal, conf)
	}
	for _, cred := range c.Credentials {
		dst = AppendCredential(dst, cred)
	}
	return dst
}

// room is about how long the encoding is, in bytes: the tickets and 384 for each of
// them and of the settings, which has two names, a key and times.
func (c Cache) room() int {
	n := 64 + 384*(len(c.Credentials)+len(c.Config))
	for _, cred := range c.Credentials {
		n += len(cred.Ticket)
	}
	return n
}

// AppendCredential appends one credential in version 4, as it is added to the
// end of a file. The session key must not be nil.
func AppendCredential(dst []byte, cred krb5.Credential) []byte {
	return appendEntry(dst, cred, cred.SessionKey.EType(), cred.SessionKey.Secret().Reveal())
}

// AppendConfig appends one setting of a client's cache in version 4, as it is
// added to the end of a file.
func AppendConfig(dst []byte, client krb5.Principal, conf Config) []byte {
	name := krb5.NewName(krb5.NameUnknown, confName, conf.Key)
	if conf.Principal != "" {
		name.Components = append(name.Components, conf.Principal)
	}
	return appendEntry(dst, krb5.Credential{
		Client: client,
		Server: krb5.Principal{Realm: confRealm, Name: name},
		Ticket: conf.Value,
	}, 0, nil)
}

func appendEntry(dst []byte, cred krb5.Credential, etype crypto.EType, key []byte) []byte {
	be := binary.BigEndian
	dst = appendPrincipal(dst, cred.Client)
	dst = appendPrincipal(dst, cred.Server)
	dst = be.AppendUint16(dst, uint16(etype))
	dst = appendCounted(dst, key)
	for _, t := range []time.Time{cred.AuthTime, cred.StartTime, cred.EndTime, cred.RenewTill} {
		dst = be.AppendUint32(dst, seconds(t))
	}
	dst = append(dst, 0) // is_skey
	dst = be.AppendUint32(dst, uint32(cred.Flags))
	dst = be.AppendUint32(dst, 0) // addresses
	dst = be.AppendUint32(dst, 0) // authorization data
	dst = appendCounted(dst, cred.Ticket)
	return be.AppendUint32(dst, 0) // second ticket
}

func appendPrincipal(dst []byte, p krb5.Principal) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Name.Type))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Name.Components)))
	dst = appendCounted(dst, p.Realm)
	for _, s := range p.Name.Components {
		dst = appendCounted(dst, s)
	}
	return dst
}

func appendCounted[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// Find returns the credential for a server that ends last. The type of the
// server's name is ignored.
func (c Cache) Find(server krb5.Principal) (krb5.Credential, bool) {
	var best krb5.Credential
	found := false
	for _, cred := range c.Credentials {
		if cred.Server.Equal(server) && (!found || cred.EndTime.After(best.EndTime)) {
			best, found = cred, true
		}
	}
	return best, found
}

// TGT returns the ticket-granting ticket of the principal's own realm that
// ends last.
func (c Cache) TGT() (krb5.Credential, bool) {
	return c.Find(krb5.Principal{
		Realm: c.Principal.Realm,
		Name:  krb5.NewName(krb5.NameSrvInst, "krbtgt", c.Principal.Realm),
	})
}

// Setting returns the value of a setting; principal is "" for one that is about
// the whole cache. The first of several counts, as it does for MIT.
func (c Cache) Setting(key, principal string) ([]byte, bool) {
	for _, conf := range c.Config {
		if conf.Key == key && conf.Principal == principal {
			return conf.Value, true
		}
	}
	return nil, false
}

// unix converts a timestamp; MIT reads it as unsigned, so that it lasts to 2106.
func unix(t uint32) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0).UTC()
}

func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}
