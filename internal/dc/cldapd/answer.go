package cldapd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// flags are what this controller is: the only one, and so all there is. It gives no
// time, and has no web services.
const flags = adproto.DSPDC | adproto.DSGC | adproto.DSLDAP | adproto.DSDS | adproto.DSKDC | adproto.DSClosest |
	adproto.DSWritable | adproto.DSFullSecret | adproto.DSLevel2012 | adproto.DSLevel2012R2 | adproto.DSLevel2016

// maxNetBIOSName is the longest NetBIOS name of a computer: [MS-NBTE] 1.8.
const maxNetBIOSName = 15

// Answer is the value of the attribute Netlogon for a ping that came from an address:
// [MS-ADTS] 6.3.3.2. ok is false for a ping that is not for this domain ([MS-ADTS]
// 6.3.3.3): over TCP the search then succeeds without an entry, over UDP nothing is
// sent.
func (s *Server) Answer(p adproto.Ping, from netip.Addr) (value []byte, ok bool) {
	d := s.cfg.Directory.Domain()
	if !about(d, p) {
		return nil, false
	}
	known, err := s.knows(p)
	if err != nil {
		s.cfg.Log.Warn("netlogon ping not answered", "from", from, "user", p.User, "error", err)
		return nil, false
	}
	r := reply(d, p, known)
	r.Address = nearest(s.cfg.Addresses, from)
	value, err = r.Append(nil)
	if err != nil { // the name of the user, which the client chose
		s.cfg.Log.Debug("netlogon ping not answered", "from", from, "error", err)
		return nil, false
	}
	return value, true
}

// about reports whether the ping is for the domain; what it leaves out fits. A name
// that is empty is one that is left out: Samba's net sends it so.
func about(d directory.Domain, p adproto.Ping) bool {
	return (p.DNSDomain == "" || strings.EqualFold(p.DNSDomain, d.DNSName)) &&
		(p.DomainGUID == (dtyp.GUID{}) || p.DomainGUID == d.GUID) &&
		(p.DomainSID.IsZero() || p.DomainSID == d.SID)
}

// reply chooses the newest form that the client reads: [MS-ADTS] 6.3.1.1.
func reply(d directory.Domain, p adproto.Ping, known bool) adproto.PingReply {
	host := strings.ToUpper(d.Host)
	r := adproto.PingReply{
		Opcode: adproto.OpSamLogonResponse, NtVersion: adproto.NtVersion1, Flags: flags,
		DomainGUID: d.GUID, Forest: d.DNSName, Domain: d.DNSName, HostName: d.HostName(),
		NetBIOSDomain: d.NetBIOS, NetBIOSHost: host[:min(len(host), maxNetBIOSName)],
		User: p.User, Site: d.Site, ClientSite: d.Site,
	}
	unknown := adproto.OpSamUserUnknown
	switch {
	case p.NtVersion&(adproto.NtVersion5Ex|adproto.NtVersion5ExWithIP) != 0:
		r.Opcode, unknown = adproto.OpSamLogonResponseEx, adproto.OpSamUserUnknownEx
		r.NtVersion |= adproto.NtVersion5Ex | p.NtVersion&adproto.NtVersion5ExWithIP
	case p.NtVersion&adproto.NtVersion5 != 0:
		r.NtVersion |= adproto.NtVersion5
	}
	if !known {
		r.Opcode = unknown
	}
	return r
}

// kinds are the bits of a ping's AAC that narrow the search for the user, USER_ACCOUNT
// of [MS-SAMR] 2.2.1.12, with those of userAccountControl that they stand for.
var kinds = []struct {
	aac uint32
	uac adproto.UserAccountControl
}{
	{0x08, adproto.UACTempDuplicate},
	{0x10, adproto.UACNormalAccount},
	{0x40, adproto.UACInterdomainTrust},
	{0x80, adproto.UACWorkstationTrust},
	{0x100, adproto.UACServerTrust},
}

// knows reports whether the domain has the account that the ping asks for, of one of
// the kinds that it asks for, and not disabled. A ping that asks for none is content.
func (s *Server) knows(p adproto.Ping) (known bool, err error) {
	if p.User == "" {
		return true, nil
	}
	var wanted adproto.UserAccountControl
	for _, k := range kinds {
		if p.AAC&k.aac != 0 {
			wanted |= k.uac
		}
	}
	// The search is made while a datagram waits, and ends with the transaction.
	err = s.cfg.Directory.View(context.Background(), func(r *directory.Reader) error {
		uac, err := accountControl(r, p.User)
		known = err == nil && !uac.Disabled() && (wanted == 0 || uac&wanted != 0)
		if errors.Is(err, rows.ErrNotFound) {
			return nil
		}
		return err
	})
	return known, err
}

// accountControl reads userAccountControl of an account. It fails with
// rows.ErrNotFound, for a group too.
func accountControl(r *directory.Reader, name string) (adproto.UserAccountControl, error) {
	sam, _ := r.Schema().Attribute("sAMAccountName")
	control, _ := r.Schema().Attribute("userAccountControl")
	e, err := r.Lookup(sam, []byte(name))
	if err != nil {
		return 0, err
	}
	values := e.Values[control]
	if len(values) == 0 {
		return 0, rows.ErrNotFound
	}
	n, err := strconv.ParseInt(string(values[0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("userAccountControl of %s: %w", name, err)
	}
	return adproto.UserAccountControl(n), nil
}

// nearest is the IPv4 address that shares the most bits with the client's, which is
// the one it can reach if any: the replies have no room for another family.
func nearest(own []netip.Addr, client netip.Addr) (best netip.Addr) {
	client = client.Unmap()
	most := -1
	for _, a := range own {
		if a = a.Unmap(); !a.Is4() {
			continue
		}
		shared := 0
		for client.Is4() && shared < 32 && sameNetwork(a, client, shared+1) {
			shared++
		}
		if shared > most {
			best, most = a, shared
		}
	}
	return best
}

// sameNetwork reports whether the first bits of two addresses are the same.
func sameNetwork(a, b netip.Addr, bits int) bool { return netip.PrefixFrom(a, bits).Contains(b) }
