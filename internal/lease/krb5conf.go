package lease

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Realm is one realm of a krb5.conf.
type Realm struct {
	// Name is the realm, in upper case.
	Name string
	// Domain is the DNS domain of the realm's hosts.
	Domain string
	// KDCs are host names or addresses, each with a port where it is not 88:
	// "dc1.contoso.com", "192.0.2.1:8888", "[2001:db8::1]:88". Without any,
	// clients ask DNS.
	KDCs []string
	// Kpasswd are the password servers in the same form, port 464; without
	// any, clients ask the KDCs' hosts.
	Kpasswd []string
}

// Krb5Conf is a Kerberos configuration that is complete without any other file
// of the host or the image, for MIT, Heimdal and Java.
type Krb5Conf struct {
	// Realms has at least one element; the first is the default realm.
	Realms []Realm
	// ETypes are the encryption types, best first; none means AES with SHA-1
	// and SHA-2.
	ETypes []crypto.EType
	// Dir is the lease's directory as the workload sees it.
	Dir string
	// Forwardable makes clients ask for forwardable tickets.
	Forwardable bool
}

// Append appends the file to dst. What would break out of its line or section
// is refused.
func (c Krb5Conf) Append(dst []byte) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("krb5.conf: %w", err)
	}
	b := bytes.NewBuffer(dst)
	c.libdefaults(b)
	b.WriteString("\n[realms]\n")
	for _, r := range c.Realms {
		fmt.Fprintf(b, "    %s = {\n", r.Name)
		for _, kdc := range r.KDCs {
			fmt.Fprintf(b, "        kdc = %s\n", kdc)
		}
		for _, server := range r.Kpasswd {
			fmt.Fprintf(b, "        kpasswd_server = %s\n", server)
		}
		fmt.Fprintf(b, "        default_domain = %s\n    }\n", r.Domain)
	}
	b.WriteString("\n[domain_realm]\n")
	for _, r := range c.Realms {
		fmt.Fprintf(b, "    .%[1]s = %[2]s\n    %[1]s = %[2]s\n", r.Domain, r.Name)
	}
	return b.Bytes(), nil
}

// libdefaults writes the section of that name. The comments say which program
// needs what.
func (c Krb5Conf) libdefaults(b *bytes.Buffer) {
	set := func(key, value string) { fmt.Fprintf(b, "    %s = %s\n", key, value) }
	b.WriteString("# Written by the gMSA agent; it changes with the domain.\n[libdefaults]\n")
	set("default_realm", c.Realms[0].Name)
	// The controllers are named below; DNS serves other realms of the forest.
	set("dns_lookup_realm", "false")
	set("dns_lookup_kdc", "true")
	// A service is known by the name it is asked by: no PTR record, no CNAME.
	set("rdns", "false")
	set("dns_canonicalize_hostname", "false")
	// A ticket with a PAC does not fit UDP.
	set("udp_preference_limit", "1")
	set("noaddresses", "true")
	set("forwardable", fmt.Sprint(c.Forwardable))
	// A container's host name is not the name that clients know it by. The
	// keytab holds this account alone, so that any key of it may serve.
	set("ignore_acceptor_hostname", "true")
	set("default_ccache_name", "FILE:"+CCachePath(c.Dir)) // MIT
	set("default_cc_name", "FILE:"+CCachePath(c.Dir))     // Heimdal
	// Heimdal refuses a cache that its group may read, as that of a lease with
	// mode 0440, or that another user owns, as root sees one.
	set("fcache_strict_checking", "false")
	set("default_keytab_name", "FILE:"+c.Dir+"/"+KeytabName)
	set("default_client_keytab_name", "FILE:"+c.Dir+"/"+ClientKeytabName)
	names := etypeNames(c.ETypes)
	set("permitted_enctypes", names)
	set("default_tkt_enctypes", names) // Java, old MIT
	set("default_tgs_enctypes", names)
	set("default_etypes", names) // Heimdal
	if strings.Contains(names, rc4Name) {
		set("allow_rc4", "true") // MIT 1.21
		set("allow_weak_crypto", "true")
	}
}

const rc4Name = "arcfour-hmac"

// etypeName is the name that MIT, Heimdal and Java all know an enctype by.
func etypeName(e crypto.EType) string {
	switch e {
	case crypto.AES256SHA1:
		return "aes256-cts-hmac-sha1-96"
	case crypto.AES128SHA1:
		return "aes128-cts-hmac-sha1-96"
	case crypto.AES256SHA2:
		return "aes256-cts-hmac-sha384-192"
	case crypto.AES128SHA2:
		return "aes128-cts-hmac-sha256-128"
	case crypto.RC4HMAC:
		return rc4Name
	}
	return ""
}

func etypeNames(etypes []crypto.EType) string {
	if len(etypes) == 0 {
		etypes = []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1, crypto.AES256SHA2, crypto.AES128SHA2}
	}
	names := make([]string, 0, len(etypes))
	for _, e := range etypes {
		names = append(names, etypeName(e))
	}
	return strings.Join(names, " ")
}

func (c Krb5Conf) validate() error {
	if len(c.Realms) == 0 {
		return fmt.Errorf("no realm")
	}
	if err := checkToken("directory", c.Dir); err != nil {
		return err
	}
	for _, e := range c.ETypes {
		if etypeName(e) == "" {
			return fmt.Errorf("encryption type %d has no name", e)
		}
	}
	for _, r := range c.Realms {
		if err := r.validate(); err != nil {
			return fmt.Errorf("realm %q: %w", r.Name, err)
		}
	}
	return nil
}

func (r Realm) validate() error {
	if err := checkToken("name", r.Name); err != nil {
		return err
	}
	if err := checkToken("domain", r.Domain); err != nil {
		return err
	}
	for _, server := range append(append([]string{}, r.KDCs...), r.Kpasswd...) {
		if err := checkToken("server", server); err != nil {
			return err
		}
	}
	return nil
}

// checkToken admits what needs no quoting in a krb5.conf of any of the three
// implementations.
func checkToken(what, s string) error {
	if s == "" {
		return fmt.Errorf("%s is empty", what)
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-/:[]", r):
		default:
			return fmt.Errorf("%s %q: character %q is not allowed", what, s, r)
		}
	}
	return nil
}
