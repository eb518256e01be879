package internet

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// echKey is a key for Encrypted Client Hello (RFC 9849) and the configuration
// list that tells clients about it.
type echKey struct {
	config  []byte // one ECHConfig
	list    []byte // the ECHConfigList of an "ech" service parameter
	private []byte
}

// newECHKey makes a key whose clients show publicName in the clear.
func newECHKey(publicName string) (echKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return echKey{}, fmt.Errorf("making an ECH key: %w", err)
	}
	var b cryptobyte.Builder
	b.AddUint16(0xfe0d) // version, RFC 9849, section 4
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(1)       // config_id
		b.AddUint16(0x0020) // DHKEM(X25519, HKDF-SHA256)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(key.PublicKey().Bytes()) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16(0x0001) // HKDF-SHA256
			b.AddUint16(0x0001) // AES-128-GCM
		})
		b.AddUint8(0) // maximum_name_length: not told
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(publicName)) })
		b.AddUint16(0) // no extensions
	})
	config, err := b.Bytes()
	if err != nil {
		return echKey{}, fmt.Errorf("writing an ECH configuration: %w", err)
	}
	var l cryptobyte.Builder
	l.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(config) })
	list, err := l.Bytes()
	if err != nil {
		return echKey{}, fmt.Errorf("writing an ECH configuration list: %w", err)
	}
	return echKey{config: config, list: list, private: key.Bytes()}, nil
}

// keys returns the key in the form crypto/tls takes.
func (k echKey) keys() []tls.EncryptedClientHelloKey {
	return []tls.EncryptedClientHelloKey{{Config: k.config, PrivateKey: k.private, SendAsRetry: true}}
}
