package nft

import (
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func newGuard(t testing.TB) *Guard {
	t.Helper()
	g, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func set(t testing.TB, g *Guard, c netguard.Config) {
	t.Helper()
	if err := g.Set(t.Context(), c); err != nil {
		t.Fatalf("Set(%+v): %v", c, err)
	}
}

func ranges(pairs ...string) []netguard.Range {
	var out []netguard.Range
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, netguard.Range{From: netip.MustParseAddr(pairs[i]), To: netip.MustParseAddr(pairs[i+1])})
	}
	return out
}

// ruleset returns the table as nft prints it, without what differs between
// kernels and runs: how packets are queued, and counts.
func ruleset(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nft", "list", "ruleset").Output()
	if err != nil {
		t.Fatalf("listing the rules: %v", err)
	}
	for pattern, plain := range map[string]string{
		`packets \d+ bytes \d+`:                                "packets N bytes N",
		`(?m)^# Warning: .*\n`:                                 "",
		`(?m)(# xt_NFQUEUE|queue (flags|to|num)|xt target).*$`: "QUEUE",
	} {
		out = regexp.MustCompile(pattern).ReplaceAll(out, []byte(plain))
	}
	return string(out)
}

func full() netguard.Config {
	return netguard.Config{
		Inspect:   true,
		QueueBase: 200,
		Refused:   ranges("198.51.100.0", "198.51.100.255", "203.0.113.7", "203.0.113.7", "2001:db8:bad::", "2001:db8:bad::ff"),
		Watched:   ranges("203.0.113.9", "203.0.113.10", "2001:db8:eee::1", "2001:db8:eee::1"),
		Exempt: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.10:8443"), netip.MustParseAddrPort("[2001:db8::10]:8443"),
		},
	}
}

func TestSetWritesTheRulesOfTheGoldenFiles(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	gateway := full()
	gateway.Gateway, gateway.FailClosed = true, true
	for name, c := range map[string]netguard.Config{"host": full(), "gateway": gateway} {
		g := newGuard(t)
		set(t, g, c)
		got := ruleset(t)
		golden := filepath.Join("testdata", name+".nft")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := g.CleanUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ruleset(t); got != "" {
			t.Errorf("CleanUp left behind:\n%s", got)
		}
	}
}
