package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// clientMain is what runs on a host of the lab: it does one thing many times
// and prints one number.
//
//	connect FILE NAME N    median time of a new TLS connection, in nanoseconds
//	download FILE NAME N   bytes a second of one download of N bytes
//	dns FILE NAME N        median time of a look-up, in nanoseconds
//	fleet TOKEN DIR N      see fleetMain, in nanoseconds
func clientMain(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: connect|download FILE NAME N, dns FILE NAME N, fleet TOKEN DIR N")
	}
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return fmt.Errorf("reading %q: %w", args[3], err)
	}
	var figure float64
	switch args[0] {
	case "connect":
		figure, err = connect(ctx, args[1], args[2], n)
	case "download":
		figure, err = download(ctx, args[1], args[2], n)
	case "dns":
		figure, err = lookUp(ctx, args[1], args[2], n)
	case "fleet":
		figure, err = fleetMain(ctx, args[1], args[2], n)
	default:
		err = fmt.Errorf("there is no measurement %q", args[0])
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%.0f\n", figure)
	return err
}

func trust(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the lab's CA: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// connect measures TCP and TLS handshake of n new connections.
func connect(ctx context.Context, ca, name string, n int) (float64, error) {
	cfg, err := trust(ca)
	if err != nil {
		return 0, err
	}
	cfg.ServerName = name
	addr, err := addressOf(ctx, name)
	if err != nil {
		return 0, err
	}
	return median(n, func() error {
		c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", net.JoinHostPort(addr, "443"))
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", name, err)
		}
		return c.Close()
	})
}

func addressOf(ctx context.Context, name string) (string, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return "", fmt.Errorf("resolving %s: %w", name, err)
	}
	return addrs[0].String(), nil
}

func download(ctx context.Context, ca, name string, bytes int) (float64, error) {
	cfg, err := trust(ca)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
	defer client.CloseIdleConnections()
	url := fmt.Sprintf("https://%s/big?bytes=%d", name, bytes)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, fmt.Errorf("making a request for %s: %w", url, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("downloading: %w", err)
	}
	defer resp.Body.Close()
	// The clock starts with the first byte: this measures a decided flow.
	start := time.Now()
	got, err := io.Copy(io.Discard, resp.Body)
	if err != nil || got != int64(bytes) {
		return 0, fmt.Errorf("downloading: got %d of %d bytes: %w", got, bytes, err)
	}
	return float64(got) / time.Since(start).Seconds(), nil
}

// lookUp asks the resolver that a file like /etc/resolv.conf names.
func lookUp(ctx context.Context, file, name string, n int) (float64, error) {
	conf, err := dns.ClientConfigFromFile(file)
	if err != nil || len(conf.Servers) == 0 {
		return 0, fmt.Errorf("reading the resolver's address from %s: %w", file, err)
	}
	server := net.JoinHostPort(conf.Servers[0], conf.Port)
	c := &dns.Client{Timeout: 2 * time.Second}
	i := 0
	return median(n, func() error {
		i++
		q := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.%s.", i, name), dns.TypeA)
		if _, _, err := c.ExchangeContext(ctx, q, server); err != nil {
			return fmt.Errorf("looking up a name: %w", err)
		}
		return nil
	})
}

// median runs do n times, after some rounds to warm up, and returns the
// median duration in nanoseconds.
func median(n int, do func() error) (float64, error) {
	for range 10 {
		if err := do(); err != nil {
			return 0, err
		}
	}
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return float64(took[n/2].Nanoseconds()), nil
}
