package agent

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

func TestOnlyOpenConnectionsCountAsCut(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	c, err := newCutter()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	dial := func() (net.Conn, net.Conn, netguard.Flow) {
		t.Helper()
		here, dialErr := net.Dial("tcp", listener.Addr().String())
		if dialErr != nil {
			t.Fatal(dialErr)
		}
		there, acceptErr := listener.Accept()
		if acceptErr != nil {
			t.Fatal(acceptErr)
		}
		return here, there, netguard.Flow{
			Protocol: 6, Source: netip.MustParseAddrPort(here.LocalAddr().String()), Dest: netip.MustParseAddrPort(here.RemoteAddr().String()),
		}
	}
	open, there, openFlow := dial()
	closed, closedThere, closedFlow := dial()
	_ = closed.Close()
	_ = closedThere.Close()
	gone := netguard.Flow{Protocol: 6, Source: netip.MustParseAddrPort("127.0.0.1:1"), Dest: openFlow.Dest}
	forwarded := netguard.Flow{Protocol: 6, Source: netip.MustParseAddrPort("192.0.2.1:5"), Dest: netip.MustParseAddrPort("198.51.100.1:443")}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := c.Cut(ctx, []netguard.Flow{openFlow, closedFlow, gone, forwarded})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != openFlow || got[1] != forwarded {
		t.Errorf("open were %v, want %v and the forwarded one", got, openFlow)
	}
	if err := open.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("the open connection goes on")
	}
	_ = there.Close()
}
