package nft

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func newGuard(tb testing.TB) *Guard {
	tb.Helper()
	g, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := g.Close(); err != nil {
			tb.Error(err)
		}
	})
	return g
}

func set(tb testing.TB, g *Guard, c netguard.Config) {
	tb.Helper()
	if err := g.Set(tb.Context(), c); err != nil {
		tb.Fatalf("Set(%+v): %v", c, err)
	}
}

// ruleset returns the table as nft prints it, without what differs between
// kernels and runs: how packets are queued, and counts.
func ruleset(tb testing.TB) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "nft", "list", "ruleset").Output()
	if err != nil {
		tb.Fatalf("listing the rules: %v", err)
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

func TestSetDoesNothingTwice(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	set(t, newGuard(t), full())
	want := ruleset(t)
	// As after a crash: another Guard, which knows of nothing.
	set(t, newGuard(t), full())
	if diff := cmp.Diff(want, ruleset(t)); diff != "" {
		t.Errorf("setting the same again (-before +after):\n%s", diff)
	}
}

func TestSetKeepsTheCounters(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	g := newGuard(t)
	c := netguard.Config{Inspect: true, Refused: ranges("127.0.0.9", "127.0.0.9")}
	set(t, g, c)
	if conn, err := net.Dial("tcp", "127.0.0.9:9"); err == nil {
		_ = conn.Close()
	}
	before := counts(t, g)
	if before[CounterRefusedAddress] == 0 {
		t.Fatalf("counters %v, want a refused packet", before)
	}
	c.Gateway = true
	set(t, g, c)
	if diff := cmp.Diff(before, counts(t, g)); diff != "" {
		t.Errorf("counters (-before +after):\n%s", diff)
	}
}

func counts(tb testing.TB, g *Guard) map[Counter]uint64 {
	tb.Helper()
	c, err := g.Counters(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestSetExchangesAddresses(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	g := newGuard(t)
	c := full()
	steps := [][]netguard.Range{
		ranges("0.0.0.0", "0.0.0.1", "192.0.2.1", "192.0.2.9", "198.51.100.1", "198.51.100.7", "255.255.255.0", "255.255.255.255", "::5", "::6"),
		ranges("192.0.2.1", "192.0.2.3", "192.0.2.5", "192.0.2.9", "198.51.100.1", "198.51.100.7", "255.255.255.0", "255.255.255.255", "::5", "::6"),
		ranges("0.0.0.0", "192.0.2.9", "198.51.100.1", "198.51.100.7", "::5", "::6", "ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		nil,
		ranges("192.0.2.1", "192.0.2.1"),
	}
	for i, refused := range steps {
		c.Refused = refused
		set(t, g, c)
		exchanged := ruleset(t)
		set(t, newGuard(t), c)
		if diff := cmp.Diff(ruleset(t), exchanged); diff != "" {
			t.Errorf("step %d: what a whole write and an exchange make of %v differ (-whole +exchanged):\n%s", i, refused, diff)
		}
	}
}

func TestSetRepairsWhatOthersLeft(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	g := newGuard(t)
	set(t, g, full())
	want := ruleset(t)
	for name, command := range map[string][]string{
		"another table of that name": {"add table inet interdict; delete table inet interdict; table inet interdict { set refused4 { type inet_service; }; chain output { type filter hook input priority 5; policy drop; }; }"},
		"no table":                   {"delete table inet interdict"},
		"another rule":               {"add rule inet interdict output drop"},
	} {
		netnstest.Run(t, "nft", command...)
		g.applied = nil
		set(t, g, full())
		if diff := cmp.Diff(want, ruleset(t)); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSetWithoutInspectionLeavesNothing(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	g := newGuard(t)
	set(t, g, full())
	for range 2 {
		set(t, g, netguard.Config{})
		if got := ruleset(t); got != "" {
			t.Errorf("left behind:\n%s", got)
		}
	}
	if got := counts(t, g); len(got) != 0 {
		t.Errorf("counters without a table: %v", got)
	}
}

// many returns n ranges, half of them of each family.
func many(n int) []netguard.Range {
	out := make([]netguard.Range, 0, n)
	for i := range n / 2 {
		from := [4]byte{100 + byte(i>>14), byte(i >> 6), byte(i << 2), 0}
		out = append(out, netguard.Range{From: netip.AddrFrom4(from), To: netip.AddrFrom4(from).Next()})
	}
	for i := range n / 2 {
		from := [16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)}
		out = append(out, netguard.Range{From: netip.AddrFrom16(from), To: netip.AddrFrom16(from).Next()})
	}
	return out
}

func TestAHundredThousandRanges(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	g := newGuard(t)
	c := netguard.Config{Inspect: true, Refused: many(100_000)}
	start := time.Now()
	set(t, g, c)
	whole := time.Since(start)
	last := netip.AddrFrom4([4]byte{127, 0, 0, 9})
	c.Refused = slices.Insert(slices.Clone(c.Refused), 50_000, netguard.Range{From: last, To: last})
	start = time.Now()
	set(t, g, c)
	one := time.Since(start)
	t.Logf("whole %v, one more %v", whole, one)
	if whole > 10*time.Second || one > whole {
		t.Errorf("writing the whole took %v and one more %v", whole, one)
	}
	if _, err := net.Dial("tcp", "127.0.0.9:9"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to the last: %v", err)
	}
	if n := counts(t, g)[CounterRefusedAddress]; n == 0 {
		t.Error("the last is not refused")
	}
}

func TestWatchRestoresWhatOthersRemove(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	g := newGuard(t)
	set(t, g, full())
	want := ruleset(t)
	restored := make(chan Restoration, 100)
	// Watch opens a socket, which has to be in this thread's namespace:
	// the whole process is.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Watch(ctx, func(r Restoration) { restored <- r }) }()
	for !g.watching() {
		runtime.Gosched()
	}
	for _, attack := range []string{"flush ruleset", "delete table inet interdict", "flush chain inet interdict undecided", "flush set inet interdict refused4"} {
		netnstest.Run(t, "nft", attack)
		select {
		case r := <-restored:
			t.Logf("%s: restored in %v", attack, r.Took)
			if r.Err != nil {
				t.Errorf("after %q: %v", attack, r.Err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("after %q nothing was restored", attack)
		}
		if diff := cmp.Diff(want, ruleset(t)); diff != "" {
			t.Errorf("after %q (-want +got):\n%s", attack, diff)
		}
	}
	// Neither our own changes nor other tables are a reason.
	c := full()
	c.Refused = many(20_000)
	set(t, g, c)
	c.Gateway = true
	set(t, g, c)
	netnstest.Run(t, "nft", "add table inet other; add chain inet other output; flush table inet other")
	select {
	case r := <-restored:
		t.Errorf("restored %+v without need", r)
	case <-time.After(3 * settle):
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch ended with %v", err)
	}
}

// watching tells whether Watch has subscribed.
func (g *Guard) watching() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.watch != nil
}

func TestWithoutRightsTheErrorNamesThem(t *testing.T) {
	if err := explain(unix.EPERM); !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("explain(EPERM) = %v", err)
	}
}
