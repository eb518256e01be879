// Package labtest runs the tests of a package inside a lab's namespaces.
package labtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"interdict/internal/lab"
)

// Main runs a package's tests inside the lab's namespaces and returns the exit
// code, for use in TestMain. Where no lab can be built the tests run outside,
// and those that called New are skipped, or fail if CI is set.
func Main(m *testing.M) int {
	if lab.Inside() {
		return m.Run()
	}
	// Enter does not return if it succeeds.
	return Without(m, lab.Enter(context.Background()))
}

// Without runs a package's tests where no lab can be built, and says why not.
// As go test hides what a package prints that passes, the terminal is told as
// well, if there is one.
func Without(m *testing.M, why error) int {
	text := fmt.Sprintf("\n=== NO LAB: tests that need one are skipped: %v\n\n", why)
	fmt.Fprint(os.Stderr, text)
	if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
		fmt.Fprint(tty, text)
		tty.Close()
	}
	return m.Run()
}

// Require skips a test that is not inside the lab's namespaces, or fails it if
// CI is set.
func Require(tb testing.TB) {
	tb.Helper()
	if lab.Inside() {
		return
	}
	err := lab.Check(tb.Context())
	if os.Getenv("CI") != "" {
		tb.Fatalf("this test needs a lab: %v", err)
	}
	tb.Skipf("SKIPPED: this test needs a lab: %v", err)
}

// New builds a lab without users that ends with the test. As a process can
// have one lab only, a package calls it in one test, or keeps the lab in
// TestMain.
func New(tb testing.TB, hosts ...string) *lab.Lab {
	tb.Helper()
	return NewWithUsers(tb, nil, hosts...)
}

// NewWithUsers is New with users.
func NewWithUsers(tb testing.TB, users []lab.User, hosts ...string) *lab.Lab {
	tb.Helper()
	Require(tb)
	l, err := lab.New(context.WithoutCancel(tb.Context()), lab.Config{Hosts: hosts, Users: users, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// RequireUsers skips a test in a lab that cannot run programs as its users,
// or fails it if CI is set.
func RequireUsers(tb testing.TB, l *lab.Lab) {
	tb.Helper()
	err := l.CheckUsers()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		tb.Fatalf("this test needs users: %v", err)
	}
	tb.Skipf("SKIPPED: this test needs users: %v", err)
}
