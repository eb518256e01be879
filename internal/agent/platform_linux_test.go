package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"interdict/internal/fault"
)

func TestAMissingPrivilegeIsSaidInOneLine(t *testing.T) {
	probing := fmt.Errorf("probing native queueing: netlink receive: %w\nprobing xtables queueing: %w", unix.EPERM, unix.EPERM)
	got := needsRoot(probing)
	if fault.CodeOf(got) != fault.Forbidden || strings.ContainsAny(got.Error(), "\n") || !strings.Contains(got.Error(), "needs root") {
		t.Errorf("got %q, want that root is needed", got)
	}
	missing := errors.New("no nftables in this kernel")
	if got := needsRoot(missing); !errors.Is(got, missing) || !strings.Contains(got.Error(), missing.Error()) {
		t.Errorf("got %q, want what is missing", got)
	}
}

func TestAQueueInUseIsFoundByItsNumber(t *testing.T) {
	const list = " 5770  4711     0 2  65531     0     0        3  1\n15771  4711     0 2  65531     0     0        0  1\n"
	for number, want := range map[int]bool{5770: true, 15771: true, 5771: false, 4711: false, 577: false} {
		if got := hasQueue([]byte(list), number); got != want {
			t.Errorf("queue %d: got %v, want %v", number, got, want)
		}
	}
}
