package store_test

import (
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"interdict/internal/store"
	"interdict/internal/store/pgtest"
)

// postgres is the private server of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }

// engine opens stores of one kind.
type engine struct {
	name string
	// config returns where a new, empty store is kept.
	config func(testing.TB) store.Config
}

func engines() []engine {
	return []engine{
		{"sqlite", func(tb testing.TB) store.Config {
			tb.Helper()
			return store.Config{Dir: tb.TempDir()}
		}},
		{"postgres", func(tb testing.TB) store.Config {
			tb.Helper()
			return store.Config{URL: postgres.URL(tb)}
		}},
	}
}

func open(tb testing.TB, c store.Config) *store.Store {
	tb.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := store.Open(tb.Context(), c)
	if err != nil {
		tb.Fatalf("opening the store: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("closing the store: %v", err)
		}
	})
	return s
}

// sameAddr compares addresses, whose fields are not exported.
func sameAddr(a, b netip.Addr) bool { return a == b }
