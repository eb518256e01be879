package sockdiag

import (
	"net/netip"
	"testing"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		name          string
		socket        [2]string
		protocol      uint8
		local, remote string
		want          int
	}{
		{"a connected socket", [2]string{"192.0.2.1:5", "192.0.2.2:6"}, TCP, "192.0.2.1:5", "192.0.2.2:6", 3},
		{"a listener is not the flow's socket", [2]string{"0.0.0.0:5", "0.0.0.0:0"}, TCP, "192.0.2.1:5", "192.0.2.2:6", 0},
		{"another port", [2]string{"192.0.2.1:4", "192.0.2.2:6"}, UDP, "192.0.2.1:5", "192.0.2.2:6", 0},
		{"UDP bound to the address", [2]string{"192.0.2.1:5", "0.0.0.0:0"}, UDP, "192.0.2.1:5", "192.0.2.2:6", 2},
		{"UDP bound to another address", [2]string{"192.0.2.3:5", "0.0.0.0:0"}, UDP, "192.0.2.1:5", "192.0.2.2:6", 0},
		{"UDP bound to any address", [2]string{"0.0.0.0:5", "0.0.0.0:0"}, UDP, "192.0.2.1:5", "192.0.2.2:6", 1},
		{"UDP bound to any address of both families", [2]string{"[::]:5", "[::]:0"}, UDP, "192.0.2.1:5", "192.0.2.2:6", 1},
		{"UDP bound to any IPv4 address does not send IPv6", [2]string{"0.0.0.0:5", "0.0.0.0:0"}, UDP, "[2001:db8::1]:5", "[2001:db8::2]:6", 0},
		{"UDP connected elsewhere", [2]string{"192.0.2.1:5", "192.0.2.9:6"}, UDP, "192.0.2.1:5", "192.0.2.2:6", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Socket{Local: netip.MustParseAddrPort(tt.socket[0]), Remote: netip.MustParseAddrPort(tt.socket[1])}
			got := match(s, tt.protocol, netip.MustParseAddrPort(tt.local), netip.MustParseAddrPort(tt.remote))
			if got != tt.want {
				t.Errorf("match(%v, %v, %v) = %d, want %d", tt.socket, tt.local, tt.remote, got, tt.want)
			}
		})
	}
}

func TestRequestHasTheKernelsSize(t *testing.T) {
	a := netip.MustParseAddrPort("192.0.2.1:5")
	if got := len(appendRequest(nil, afInet, TCP, a, a)); got != requestSize {
		t.Errorf("a request has %d bytes, want %d", got, requestSize)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(make([]byte, messageSize))
	f.Add(append([]byte{afInet, 1}, make([]byte, messageSize)...))
	f.Add(append([]byte{afInet6, 1}, make([]byte, messageSize-10)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseMessage(b)
		if err == nil && (!s.Local.Addr().IsValid() || s.Remote.Addr().Is4In6()) {
			t.Errorf("parseMessage(%x) = %+v", b, s)
		}
	})
}
