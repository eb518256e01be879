package nfqueue

import (
	"bytes"
	"errors"
	"net"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

func TestMarksOfOthersSurvive(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	ended := echo(t, linked(t), at(peer4, 4000))
	netnstest.Run(t, "nft", "-f", "testdata/neighbour.nft")
	guarded(t, netguard.Config{})
	j := &judge{}
	listening(t, j, nil)
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 0x4000_00ab)
		}), err)
	}}
	c, err := d.DialContext(t.Context(), "tcp", at(peer4, 4000))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := exchange(c, []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	<-ended
	if seen := j.seen(netguard.QueueFlow); len(seen) != 1 || seen[0].Mark != 0x4000_00ab {
		t.Errorf("queued %d packets, the first with mark %#x, want 1 with 0x400000ab", len(seen), seen[0].Mark)
	}
	got := netnstest.Run(t, "nft", "list", "table", "inet", "neighbour")
	for _, line := range []string{
		"meta mark 0x400000ab ct mark 0x90000055 counter name \"kept\"",
	} {
		if !bytes.Contains([]byte(got), []byte(line)) {
			t.Errorf("rule %q is gone from:\n%s", line, got)
		}
	}
	counts := neighbourCounts(t, got)
	if counts["kept"] < 6 || counts["changed"] != 0 {
		t.Errorf("%d packets left with both marks as they should be and %d with others, want at least 6 and none:\n%s",
			counts["kept"], counts["changed"], got)
	}
}

// neighbourCounts reads the named counters from nft's listing.
func neighbourCounts(tb testing.TB, listing string) map[string]int {
	tb.Helper()
	counts := make(map[string]int)
	for _, m := range regexp.MustCompile(`counter (\w+) \{\s+packets (\d+)`).FindAllStringSubmatch(listing, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			tb.Fatal(err)
		}
		counts[m[1]] = n
	}
	return counts
}

func TestConnectionsThatAreNotTrackedPass(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	netnstest.Run(t, "nft", "-f", "testdata/notrack.nft")
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, netguard.Config{})
	j := always(netguard.Refuse)
	listening(t, j, nil)
	if err := exchange(dial(t, "tcp", at(peer4, 4000)), []byte("hello")); err != nil {
		t.Error(err)
	}
	if n := len(j.seen(netguard.QueueFlow)); n != 0 {
		t.Errorf("%d packets were queued, want none", n)
	}
}

func TestInvalidPacketsAreAskedAboutOnceEach(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	// A connection from before the rules, and no guessing what it was.
	c := dial(t, "tcp", at(peer4, 4000))
	netnstest.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
	guarded(t, netguard.Config{})
	j := &judge{decide: func(p netguard.Packet) netguard.Verdict {
		if bytes.HasSuffix(p.Data, []byte("evil")) {
			return netguard.Verdict{Decision: netguard.Refuse}
		}
		return netguard.Verdict{Decision: netguard.Accept}
	}}
	listening(t, j, nil)
	for range 2 {
		if err := exchange(c, []byte("good")); err != nil {
			t.Fatal(err)
		}
	}
	if err := exchange(c, []byte("evil")); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the refused packet's program saw %v, want a reset", err)
	}
	if n := len(j.seen(netguard.QueueFlow)); n != 3 {
		t.Errorf("%d packets were queued, want 3", n)
	}
}
