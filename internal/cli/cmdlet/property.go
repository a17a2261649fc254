package cmdlet

// propertyAttributes are the directory's names of properties that the cmdlets call
// otherwise, by the property in small letters.
var propertyAttributes = map[string]string{
	"name":                          "name",
	"sid":                           "objectSid",
	"serviceprincipalnames":         "servicePrincipalName",
	"dnshostname":                   "dNSHostName",
	"kerberosencryptiontype":        "msDS-SupportedEncryptionTypes",
	"managedpasswordintervalindays": "msDS-ManagedPasswordInterval",
	"principalsallowedtoretrievemanagedpassword": "msDS-GroupMSAMembership",
	"principalsallowedtodelegatetoaccount":       "msDS-AllowedToActOnBehalfOfOtherIdentity",
	"created":                                    "whenCreated",
	"modified":                                   "whenChanged",
	"passwordlastset":                            "pwdLastSet",
	"homepage":                                   "wWWHomePage",
	"displayname":                                "displayName",
	"members":                                    "member",
	"hostcomputers":                              "msDS-HostServiceAccountBL",
}
