package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Format is the version of the envelope's layout. An agent refuses a format
// that it does not know.
const Format = 1

// MaxBody bounds the decompressed body of an envelope in bytes.
const MaxBody = 256 << 20

// compressFrom is the body length from which compression pays.
const compressFrom = 512

// signingContext keeps a bundle's signature from being taken for any other
// use of the same key.
const signingContext = "interdict bundle 1\n"

// Header is what the server signs.
type Header struct {
	Format int `json:"format"`
	// Audience names the devices that share the set: those with the same
	// effective settings and indicator scope.
	Audience string `json:"audience"`
	// Version only grows, over all audiences of a server.
	Version uint64 `json:"version"`
	// Digest is the Digest of the whole set, also when the body is a
	// difference.
	Digest  string `json:"digest"`
	Records int    `json:"records"`
	// IssuedAt is for people: an agent whose clock is slow takes the bundle
	// in all the same. NotAfter bounds when it may be taken in. An agent goes
	// on enforcing the last good one after that.
	IssuedAt time.Time `json:"issued_at"`
	NotAfter time.Time `json:"not_after"`
	// KeyID says which key signed, see KeyID.
	KeyID string `json:"key_id"`
}

// Envelope is a bundle on its way, or on disk.
type Envelope struct {
	// Header is the signed bytes, a Header in JSON.
	Header    []byte `json:"header"`
	Signature []byte `json:"signature"`
	// Base is the digest of the set that the body is a difference to; empty
	// when the body is the whole set.
	Base string `json:"base,omitempty"`
	// Encoding is "" or "zstd".
	Encoding string `json:"encoding,omitempty"`
	// Body are changes as Diff writes them.
	Body []byte `json:"body"`
}

// The reasons to refuse a bundle. The last good one stays in force.
var (
	ErrSignature = errors.New("the signature is not the server's")
	ErrFormat    = errors.New("the format is not known to this agent")
	ErrRollback  = errors.New("the version is older than the one in force")
	ErrDigest    = errors.New("the records do not have the signed digest")
	ErrExpired   = errors.New("its time of validity is over")
	// ErrBase is no reason for alarm: the difference is to a set which the
	// agent does not have, and it asks for the whole one.
	ErrBase = errors.New("it is a difference to another set")
)

// KeyID names a public key in headers: the first 16 hexadecimal digits of
// its SHA-256.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// SignHeader completes h for the set (Format, Digest, Records, KeyID) and
// returns it in JSON with its signature. One signature serves every
// difference that leads to the set.
func SignHeader(key ed25519.PrivateKey, h Header, set Set) (header, signature []byte, err error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, nil, errors.New("signing a bundle: the key is not an Ed25519 key")
	}
	h.Format, h.Digest, h.Records, h.KeyID = Format, set.Digest(), set.Len(), KeyID(public)
	header, err = json.Marshal(h)
	if err != nil {
		return nil, nil, fmt.Errorf("writing a bundle's header: %w", err)
	}
	return header, ed25519.Sign(key, signedBytes(header)), nil
}

func signedBytes(header []byte) []byte {
	return append([]byte(signingContext), header...)
}

// Seal makes the envelope that carries changes under a signed header. Base is
// the digest of the set the changes are to, empty for the whole set.
func Seal(header, signature []byte, base string, changes []byte) (Envelope, error) {
	e := Envelope{Header: header, Signature: signature, Base: base, Body: changes}
	if len(changes) < compressFrom {
		return e, nil
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return Envelope{}, fmt.Errorf("compressing a bundle: %w", err)
	}
	e.Encoding, e.Body = "zstd", w.EncodeAll(changes, nil)
	return e, w.Close()
}

// Current is what an agent has: the set in force and its version. The zero
// value has nothing.
type Current struct {
	Version uint64
	Digest  string
	Set     Set
}

// Open verifies an envelope against the pinned key and what is in force, and
// returns its header and the set that results. An envelope of the version in
// force is accepted again if it has the same digest. Every error but ErrBase
// means that the bundle is not to be trusted.
func (e Envelope) Open(key ed25519.PublicKey, have Current, now time.Time) (Header, Set, error) {
	h, err := e.verifyHeader(key)
	if err != nil {
		return Header{}, Set{}, err
	}
	switch {
	case h.Version < have.Version:
		return h, Set{}, fmt.Errorf("opening bundle %d while %d is in force: %w", h.Version, have.Version, ErrRollback)
	case h.Version == have.Version && h.Digest != have.Digest:
		return h, Set{}, fmt.Errorf("opening another bundle of version %d: %w", h.Version, ErrRollback)
	case now.After(h.NotAfter):
		return h, Set{}, fmt.Errorf("opening bundle %d, valid until %s: %w", h.Version, h.NotAfter.Format(time.RFC3339), ErrExpired)
	}
	set, err := e.open(h, have)
	return h, set, err
}

// Reopen verifies an envelope that the agent itself put on disk and returns
// what it holds. Its time of validity does not count: the last good bundle
// stays in force for as long as the server is away.
func (e Envelope) Reopen(key ed25519.PublicKey) (Header, Set, error) {
	h, err := e.verifyHeader(key)
	if err != nil {
		return Header{}, Set{}, err
	}
	set, err := e.open(h, Current{})
	return h, set, err
}

func (e Envelope) verifyHeader(key ed25519.PublicKey) (Header, error) {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signedBytes(e.Header), e.Signature) {
		return Header{}, fmt.Errorf("opening a bundle: %w", ErrSignature)
	}
	var h Header
	if err := json.Unmarshal(e.Header, &h); err != nil {
		return Header{}, fmt.Errorf("reading a bundle's header: %w (%w)", ErrFormat, err)
	}
	if h.Format != Format {
		return h, fmt.Errorf("opening a bundle of format %d: %w", h.Format, ErrFormat)
	}
	return h, nil
}

func (e Envelope) open(h Header, have Current) (Set, error) {
	base := Set{}
	if e.Base != "" {
		if e.Base != have.Digest {
			return Set{}, fmt.Errorf("opening bundle %d: %w", h.Version, ErrBase)
		}
		base = have.Set
	}
	body, closeBody, err := e.body()
	if err != nil {
		return Set{}, err
	}
	defer closeBody()
	set, err := base.Apply(body)
	if err != nil {
		return Set{}, fmt.Errorf("opening bundle %d: %w: %w", h.Version, ErrDigest, err)
	}
	if set.Digest() != h.Digest {
		return Set{}, fmt.Errorf("opening bundle %d: %w", h.Version, ErrDigest)
	}
	return set, nil
}

func (e Envelope) body() (io.Reader, func(), error) {
	switch e.Encoding {
	case "":
		return bytes.NewReader(e.Body), func() {}, nil
	case "zstd":
		r, err := zstd.NewReader(bytes.NewReader(e.Body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody))
		if err != nil {
			return nil, nil, fmt.Errorf("decompressing a bundle: %w", err)
		}
		return io.LimitReader(r, MaxBody), r.Close, nil
	default:
		return nil, nil, fmt.Errorf("opening a bundle with encoding %.80q: %w", e.Encoding, ErrFormat)
	}
}
