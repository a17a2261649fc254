package protect

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"testing"
)

func TestChannelBindingHash(t *testing.T) {
	sum256, sum384, sum512 := sha256.Sum256([]byte("der")), sha512.Sum384([]byte("der")), sha512.Sum512([]byte("der"))
	for alg, want := range map[x509.SignatureAlgorithm][]byte{
		x509.MD5WithRSA: sum256[:], x509.SHA1WithRSA: sum256[:], x509.SHA256WithRSA: sum256[:], x509.SHA256WithRSAPSS: sum256[:],
		x509.ECDSAWithSHA384: sum384[:], x509.SHA512WithRSA: sum512[:],
	} {
		cb, err := EndPointBinding(&x509.Certificate{Raw: []byte("der"), SignatureAlgorithm: alg})
		if err != nil || string(cb.AppData) != "tls-server-end-point:"+string(want) {
			t.Errorf("%v: %v, %v", alg, cb, err)
		}
	}
	if _, err := EndPointBinding(&x509.Certificate{SignatureAlgorithm: x509.PureEd25519, PublicKey: ed25519.PublicKey{}}); !errors.Is(err, ErrNoBinding) {
		t.Error(err)
	}
}
