package agent

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard/nft/netnstest"
	"interdict/internal/agent/sole"
	"interdict/internal/fault"
)

func TestOneAgentToANetwork(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	log := slog.New(slog.DiscardHandler)
	first, err := NewPlatform(log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewPlatform(log)
	if want := fmt.Sprintf("process %d,", os.Getpid()); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), want) {
		t.Errorf("a second agent got %v, want a conflict with %s", err, want)
	}
	if err = CleanUp(t.Context(), log); err != nil {
		t.Errorf("cleaning up beside an agent: %v", err)
	}
	if err = first.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := NewPlatform(log)
	if err != nil {
		t.Fatalf("after the first had ended: %v", err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhoTakesTheNameWithoutBeingAnAgentKeepsNobodyFromRunning(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@interdict-agent"}); err != nil {
		t.Fatal(err)
	}
	release, err := sole.Network(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
