package sniff

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// Sizes of RFC 9001, sections 5.3 and 5.4, for AEAD_AES_128_GCM.
const (
	keySize       = 16
	ivSize        = 12
	sampleSize    = 16
	maxNumberSize = 4
)

// quicVersion is what differs between the versions of QUIC that are read.
type quicVersion struct {
	number uint32
	salt   string
	// prefix begins the labels of the packet keys.
	prefix string
	// The values of the type field of a long header.
	initialType, retryType byte
}

// findVersion returns the version with a number; ok is false when it is not
// known.
func findVersion(number uint32) (v quicVersion, ok bool) {
	switch number {
	case 1: // RFC 9001, section 5.2
		return quicVersion{
			number: number, prefix: "quic", initialType: 0, retryType: 3,
			salt: "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a",
		}, true
	case 0x6b3343cf: // RFC 9369, sections 3.1 to 3.3
		return quicVersion{
			number: number, prefix: "quicv2", initialType: 1, retryType: 0,
			salt: "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9",
		}, true
	case 0xff00001d: // draft-ietf-quic-tls-29, section 5.2
		return quicVersion{
			number: number, prefix: "quic", initialType: 0, retryType: 3,
			salt: "\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99",
		}, true
	default:
		return quicVersion{}, false
	}
}

// initialKeys open the Initial packets of a client.
type initialKeys struct {
	version quicVersion
	// source is the connection id that the keys were made of.
	source []byte
	iv     []byte
	header cipher.Block
	aead   cipher.AEAD
	// largest is the largest packet number opened so far.
	largest int64
	// scratch is where packets are decrypted.
	scratch []byte
}

// newInitialKeys derives the client's keys (RFC 9001, section 5.2).
func newInitialKeys(v quicVersion, destID []byte) (*initialKeys, error) {
	initial, err := hkdf.Extract(sha256.New, destID, []byte(v.salt))
	if err != nil {
		return nil, fmt.Errorf("extracting the initial secret: %w", err)
	}
	client, err := expandLabel(initial, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	key, err := expandLabel(client, v.prefix+" key", keySize)
	if err != nil {
		return nil, err
	}
	iv, err := expandLabel(client, v.prefix+" iv", ivSize)
	if err != nil {
		return nil, err
	}
	hp, err := expandLabel(client, v.prefix+" hp", keySize)
	if err != nil {
		return nil, err
	}
	return assembleKeys(v, destID, key, iv, hp)
}

func assembleKeys(v quicVersion, destID, key, iv, hp []byte) (*initialKeys, error) {
	header, err := aes.NewCipher(hp)
	if err != nil {
		return nil, fmt.Errorf("making the header protection: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making the packet protection: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("making the packet protection: %w", err)
	}
	return &initialKeys{
		version: v, source: bytes.Clone(destID), iv: iv, header: header, aead: aead, largest: -1,
	}, nil
}

// expandLabel is HKDF-Expand-Label of RFC 8446, section 7.1, with an empty
// context.
func expandLabel(secret []byte, label string, size int) ([]byte, error) {
	label = "tls13 " + label
	info := string([]byte{byte(size >> 8), byte(size), byte(len(label))}) + label + "\x00"
	out, err := hkdf.Expand(sha256.New, secret, info, size)
	if err != nil {
		return nil, fmt.Errorf("expanding the label %q: %w", label, err)
	}
	return out, nil
}

// open removes a packet's protection (RFC 9001, sections 5.3 and 5.4). The
// frames it returns are valid until the next call.
func (k *initialKeys) open(p longPacket) ([]byte, bool) {
	if p.version.number != k.version.number || len(p.raw) < p.number+maxNumberSize+sampleSize {
		return nil, false
	}
	sample := p.raw[p.number+maxNumberSize:][:sampleSize]
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], sample)

	// The unprotected header authenticates the packet; it is built in
	// front of the frames, so that the datagram stays as it is.
	size := int((p.raw[0]^mask[0])&3) + 1
	body := p.number + size
	dst := append(slices.Grow(k.scratch[:0], len(p.raw)), p.raw[:body]...)
	k.scratch = dst
	dst[0] ^= mask[0] & 0x0f
	var truncated int64
	for i, m := range mask[1 : 1+size] {
		dst[p.number+i] ^= m
		truncated = truncated<<8 | int64(dst[p.number+i])
	}
	number := fullNumber(k.largest, truncated, size)

	var nonce [ivSize]byte
	copy(nonce[:], k.iv)
	tail := nonce[ivSize-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^uint64(number))
	out, err := k.aead.Open(dst[body:body], nonce[:], p.raw[body:], dst[:body])
	if err != nil {
		return nil, false
	}
	k.largest = max(k.largest, number)
	return out, true
}

// fullNumber finds the packet number whose last size bytes are truncated and
// that lies closest to the one after largest (RFC 9000, appendix A.3).
func fullNumber(largest, truncated int64, size int) int64 {
	window := int64(1) << (8 * size)
	expected := largest + 1
	number := expected&^(window-1) | truncated
	switch {
	case number <= expected-window/2 && number < 1<<62-window:
		return number + window
	case number > expected+window/2 && number >= window:
		return number - window
	default:
		return number
	}
}
