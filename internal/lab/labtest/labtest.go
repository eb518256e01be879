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
	err := lab.Enter(context.Background())
	fmt.Fprintf(os.Stderr, "\n=== NO LAB: tests that need one cannot run: %v\n\n", err)
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

// New builds a lab that ends with the test. As a process can have one lab
// only, a package calls it in one test, or keeps the lab in TestMain.
func New(tb testing.TB, hosts ...string) *lab.Lab {
	tb.Helper()
	Require(tb)
	l, err := lab.New(context.WithoutCancel(tb.Context()), lab.Config{Hosts: hosts, Logger: slog.New(slog.DiscardHandler)})
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
