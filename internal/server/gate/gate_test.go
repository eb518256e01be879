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
		if got := g.Failed("192.0.2.1"); got != 0 {
			t.Fatalf("failure %d: got to wait %s, want it let off", i+1, got)
		}
	}
	wait := g.Failed("192.0.2.1")
	if wait < time.Second || wait > refill {
		t.Fatalf("got to wait %s after %d failures, want between 1 s and %s", wait, burst, refill)
	}
	if got := g.Wait("192.0.2.1"); got != wait {
		t.Errorf("got to wait %s before the next attempt, want %s", got, wait)
	}
	if got := g.Wait("192.0.2.2"); got != 0 {
		t.Errorf("got to wait %s at an address that never failed, want 0", got)
	}
	if got := g.Failed("192.0.2.2"); got != 0 {
		t.Errorf("got to wait %s at another address, want it let off", got)
	}
	now = now.Add(wait)
	if got := g.Failed("192.0.2.1"); got != 0 {
		t.Errorf("got to wait %s after waiting, want it let off", got)
	}
}

func TestAnIPv6AddressStandsForItsNetwork(t *testing.T) {
	now := time.Unix(1000, 0)
	g := New(func() time.Time { return now })
	for i := range burst {
		g.Failed(fmt.Sprintf("2001:db8::%x", i+1))
	}
	if g.Failed("2001:db8::ffff") == 0 {
		t.Error("got let off under a new address of the same /64, want to wait")
	}
	if got := g.Failed("2001:db8:0:1::1"); got != 0 {
		t.Errorf("got to wait %s in another /64, want it let off", got)
	}
}

func TestManyAddressesCostBoundedMemory(t *testing.T) {
	now := time.Unix(1000, 0)
	g := New(func() time.Time { return now })
	for i := range 3 * maxAddresses {
		g.Failed(fmt.Sprintf("198.51.%d.%d", i/256, i%256))
	}
	if len(g.callers) != maxAddresses || g.order.Len() != maxAddresses {
		t.Errorf("got %d callers in the map and %d in order, want %d", len(g.callers), g.order.Len(), maxAddresses)
	}
}
