// Package state decides how an agent's state directory is laid out and how
// it is written, so that a machine which loses its power at any instant finds
// either the old content or the new there, and never half of one.
//
//	identity.json   the server's URL, this device's id, the pinned bundle key
//	ca.pem          the certificate authority the server is recognised by
//	device.pem      this device's private key and certificate, one file so
//	                that a renewal, which makes both new, replaces both at once
//	bundle.json     the last good bundle, whole, under its signed header
//	settings.json   the effective settings that were last reported
//	suspended       there while "interdict-agent rescue" counts
//	set.json        the settings made with "interdict-agent set"
//	appeals.json    users' bypasses of warnings and their requests for access
//	policy.d/       the last good content of each drop-in file of policy
//	events/         the local event log
//	spool/          events on their way to the server
//	control.sock    the socket the commands talk to the agent through
//	lock            held by the agent that runs on this directory
//
// The directory has mode 0700 and every file in it 0600.
package state

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"interdict/internal/fleet"
)

// DefaultRoot is where an agent keeps its state unless it is told otherwise.
const DefaultRoot = "/var/lib/interdict-agent"

// The names of files that other packages open themselves.
const (
	FileSettings  = "settings.json"
	FileSuspended = "suspended"
	FileSet       = "set.json"
	FileAppeals   = "appeals.json"
	DirPolicy     = "policy.d"
	FileSocket    = "control.sock"
	FileLock      = "lock"
	DirEvents     = "events"
	DirSpool      = "spool"
)

const (
	fileIdentity = "identity.json"
	fileCA       = "ca.pem"
	fileDevice   = "device.pem"
	fileBundle   = "bundle.json"
)

// ErrNotEnrolled says that the directory holds no identity.
var ErrNotEnrolled = errors.New("this machine is not enrolled")

// Dir is a state directory.
type Dir struct{ root string }

// Open returns the state directory at root, which it makes if it is missing.
// A directory that others may read is closed to them.
func Open(root string) (Dir, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return Dir{}, fmt.Errorf("making the state directory: %w", err)
	}
	if err := os.Chmod(root, 0o700); err != nil { //nolint:gosec // a directory needs its x bit
		return Dir{}, fmt.Errorf("closing the state directory to others: %w", err)
	}
	return Dir{root: root}, nil
}

// At returns the state directory at root without touching it.
func At(root string) Dir { return Dir{root: root} }

// Path returns the path of something in the directory.
func (d Dir) Path(name string) string { return filepath.Join(d.root, name) }

// Identity is what makes a machine a device.
type Identity struct {
	DeviceID  fleet.DeviceID
	ServerURL string
	// BundleKey verifies bundles. It was pinned at enrolment.
	BundleKey ed25519.PublicKey
	// CA is what the server is recognised by.
	CA *x509.Certificate
	// Certificate proves this device, with Leaf set.
	Certificate tls.Certificate
}

// identityFile is identity.json.
type identityFile struct {
	DeviceID  fleet.DeviceID `json:"device_id"`
	ServerURL string         `json:"server_url"`
	BundleKey []byte         `json:"bundle_key"`
}

// Enrolled returns nil if the directory holds an identity, an error that
// wraps ErrNotEnrolled if it holds none, and another one if nobody can tell.
func (d Dir) Enrolled() error {
	_, err := os.Stat(d.Path(fileIdentity))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking for an identity in %s: %w", d.root, ErrNotEnrolled)
	default:
		return fmt.Errorf("looking for an identity: %w", err)
	}
}

// Identity reads the identity. Without one the error wraps ErrNotEnrolled.
func (d Dir) Identity() (Identity, error) {
	b, err := os.ReadFile(d.Path(fileIdentity))
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("reading %s: %w", d.Path(fileIdentity), ErrNotEnrolled)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("reading the identity: %w", err)
	}
	var f identityFile
	if err = json.Unmarshal(b, &f); err != nil {
		return Identity{}, fmt.Errorf("reading %s: %w", d.Path(fileIdentity), err)
	}
	if len(f.BundleKey) != ed25519.PublicKeySize {
		return Identity{}, fmt.Errorf("reading %s: the bundle key has %d bytes, want %d", d.Path(fileIdentity), len(f.BundleKey), ed25519.PublicKeySize)
	}
	id := Identity{DeviceID: f.DeviceID, ServerURL: f.ServerURL, BundleKey: f.BundleKey}
	if id.CA, err = d.readCA(); err != nil {
		return Identity{}, err
	}
	// X509KeyPair sets Leaf, and takes key and certificate from one file.
	pair, err := os.ReadFile(d.Path(fileDevice))
	if err != nil {
		return Identity{}, fmt.Errorf("reading the device's certificate: %w", err)
	}
	if id.Certificate, err = tls.X509KeyPair(pair, pair); err != nil {
		return Identity{}, fmt.Errorf("reading %s: %w", d.Path(fileDevice), err)
	}
	return id, nil
}

func (d Dir) readCA() (*x509.Certificate, error) {
	b, err := os.ReadFile(d.Path(fileCA))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("reading %s: there is no certificate in it", d.Path(fileCA))
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Path(fileCA), err)
	}
	return ca, nil
}

// SaveIdentity writes an identity in place of any other, whose bundle goes
// with it. The directory counts as enrolled from the last write on.
func (d Dir) SaveIdentity(id Identity) error {
	if err := d.Erase(); err != nil {
		return err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.CA.Raw})
	if err := WriteFile(d.Path(fileCA), ca); err != nil {
		return err
	}
	if err := d.SaveCertificate(id.Certificate); err != nil {
		return err
	}
	b, err := json.MarshalIndent(identityFile{id.DeviceID, id.ServerURL, id.BundleKey}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the identity: %w", err)
	}
	return WriteFile(d.Path(fileIdentity), append(b, '\n'))
}

// SaveCertificate writes the device's key and certificate. The key must be
// an ECDSA key.
func (d Dir) SaveCertificate(c tls.Certificate) error {
	key, ok := c.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("writing the device's key: it is a %T, want an ECDSA key", c.PrivateKey)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("writing the device's key: %w", err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, cert := range c.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	}
	return WriteFile(d.Path(fileDevice), b)
}

// Erase removes the identity and what depends on it: certificates, bundle and
// events that wait to be sent. What this machine says and remembers of itself
// stays: what was set on it, what was reported last, and the local event log.
func (d Dir) Erase() error {
	// The identity goes first: without it the rest means nothing.
	for _, name := range []string{fileIdentity, fileDevice, fileCA, fileBundle, fileBundle + damagedSuffix, FileAppeals} {
		if err := os.Remove(d.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("erasing the identity: %w", err)
		}
	}
	if err := os.RemoveAll(d.Path(DirSpool)); err != nil {
		return fmt.Errorf("erasing events of the former identity: %w", err)
	}
	return nil
}

// Clear is Erase with everything else but the local event log. The lock goes
// last.
func (d Dir) Clear() error {
	if err := d.Erase(); err != nil {
		return err
	}
	for _, name := range []string{FileSettings, FileSuspended, FileSet, DirPolicy, FileSocket, FileLock} {
		if err := os.RemoveAll(d.Path(name)); err != nil {
			return fmt.Errorf("clearing the state directory: %w", err)
		}
	}
	return nil
}

// RemoveEvents removes the local event log.
func (d Dir) RemoveEvents() error {
	if err := os.RemoveAll(d.Path(DirEvents)); err != nil {
		return fmt.Errorf("removing the event log: %w", err)
	}
	return nil
}

// WriteFile writes a file in the state directory with mode 0600. After a
// crash the file has its old content or the new, whole.
func WriteFile(path string, content []byte) (err error) {
	// The name is always the same, so that what a crash leaves behind is
	// overwritten next time. Each file has one writer.
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		// Without this the rename can reach the disk before the content.
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("making %s durable: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("making %s durable: %w", path, err)
	}
	return nil
}
