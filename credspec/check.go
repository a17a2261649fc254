package credspec

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/opengmsa/opengmsa/dtyp"
)

// Check reports what is wrong with s, without asking a domain: see [Parse],
// which includes it. The error is an *Error if a finding is a fault.
func (s Spec) Check() ([]Finding, error) {
	r := new(reader)
	r.check(s)
	return r.findings, faultsOf(r.findings)
}

func (r *reader) check(s Spec) {
	r.checkPlugins(s.CmsPlugins)
	r.checkDomain(s.DomainJoinConfig)
	r.checkAccounts(s)
	if h := s.ActiveDirectoryConfig.HostAccountConfig; h != nil {
		r.checkHostAccount(*h)
	}
}

func (r *reader) checkPlugins(plugins []string) {
	const path = "$.CmsPlugins"
	if r.bad[path] {
		return
	}
	if len(plugins) == 0 {
		r.warn(path, "missing", `Windows wants ["ActiveDirectory"]`)
		return
	}
	found := false
	for i, p := range plugins {
		if strings.EqualFold(p, ActiveDirectory) {
			found = true
		} else if at := fmt.Sprintf("%s[%d]", path, i); !r.bad[at] {
			r.warn(at, quote(p)+" is not known; ignored", "")
		}
	}
	if !found {
		r.fault(path, "ActiveDirectory is not among them", `write ["ActiveDirectory"]`)
	}
}

// missing reports an empty value that has no fault yet.
func (r *reader) missing(path, value, remedy string) bool {
	if value != "" {
		return false
	}
	// A container that is missing or wrong is reported once, by its own path.
	for p := path; p != "$"; p = parent(p) {
		if r.bad[p] {
			return true
		}
	}
	r.fault(path, "missing", remedy)
	return true
}

// parent is the path of what contains path.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return "$"
}

func (r *reader) checkDomain(d DomainJoinConfig) {
	const path = "$.DomainJoinConfig"
	if d == (DomainJoinConfig{}) {
		r.missing(path, "", "gmsa credspec create writes the whole file")
		return
	}
	r.checkSid(path+".Sid", d.Sid)
	if !r.missing(path+".MachineAccountName", d.MachineAccountName, "the sAMAccountName of the gMSA, without $") {
		r.checkAccountName(path+".MachineAccountName", d.MachineAccountName)
	}
	switch g, err := dtyp.ParseGUID(d.Guid); {
	case d.Guid == "" && !r.bad[path+".Guid"]:
		r.warn(path+".Guid", "missing", "the objectGUID of the domain")
	case d.Guid == "":
	case err != nil:
		r.fault(path+".Guid", quote(d.Guid)+" is not a GUID", "the objectGUID of the domain, such as 56d9b66c-d746-4f87-bd26-26760cfdca2e")
	case g.IsZero():
		r.warn(path+".Guid", "all zeros", "the objectGUID of the domain")
	}
	if !r.missing(path+".DnsTreeName", d.DnsTreeName, "the DNS name of the forest") {
		r.checkDNSName(path+".DnsTreeName", d.DnsTreeName)
	}
	if !r.missing(path+".DnsName", d.DnsName, "the DNS name of the domain") {
		r.checkDNSName(path+".DnsName", d.DnsName)
	}
	if !r.missing(path+".NetBiosName", d.NetBiosName, "the NetBIOS name of the domain") {
		r.checkNetBIOSName(path+".NetBiosName", d.NetBiosName)
	}
}

// checkSid wants the SID of a domain. Guides have said "the SID of your gMSA
// account" here, so that this error has a remedy of its own.
func (r *reader) checkSid(path, s string) {
	if r.missing(path, s, "the SID of the domain") {
		return
	}
	sid, err := dtyp.ParseSID(s)
	switch {
	case err != nil:
		r.fault(path, quote(s)+" is not a SID", "the SID of the domain, such as S-1-5-21-702590844-1001920913-2680819671")
	case sid.IsDomain():
	case sid.Domain().IsDomain():
		r.fault(path, fmt.Sprintf("%s is the SID of an account or group, not of a domain", s), "write "+sid.Domain().String())
	default:
		r.fault(path, s+" is not the SID of a domain", "it begins with S-1-5-21 and has three numbers more")
	}
}

func (r *reader) checkAccountName(path, name string) {
	const maxName = 15 // what New-ADServiceAccount accepts
	bare, why := BareName(name)
	switch {
	case why != nil:
		r.fault(path, fmt.Sprintf("%s: %v", quote(name), why), "")
	case bare != name:
		r.fault(path, quote(name)+" has more than the account's name", "write "+quote(bare)+", without domain and $")
	case len(name) > maxName:
		r.warn(path, fmt.Sprintf("%s has more than %d characters", quote(name), maxName), "Windows refuses to create such a gMSA")
	}
}

// BareName reduces an account name that people write, NAME$, DOMAIN\NAME,
// NAME@DOMAIN or any mixture, to the sAMAccountName without "$". It fails for
// what no sAMAccountName may contain ([MS-SAMR] 3.1.1.6) and for names over 256
// bytes.
func BareName(name string) (string, error) {
	bare := name
	if _, after, ok := strings.Cut(bare, `\`); ok {
		bare = after
	}
	bare, _, _ = strings.Cut(bare, "@")
	bare = strings.TrimSuffix(bare, "$")
	switch {
	case len(name) > 256:
		return "", errors.New("longer than 256 bytes")
	case bare == "":
		return "", errors.New("there is no name in it")
	case strings.ContainsAny(bare, `"/\[]:;|=,+*?<>@`) || strings.ContainsFunc(bare, unicode.IsControl):
		return "", errors.New("characters that an account name cannot have")
	case strings.HasSuffix(bare, ".") || strings.TrimSpace(bare) != bare:
		return "", errors.New("begins or ends with a space, or ends with a dot")
	}
	return bare, nil
}

func (r *reader) checkDNSName(path, name string) {
	if err := checkDNS(name); err != nil {
		r.fault(path, fmt.Sprintf("%s is not a DNS name: %v", quote(name), err), "such as contoso.com")
	} else if !strings.Contains(name, ".") {
		r.warn(path, quote(name)+" has a single label", "is it the NetBIOS name?")
	}
}

// checkDNS reports why name is no name of a domain: RFC 1035, Section 2.3.4
// for sizes; letters and digits beyond ASCII and "_" pass, as in AD.
func checkDNS(name string) error {
	if len(name) > 255 {
		return errors.New("longer than 255 bytes")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return errors.New("an empty label")
		case len(label) > 63:
			return errors.New("a label longer than 63 bytes")
		case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
			return errors.New("a label that begins or ends with -")
		case strings.ContainsFunc(label, func(c rune) bool {
			return c != '-' && c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c)
		}):
			return errors.New("a character that is neither letter, digit, - nor _")
		}
	}
	return nil
}

func (r *reader) checkNetBIOSName(path, name string) {
	switch {
	case len([]rune(name)) > maxNetBIOS:
		r.fault(path, fmt.Sprintf("%s has more than %d characters", quote(name), maxNetBIOS), "such as CONTOSO")
	case strings.ContainsAny(name, `\/:*?"<>| ,`) || strings.ContainsFunc(name, unicode.IsControl):
		r.fault(path, quote(name)+" has characters that a NetBIOS name cannot have", "such as CONTOSO")
	case strings.Contains(name, "."):
		r.warn(path, quote(name)+" has a dot", "is it the DNS name?")
	}
}

func (r *reader) checkAccounts(s Spec) {
	const path = "$.ActiveDirectoryConfig.GroupManagedServiceAccounts"
	entries := s.ActiveDirectoryConfig.GroupManagedServiceAccounts
	if len(entries) == 0 {
		r.missing(path, "", `one entry for the domain's DNS name and one for its NetBIOS name: {"Name": …, "Scope": …}`)
		return
	}
	d := s.DomainJoinConfig
	seen := make(map[string]bool)
	for i, e := range entries {
		at := fmt.Sprintf("%s[%d]", path, i)
		noName := r.missing(at+".Name", e.Name, "the sAMAccountName of the gMSA, without $")
		noScope := r.missing(at+".Scope", e.Scope, "the DNS or NetBIOS name of its domain")
		if !noName {
			r.checkAccountName(at+".Name", e.Name)
		}
		if !noScope {
			r.checkScope(at+".Scope", e.Scope, d)
		}
		key := strings.ToLower(e.Name) + "\x00" + strings.ToLower(e.Scope)
		if seen[key] && !noName && !noScope {
			r.warn(at, "the same account and scope as an entry before", "")
		}
		seen[key] = true
	}
	r.checkPrimary(path, s)
}

func (r *reader) checkScope(path, scope string, d DomainJoinConfig) {
	known := strings.EqualFold(scope, d.DnsName) || strings.EqualFold(scope, d.NetBiosName)
	switch err := checkDNS(scope); {
	case known:
	case err != nil:
		r.fault(path, fmt.Sprintf("%s is neither a DNS nor a NetBIOS name: %v", quote(scope), err), "")
	case !strings.Contains(scope, ".") && d.NetBiosName != "":
		r.warn(path, quote(scope)+" is not a name of this domain", "for another domain give its DNS name")
	}
}

// checkPrimary wants the container's own account among those listed, with
// both scopes.
func (r *reader) checkPrimary(path string, s Spec) {
	d := s.DomainJoinConfig
	if d.MachineAccountName == "" || d.DnsName == "" || d.NetBiosName == "" {
		return
	}
	byDNS, byNetBIOS := false, false
	for _, e := range s.ActiveDirectoryConfig.GroupManagedServiceAccounts {
		if strings.EqualFold(e.Name, d.MachineAccountName) {
			byDNS = byDNS || strings.EqualFold(e.Scope, d.DnsName)
			byNetBIOS = byNetBIOS || strings.EqualFold(e.Scope, d.NetBiosName)
		}
	}
	entry := func(scope string) string {
		return fmt.Sprintf(`add {"Name": %s, "Scope": %s}`, quote(d.MachineAccountName), quote(scope))
	}
	switch {
	case !byDNS && !byNetBIOS:
		r.warn(path, "MachineAccountName is not among the accounts", entry(d.DnsName))
	case !byDNS:
		r.warn(path, "no entry with the DNS name as scope", entry(d.DnsName))
	case !byNetBIOS:
		r.warn(path, "no entry with the NetBIOS name as scope", entry(d.NetBiosName))
	}
}

func (r *reader) checkHostAccount(h HostAccountConfig) {
	if h.PortableCcgVersion == "" && h.PluginGUID == "" && h.PluginInput.IsZero() {
		r.missing(hostPath, "", "remove HostAccountConfig, or fill in PortableCcgVersion, PluginGUID and PluginInput")
		return
	}
	version := hostPath + ".PortableCcgVersion"
	if !r.missing(version, h.PortableCcgVersion, `write "1"`) && h.PortableCcgVersion != PortableCcgVersion {
		r.fault(version, quote(h.PortableCcgVersion)+" is not known", `write "1"`)
	}
	guid := hostPath + ".PluginGUID"
	if !r.missing(guid, h.PluginGUID, "the GUID that the plug-in is registered with") {
		switch id, err := ParsePluginGUID(h.PluginGUID); {
		case err != nil:
			r.fault(guid, quote(h.PluginGUID)+" is not a GUID", "32 hexadecimal digits, such as {CCC2A336-D7F3-4818-A213-272B7924213E}")
		case id == SamplePlugin:
			r.warn(guid, "the GUID of Microsoft's example, which is not a valid one",
				"register the plug-in with a GUID of your own; the example's input has a password in clear text")
		case !strings.HasPrefix(h.PluginGUID, "{"):
			r.warn(guid, "without braces", "write "+quote("{"+h.PluginGUID+"}"))
		}
	}
	if input := hostPath + ".PluginInput"; h.PluginInput.IsZero() && !r.bad[input] {
		r.warn(input, "missing", "most plug-ins need one")
	}
}
