package cmdlet

import (
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// groupScopes are the values of ADGroupScope.
var groupScopes = []struct {
	name string
	bit  adproto.GroupType
}{{"DomainLocal", adproto.GroupDomainLocal}, {"Global", adproto.GroupGlobal}, {"Universal", adproto.GroupUniversal}}

// ParseGroupType reads the values of -GroupScope and -GroupCategory, which may also
// be the numbers 0 to 2 and 0 to 1.
func ParseGroupType(scope, category string) (adproto.GroupType, error) {
	var t adproto.GroupType
	for i, s := range groupScopes {
		if strings.EqualFold(s.name, scope) || fmt.Sprint(i) == scope {
			t = s.bit
		}
	}
	switch strings.ToLower(category) {
	case "security", "1", "":
		t |= adproto.GroupSecurity
	case "distribution", "0":
	default:
		return 0, fmt.Errorf("group category %q: want Security or Distribution", category)
	}
	if t&^adproto.GroupSecurity == 0 {
		return 0, fmt.Errorf("group scope %q: want DomainLocal, Global or Universal", scope)
	}
	return t, nil
}

// GroupScope is the type in those words.
func GroupScope(t adproto.GroupType) (scope, category string) {
	category = "Distribution"
	if t&adproto.GroupSecurity != 0 {
		category = "Security"
	}
	for _, s := range groupScopes {
		if t&s.bit != 0 {
			return s.name, category
		}
	}
	return "", category
}
