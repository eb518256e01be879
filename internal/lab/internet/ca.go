package internet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// How long certificates count. The lab never runs this long.
const certificateLife = 7 * 24 * time.Hour

// maxLeaves bounds the certificates that are kept.
const maxLeaves = 10_000

// CA is a certificate authority that lives in memory and mints a certificate
// for any name. It is safe for concurrent use.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	leafKey *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate // guarded by mu
}

// NewCA makes a CA with a new key.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of a demo CA: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of a demo CA's servers: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Interdict demo CA", Organization: []string{"Not a real CA"}},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca := &CA{key: key, leafKey: leafKey, leaves: make(map[string]*tls.Certificate)}
	der, err := ca.sign(template, template, &key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("making a demo CA: %w", err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("reading back a demo CA: %w", err)
	}
	return ca, nil
}

// PEM returns the CA's certificate as a file that curl --cacert takes.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// Pool returns a pool that trusts this CA and no other.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Leaf returns the certificate of a host name or an IP address.
func (ca *CA) Leaf(host string) (*tls.Certificate, error) {
	host = canonical(host)
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if leaf, ok := ca.leaves[host]; ok {
		return leaf, nil
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Interdict demo internet"}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := ca.sign(template, ca.cert, &ca.leafKey.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("minting a certificate for %q: %w", host, err)
	}
	if len(ca.leaves) >= maxLeaves {
		clear(ca.leaves)
	}
	leaf := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ca.leafKey}
	ca.leaves[host] = leaf
	return leaf, nil
}

// sign completes a template with a serial number and times, and signs it.
func (ca *CA) sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(certificateLife)
	return x509.CreateCertificate(rand.Reader, template, parent, pub, ca.key)
}

// forHello returns the certificate a client asks for: by name, else by the
// address it came to.
func (ca *CA) forHello(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName != "" {
		return ca.Leaf(hello.ServerName)
	}
	host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("naming the address a client came to: %w", err)
	}
	return ca.Leaf(host)
}
