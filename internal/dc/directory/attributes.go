package directory

import (
	"fmt"

	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// attributes are those that the directory itself reads or writes, found once.
type attributes struct {
	cn, objectClass, rootKeyData            *schema.Attribute
	name, distinguishedName, objectGUID     *schema.Attribute
	whenCreated, whenChanged                *schema.Attribute
	usnCreated, usnChanged                  *schema.Attribute
	securityDescriptor, objectSid           *schema.Attribute
	isDeleted, objectCategory               *schema.Attribute
	wellKnownObjects, otherWellKnownObjects *schema.Attribute
	memberOf, member                        *schema.Attribute
	primaryGroupID, groupType               *schema.Attribute
	samAccountName, userAccountControl      *schema.Attribute
	pwdLastSet, maxPwdAge                   *schema.Attribute
	lockoutTime, lockoutDuration            *schema.Attribute
	managedPassword, managedPasswordID      *schema.Attribute
	managedPasswordPreviousID, groupMSA     *schema.Attribute
	lastLogon, logonCount                   *schema.Attribute
	badPasswordTime, badPwdCount            *schema.Attribute
}

func findAttributes(s *schema.Schema) (a attributes, err error) {
	for name, at := range map[string]**schema.Attribute{
		"cn":                             &a.cn,
		"objectClass":                    &a.objectClass,
		"msKds-RootKeyData":              &a.rootKeyData,
		"name":                           &a.name,
		"distinguishedName":              &a.distinguishedName,
		"objectGUID":                     &a.objectGUID,
		"whenCreated":                    &a.whenCreated,
		"whenChanged":                    &a.whenChanged,
		"uSNCreated":                     &a.usnCreated,
		"uSNChanged":                     &a.usnChanged,
		"nTSecurityDescriptor":           &a.securityDescriptor,
		"objectSid":                      &a.objectSid,
		"isDeleted":                      &a.isDeleted,
		"objectCategory":                 &a.objectCategory,
		"wellKnownObjects":               &a.wellKnownObjects,
		"otherWellKnownObjects":          &a.otherWellKnownObjects,
		"memberOf":                       &a.memberOf,
		"member":                         &a.member,
		"primaryGroupID":                 &a.primaryGroupID,
		"groupType":                      &a.groupType,
		"sAMAccountName":                 &a.samAccountName,
		"userAccountControl":             &a.userAccountControl,
		"pwdLastSet":                     &a.pwdLastSet,
		"maxPwdAge":                      &a.maxPwdAge,
		"lockoutTime":                    &a.lockoutTime,
		"lockoutDuration":                &a.lockoutDuration,
		"lastLogon":                      &a.lastLogon,
		"logonCount":                     &a.logonCount,
		"badPasswordTime":                &a.badPasswordTime,
		"badPwdCount":                    &a.badPwdCount,
		"msDS-ManagedPassword":           &a.managedPassword,
		"msDS-ManagedPasswordId":         &a.managedPasswordID,
		"msDS-ManagedPasswordPreviousId": &a.managedPasswordPreviousID,
		"msDS-GroupMSAMembership":        &a.groupMSA,
	} {
		found, ok := s.Attribute(name)
		if !ok {
			return a, fmt.Errorf("the schema has no attribute %s", name)
		}
		*at = found
	}
	return a, nil
}
