// Package gss is the GSS-API's Kerberos 5 mechanism and its negotiation: RFC
// 2743 (framing), RFC 4121 (contexts and per-message tokens), RFC 4178 (SPNEGO)
// and what [MS-KILE] 3.2.5.8 and 3.4.5 add about channel bindings.
//
// Read [NewInitiator] and [NewAcceptor] first: each is stepped with the peer's
// tokens until it is done, and then has a [Context] that wraps and unwraps
// messages. [NewSPNEGOInitiator] and [NewSPNEGOAcceptor] wrap one of them and
// are used in the same way.
//
// The package has no socket, clock or randomness of its own: tokens, time,
// random bytes, keys, the replay cache and channel bindings are arguments.
//
// It is not the whole GSS-API. It has one mechanism; no credentials beyond a
// ticket and a key lookup; no DCE style (three-way mutual authentication), no
// IOV calls, no user-to-user tickets, no context export. RC4 contexts, whose
// tokens are those of RFC 4757, are refused.
package gss

import "errors"

// Errors of the establishment of a context. Those of the acceptor also wrap the
// krb5.ErrorCode that the peer is told, such as krb5.ErrSkew.
var (
	// ErrToken: the peer's token is malformed, or not the one expected.
	ErrToken = errors.New("gss: defective token")
	// ErrMechanism: the peer speaks another mechanism, or none in common.
	ErrMechanism = errors.New("gss: no common mechanism")
	// ErrBindings: the channel bindings of the two sides differ.
	ErrBindings = errors.New("gss: channel bindings differ")
	// ErrRejected: the peer ended the negotiation without a reason.
	ErrRejected = errors.New("gss: peer rejected the negotiation")
	// ErrMutual: the acceptor did not prove that it knows its key.
	ErrMutual = errors.New("gss: mutual authentication failed")
	// ErrEType: the ticket's keys are of a type that contexts do not support.
	ErrEType = errors.New("gss: encryption type has no contexts here")
	// ErrState: a call out of turn.
	ErrState = errors.New("gss: called out of turn")
)

// Errors of per-message tokens.
var (
	// ErrIntegrity: a message was changed, or is of another context.
	ErrIntegrity = errors.New("gss: message integrity check failed")
	// ErrReplay: a message came twice, or is too old to tell.
	ErrReplay = errors.New("gss: message replayed")
	// ErrOrder: a message is missing before this one, or it came late.
	ErrOrder = errors.New("gss: message out of order")
)
