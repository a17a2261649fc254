package cli

import (
	"net"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/internal/locate"
)

// maxKrb5Conf bounds a krb5.conf, in bytes.
const maxKrb5Conf = 1 << 20

// kdcsOf lists the controllers of the KDCs that a krb5.conf has for a realm, in the
// form of --dc. It reads the plain form that leases have, with one relation a
// line; what it does not understand it passes over.
func kdcsOf(conf, realm string) []string {
	var hosts []string
	section, current := "", ""
	for line := range strings.Lines(conf) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			section, current = strings.Trim(line, "[]"), ""
		case line == "}":
			current = ""
		case section == "realms" && strings.HasSuffix(line, "{"):
			current = strings.TrimSpace(strings.TrimRight(line, "={ \t"))
		case section == "realms" && current == realm:
			if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "kdc" {
				hosts = append(hosts, controllerOf(strings.TrimSpace(value)))
			}
		}
	}
	return hosts
}

// controllerOf is the controller of a KDC: a host, and where its KDC has another
// port than the standard one, as that of gmsa dc serve --port-offset, the LDAP port
// that goes with it.
func controllerOf(kdc string) string {
	host, text, err := net.SplitHostPort(kdc)
	if err != nil {
		return kdc
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return host
	}
	if server, ok := locate.OfKerberos(host, uint16(port)); ok {
		return server
	}
	return host
}

// libDefault is a relation of the section libdefaults of a krb5.conf, in the plain form
// that kdcsOf reads; empty where it has none.
func libDefault(conf, name string) string {
	section := ""
	for line := range strings.Lines(conf) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
		}
		if key, value, ok := strings.Cut(line, "="); ok && section == "libdefaults" && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
