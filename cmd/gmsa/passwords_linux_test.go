package main

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// longest is the interval, in days, of the accounts whose password is chosen:
// the key of the time when they are made stays in force as long.
const longest = 1500

// holds says whether a password has what a row wants; drawn are the units as the
// key derivation gave them.
type holds func(units []uint16, drawn func() []uint16) bool

// newline: U+000A, at which a program that reads lines would end the password.
func newline(u []uint16, _ func() []uint16) bool {
	return index(u, func(i int) bool { return u[i] == '\n' })
}

// replaced: a U+0001 that was drawn as U+0000 ([MS-ADTS] 3.1.1.4.5.39).
func replaced(u []uint16, drawn func() []uint16) bool {
	if !slices.Contains(u, 1) {
		return false
	}
	d := drawn()
	return slices.Equal(slices.DeleteFunc(slices.Clone(d), func(x uint16) bool { return x == 0 || x == 1 }), slices.DeleteFunc(slices.Clone(u), func(x uint16) bool { return x == 1 })) &&
		slices.Contains(d, 0)
}

// draw is the derivation of a password from the seed of its interval, without the
// replacement: SP 800-108 in counter mode, [MS-GKDI] 3.1.4.1.2.
func draw(seed []byte, sid dtyp.SID) []uint16 {
	const size = gkdi.PasswordSize
	var fixed []byte
	for _, u := range utf16.Encode([]rune("GMSA PASSWORD\x00")) {
		fixed = binary.LittleEndian.AppendUint16(fixed, u)
	}
	fixed = append(append(fixed, 0), sid.Bytes()...)
	fixed = binary.BigEndian.AppendUint32(fixed, size*8)
	var out []byte
	for i := uint32(1); len(out) < size; i++ {
		mac := hmac.New(sha512.New, seed)
		_, _ = mac.Write(append(binary.BigEndian.AppendUint32(nil, i), fixed...))
		out = mac.Sum(out)
	}
	return units(out[:size])
}

// lonely: a high surrogate without a low one, a low one without a high one, and
// a pair.
func lonely(u []uint16, _ func() []uint16) bool {
	high := func(i int) bool { return i >= 0 && i < len(u) && u[i] >= 0xd800 && u[i] < 0xdc00 }
	low := func(i int) bool { return i >= 0 && i < len(u) && u[i] >= 0xdc00 && u[i] < 0xe000 }
	return index(u, func(i int) bool { return high(i) && !low(i+1) }) &&
		index(u, func(i int) bool { return low(i) && !high(i-1) }) &&
		index(u, func(i int) bool { return high(i) && low(i+1) })
}

func index(u []uint16, f func(int) bool) bool {
	for i := range u {
		if f(i) {
			return true
		}
	}
	return false
}

// chosen makes a gMSA whose password in force is one that a row wants: of all key
// ids of the interval, and of this account's SID, it takes one that derives such
// a password, and has Samba make the account as of that time.
func chosen(t *testing.T, dc *lab.DC, name string, want holds) (password []byte) {
	t.Helper()
	roots := rootKeys(t, dc)
	for range 8 {
		sid := nextSID(t, dc)
		now := gkdi.KeyIDAt(dtyp.FiletimeOf(time.Now()))
		for back := int64(2); back < longest*24/10-2; back++ {
			id, err := now.Add(-back)
			if err != nil {
				t.Fatal(err)
			}
			root, err := gkdi.SelectRootKey(roots, id)
			if err != nil {
				t.Fatal(err)
			}
			p, err := gkdi.Password(root, sid, id)
			if err != nil {
				t.Fatal(err)
			}
			drawn := func() []uint16 {
				seed, err := gkdi.DeriveSeed(root, gkdi.GMSATargetSD(), id)
				if err != nil {
					t.Fatal(err)
				}
				return draw(seed.Reveal(), sid)
			}
			if !want(units(p.Reveal()), drawn) {
				continue
			}
			start, err := id.Start()
			if err != nil {
				t.Fatal(err)
			}
			makeAt(t, dc, name, uint64(start)+uint64(time.Hour/100))
			if got := dc.Attr(t, name+"$", "objectSid"); got != sid.String() && got != string(sid.Bytes()) {
				t.Fatalf("%s has the SID %q, want %v", name, got, sid)
			}
			return p.Reveal()
		}
		dc.AddComputer(t, fmt.Sprintf("%s-%d", name, time.Now().UnixNano()%1e4)) // takes the SID
	}
	t.Fatalf("no such password for %s", name)
	return nil
}

func units(b []byte) []uint16 {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return u
}

// rootKeys are the domain's KDS root keys.
func rootKeys(t *testing.T, dc *lab.DC) []gkdi.RootKey {
	t.Helper()
	var keys []gkdi.RootKey
	for _, e := range dc.Search(t, rootKeysDN, "(objectClass=msKds-ProvRootKey)",
		"cn", "msKds-RootKeyData", "msKds-KDFParam", "msKds-CreateTime", "msKds-UseStartTime") {
		id, err := dtyp.ParseGUID(e.Value("cn"))
		if err != nil {
			t.Fatal(err)
		}
		hash, err := gkdi.ParseKDFParameters([]byte(e.Value("msKds-KDFParam")))
		if err != nil {
			t.Fatal(err)
		}
		k := gkdi.RootKey{ID: id, Version: gkdi.RootKeyVersion, Hash: hash, Key: secretOf(e.Value("msKds-RootKeyData"))}
		for attr, at := range map[string]*dtyp.Filetime{"msKds-CreateTime": &k.Created, "msKds-UseStartTime": &k.UseStart} {
			n, err := strconv.ParseUint(e.Value(attr), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			*at = dtyp.Filetime(n)
		}
		keys = append(keys, k)
	}
	return keys
}

// rootKeysDN is where root keys are.
const rootKeysDN = "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration," + lab.BaseDN

// nextSID is the SID that the next object of the domain gets.
func nextSID(t *testing.T, dc *lab.DC) dtyp.SID {
	t.Helper()
	sets := dc.Search(t, "CN=RID Set,CN=DC1,OU=Domain Controllers,"+lab.BaseDN, "(objectClass=rIDSet)", "rIDNextRID")
	if len(sets) != 1 {
		t.Fatalf("%d RID sets, want 1", len(sets))
	}
	last, err := strconv.ParseUint(sets[0].Value("rIDNextRID"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	domain, err := dtyp.ParseSID(lab.DomainSID)
	if err != nil {
		t.Fatal(err)
	}
	return domain.Child(uint32(last) + 1)
}

// makeAt makes a gMSA that web1$ may read as if it were another time, which
// Samba can be told for its own tests.
func makeAt(t *testing.T, dc *lab.DC, name string, when uint64) {
	t.Helper()
	const script = `
import sys
from samba.samdb import SamDB
from samba.param import LoadParm
from samba.auth import system_session
from samba.dcerpc import security
from samba.ndr import ndr_pack
lp = LoadParm(); lp.load(sys.argv[1])
db = SamDB(sys.argv[2], session_info=system_session(lp), lp=lp)
name, when, days, sid = sys.argv[3], int(sys.argv[4]), sys.argv[5], sys.argv[6]
db.set_opaque('dsdb_gmsa_time_opaque', when)
db.add({'dn': f'CN={name},CN=Managed Service Accounts,{db.domain_dn()}', 'objectClass': 'msDS-GroupManagedServiceAccount',
	'sAMAccountName': name + '$', 'dNSHostName': name + '.contoso.com', 'userAccountControl': '4096',
	'msDS-ManagedPasswordInterval': days, 'msDS-SupportedEncryptionTypes': '24',
	'msDS-GroupMSAMembership': ndr_pack(security.descriptor.from_sddl(f'O:SYD:(A;;RP;;;{sid})', security.dom_sid(db.get_domain_sid())))})
`
	reader := dc.Search(t, lab.BaseDN, "(sAMAccountName=web1$)", "objectSid")
	if len(reader) != 1 {
		t.Fatal("no web1$")
	}
	sid := reader[0].Value("objectSid")
	if parsed, err := dtyp.SIDFromBytes([]byte(sid)); err == nil {
		sid = parsed.String()
	}
	dc.Run(t, nil, "/usr/bin/python3", "-c", script, dc.Dir+"/etc/smb.conf", dc.Dir+"/private/sam.ldb",
		name, strconv.FormatUint(when, 10), strconv.Itoa(longest), sid)
}

// spellings are the forms in which a secret might leak.
func spellings(b []byte) map[string]string {
	wide := make([]byte, 0, 2*len(b))
	for _, u := range utf16.Encode([]rune(string(b))) {
		wide = binary.LittleEndian.AppendUint16(wide, u)
	}
	m := map[string]string{
		"raw": string(b), "hex": fmt.Sprintf("%x", b), "HEX": fmt.Sprintf("%X", b), "UTF-16": string(wide),
	}
	for i := range min(3, len(b)) {
		// In a longer text the secret may begin at any of three places of base64; what
		// it shares with its neighbours is cut off.
		e := base64.RawStdEncoding.EncodeToString(b[i : i+(len(b)-i)/3*3])
		m[fmt.Sprintf("base64 at %d", i)] = e
	}
	return m
}
