package gate

import (
	"fmt"
	"testing"
	"time"
)

func TestACallerWhoKeepsFailingHasToWait(t *testing.T) {
	now := time.Unix(1000, 0)
	g := New(func() time.Time { return now })
	for i := range burst {
		if v := g.Failed("192.0.2.1"); v.RetryAfter != 0 || !v.Notice {
			t.Fatalf("failure %d: got %+v, want it let off and noticed", i+1, v)
		}
	}
	v := g.Failed("192.0.2.1")
	if v.RetryAfter < time.Second || v.RetryAfter > refill || v.Notice {
		t.Fatalf("got %+v after %d failures, want to wait between 1 s and %s without notice", v, burst, refill)
	}
	if got := g.Wait("192.0.2.1"); got != v.RetryAfter {
		t.Errorf("got to wait %s before the next attempt, want %s", got, v.RetryAfter)
	}
	if got := g.Wait("192.0.2.2"); got != 0 {
		t.Errorf("got to wait %s at an address that never failed, want 0", got)
	}
	if other := g.Failed("192.0.2.2"); other.RetryAfter != 0 {
		t.Errorf("got %+v for another address, want it let off", other)
	}
	now = now.Add(v.RetryAfter)
	if v := g.Failed("192.0.2.1"); v.RetryAfter != 0 {
		t.Errorf("got %+v after waiting, want it let off", v)
	}
}

func TestAnIPv6AddressStandsForItsNetwork(t *testing.T) {
	now := time.Unix(1000, 0)
	g := New(func() time.Time { return now })
	for i := range burst {
		g.Failed(fmt.Sprintf("2001:db8::%x", i+1))
	}
	if v := g.Failed("2001:db8::ffff"); v.RetryAfter == 0 {
		t.Error("got let off under a new address of the same /64, want to wait")
	}
	if v := g.Failed("2001:db8:0:1::1"); v.RetryAfter != 0 {
		t.Errorf("got %+v for another /64, want it let off", v)
	}
}

func TestManyAddressesCostBoundedMemoryAndNotices(t *testing.T) {
	now := time.Unix(1000, 0)
	g := New(func() time.Time { return now })
	notices := 0
	for i := range 3 * maxAddresses {
		if g.Failed(fmt.Sprintf("198.51.%d.%d", i/256, i%256)).Notice {
			notices++
		}
	}
	if len(g.callers) != maxAddresses || g.order.Len() != maxAddresses {
		t.Errorf("got %d callers in the map and %d in order, want %d", len(g.callers), g.order.Len(), maxAddresses)
	}
	if notices != noticeBurst {
		t.Errorf("got %d notices in one instant, want %d", notices, noticeBurst)
	}
}
