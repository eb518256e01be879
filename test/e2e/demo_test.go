package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"interdict/internal/lab/labtest"
)

func TestTheDemoPasses(t *testing.T) {
	labtest.Require(t)
	t.Parallel() // Nothing is shared with the other tests.
	cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv(envPrograms), "interdict"), "demo", "--once")
	// It builds a lab of its own.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "INTERDICT_LAB") })
	r := finish(cmd)
	works(t, "interdict demo --once", r)
	if !strings.Contains(r.out, "PASS  all ") {
		t.Errorf("it printed:\n%s", r.out)
	}
}
