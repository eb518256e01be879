package lab

import (
	"errors"
	"strings"
	"testing"
)

func TestWhoMayMakeNoUserNamespaceIsToldSo(t *testing.T) {
	cause := errors.New("exit status 1: unshare: unshare failed: No space left on device")
	err := userNamespaceError(cause)
	if !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "making a user namespace: ") || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("got %v, want what was tried, why it failed, and what to do", err)
	}
	if !strings.Contains(err.Error(), "user_namespaces") && !strings.Contains(err.Error(), "userns") {
		t.Errorf("got %v, want the setting to look at", err)
	}
}
