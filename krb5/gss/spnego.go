package gss

import (
	"bytes"
	"fmt"
)

// SPNEGOInitiator offers Kerberos 5, and nothing else, by RFC 4178. Active
// Directory answers in one round trip:
//
//	begun ──► NegTokenInit sent ──► accepted ──► done
//	                                   │ our MIC is wanted
//	                                   └──► MIC sent ──► the acceptor's MIC ──► done
type SPNEGOInitiator struct {
	mech     *Initiator
	mechList []byte // DER of the mechanisms offered, which the MICs are over
	state    spnegoState
}

type spnegoState int

const (
	spnegoBegun   spnegoState = iota
	spnegoOffered             // a token of the mechanism is expected
	spnegoMIC                 // the peer's MIC is expected
	spnegoDone
	spnegoBroken
)

// NewSPNEGOInitiator negotiates for mech, which must not have been stepped.
func NewSPNEGOInitiator(mech *Initiator) *SPNEGOInitiator {
	return &SPNEGOInitiator{mech: mech, mechList: mechListOf(oidKerberos)}
}

// Context is the established context, nil before the negotiation is over.
func (s *SPNEGOInitiator) Context() *Context {
	if s.state != spnegoDone {
		return nil
	}
	return s.mech.Context()
}

// Step is [Initiator.Step], with tokens of SPNEGO.
func (s *SPNEGOInitiator) Step(in []byte) (out []byte, finished bool, err error) {
	switch {
	case s.state == spnegoBegun && len(in) == 0:
		out, err = s.offer()
	case s.state == spnegoOffered:
		out, err = s.answered(in)
	case s.state == spnegoMIC:
		err = s.confirmed(in)
	default:
		err = ErrState
	}
	if err != nil {
		s.state = spnegoBroken
		return nil, false, err
	}
	return out, s.state == spnegoDone, nil
}

func (s *SPNEGOInitiator) offer() ([]byte, error) {
	token, _, err := s.mech.Step(nil)
	if err != nil {
		return nil, err
	}
	s.state = spnegoOffered
	return negTokenInit{mechList: s.mechList, token: token}.build(), nil
}

// answered handles the acceptor's first message.
func (s *SPNEGOInitiator) answered(in []byte) ([]byte, error) {
	resp, err := parseNegTokenResp(in)
	if err != nil {
		return nil, err
	}
	if resp.mech != nil && !isKerberos(resp.mech) {
		return nil, fmt.Errorf("%w: the acceptor chose %x", ErrMechanism, resp.mech)
	}
	if err := s.mechToken(resp); err != nil {
		return nil, err
	}
	if resp.mic != nil {
		if err := s.mech.Context().VerifyMIC(s.mechList, resp.mic); err != nil {
			return nil, fmt.Errorf("mechListMIC: %w", err)
		}
	}
	if resp.state == acceptCompleted {
		s.state = spnegoDone
		return nil, nil
	}
	// The acceptor goes on although the mechanism is done: it wants our MIC
	// (RFC 4178, Section 5).
	answer := negTokenResp{state: acceptIncomplete, mic: s.mech.Context().GetMIC(nil, s.mechList)}
	s.state = spnegoMIC
	if resp.mic != nil {
		answer.state, s.state = acceptCompleted, spnegoDone
	}
	return answer.build(), nil
}

// mechToken hands the mechanism's token on, after which the mechanism must be
// done.
func (s *SPNEGOInitiator) mechToken(resp negTokenResp) error {
	switch {
	case s.mech.Context() != nil && resp.token != nil:
		return fmt.Errorf("%w: a token for a mechanism that is done", ErrToken)
	case resp.token != nil:
		if _, _, err := s.mech.Step(resp.token); err != nil {
			return err
		}
	case resp.state != reject && s.mech.Context() == nil:
		return fmt.Errorf("%w: responseToken is missing", ErrToken)
	}
	if resp.state == reject {
		return ErrRejected
	}
	return nil
}

// confirmed handles the acceptor's answer to our MIC.
func (s *SPNEGOInitiator) confirmed(in []byte) error {
	resp, err := parseNegTokenResp(in)
	if err != nil {
		return err
	}
	if resp.state != acceptCompleted {
		return ErrRejected
	}
	if err := s.mech.Context().VerifyMIC(s.mechList, resp.mic); err != nil {
		return fmt.Errorf("mechListMIC: %w", err)
	}
	s.state = spnegoDone
	return nil
}

// SPNEGOAcceptor accepts Kerberos 5 by RFC 4178, in one round trip if the
// initiator likes Kerberos best and sends its token at once. An initiator that
// prefers another mechanism is asked for a Kerberos token and for a MIC, which
// proves that nobody took the better mechanism off its list. A bare Kerberos
// token is accepted too, as Active Directory does.
type SPNEGOAcceptor struct {
	mech     *Acceptor
	mechList []byte
	needMIC  bool
	state    spnegoState
}

// NewSPNEGOAcceptor negotiates for mech, which must not have been stepped.
func NewSPNEGOAcceptor(mech *Acceptor) *SPNEGOAcceptor { return &SPNEGOAcceptor{mech: mech} }

// Context is the established context, nil before the negotiation is over.
func (s *SPNEGOAcceptor) Context() *Context {
	if s.state != spnegoDone {
		return nil
	}
	return s.mech.Context()
}

// Step is [Acceptor.Step], with tokens of SPNEGO; it may take up to three steps.
func (s *SPNEGOAcceptor) Step(in []byte) (out []byte, finished bool, err error) {
	switch s.state {
	case spnegoBegun:
		out, err = s.first(in)
	case spnegoOffered:
		out, err = s.second(in)
	case spnegoMIC:
		err = s.confirm(in)
	default:
		err = ErrState
	}
	if err != nil {
		s.state = spnegoBroken
		return out, false, err
	}
	return out, s.state == spnegoDone, nil
}

func (s *SPNEGOAcceptor) first(in []byte) ([]byte, error) {
	oid, body, err := parseFramed(in)
	if err != nil {
		return nil, err
	}
	if isKerberos(oid) {
		out, _, err := s.mech.Step(in)
		s.state = spnegoDone
		return out, err
	}
	if !bytes.Equal(oid, oidSPNEGO) {
		return nil, fmt.Errorf("%w: token of mechanism %x", ErrMechanism, oid)
	}
	init, err := parseNegTokenInit(body)
	if err != nil {
		return nil, err
	}
	s.mechList = init.mechList
	for i, mech := range init.mechTypes {
		if !isKerberos(mech) {
			continue
		}
		s.needMIC = i > 0
		if i == 0 && init.token != nil {
			return s.accept(init.token, nil, mech)
		}
		s.state = spnegoOffered
		ask := negTokenResp{state: acceptIncomplete, mech: mech}
		if s.needMIC {
			ask.state = requestMIC
		}
		return ask.build(), nil
	}
	return negTokenResp{state: reject}.build(), fmt.Errorf("%w: offered %x", ErrMechanism, init.mechTypes)
}

// second handles the token of a mechanism that the initiator did not guess.
func (s *SPNEGOAcceptor) second(in []byte) ([]byte, error) {
	resp, err := parseNegTokenResp(in)
	if err != nil {
		return nil, err
	}
	if resp.token == nil {
		return nil, fmt.Errorf("%w: responseToken is missing", ErrToken)
	}
	return s.accept(resp.token, resp.mic, nil)
}

// accept steps the mechanism and answers. The peer's MIC is there already if its
// context was done with this token.
func (s *SPNEGOAcceptor) accept(token, mic, mech []byte) ([]byte, error) {
	out, _, err := s.mech.Step(token)
	answer := negTokenResp{state: acceptCompleted, mech: mech, token: out}
	if err == nil && mic != nil {
		err = s.mech.Context().VerifyMIC(s.mechList, mic)
	}
	if err != nil {
		answer.state = reject
		return answer.build(), err
	}
	s.state = spnegoDone
	if s.needMIC {
		answer.mic = s.mech.Context().GetMIC(nil, s.mechList)
		if mic == nil {
			answer.state, s.state = acceptIncomplete, spnegoMIC
		}
	}
	return answer.build(), nil
}

// confirm verifies the initiator's MIC.
func (s *SPNEGOAcceptor) confirm(in []byte) error {
	resp, err := parseNegTokenResp(in)
	if err != nil {
		return err
	}
	if resp.state == reject {
		return ErrRejected
	}
	if err := s.mech.Context().VerifyMIC(s.mechList, resp.mic); err != nil {
		return fmt.Errorf("mechListMIC: %w", err)
	}
	s.state = spnegoDone
	return nil
}
