package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/modules.txt") //nolint:gochecknoglobals // a flag of the test

// forbidden are packages, with all below them, that must not be in a program
// which runs as root on every endpoint, and why.
var forbidden = map[string]string{ //nolint:gochecknoglobals // a table
	"interdict/internal/store":         "the agent carries no server code",
	"interdict/internal/control":       "the agent carries no server code",
	"interdict/internal/server":        "the agent carries no server code",
	"interdict/internal/cli":           "the agent carries no administration code",
	"interdict/console":                "the agent carries no server code",
	"database/sql":                     "the agent has no database",
	"modernc.org/sqlite":               "the agent has no database",
	"github.com/jackc/pgx/v5":          "the agent has no database",
	"github.com/danielgtaylor/huma/v2": "the agent serves no API",
	"github.com/google/cel-go":         "rules are the server's to evaluate",
	"github.com/quic-go/quic-go":       "QUIC is read, never spoken",
	"net/http/pprof":                   "the agent shows nobody its memory",
	"testing":                          "tests stay in tests",
	"runtime/cgo":                      "the binary is static",
}

// linked lists packages or modules that the agent's binary links on Linux.
func linked(t *testing.T, format string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", format, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	return slices.Compact(lines)
}

func TestTheAgentLinksNoServerCode(t *testing.T) {
	for _, pkg := range linked(t, "{{.ImportPath}}") {
		// It has nothing but types, which the ulid module names.
		if pkg == "database/sql/driver" {
			continue
		}
		for bad, why := range forbidden {
			if pkg == bad || strings.HasPrefix(pkg, bad+"/") {
				t.Errorf("the agent links %s: %s", pkg, why)
			}
		}
	}
}

// The list is committed, so that a module which comes into the agent is seen
// in a review. Run the test with -update to accept what there is.
func TestTheAgentLinksOnlyTheModulesOfTheList(t *testing.T) {
	got := linked(t, "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}")
	path := filepath.Join("testdata", "modules.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(bytes.TrimSpace(content)))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modules (-list +binary):\n%s", diff)
	}
}
