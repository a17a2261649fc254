package protect

import (
	"crypto"
	_ "crypto/sha256" // the hashes of RFC 5929
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/krb5/gss"
)

// ErrNoBinding says that a certificate's signature algorithm has no hash that
// RFC 5929 could use, so that no channel binding is defined for it.
var ErrNoBinding = errors.New("certificate has no tls-server-end-point channel binding")

// EndPointBinding is the channel binding of a TLS server's certificate: its
// hash by the hash function of its own signature, where MD5 and SHA-1 become
// SHA-256 (RFC 5929, Section 4.1).
func EndPointBinding(cert *x509.Certificate) (*gss.ChannelBindings, error) {
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil, fmt.Errorf("protect: %v: %w", cert.SignatureAlgorithm, ErrNoBinding)
	}
	h := hash.New()
	h.Write(cert.Raw)
	return gss.TLSServerEndPoint(h.Sum(nil)), nil
}
