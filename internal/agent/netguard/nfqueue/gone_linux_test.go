package nfqueue

import (
	"net"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

// keeper keeps the answers to packets until it is told to give them.
type keeper chan func(netguard.Verdict)

func (h keeper) Handle(_ netguard.Packet, answer func(netguard.Verdict)) { h <- answer }

func TestAPacketThatIsGoneDoesNotEndItsQueue(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	p := linked(t)
	echo(t, p, at(peer4, 4000))
	guarded(t, netguard.Config{})
	h := make(keeper, 10)
	listening(t, h, func(c *Config) { c.Deadline = 10 * time.Second })
	c := dial(t, "tcp", at(peer4, 4000))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	answer := <-h
	netnstest.Run(t, "ip", "link", "set", "idt-host", "down")
	answer(netguard.Verdict{Decision: netguard.Accept})
	netnstest.Run(t, "ip", "link", "set", "idt-host", "up")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c = dial(t, "tcp", l.Addr().String())
	if _, err := c.Write([]byte("again")); err != nil {
		t.Fatal(err)
	}
	select {
	case answer = <-h:
		answer(netguard.Verdict{Decision: netguard.Accept})
	case <-time.After(3 * time.Second):
		t.Fatal("nothing is queued any more")
	}
}
