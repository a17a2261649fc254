package directory_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

const schemaDN = "CN=Schema,CN=Configuration," + domainDN

func TestTheSchemaIsThereToRead(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	sam := h.entry(alice, "CN=SAM-Account-Name,"+schemaDN)
	for name, want := range map[string]string{
		"objectClass": "top|attributeSchema", "cn": "SAM-Account-Name", "lDAPDisplayName": "sAMAccountName",
		"attributeID": "1.2.840.113556.1.4.221", "attributeSyntax": "2.5.5.12", "oMSyntax": "64", "isSingleValued": "TRUE",
		"rangeLower": "0", "rangeUpper": "256", "searchFlags": "13", "isMemberOfPartialAttributeSet": "TRUE",
		"distinguishedName": "CN=SAM-Account-Name," + schemaDN, "name": "SAM-Account-Name",
		"objectCategory": "CN=Attribute-Schema," + schemaDN,
	} {
		if sam[name] != want {
			t.Errorf("%s is %q, want %q", name, sam[name], want)
		}
	}
	if g, err := dtyp.GUIDFromBytes([]byte(sam["schemaIDGUID"])); err != nil || g.String() != "3e0abfd0-126a-11d0-a060-00aa006c33ed" {
		t.Errorf("schemaIDGUID %s, %v", g, err)
	}
	user := h.entry(alice, "CN=User,"+schemaDN, "*", "possibleInferiors")
	if user["governsID"] != "1.2.840.113556.1.5.9" || user["subClassOf"] != "organizationalPerson" || user["objectClassCategory"] != "1" ||
		!strings.Contains(user["mayContain"], "servicePrincipalName") || user["defaultObjectCategory"] != "CN=Person,"+schemaDN {
		t.Errorf("the class user: %q", user)
	}
	if ou := h.entry(alice, "CN=Organizational-Unit,"+schemaDN, "possibleInferiors")["possibleInferiors"]; !slices.Contains(strings.Split(ou, "|"), "computer") {
		t.Errorf("below an organizationalUnit: %s", ou)
	}
	guid, err := dtyp.GUIDFromBytes([]byte(sam["objectGUID"]))
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]int{
		"(lDAPDisplayName=sAMAccountName)":                                                 1,
		"(&(objectClass=attributeSchema)(attributeID=1.2.840.113556.1.4.221))":             1,
		"(schemaIDGUID=3e0abfd0-126a-11d0-a060-00aa006c33ed)":                              1,
		"(searchFlags:1.2.840.113556.1.4.803:=128)":                                        confidential(h),
		"(objectGUID=" + guid.String() + ")":                                               1,
		"(objectClass=subSchema)":                                                          1,
		"(objectClass=dMD)":                                                                1,
		"(&(objectCategory=classSchema)(lDAPDisplayName=msDS-GroupManagedServiceAccount))": 1,
		"(objectClass=user)":                                                               0,
	} {
		q := request(t, schemaDN, directory.ScopeSubtree, filter, "1.1")
		if got := h.names(alice, q); len(got) != want {
			t.Errorf("%s finds %d objects, want %d", filter, len(got), want)
		}
	}
	if got := h.names(alice, request(t, schemaDN, directory.ScopeOne, "(objectClass=dMD)", "1.1")); len(got) != 0 {
		t.Errorf("below the schema lies %q", got)
	}
	if got := h.names(alice, request(t, "<GUID="+guid.String()+">", directory.ScopeBase, "(objectClass=*)", "1.1")); len(got) != 1 {
		t.Errorf("by GUID: %q", got)
	}
}

// confidential counts the attributes that are.
func confidential(h *home) (n int) {
	for _, a := range h.Schema().Attributes() {
		if a.Confidential() {
			n++
		}
	}
	return n
}

// TestSubschema: what ldap3 and its like read of CN=Aggregate.
func TestSubschema(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	q := request(t, "CN=Aggregate,"+schemaDN, directory.ScopeBase, "(objectClass=subschema)", "objectClasses", "attributeTypes",
		"ldapSyntaxes", "matchingRules", "matchingRuleUse", "dITContentRules", "dITStructureRules", "nameForms", "createTimestamp",
		"modifyTimestamp", "extendedAttributeInfo", "extendedClassInfo", "*", "+")
	got := h.entryOf(alice, q)
	for name, want := range map[string]string{
		"attributeTypes":        "( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' SYNTAX '1.3.6.1.4.1.1466.115.121.1.15' SINGLE-VALUE )",
		"objectClasses":         "( 1.2.840.113556.1.5.67 NAME 'domainDNS' SUP domain STRUCTURAL",
		"dITContentRules":       "( 1.2.840.113556.1.5.8 NAME 'group' AUX ( mailRecipient $ ",
		"extendedAttributeInfo": "( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' RANGE-LOWER '0' RANGE-UPPER '256' PROPERTY-GUID 'D0BF0A3E6A12D011A06000AA006C33ED' PROPERTY-SET-GUID '422FBA59A279D011902000C04FC2D3CF' INDEXED )",
		"extendedClassInfo":     "( 1.2.840.113556.1.5.9 NAME 'user' CLASS-GUID 'BA7A96BFE60DD011A28500AA003049E2' )",
		"modifyTimeStamp":       "2026",
		"objectClass":           "top|subSchema",
		"cn":                    "Aggregate",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s has no %s", name, want)
		}
	}
	grammar := regexp.MustCompile(`^\( [0-9.]+ NAME '[A-Za-z0-9-]+'( [A-Z-]+( '[^']*'| [A-Za-z0-9.-]+| \( [A-Za-z0-9-]+( \$ [A-Za-z0-9-]+)* \))?)* \)$`)
	for _, name := range []string{"attributeTypes", "objectClasses", "dITContentRules", "extendedAttributeInfo", "extendedClassInfo"} {
		for v := range strings.SplitSeq(got[name], "|") {
			if !grammar.MatchString(v) {
				t.Errorf("%s: %s", name, v)
			}
		}
	}
	if n := strings.Count(got["attributeTypes"], "|") + 1; n != len(h.Schema().Attributes()) {
		t.Errorf("%d attribute types", n)
	}
}

// TestTheGlobalCatalogHasAllNamingContexts, and of them only the attributes that are in
// it.
func TestTheGlobalCatalogHasAllNamingContexts(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	q := request(t, "", directory.ScopeSubtree, "(|(sAMAccountName=alice)(cn=CONTOSO)(lDAPDisplayName=sAMAccountName))", "1.1")
	if _, _, err := h.search(alice, q); code(err) != directory.NoSuchObject {
		t.Errorf("outside of the global catalog: %v", err)
	}
	q.GlobalCatalog = true
	if got := h.names(alice, q); !slices.Equal(got, []string{"CN=CONTOSO,CN=Partitions,CN=Configuration", "CN=SAM-Account-Name,CN=Schema,CN=Configuration", "CN=alice,CN=Users"}) {
		t.Errorf("the global catalog finds %q", got)
	}
	q = request(t, aliceDN, directory.ScopeBase, "(objectClass=*)", "sAMAccountName", "pwdLastSet", "memberOf", "objectSid", "tokenGroups")
	q.GlobalCatalog = true
	got := h.entryOf(alice, q)
	if got["sAMAccountName"] == "" || got["memberOf"] == "" || got["objectSid"] == "" || got["tokenGroups"] == "" || got["pwdLastSet"] != "" {
		t.Errorf("the global catalog gives %q", got)
	}
	q = request(t, domainDN, directory.ScopeSubtree, "(pwdLastSet=*)", "1.1")
	q.GlobalCatalog = true
	if got := h.names(alice, q); len(got) != 0 {
		t.Errorf("an attribute that is not in it finds %q", got)
	}
}
