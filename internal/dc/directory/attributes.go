package directory

import (
	"fmt"

	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// attributes are those that the directory itself reads or writes, found once.
type attributes struct {
	cn, objectClass, rootKeyData *schema.Attribute
}

func findAttributes(s *schema.Schema) (a attributes, err error) {
	for name, at := range map[string]**schema.Attribute{
		"cn":                &a.cn,
		"objectClass":       &a.objectClass,
		"msKds-RootKeyData": &a.rootKeyData,
	} {
		found, ok := s.Attribute(name)
		if !ok {
			return a, fmt.Errorf("the schema has no attribute %s", name)
		}
		*at = found
	}
	return a, nil
}
