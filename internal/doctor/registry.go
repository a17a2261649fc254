package doctor

import (
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/internal/lint"
)

// Checks are all checks, each after those that it rests on.
func Checks() []Check {
	return checksFor(Config{Host: &Host{Keytab: "/etc/krb5.keytab"}, Agent: noAgent{}, Windows: lint.Windows{Version: "2019"}, Files: []lint.File{{}}, Lease: &Lease{}})
}

// noAgent stands for an agent in a list of all checks. It is never asked.
type noAgent struct{ Agent }

// checksFor are the checks that a configuration calls for. The order is that of what
// rests on what, from the network upwards: of several faults the first is the root.
func checksFor(cfg Config) []Check {
	var list []Check
	named := len(cfg.Servers) == 0 // DNS names the controllers
	if named {
		list = append(list, nameChecks()...)
	}
	list = append(list, networkChecks(named)...)
	list = append(list, hostChecks(cfg)...)
	list = append(list, specChecks(cfg)...)
	list = append(list, domainChecks(cfg)...)
	list = append(list, accountChecks(cfg)...)
	if cfg.Agent != nil {
		list = append(list, Check{
			ID: "agent-accounts", Title: "the agent's accounts", Of: OfDomain, Needs: needs(cfg.joined(), []string{"agent", "account-logon", "plugin-logon"}, "host-logon"),
			Asks: "Does the agent report trouble with an identity or account that nothing else explains?", Guide: "5:248", run: agentAccounts,
		})
	}
	if cfg.Lease != nil {
		list = append(list, leaseChecks()...)
	}
	return list
}

// needs adds checks to a list where a condition holds.
func needs(condition bool, list []string, more ...string) []string {
	if condition {
		return append(list, more...)
	}
	return list
}

func nameChecks() []Check {
	return []Check{
		{ID: "resolver", Title: "resolver configuration", Of: OfPlace, Guide: "5:174", run: resolverConf,
			Asks: "Does /etc/resolv.conf, of the host and of the container, name name servers?"},
		{ID: "dns-udp", Title: "name servers by UDP", Of: OfPlace, Needs: []string{"resolver"}, Guide: "5:163", run: dnsPort("udp"),
			Asks: "Does every name server answer over UDP 53?"},
		{ID: "dns-tcp", Title: "name servers by TCP", Of: OfPlace, Needs: []string{"dns-udp"}, Guide: "5:163", run: dnsPort("tcp"),
			Asks: "Does every name server answer over TCP 53, which long answers need?"},
		{ID: "dns-domain", Title: "name servers know the domain", Of: OfPlace, Needs: []string{"dns-udp"}, Guide: "5:184", run: dnsDomain,
			Asks: "Does every name server know the domain?"},
		{ID: "dns-srv", Title: "service records", Of: OfPlace, Needs: []string{"dns-domain"}, Guide: "5:202", run: dnsSRV,
			Asks: "Are there the SRV records by which controllers are found?"},
		{ID: "dns-forward", Title: "addresses of controllers", Of: OfPlace, Needs: []string{"dns-srv"}, Guide: "5:184", run: dnsForward,
			Asks: "Has every controller that they name an address?"},
		{ID: "dns-hosts", Title: "hosts file", Of: OfPlace, Needs: []string{"dns-forward"}, Guide: "5:184", run: dnsHosts,
			Asks: "Does a line of /etc/hosts send a controller's name elsewhere?"},
		{ID: "dns-reverse", Title: "names of controllers", Of: OfPlace, Needs: []string{"dns-forward"}, run: dnsReverse,
			Asks: "Does every controller's address lead back to its name?"},
	}
}

func networkChecks(named bool) []Check {
	list := []Check{{ID: "reach", Title: "controllers answer", Of: OfPlace, Needs: needs(named, nil, "dns-forward"), Guide: "5:42", run: reach,
		Asks: "Does every controller answer at any port at all?"}}
	for _, row := range portTable {
		list = append(list, Check{
			ID: row.id, Title: fmt.Sprintf("%s, %s %d", row.name, map[string]string{"tcp": "TCP", "udp": "UDP"}[row.network], row.number), Of: OfPlace,
			Needs: []string{"reach"}, Guide: row.guide, run: portCheck(row), Asks: fmt.Sprintf("Does %s answer?", row.name),
		})
	}
	return append(list,
		Check{ID: "port-others", Title: "other ports", Of: OfPlace, Needs: []string{"reach"}, Guide: "5:165", run: portsElse,
			Asks: "Are the ports of NetLogon, RPC, SMB and the global catalog open? Nothing here needs them."},
		Check{ID: "clock", Title: "clocks", Of: OfPlace, Needs: []string{"reach"}, run: clock,
			Asks: "Does this machine's clock agree with every controller's, within the 5 minutes of Kerberos?"},
		Check{ID: "controllers", Title: "controllers' capability", Of: OfPlace, Needs: []string{"port-ldap-tcp"}, Guide: "1:28", run: capability,
			Asks: "Is there a writable controller of Windows Server 2012 or later?"},
		Check{ID: "certificate", Title: "certificates", Of: OfPlace, Needs: []string{"port-ldaps"}, run: certificate,
			Asks: "Is every controller's certificate for its name, in date, and signed by an authority that is trusted here? An error only where LDAPS or StartTLS is configured."},
	)
}

func hostChecks(cfg Config) []Check {
	var list []Check
	if cfg.Host != nil {
		list = append(list,
			Check{ID: "agent-config", Title: "agent's configuration", Of: OfDomain, run: agentConfig,
				Asks: "Is agent.yaml in order?"})
	}
	if cfg.joined() {
		list = append(list,
			Check{ID: "host-keytab", Title: "host's keytab", Of: OfDomain, Needs: []string{"agent-config"}, Guide: "5:42", run: hostKeytab,
				Asks: "Is the host joined: is there a keytab with the keys of a computer of the domain, which is root's alone?"},
			Check{ID: "host-logon", Title: "host logs on", Of: OfDomain, Needs: []string{"host-keytab", "port-kerberos-tcp"}, Guide: "5:42", run: hostLogon,
				Asks: "Does the domain take the host's keys?"},
		)
	}
	if cfg.Agent != nil {
		list = append(list, Check{ID: "agent", Title: "agent", Of: OfDomain, Needs: needs(cfg.Host != nil, nil, "agent-config"), run: agentRuns,
			Asks: "Does the credential guard answer?"})
	}
	return list
}

func domainChecks(cfg Config) []Check {
	who := needs(cfg.Asker == nil && cfg.joined(), []string{"port-kerberos-tcp"}, "host-logon")
	who = needs(cfg.Asker == nil && cfg.Host != nil && !cfg.joined(), who, "plugin-logon")
	list := []Check{
		{ID: "credentials", Title: "credentials", Of: OfDomain, Needs: who, run: credentials,
			Asks: "Does the domain take the credentials with which the directory is asked?"},
		{ID: "directory", Title: "directory", Of: OfDomain, Needs: []string{"credentials", "port-ldap-tcp", "controllers"}, Guide: "1:28", run: directory,
			Asks: "Can the directory be read over a sealed connection, and which level has the domain?"},
		{ID: "channel-binding", Title: "channel binding", Of: OfDomain, Needs: []string{"credentials", "port-ldaps"}, After: []string{"certificate"}, run: channelBinding,
			Asks: "Does a Kerberos bind inside TLS, bound to its channel, succeed?"},
	}
	if cfg.joined() {
		list = append(list, Check{ID: "host-kvno", Title: "version of the host's keys", Of: OfDomain, Needs: []string{"directory", "host-logon"}, run: hostKVNO,
			Asks: "Has the keytab the version of the keys that the directory has?"})
	}
	if len(cfg.Accounts)+len(cfg.Specs) == 0 {
		list = append(list, Check{ID: "spn-duplicates", Title: "service principal names of the forest", Of: OfDomain, Needs: []string{"directory"}, Guide: "5:211", run: duplicateSPNs,
			Asks: "Has every service principal name one owner? Asked where no account is named."})
	}
	return append(list,
		Check{ID: "root-key", Title: "KDS root key", Of: OfDomain, Needs: []string{"directory"}, Guide: "1:36", run: rootKeys,
			Asks: "Is there a KDS root key, and is it in effect?"},
		Check{ID: "root-key-replicated", Title: "root keys on every controller", Of: OfDomain, Needs: []string{"root-key"}, Guide: "1:51", run: replicated,
			Asks: "Has every controller every root key?"},
		Check{ID: "spec-fields", Title: "credential spec and domain", Of: OfSpec, Needs: []string{"spec-file", "directory"}, Guide: "5:75", run: specFields,
			Asks: "Are Sid, Guid, DnsTreeName, DnsName and NetBiosName the domain's?"},
		Check{ID: "spec-accounts", Title: "credential spec's accounts", Of: OfSpec, Needs: []string{"spec-file", "spec-fields"}, Guide: "5:213", run: specAccounts,
			Asks: "Are the accounts of the host's domain?"},
	)
}

func specChecks(cfg Config) []Check {
	conf := needs(cfg.Host != nil, nil, "agent-config")
	return []Check{
		{ID: "spec-file", Title: "credential spec", Of: OfSpec, Needs: conf, Guide: "5:73", run: specFile,
			Asks: "Is the file JSON of the right form: every field, the version, the GUIDs, names without $ and domain?"},
		{ID: "spec-place", Title: "credential spec's place", Of: OfSpec, Needs: []string{"spec-file"}, Guide: "5:72", run: specPlace,
			Asks: "Does the file lie where the agent and the engines look for it?"},
		{ID: "spec-host", Title: "plug-in registered", Of: OfSpec, Needs: []string{"spec-file"}, Guide: "5:68", run: specHost,
			Asks: "Where the spec has HostAccountConfig: is the plug-in of its GUID registered on this host? (event 4)"},
		{ID: "plugin-store", Title: "plug-in's store", Of: OfSpec, Needs: []string{"spec-host"}, Guide: "5:246", run: pluginStore, Limit: 8 * time.Second,
			Asks: "Does the plug-in's store yield the portable account's credentials? (event 6)"},
		{ID: "plugin-logon", Title: "portable account logs on", Of: OfSpec, Needs: []string{"plugin-store", "port-kerberos-tcp"}, Guide: "5:248", run: pluginLogon,
			Asks: "Does the domain take them?"},
	}
}

func accountChecks(cfg Config) []Check {
	list := []Check{
		{ID: "account", Title: "account", Of: OfAccount, Needs: []string{"directory"}, After: []string{"spec-fields"}, Guide: "5:213", run: accountExists,
			Asks: "Is there the managed service account, in the host's domain?"},
		{ID: "account-enabled", Title: "account enabled", Of: OfAccount, Needs: []string{"account"}, run: accountEnabled,
			Asks: "Is the account enabled?"},
		{ID: "account-flags", Title: "userAccountControl", Of: OfAccount, Needs: []string{"account"}, Guide: "5:222", run: accountFlags,
			Asks: "Has it WORKSTATION_TRUST_ACCOUNT and no other account type; is it trusted for unconstrained delegation?"},
		{ID: "account-types", Title: "encryption types", Of: OfAccount, Needs: []string{"account"}, run: accountTypes,
			Asks: "Do host and domain share an encryption type for it?"},
		{ID: "account-age", Title: "password's age", Of: OfAccount, Needs: []string{"account"}, run: accountAge,
			Asks: "How old is its password, and when does the next one come?"},
		{ID: "account-root-key", Title: "root key of the password", Of: OfAccount, Needs: []string{"account", "root-key"}, run: accountRootKey,
			Asks: "Is the root key there that makes its password?"},
		{ID: "account-readers", Title: "who may retrieve the password", Of: OfAccount, Needs: []string{"account"}, Guide: "5:61", run: accountReaders,
			Asks: "Is msDS-GroupMSAMembership readable, and who is in it?"},
		{ID: "account-access", Title: "the host may retrieve it", Of: OfAccount, Needs: []string{"account-readers", "plugin-logon"}, Guide: "5:53", run: accountAccess,
			Asks: "Is the host among them, directly or through groups?"},
		{ID: "account-ticket", Title: "the host's ticket", Of: OfAccount, Needs: []string{"account-access", "root-key"}, Guide: "5:64", run: accountTicket, Limit: 6 * time.Second,
			Asks: "Is the host's ticket younger than its membership?"},
		{ID: "account-password", Title: "password retrieved", Of: OfAccount, Needs: []string{"account-ticket", "account-age", "account-root-key"}, Guide: "5:50", run: accountPassword,
			Asks: "Does the directory give out the password?"},
		{ID: "account-logon", Title: "account logs on", Of: OfAccount, Needs: []string{"account-password", "account-enabled", "account-flags", "account-types"}, Guide: "5:194", run: accountLogon,
			Asks: "Does the domain take it, and give a ticket?"},
		{ID: "account-name", Title: "name is unique", Of: OfAccount, Needs: []string{"account"}, Guide: "5:215", run: accountName,
			Asks: "Is nobody else in the forest called the same, with or without $?"},
		{ID: "account-spn", Title: "service principal names", Of: OfAccount, Needs: []string{"account"}, Guide: "5:211", run: accountSPNs,
			Asks: "Has it the names by which clients reach it (--url)?"},
		{ID: "account-spn-unique", Title: "names are its alone", Of: OfAccount, Needs: []string{"account"}, Guide: "5:211", run: accountDuplicates,
			Asks: "Has nobody else one of its service principal names?"},
	}
	if cfg.Windows.Version != "" {
		list = append(list, Check{ID: "windows", Title: "Windows' rules for containers", Of: OfAccount, Guide: "5:18", run: windowsRules,
			Asks: "Do host name, number of containers, isolation and user agree with the version of Windows (--windows)?"})
	}
	if len(cfg.Files) > 0 {
		list = append(list, Check{ID: "files", Title: "the application's files", Of: OfAccount, Guide: "4:21", run: applicationFiles,
			Asks: "Would what the Dockerfiles and manifests say use the account (--file)?"})
	}
	return list
}

func leaseChecks() []Check {
	return []Check{
		{ID: "lease-files", Title: "lease's files", Of: OfLease, run: leaseFiles,
			Asks: "Has the lease its files, and do they belong to its owner?"},
		{ID: "lease-ticket", Title: "lease's ticket", Of: OfLease, Needs: []string{"lease-files"}, Guide: "5:194", run: leaseTicket,
			Asks: "Has it a ticket that is valid now?"},
		{ID: "lease-identity", Title: "application's identity", Of: OfLease, Needs: []string{"lease-files"}, Guide: "5:204", run: leaseIdentity,
			Asks: "Does the application's environment name the tickets, and may its user read them?"},
	}
}
