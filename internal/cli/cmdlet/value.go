package cmdlet

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/secdesc"
)

// AttributeTexts are the attributes that were asked for, as text: SIDs, GUIDs and
// security descriptors in their text forms, other binary values in hexadecimal.
func AttributeTexts(o ad.Attributes, wanted []string) map[string][]string {
	texts := map[string][]string{}
	for name, values := range o.Values {
		if !wants(wanted, name) {
			continue
		}
		for _, v := range values {
			texts[name] = append(texts[name], valueText(name, v))
		}
	}
	return texts
}

func wants(wanted []string, name string) bool {
	for _, w := range wanted {
		if w == "*" || strings.EqualFold(w, name) {
			return true
		}
	}
	return false
}

// valueText is one value as text.
func valueText(name string, v []byte) string {
	switch strings.ToLower(name) {
	case "objectsid", "sidhistory", "tokengroups":
		if sid, err := dtyp.SIDFromBytes(v); err == nil {
			return sid.String()
		}
	case "objectguid", "schemaidguid":
		if g, err := dtyp.GUIDFromBytes(v); err == nil {
			return g.String()
		}
	case "msds-groupmsamembership", "ntsecuritydescriptor", "msds-allowedtoactonbehalfofotheridentity":
		if sd, err := secdesc.Parse(v); err == nil {
			if text, err := sd.SDDL(); err == nil {
				return text
			}
		}
	}
	if utf8.Valid(v) && strings.IndexFunc(string(v), func(r rune) bool { return !unicode.IsGraphic(r) && !unicode.IsSpace(r) }) < 0 {
		return string(v)
	}
	return hex.EncodeToString(v)
}
