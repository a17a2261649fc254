package directory

import (
	"errors"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// hostClasses are the service classes for which "host" stands in a domain: the value
// that the attribute sPNMappings of [MS-ADA3] has in a new forest.
func hostClasses() []string {
	return strings.Fields(`alerter appmgmt cisvc clipsrv browser dhcp dnscache replicator eventlog eventsystem
		policyagent oakley dmserver dns mcsvc fax msiserver ias messenger netlogon netman netdde netddedsm nmagent
		plugplay protectedstorage rasman rpclocator rpc rpcss remoteaccess rsvp samss scardsvr scesrv seclogon scm
		dcom cifs spooler snmp schedule tapisrv trksvr trkwks ups time wins www http w3svc iisadmin msdtc`)
}

// renameSPNs lets the SPNs of a machine follow its names: one whose host or service is
// the old dNSHostName, or the old sAMAccountName without "$", gets the new one, also
// where the same request gives it. SPNs with a port or an instance stay as they are, and
// so do all where a name is taken away. This is what Samba 4.22 was measured to do; the
// clause of [MS-ADTS] is not known here.
func (d *draft) renameSPNs() error {
	if d.old == nil || !d.isMachine() {
		return nil
	}
	spns, changed := d.e.Values[d.mustAttribute("servicePrincipalName")], false
	for _, name := range []func(*rows.Entry) string{
		func(e *rows.Entry) string { return string(d.value(e, "dNSHostName")) }, d.machineName,
	} {
		was, is := name(d.old), name(d.e)
		if was == "" || is == "" || was == is {
			continue
		}
		renamed := make([][]byte, len(spns))
		for i, v := range spns {
			renamed[i] = renameSPN(v, was, is)
		}
		spns, changed = renamed, true
	}
	if !changed {
		return nil
	}
	return d.setSPNs(spns)
}

// setSPNs makes values the SPNs of the object, each once: two may have become one.
func (d *draft) setSPNs(values [][]byte) error {
	spn := d.mustAttribute("servicePrincipalName")
	seen := map[string]bool{}
	var unique [][]byte
	for _, v := range values {
		key, err := keyOf(spn, v)
		if err != nil {
			return err
		}
		if !seen[key] {
			unique = append(unique, v)
		}
		seen[key] = true
	}
	d.set(d.e, spn.Name, unique...)
	return nil
}

// renameSPN is an SPN with another name of its host, if it has the old one.
func renameSPN(value []byte, was, is string) []byte {
	spn, err := adproto.ParseSPN(string(value))
	if err != nil || spn.Port != 0 || spn.Instance != "" {
		return value
	}
	changed := false
	for _, part := range []*string{&spn.Host, &spn.Service} {
		if strings.EqualFold(*part, was) {
			*part, changed = is, true
		}
	}
	if !changed {
		return value
	}
	return []byte(spn.String())
}

// settleSPNs judges servicePrincipalName: each value is one, and no other account in
// the forest has it, spelled otherwise or by an alias ([MS-ADTS] 3.1.1.5.1.3).
func (d *draft) settleSPNs() error {
	if !d.changed("servicePrincipalName") {
		return nil
	}
	for _, v := range d.added("servicePrincipalName") {
		spn, err := adproto.ParseSPN(string(v))
		if err != nil {
			return &Error{Code: ConstraintViolation, Win32: Win32Constraint, Message: "a servicePrincipalName that is none", Err: err}
		}
		if strings.EqualFold(spn.Class, "krbtgt") {
			return constraint("the name of the ticket granting service is nobody's to take")
		}
		if err := d.uniqueSPN(spn, v); err != nil {
			return err
		}
	}
	return nil
}

// uniqueSPN refuses an SPN that another account has. One that it has only by an alias,
// http/web1 of whoever has host/web1, may be given away by who may write its SPNs too.
func (d *draft) uniqueSPN(spn adproto.SPN, value []byte) error {
	holder, err := d.otherHolder(spn)
	if err != nil {
		return err
	}
	if holder != nil {
		return conflict("servicePrincipalName", value, nil)
	}
	for _, alias := range aliases(spn) {
		holder, err := d.otherHolder(alias)
		if err != nil {
			return err
		}
		if holder == nil {
			continue
		}
		object := d.protected(holder)
		if !d.caller.Controller && !object.Writable(d.caller.Token, d.mustAttribute("servicePrincipalName")) {
			return conflict("servicePrincipalName", value, nil)
		}
	}
	return nil
}

// aliases are the SPNs by which a KDC would find the account of spn, or that it would
// find by spn.
func aliases(spn adproto.SPN) []adproto.SPN {
	classes := hostClasses()
	var out []adproto.SPN
	switch {
	case strings.EqualFold(spn.Class, "host"):
		for _, class := range classes {
			alias := spn
			alias.Class = class
			out = append(out, alias)
		}
	case slices.Contains(classes, strings.ToLower(spn.Class)):
		spn.Class = "host"
		out = append(out, spn)
	}
	return out
}

// otherHolder is another object that has an SPN, nil for none.
func (d *draft) otherHolder(spn adproto.SPN) (*rows.Entry, error) {
	for _, text := range []string{spn.String(), spn.Normal().String(), dotted(spn)} {
		e, err := d.Lookup(d.mustAttribute("servicePrincipalName"), []byte(text))
		if err != nil && !errors.Is(err, rows.ErrNotFound) {
			return nil, err
		}
		if err == nil && e.GUID != d.e.GUID {
			return e, nil
		}
		if e, err = d.replicaWith("servicePrincipalName", text); e != nil || err != nil {
			return e, err
		}
	}
	return nil, nil
}

// dotted is an SPN with the root's dot behind the host, which means the same.
func dotted(spn adproto.SPN) string {
	spn.Host = strings.TrimSuffix(spn.Host, ".") + "."
	return spn.String()
}

// validSPNs reports whether a machine may write these SPNs into its own account by the
// validated write: class/host, where host is its DNS name or its name in the domain
// ([MS-ADTS] 3.1.1.5.3.1.1.4).
func (d *draft) validSPNs(values [][]byte) bool {
	if !d.isMachine() {
		return false
	}
	hosts := []string{d.machineName(d.e)}
	for _, name := range []string{"dNSHostName", "msDS-AdditionalDnsHostName"} {
		for _, v := range d.e.Values[d.mustAttribute(name)] {
			hosts = append(hosts, string(v))
		}
	}
	for _, v := range d.e.Values[d.mustAttribute("msDS-AdditionalSamAccountName")] {
		hosts = append(hosts, strings.TrimSuffix(string(v), "$"))
	}
	return !slices.ContainsFunc(values, func(v []byte) bool {
		spn, err := adproto.ParseSPN(string(v))
		return err != nil || spn.Service != "" || !slices.ContainsFunc(hosts, func(h string) bool { return h != "" && strings.EqualFold(h, spn.Host) })
	})
}

// validDNSHostName reports whether a machine may write its dNSHostName by the
// validated write: its name in the domain, a dot, and the domain or a suffix that the
// domain allows ([MS-ADTS] 3.1.1.5.3.1.1.2).
func (d *draft) validDNSHostName(values [][]byte) (bool, error) {
	suffixes, err := d.dnsSuffixes()
	if err != nil || !d.isMachine() {
		return false, err
	}
	return !slices.ContainsFunc(values, func(v []byte) bool {
		return !slices.ContainsFunc(suffixes, func(s string) bool {
			return strings.EqualFold(string(v), d.machineName(d.e)+"."+s)
		})
	}), nil
}

// validAdditionalNames reports whether a machine may write its msDS-AdditionalDnsHostName
// by the validated write: any label, a dot, and a suffix that msDS-AllowedDNSSuffixes has
// ([MS-ADTS] 3.1.1.5.3.1.1.3).
func (d *draft) validAdditionalNames(values [][]byte) (bool, error) {
	suffixes, err := d.allowedSuffixes()
	if err != nil || !d.isMachine() {
		return false, err
	}
	return !slices.ContainsFunc(values, func(v []byte) bool {
		label, suffix, _ := strings.Cut(string(v), ".")
		return label == "" || !slices.ContainsFunc(suffixes, func(s string) bool { return strings.EqualFold(suffix, s) })
	}), nil
}

// dnsSuffixes are the domain's DNS name and what msDS-AllowedDNSSuffixes adds to it.
func (c *change) dnsSuffixes() ([]string, error) {
	suffixes, err := c.allowedSuffixes()
	return append([]string{c.domain.DNSName}, suffixes...), err
}

// allowedSuffixes is msDS-AllowedDNSSuffixes of the domain.
func (c *change) allowedSuffixes() (suffixes []string, err error) {
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	for _, v := range head.Values[c.mustAttribute("msDS-AllowedDNSSuffixes")] {
		suffixes = append(suffixes, string(v))
	}
	return suffixes, nil
}
