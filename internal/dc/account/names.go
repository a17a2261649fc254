package account

import (
	"fmt"
	"strconv"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// attributes are those that make an account, found once.
type attributes struct {
	objectClass, objectSID, samAccountName, userPrincipalName, servicePrincipalName *schema.Attribute
	displayName, userAccountControl, supportedTypes, primaryGroupID, groupType      *schema.Attribute
	accountExpires, pwdLastSet, lockoutTime, logonHours                             *schema.Attribute
	memberOf, spnMappings, isDeleted                                                *schema.Attribute
	scriptPath, profilePath, homeDirectory, homeDrive                               *schema.Attribute
	minPwdLength, pwdHistoryLength, pwdProperties, minPwdAge, maxPwdAge             *schema.Attribute
	lockoutThreshold, lockoutDuration, lockoutWindow                                *schema.Attribute
	lastLogonTimestamp, logonTimeSync                                               *schema.Attribute
}

func findAttributes(s *schema.Schema) (*attributes, error) {
	a := &attributes{}
	for name, at := range map[string]**schema.Attribute{
		"objectClass": &a.objectClass, "objectSid": &a.objectSID, "sAMAccountName": &a.samAccountName,
		"userPrincipalName": &a.userPrincipalName, "servicePrincipalName": &a.servicePrincipalName,
		"displayName": &a.displayName, "userAccountControl": &a.userAccountControl,
		"msDS-SupportedEncryptionTypes": &a.supportedTypes, "primaryGroupID": &a.primaryGroupID,
		"groupType": &a.groupType, "accountExpires": &a.accountExpires, "pwdLastSet": &a.pwdLastSet,
		"lockoutTime": &a.lockoutTime, "isDeleted": &a.isDeleted, "logonHours": &a.logonHours, "memberOf": &a.memberOf,
		"sPNMappings": &a.spnMappings, "scriptPath": &a.scriptPath, "profilePath": &a.profilePath,
		"homeDirectory": &a.homeDirectory, "homeDrive": &a.homeDrive, "minPwdLength": &a.minPwdLength,
		"pwdHistoryLength": &a.pwdHistoryLength, "pwdProperties": &a.pwdProperties, "minPwdAge": &a.minPwdAge,
		"maxPwdAge": &a.maxPwdAge, "lockoutThreshold": &a.lockoutThreshold,
		"lockoutDuration": &a.lockoutDuration, "lockOutObservationWindow": &a.lockoutWindow,
		"lastLogonTimestamp": &a.lastLogonTimestamp, "msDS-LogonTimeSyncInterval": &a.logonTimeSync,
	} {
		found, ok := s.Attribute(name)
		if !ok {
			return nil, fmt.Errorf("the schema has no attribute %s", name)
		}
		*at = found
	}
	return a, nil
}

// text is the first value of an attribute, empty where there is none.
func text(e *rows.Entry, a *schema.Attribute) string {
	if v := e.Values[a]; len(v) > 0 {
		return string(v[0])
	}
	return ""
}

// number is an integer; ok is false where there is none or it is no number.
func number(e *rows.Entry, a *schema.Attribute) (n int64, ok bool) {
	v := e.Values[a]
	if len(v) == 0 {
		return 0, false
	}
	n, err := schema.ParseNumber(v[0], 64)
	return n, err == nil
}

// filetime is a time in an LDAP Integer8; a negative one is 0.
func filetime(e *rows.Entry, a *schema.Attribute) dtyp.Filetime {
	n, _ := number(e, a)
	return dtyp.Filetime(max(0, n))
}

// setNumber writes an integer into an entry.
func setNumber(e *rows.Entry, a *schema.Attribute, n int64) {
	e.Values[a] = [][]byte{strconv.AppendInt(nil, n, 10)}
}

// sidOf is objectSid, zero where there is none.
func sidOf(e *rows.Entry, a *schema.Attribute) dtyp.SID {
	v := e.Values[a]
	if len(v) == 0 {
		return dtyp.SID{}
	}
	sid, err := dtyp.SIDFromBytes(v[0])
	if err != nil {
		return dtyp.SID{}
	}
	return sid
}
