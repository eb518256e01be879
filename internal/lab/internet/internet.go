// Package internet plays a small Internet on one machine, as the far end of
// the demo and of the end-to-end tests: every name resolves, and every
// address answers.
//
//	53         DNS over UDP and TCP, authoritative for everything
//	80         HTTP
//	443, 8444  HTTPS (HTTP/1.1 and HTTP/2 over TCP, HTTP/3 over UDP)
//	853        DNS over TLS (RFC 7858)
//	1080       SOCKS5 proxy (RFC 1928)
//	2525       a server that speaks first
//	3128       HTTP proxy: CONNECT and absolute-form
//	7007       TCP echo
//
// Certificates are minted for whatever name a client asks for, by a CA that
// exists only as long as the process. The servers listen on the wildcard
// address: the caller makes the machine own the prefixes of Config, and keeps
// it away from any real network.
package internet

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"
)

// The ports of the services.
const (
	PortDNS      = 53
	PortHTTP     = 80
	PortHTTPS    = 443
	PortDoT      = 853
	PortHTTPSAlt = 8444
	PortSOCKS    = 1080
	PortBanner   = 2525
	PortProxy    = 3128
	PortEcho     = 7007
)

// Config says how to play the Internet. All fields are required but Hosts.
type Config struct {
	// IPv4 is at least a /25 and IPv6 at least a /64. The addresses of names
	// are taken from them.
	IPv4, IPv6 netip.Prefix
	// Hosts are names with given addresses.
	Hosts map[string][]netip.Addr
	// CA signs the servers' certificates.
	CA *CA
	// Logger gets a debug line for each query and request.
	Logger *slog.Logger
}

// service is something that listens.
type service interface {
	// serve works until the service is closed, and then returns nil.
	serve() error
	close() error
}

// Internet is a running small Internet.
type Internet struct {
	cfg      Config
	ech      echKey
	services []service
	running  errgroup.Group
}

// Start opens all ports and serves them until Close.
func Start(ctx context.Context, cfg Config) (*Internet, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("starting the small internet: %w", err)
	}
	ech, err := newECHKey("outer.example")
	if err != nil {
		return nil, fmt.Errorf("starting the small internet: %w", err)
	}
	in := &Internet{cfg: cfg, ech: ech}
	openers := []func(context.Context) error{
		in.openDNS,
		func(ctx context.Context) error { return in.openHTTP(ctx, PortHTTP) },
		func(ctx context.Context) error { return in.openHTTPS(ctx, PortHTTPS) },
		func(ctx context.Context) error { return in.openHTTPS(ctx, PortHTTPSAlt) },
		in.openProxy,
		func(ctx context.Context) error { return in.openStream(ctx, PortSOCKS, in.socks) },
		func(ctx context.Context) error { return in.openStream(ctx, PortEcho, echo) },
		func(ctx context.Context) error { return in.openStream(ctx, PortBanner, banner) },
	}
	for _, open := range openers {
		if err := open(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("starting the small internet: %w", err), in.Close())
		}
	}
	for _, s := range in.services {
		in.running.Go(s.serve)
	}
	return in, nil
}

func (c Config) validate() error {
	var errs []error
	if !c.IPv4.Addr().Is4() || c.IPv4.Bits() > 25 {
		errs = append(errs, fmt.Errorf("the IPv4 prefix %s must be a /25 or larger", c.IPv4))
	}
	if !c.IPv6.Addr().Is6() || c.IPv6.Bits() > 64 {
		errs = append(errs, fmt.Errorf("the IPv6 prefix %s must be a /64 or larger", c.IPv6))
	}
	if c.CA == nil || c.Logger == nil {
		errs = append(errs, errors.New("a CA and a logger must be given"))
	}
	return errors.Join(errs...)
}

// Close ends all services and their connections and waits for them.
func (in *Internet) Close() error {
	var errs []error
	for _, s := range in.services {
		errs = append(errs, s.close())
	}
	errs = append(errs, in.running.Wait())
	return errors.Join(errs...)
}

// Addrs returns the addresses of a name, always the same ones: those of
// Config.Hosts, else one of 96 IPv4 addresses, so that names share addresses
// as they do on a content network, and an IPv6 address of its own. Case and a
// trailing dot do not matter.
func (in *Internet) Addrs(name string) []netip.Addr {
	name = canonical(name)
	if addrs, ok := in.cfg.Hosts[name]; ok {
		return addrs
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	sum := h.Sum64()
	v4 := in.cfg.IPv4.Masked().Addr().As4()
	v4[3] += byte(16 + sum%96)
	v6 := in.cfg.IPv6.Masked().Addr().As16()
	for i := range 8 {
		v6[8+i] = byte(sum >> (8 * i))
	}
	return []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
}

// canonical returns a name in lower case and without the trailing dot.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// dial connects to a host of the small Internet as its proxies do: by IPv4,
// without a query over the network.
func (in *Internet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dialing for a client: %w", err)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		host = in.Addrs(host)[0].String()
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort(host, port))
}

// listen opens a TCP port on the wildcard address of both families.
func listen(ctx context.Context, port int) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		return nil, fmt.Errorf("opening TCP port %d: %w", port, err)
	}
	return l, nil
}

// listenUDP opens a UDP port on the wildcard address of both families.
func listenUDP(ctx context.Context, port int) (net.PacketConn, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		return nil, fmt.Errorf("opening UDP port %d: %w", port, err)
	}
	return c, nil
}
