package krb5

import (
	"strconv"
	"strings"
)

// TicketFlags are the flags of a ticket, RFC 4120, Section 5.3: bit 0 of the
// specification is the most significant bit.
type TicketFlags uint32

// The ticket flags: RFC 4120, Section 2; EncPARep is RFC 6806, Section 11,
// Anonymous RFC 8062, and NameCanonicalize [MS-KILE] 3.3.5.6.
const (
	FlagForwardable      TicketFlags = 1 << (31 - 1)
	FlagForwarded        TicketFlags = 1 << (31 - 2)
	FlagProxiable        TicketFlags = 1 << (31 - 3)
	FlagProxy            TicketFlags = 1 << (31 - 4)
	FlagMayPostdate      TicketFlags = 1 << (31 - 5)
	FlagPostdated        TicketFlags = 1 << (31 - 6)
	FlagInvalid          TicketFlags = 1 << (31 - 7)
	FlagRenewable        TicketFlags = 1 << (31 - 8)
	FlagInitial          TicketFlags = 1 << (31 - 9)
	FlagPreAuthent       TicketFlags = 1 << (31 - 10)
	FlagHWAuthent        TicketFlags = 1 << (31 - 11)
	FlagTransitedChecked TicketFlags = 1 << (31 - 12)
	FlagOKAsDelegate     TicketFlags = 1 << (31 - 13)
	FlagNameCanonicalize TicketFlags = 1 << (31 - 15) // Windows' name for what RFC 6806 calls enc-pa-rep
	FlagEncPARep         TicketFlags = FlagNameCanonicalize
	FlagAnonymous        TicketFlags = 1 << (31 - 16)
)

// ticketFlagNames are the names that klist of Windows prints, by bit.
var ticketFlagNames = [32]string{
	0: "reserved", 1: "forwardable", 2: "forwarded", 3: "proxiable", 4: "proxy",
	5: "may_postdate", 6: "postdated", 7: "invalid", 8: "renewable", 9: "initial",
	10: "pre_authent", 11: "hw_authent", 12: "transited_policy_checked",
	13: "ok_as_delegate", 15: "name_canonicalize", 16: "anonymous",
}

// Has reports whether all of flags are set.
func (f TicketFlags) Has(flags TicketFlags) bool { return f&flags == flags }

// String lists the names as klist of Windows prints them, in the order of their
// bits: "forwardable renewable initial pre_authent name_canonicalize".
func (f TicketFlags) String() string { return bitNames(uint32(f), &ticketFlagNames) }

// KDCOptions are what a client asks of the KDC: RFC 4120, Section 5.4.1.
type KDCOptions uint32

// The KDC options: RFC 4120, Section 5.4.1; Canonicalize is RFC 6806, Section 3,
// CnameInAddlTkt [MS-SFU] 2.2.3, RequestAnonymous RFC 8062.
const (
	OptForwardable           KDCOptions = 1 << (31 - 1)
	OptForwarded             KDCOptions = 1 << (31 - 2)
	OptProxiable             KDCOptions = 1 << (31 - 3)
	OptProxy                 KDCOptions = 1 << (31 - 4)
	OptAllowPostdate         KDCOptions = 1 << (31 - 5)
	OptPostdated             KDCOptions = 1 << (31 - 6)
	OptRenewable             KDCOptions = 1 << (31 - 8)
	OptCnameInAddlTkt        KDCOptions = 1 << (31 - 14)
	OptCanonicalize          KDCOptions = 1 << (31 - 15)
	OptRequestAnonymous      KDCOptions = 1 << (31 - 16)
	OptDisableTransitedCheck KDCOptions = 1 << (31 - 26)
	OptRenewableOK           KDCOptions = 1 << (31 - 27)
	OptEncTktInSkey          KDCOptions = 1 << (31 - 28)
	OptRenew                 KDCOptions = 1 << (31 - 30)
	OptValidate              KDCOptions = 1
)

var kdcOptionNames = [32]string{
	0: "reserved", 1: "forwardable", 2: "forwarded", 3: "proxiable", 4: "proxy",
	5: "allow_postdate", 6: "postdated", 8: "renewable", 14: "cname_in_addl_tkt",
	15: "canonicalize", 16: "request_anonymous", 26: "disable_transited_check",
	27: "renewable_ok", 28: "enc_tkt_in_skey", 30: "renew", 31: "validate",
}

// Has reports whether all of options are set.
func (o KDCOptions) Has(options KDCOptions) bool { return o&options == options }

// String lists the names in the order of their bits.
func (o KDCOptions) String() string { return bitNames(uint32(o), &kdcOptionNames) }

// APOptions are the options of an AP-REQ: RFC 4120, Section 5.5.1.
type APOptions uint32

// The AP options.
const (
	APUseSessionKey  APOptions = 1 << (31 - 1) // the ticket is encrypted in the session key of the server's TGT
	APMutualRequired APOptions = 1 << (31 - 2) // the client wants an AP-REP
)

var apOptionNames = [32]string{0: "reserved", 1: "use_session_key", 2: "mutual_required"}

// Has reports whether all of options are set.
func (o APOptions) Has(options APOptions) bool { return o&options == options }

// String lists the names in the order of their bits.
func (o APOptions) String() string { return bitNames(uint32(o), &apOptionNames) }

// bitNames lists the names of the bits that are set; "bit20" for one without.
func bitNames(v uint32, names *[32]string) string {
	var out []string
	for i, name := range names {
		if v&(1<<(31-i)) == 0 {
			continue
		}
		if name == "" {
			name = "bit" + strconv.Itoa(i)
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}
