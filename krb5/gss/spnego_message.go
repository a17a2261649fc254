package gss

import (
	"fmt"

	"github.com/opengmsa/opengmsa/krb5/internal/der"
)

// maxMechanisms is the number of mechanisms of a NegTokenInit; Windows sends
// four.
const maxMechanisms = 16

// negState is the state of a negotiation: RFC 4178, Section 4.2.2.
type negState int

const (
	acceptCompleted  negState = 0
	acceptIncomplete negState = 1
	reject           negState = 2
	requestMIC       negState = 3
	noState          negState = -1 // the field is absent
)

// negTokenInit is RFC 4178, Section 4.2.1. Of NegTokenInit2 ([MS-SPNG] 2.2.1) the
// hints are not known: only servers send them.
type negTokenInit struct {
	mechTypes [][]byte // contents of the OIDs
	// mechList is the DER of the field mechTypes as it stands, which the MICs
	// are over.
	mechList []byte
	token    []byte // mechToken, optional
	mic      []byte // mechListMIC, optional
}

// mechListOf is the DER of a MechTypeList.
func mechListOf(mechs ...[]byte) []byte {
	b := der.NewBuilder(nil)
	b.Sequence(func() {
		for _, m := range mechs {
			b.OID(m)
		}
	})
	return b.Bytes()
}

// build is the first token, framed.
func (t negTokenInit) build() []byte {
	b := der.NewBuilder(nil)
	b.Nest(der.Context(0), func() {
		b.Sequence(func() {
			b.RawField(0, t.mechList)
			if t.token != nil {
				b.OctetsField(2, t.token)
			}
			if t.mic != nil {
				b.OctetsField(3, t.mic)
			}
		})
	})
	return frame(oidSPNEGO, b.Bytes())
}

// parseNegTokenInit reads what follows the frame of the first token.
func parseNegTokenInit(body []byte) (negTokenInit, error) {
	t, err := der.Parse(body, MaxToken, "NegotiationToken", func(v der.Value) negTokenInit {
		s := v.Inner(der.Context(0)).Sequence("NegTokenInit")
		var t negTokenInit
		list := s.Field(0, "mechTypes")
		t.mechList = list.Raw(der.TagSequence)
		t.mechTypes = der.List(list, "MechTypeList", maxMechanisms, der.Value.OID)
		if flags := s.Optional(1, "reqFlags"); flags.Present() {
			flags.Bits32() // RFC 4178 ignores them
		}
		t.token = s.Optional(2, "mechToken").Octets()
		t.mic = s.Optional(3, "mechListMIC").Octets()
		s.End()
		return t
	})
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if len(t.mechTypes) == 0 {
		return t, fmt.Errorf("%w: NegTokenInit.mechTypes is empty", ErrToken)
	}
	return t, nil
}

// negTokenResp is RFC 4178, Section 4.2.2. Absent fields are noState and nil.
type negTokenResp struct {
	state negState
	mech  []byte // contents of supportedMech
	token []byte // responseToken
	mic   []byte // mechListMIC
}

func (t negTokenResp) build() []byte {
	b := der.NewBuilder(nil)
	b.Nest(der.Context(1), func() {
		b.Sequence(func() {
			if t.state != noState {
				b.Explicit(0, func() { b.Enumerated(uint8(t.state)) })
			}
			if t.mech != nil {
				b.Explicit(1, func() { b.OID(t.mech) })
			}
			if t.token != nil {
				b.OctetsField(2, t.token)
			}
			if t.mic != nil {
				b.OctetsField(3, t.mic)
			}
		})
	})
	return b.Bytes()
}

func parseNegTokenResp(token []byte) (negTokenResp, error) {
	t, err := der.Parse(token, MaxToken, "NegotiationToken", func(v der.Value) negTokenResp {
		s := v.Inner(der.Context(1)).Sequence("NegTokenResp")
		t := negTokenResp{state: noState}
		if state := s.Optional(0, "negState"); state.Present() {
			t.state = negState(state.Enumerated(int64(acceptCompleted), int64(requestMIC)))
		}
		t.mech = s.Optional(1, "supportedMech").OID()
		t.token = s.Optional(2, "responseToken").Octets()
		t.mic = s.Optional(3, "mechListMIC").Octets()
		s.End()
		return t
	})
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return t, nil
}
