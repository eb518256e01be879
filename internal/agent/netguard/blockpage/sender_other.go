//go:build !linux

package blockpage

import (
	"fmt"
	"runtime"

	"interdict/internal/agent/netguard"
)

// Sender answers refused requests; on this system it cannot.
type Sender struct{}

var _ netguard.Replier = (*Sender)(nil)

// New fails.
func New() (*Sender, error) {
	return nil, fmt.Errorf("refused requests cannot be answered on %s", runtime.GOOS)
}

// Close has nothing to free.
func (*Sender) Close() error { return nil }

// Reply never answers.
func (*Sender) Reply([]byte, netguard.Explanation) bool { return false }
