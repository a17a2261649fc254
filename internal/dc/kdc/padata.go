package kdc

import (
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// honoured are the options of PA-PAC-OPTIONS that this KDC does as asked ([MS-KILE]
// 2.2.10): it is a full controller, with the secrets of every account, so that nothing has
// to be forwarded to one. It has neither claims ([MS-KILE] 3.3.5.6.4.6) nor resource-based
// constrained delegation ([MS-SFU] 2.2.5), and a client that asks for them must be able to
// see that.
const honoured = krb5.PACOptBranchAware | krb5.PACOptForwardFull

// pacOptions are the options that the client asks for, none where it does not say.
func (x *exchange) pacOptions() (krb5.PACOptions, error) {
	value, ok := krb5.MethodData(x.req.PAData).Find(krb5.PAPACOptions)
	if !ok {
		return 0, nil
	}
	return krb5.ParsePACOptions(value)
}

// replyPAData is the padata in the encrypted part of a reply, for clients that by their
// request know it: types are those of the server that the ticket is for.
func (x *exchange) replyPAData(types adproto.EncryptionTypes) (list []krb5.PAData) {
	if x.req.Body.Options.Has(krb5.OptCanonicalize) {
		list = append(list, supportedETypes(types))
	}
	// Windows gives back all that it was sent; a KDC that does what is asked for is told
	// from one that does not by what it leaves out ([MS-KILE] 3.2.5.5, [MS-SFU] 3.1.5.1.1).
	if options := x.options & honoured; options != 0 {
		list = append(list, krb5.PAData{Type: krb5.PAPACOptions, Value: options.Append(nil)})
	}
	return list
}

// supportedETypes tells what a server understands: [MS-KILE] 2.2.8. What the KDC must
// understand too is not among it, whatever the account says: a client that sees FAST or
// claims here looks for a KDC that has them.
func supportedETypes(types adproto.EncryptionTypes) krb5.PAData {
	if types == 0 {
		types = adproto.EncDefaultAccounts
	}
	e := types &^ (adproto.EncFAST | adproto.EncCompoundID | adproto.EncClaims)
	return krb5.PAData{Type: krb5.PASupportedETypes, Value: []byte{byte(e), byte(e >> 8), byte(e >> 16), byte(e >> 24)}}
}

// wantsEncPARep reports whether the client asks for proof that its request came as it
// was sent: RFC 6806, Section 11.
func (x *exchange) wantsEncPARep() bool {
	_, asked := krb5.MethodData(x.req.PAData).Find(krb5.PAReqEncPARep)
	return asked
}

// paValueSize is what the value of a PA-DATA that we make commonly takes, in bytes.
const paValueSize = 64

// requestProof is that proof, for the encrypted part of an AS-REP.
func (x *exchange) requestProof(key *crypto.Key) []krb5.PAData {
	if !x.wantsEncPARep() {
		return nil
	}
	sum := krb5.Checksum{Type: key.ChecksumType(), Sum: key.Checksum(krb5.UsageASReqChecksum, x.message)}
	return []krb5.PAData{{Type: krb5.PAReqEncPARep, Value: sum.Append(x.scratch.take(paValueSize))}}
}
