package adminapi

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"interdict/internal/server/gate"
)

//go:generate go test -run TestTheDocumentIsCurrent -update .

func newTestAPI(t *testing.T) *API {
	t.Helper()
	a, err := New(Config{Gate: gate.New(time.Now), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var update = flag.Bool("update", false, "write the golden files")

func TestTheDocumentIsCurrent(t *testing.T) {
	golden := filepath.Join("..", "..", "..", "docs", "openapi.json")
	got := newTestAPI(t).Document()
	if *update {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.json is not what the Go types say; run go generate ./internal/server/adminapi")
	}
}
