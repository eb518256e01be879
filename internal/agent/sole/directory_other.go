//go:build !linux

package sole

import (
	"fmt"
	"os"
)

// Directory makes this process the only agent on a state directory as far as this
// system can tell: the file stays open, and is nothing more than a sign.
func Directory(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
