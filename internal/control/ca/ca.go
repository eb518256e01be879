// Package ca is the server's own small certificate authority: it decides what
// is in the certificates of devices and of the server, and checks what
// devices ask to have signed. All keys are ECDSA P-256.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"time"

	"interdict/internal/fault"
	"interdict/internal/fleet"
)

const (
	// DeviceLifetime is how long a device's certificate is valid; agents
	// renew at two thirds.
	DeviceLifetime = 30 * 24 * time.Hour
	// ServerLifetime is how long the server's certificate is valid.
	ServerLifetime = 90 * 24 * time.Hour

	authorityLifetime = 20 * 365 * 24 * time.Hour
	// backdated makes up for clocks that are behind the server's.
	backdated = time.Hour
)

// The types of PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Authority signs certificates. It is immutable and safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Create makes a new authority and returns its certificate and private key
// as two PEM blocks, for Load.
func Create(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of the certificate authority: %w", err)
	}
	template, err := newTemplate("Interdict CA", now, authorityLifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of the certificate authority: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("writing the key of the certificate authority: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: private})...), nil
}

// Load reads what Create made.
func Load(text []byte) (*Authority, error) {
	a := &Authority{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if err := a.load(block); err != nil {
			return nil, fmt.Errorf("reading the certificate authority: %w", err)
		}
	}
	if a.certificate == nil || a.key == nil || !a.key.PublicKey.Equal(a.certificate.PublicKey) {
		return nil, errors.New("reading the certificate authority: certificate and key are not both there, or do not belong together")
	}
	return a, nil
}

func (a *Authority) load(block *pem.Block) error {
	switch block.Type {
	case pemCertificate:
		certificate, err := x509.ParseCertificate(block.Bytes)
		a.certificate = certificate
		return err
	case pemKey:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return err
		}
		var ok bool
		if a.key, ok = key.(*ecdsa.PrivateKey); !ok {
			return fmt.Errorf("the key is a %T", key)
		}
		return nil
	default:
		return fmt.Errorf("there is no place for a PEM block of type %q", block.Type)
	}
}

// Certificate returns the authority's own certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// ParseRequest reads a device's request for a certificate (PKCS #10, DER) and
// checks that it is signed with the key it is for, and that this is a P-256
// key. What is wrong with it is a fault.
func ParseRequest(der []byte) (*x509.CertificateRequest, error) {
	var faults fault.Fields
	request, err := x509.ParseCertificateRequest(der)
	switch {
	case err != nil:
		faults.Add("csr", "must be a PKCS #10 request in DER")
	case request.CheckSignature() != nil:
		faults.Add("csr", "must be signed with its own key")
	default:
		if key, ok := request.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			faults.Add("csr", "must be for an ECDSA P-256 key")
		}
	}
	return request, faults.Err("the certificate request is not valid")
}

// SignDevice returns the certificate, in DER, that makes whoever has the
// request's key a device. Nothing but the key is taken from the request.
func (a *Authority) SignDevice(request *x509.CertificateRequest, id fleet.DeviceID, now time.Time) ([]byte, error) {
	template, err := newTemplate(string(id), now, DeviceLifetime)
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, request.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of device %q: %w", id, err)
	}
	return der, nil
}

// SignServer makes a key and a certificate for a server with these names and
// addresses. The chain includes the authority, so that an agent which knows
// only the authority's fingerprint can check it.
func (a *Authority) SignServer(hosts []string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the server's key: %w", err)
	}
	template, err := newTemplate("Interdict server", now, ServerLifetime)
	if err != nil {
		return tls.Certificate{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip, noIP := netip.ParseAddr(h); noIP == nil {
			template.IPAddresses = append(template.IPAddresses, ip.Unmap().AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing the server's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading the server's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func newTemplate(name string, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	// RFC 5280, section 4.1.2.2: unique, positive, at most 20 octets.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(lifetime), BasicConstraintsValid: true,
	}, nil
}
