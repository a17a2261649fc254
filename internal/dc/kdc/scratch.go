package kdc

import (
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// scratchSize holds the parts of a common answer, in bytes: twice a ticket with a PAC and
// its reply.
const scratchSize = 8 << 10

// scratch is the memory of the parts of one answer, until it is written: to allocate them
// one by one, and to collect them, takes a tenth of an exchange.
type scratch struct{ b []byte }

func newScratch() any { return &scratch{b: make([]byte, 0, scratchSize)} }

// take gives room for n bytes, which is overwritten after the exchange: nothing that is
// kept may lie in it.
func (s *scratch) take(n int) []byte {
	from := len(s.b)
	if n > cap(s.b)-from {
		return make([]byte, 0, n)
	}
	s.b = s.b[:from+n]
	return s.b[from : from : from+n]
}

// reset makes it as new: there were session keys in it.
func (s *scratch) reset() {
	clear(s.b)
	s.b = s.b[:0]
}

// seal encrypts a part of the answer.
func (x *exchange) seal(key *crypto.Key, usage uint32, plain []byte) (krb5.EncryptedData, error) {
	cipher, err := key.Encrypt(x.scratch.take(len(plain)+key.EType().Overhead()), usage, plain, x.cfg.Rand)
	return krb5.EncryptedData{EType: key.EType(), Cipher: cipher}, err
}
