package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"interdict/internal/bundle"
)

// damagedSuffix marks a file that was set aside.
const damagedSuffix = ".damaged"

// ErrDamaged says that the bundle on disk was not usable and was set aside.
var ErrDamaged = errors.New("the bundle on disk is damaged")

// Bundle is a verified bundle.
type Bundle struct {
	Header bundle.Header
	Set    bundle.Set
}

// Current is the bundle as what is in force.
func (b Bundle) Current() bundle.Current {
	return bundle.Current{Version: b.Header.Version, Digest: b.Header.Digest, Set: b.Set}
}

// Whole reports whether the records are there. Of no bundle at all, and of a
// damaged one, they are not.
func (b Bundle) Whole() bool {
	return b.Header.Digest != "" && b.Set.Len() == b.Header.Records
}

// SaveBundle writes a bundle whole, whatever difference it came as, under
// the header of e, which its signature covers.
func (d Dir) SaveBundle(e bundle.Envelope, set bundle.Set) error {
	whole, err := bundle.Seal(e.Header, e.Signature, "", bundle.Diff(bundle.Set{}, set))
	if err != nil {
		return err
	}
	b, err := json.Marshal(whole)
	if err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	return WriteFile(d.Path(fileBundle), b)
}

// Bundle reads the last good bundle and verifies it as if it had just come.
// Without one the error wraps fs.ErrNotExist. A file that does not verify is
// set aside for whoever wants to know why, and the error wraps ErrDamaged;
// the header is still returned where its signature holds, so that its version
// goes on guarding against older bundles.
func (d Dir) Bundle(id Identity) (Bundle, error) {
	b, err := d.VerifyBundle(id)
	if !errors.Is(err, ErrDamaged) {
		return b, err
	}
	if renameErr := os.Rename(d.Path(fileBundle), d.Path(fileBundle+damagedSuffix)); renameErr != nil && !errors.Is(renameErr, fs.ErrNotExist) {
		err = errors.Join(err, renameErr)
	}
	return b, err
}

// VerifyBundle is Bundle for whoever only looks: it leaves a damaged file
// where it is.
func (d Dir) VerifyBundle(id Identity) (Bundle, error) {
	b, err := os.ReadFile(d.Path(fileBundle))
	if err != nil {
		return Bundle{}, fmt.Errorf("reading the last good bundle: %w", err)
	}
	var e bundle.Envelope
	var h bundle.Header
	var set bundle.Set
	if err = json.Unmarshal(b, &e); err == nil {
		h, set, err = e.Reopen(id.BundleKey)
	}
	if err != nil {
		return Bundle{Header: h}, fmt.Errorf("reading the last good bundle: %w: %w", ErrDamaged, err)
	}
	return Bundle{Header: h, Set: set}, nil
}
