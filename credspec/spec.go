package credspec

import (
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// Values that every consumer expects.
const (
	// ActiveDirectory is the entry that CmsPlugins must have.
	ActiveDirectory = "ActiveDirectory"
	// PortableCcgVersion is the only version of HostAccountConfig.
	PortableCcgVersion = "1"
	// SamplePluginGUID is in Microsoft's example of a complete file, and no
	// GUID. It is accepted, with a warning, and stands for the plug-in whose
	// input is domain:user:password.
	SamplePluginGUID = "{GDMA0342-266A-4D1P-831J-20990E82944F}"
)

// Spec is a credential spec. Field names are those of the JSON.
type Spec struct {
	CmsPlugins            []string
	DomainJoinConfig      DomainJoinConfig
	ActiveDirectoryConfig ActiveDirectoryConfig
}

// DomainJoinConfig says which domain, and as whom a container appears in it.
type DomainJoinConfig struct {
	Sid                string // of the domain: S-1-5-21 and three numbers
	MachineAccountName string // of the gMSA that is the container's own identity, without "$"
	Guid               string // objectGUID of the domain
	DnsTreeName        string // DNS name of the forest
	DnsName            string // DNS name of the domain
	NetBiosName        string // NetBIOS name of the domain
}

// ActiveDirectoryConfig lists the gMSAs and, for a host that is not joined to
// the domain, who fetches their passwords.
type ActiveDirectoryConfig struct {
	GroupManagedServiceAccounts []GroupManagedServiceAccount
	HostAccountConfig           *HostAccountConfig // nil: the host itself
}

// GroupManagedServiceAccount is one name of a gMSA. Microsoft's module writes
// two for the container's own: first the DNS name as scope, then the NetBIOS
// name.
type GroupManagedServiceAccount struct {
	Name  string // sAMAccountName without "$"
	Scope string // DNS or NetBIOS name of its domain
}

// HostAccountConfig selects the plug-in that yields a portable identity.
type HostAccountConfig struct {
	PortableCcgVersion string
	PluginGUID         string // as the file spells it; see ParsePluginGUID
	// PluginInput goes to the plug-in as it is. Where the file has an object,
	// it is the object's JSON without white space. It is kept as a secret
	// because the simplest plug-ins take a password in it.
	PluginInput secret.Bytes
}

// PluginID identifies a plug-in: a GUID in lower case without braces, or that
// form of SamplePluginGUID.
type PluginID string

// ParsePluginGUID reads a PluginGUID, with braces or without.
func ParsePluginGUID(s string) (PluginID, error) {
	if strings.EqualFold(s, SamplePluginGUID) || strings.EqualFold("{"+s+"}", SamplePluginGUID) {
		return SamplePlugin, nil
	}
	g, err := dtyp.ParseGUID(s)
	if err != nil {
		return "", err
	}
	return PluginID(g.String()), nil
}

// SamplePlugin is the PluginID of SamplePluginGUID.
const SamplePlugin PluginID = "gdma0342-266a-4d1p-831j-20990e82944f"

// Account is a gMSA that a spec names, whatever the number of entries.
type Account struct {
	Name    string // sAMAccountName without "$", as the spec spells it first
	Domain  string // DNS name; empty if only a NetBIOS name of another domain is given
	NetBIOS string // NetBIOS name; empty if the spec does not tell
}

// Accounts lists the distinct gMSAs of s. The first is the primary one, named
// by MachineAccountName; without such an entry it is the file's first. The
// others follow in the file's order. Entries are of one account if their names
// are equal without regard to case and their scopes mean one domain: the DNS
// and NetBIOS name of DomainJoinConfig do, and so do a DNS name and the
// NetBIOS name that is its first label.
func (s Spec) Accounts() []Account {
	var accounts []Account
	for _, e := range s.ActiveDirectoryConfig.GroupManagedServiceAccounts {
		a := s.account(e)
		i := 0
		for i < len(accounts) && !accounts[i].merge(a) {
			i++
		}
		if i == len(accounts) {
			accounts = append(accounts, a)
		}
	}
	primary := s.DomainJoinConfig.MachineAccountName
	for i, a := range accounts {
		if strings.EqualFold(a.Name, primary) && s.ownDomain(a) {
			copy(accounts[1:i+1], accounts[:i])
			accounts[0] = a
			break
		}
	}
	return accounts
}

// account is what one entry tells of its account.
func (s Spec) account(e GroupManagedServiceAccount) Account {
	d := s.DomainJoinConfig
	switch {
	case strings.EqualFold(e.Scope, d.DnsName) || strings.EqualFold(e.Scope, d.NetBiosName):
		return Account{e.Name, d.DnsName, d.NetBiosName}
	case strings.Contains(e.Scope, "."):
		return Account{e.Name, e.Scope, ""}
	}
	return Account{e.Name, "", e.Scope}
}

// ownDomain reports whether a is of the domain of DomainJoinConfig.
func (s Spec) ownDomain(a Account) bool {
	return strings.EqualFold(a.Domain, s.DomainJoinConfig.DnsName)
}

// merge adds what b tells to a if both are one account.
func (a *Account) merge(b Account) bool {
	if !strings.EqualFold(a.Name, b.Name) {
		return false
	}
	switch {
	case a.Domain != "" && b.Domain != "":
		return strings.EqualFold(a.Domain, b.Domain)
	case a.Domain == "" && b.Domain == "":
		return strings.EqualFold(a.NetBIOS, b.NetBIOS)
	case a.Domain != "" && a.NetBIOS == "" && firstLabelIs(a.Domain, b.NetBIOS):
		a.NetBIOS = b.NetBIOS
		return true
	case b.Domain != "" && b.NetBIOS == "" && firstLabelIs(b.Domain, a.NetBIOS):
		a.Domain = b.Domain
		return true
	case a.Domain != "":
		return strings.EqualFold(a.NetBIOS, b.NetBIOS)
	}
	return false
}

// firstLabelIs reports whether a domain of that DNS name has the NetBIOS name
// by default: the first label, cut to 15 characters.
func firstLabelIs(domain, netbios string) bool {
	label, _, _ := strings.Cut(domain, ".")
	return strings.EqualFold(label[:min(len(label), maxNetBIOS)], netbios)
}

// Domain is what [New] needs to know of a domain.
type Domain struct {
	SID     dtyp.SID
	GUID    dtyp.GUID
	DNS     string
	Forest  string
	NetBIOS string
}

// New makes the spec that Microsoft's New-CredentialSpec makes: for the
// account of that name in d, and for additional accounts, of which only Name
// and Domain are used; an empty Domain means that of d. A final "$" is removed
// from names.
func New(d Domain, name string, additional ...Account) Spec {
	name = strings.TrimRight(name, "$")
	s := Spec{
		CmsPlugins: []string{ActiveDirectory},
		DomainJoinConfig: DomainJoinConfig{
			Sid: d.SID.String(), MachineAccountName: name, Guid: d.GUID.String(),
			DnsTreeName: d.Forest, DnsName: d.DNS, NetBiosName: d.NetBIOS,
		},
	}
	entries := []GroupManagedServiceAccount{{name, d.DNS}, {name, d.NetBIOS}}
	for _, a := range additional {
		scope := a.Domain
		if scope == "" {
			scope = d.DNS
		}
		entries = append(entries, GroupManagedServiceAccount{strings.TrimRight(a.Name, "$"), scope})
	}
	s.ActiveDirectoryConfig.GroupManagedServiceAccounts = entries
	return s
}
