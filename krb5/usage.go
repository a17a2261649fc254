package krb5

// Key usage numbers: RFC 4120, Section 7.5.1; 22 to 25 RFC 4121, Section 2; 56
// RFC 6806, Section 11.
const (
	UsageASReqTimestamp      uint32 = 1  // PA-ENC-TIMESTAMP, client's key
	UsageTicket              uint32 = 2  // EncTicketPart, server's key
	UsageASRepEncPart        uint32 = 3  // client's key
	UsageTGSReqAuthDataSKey  uint32 = 4  // enc-authorization-data in the session key
	UsageTGSReqAuthDataSub   uint32 = 5  // the same in the authenticator's subkey
	UsageTGSReqChecksum      uint32 = 6  // checksum of the request body
	UsageTGSReqAuthenticator uint32 = 7  // authenticator of PA-TGS-REQ
	UsageTGSRepEncPart       uint32 = 8  // in the TGT's session key
	UsageTGSRepSubkey        uint32 = 9  // in the authenticator's subkey
	UsageAPReqChecksum       uint32 = 10 // application's checksum
	UsageAPReqAuthenticator  uint32 = 11
	UsageAPRepEncPart        uint32 = 12
	UsageKRBPriv             uint32 = 13
	UsageKRBCred             uint32 = 14
	UsageKRBSafe             uint32 = 15
	UsageKRBError            uint32 = 18
	UsageADKDCIssued         uint32 = 19
	UsageAcceptorSeal        uint32 = 22
	UsageAcceptorSign        uint32 = 23
	UsageInitiatorSeal       uint32 = 24
	UsageInitiatorSign       uint32 = 25
	UsageASReqChecksum       uint32 = 56 // PA-REQ-ENC-PA-REP: checksum of the AS-REQ
)
