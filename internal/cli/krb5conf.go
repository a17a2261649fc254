package cli

import (
	"net"
	"strings"
)

// maxKrb5Conf bounds a krb5.conf, in bytes.
const maxKrb5Conf = 1 << 20

// kdcsOf lists the hosts of the KDCs that a krb5.conf has for a realm, without
// their ports. It reads the plain form that leases have, with one relation a
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
				hosts = append(hosts, hostOnly(strings.TrimSpace(value)))
			}
		}
	}
	return hosts
}

func hostOnly(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return s
}
