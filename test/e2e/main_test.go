// Package e2e tests the whole of Interdict with its real programs, real peers
// and real packets, in a lab of network namespaces.
//
// The tests share one lab, one server and two devices: anna is in the group
// that has a policy, ben is not. Each test sets the state it needs, see
// fixture.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"interdict/internal/lab"
	"interdict/internal/lab/labtest"
	"interdict/internal/store/pgtest"
)

// postgres is started for the tests that share a database.
var postgres = pgtest.New()

// The environment of the process inside the lab.
const (
	// envPrograms is the directory of the programs under test.
	envPrograms = "INTERDICT_E2E_PROGRAMS"
	// envPeer makes this program a peer, see peerMain.
	envPeer = "INTERDICT_E2E_PEER"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(envPeer); name != "" {
		os.Exit(peerMain(name, os.Args[1:]))
	}
	os.Exit(testMain(m))
}

// testMain builds the programs, enters the lab, where it is called again, and
// runs the tests. Where no lab can be built they are skipped, loudly.
func testMain(m *testing.M) int {
	if lab.Inside() {
		code := postgres.Run(m)
		closeFixture()
		if err := os.RemoveAll(os.Getenv(envPrograms)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return code
	}
	ctx := context.Background()
	if err := lab.CheckTools(tools()...); err != nil {
		return noLab(m, err)
	}
	if err := lab.Check(ctx); err != nil {
		return noLab(m, err)
	}
	dir, err := build(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv(envPrograms, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Enter does not return if it succeeds.
	return noLab(m, lab.Enter(ctx))
}

func noLab(m *testing.M, err error) int {
	return labtest.Without(m, err)
}

// tools are the peers that are not our own programs.
func tools() []lab.Tool {
	return []lab.Tool{
		{Command: "curl", Package: "curl"},
		{Command: "dig", Package: "bind9-dnsutils"},
		{Command: "openssl", Package: "openssl"},
	}
}

// build builds the programs into a directory of its own.
func build(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "interdict-e2e-")
	if err != nil {
		return "", fmt.Errorf("building the programs: %w", err)
	}
	// The users of the lab's hosts run them too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", fmt.Errorf("building the programs: %w", err)
	}
	for _, name := range []string{"interdict", "interdict-agent"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), "interdict/cmd/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
}
