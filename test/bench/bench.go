package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/lab"
	"interdict/internal/lab/site"
)

// The size of what is measured.
const (
	indicators = 100_000
	rounds     = 11
	connects   = 300
	lookUps    = 500
	megabytes  = 256
	idleFor    = 20 * time.Second
)

// bench holds a lab with a server, a guarded host and a bare one.
type bench struct {
	lab  *lab.Lab
	site *site.Site
	self string
	out  io.Writer
}

// measure prints the table, row by row as the figures come.
func (b *bench) measure(ctx context.Context) error {
	fmt.Fprintf(b.out, "| what | budget | measured | |\n|---|---|---|---|\n")
	// The fleet first, while a bundle is small: a thousand simulated devices
	// keep theirs in one memory. The idle agent before the network, whose
	// connections it is told the end of for minutes.
	for _, part := range []func(context.Context) error{b.start, b.fleets, b.prepare, b.footprint, b.network} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// outcome says whether a budget was kept.
type outcome string

func atMost(figure, budget float64) outcome {
	if figure <= budget {
		return "kept"
	}
	return "missed"
}

func atLeast(figure, budget float64) outcome { return atMost(-figure, -budget) }

// row prints a figure with its budget and whether it was kept.
func (b *bench) row(what, budget, measured string, o outcome) {
	fmt.Fprintf(b.out, "| %s | %s | %s | %s |\n", what, budget, measured, o)
}

func (b *bench) start(ctx context.Context) error { return b.site.StartServer(ctx) }

// prepare has the agent of the guarded host enforce the indicators in block
// mode.
func (b *bench) prepare(ctx context.Context) error {
	file := filepath.Join(b.lab.Dir, "indicators.csv")
	if err := writeIndicators(file); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"indicator", "import", file},
		{"policy", "create", "all", "--network-protection", "block"},
		{"policy", "assign", "all", "--all-devices"},
	} {
		if _, err := b.site.Admin(ctx, args...); err != nil {
			return err
		}
	}
	if err := b.site.Enroll(ctx, hostGuarded); err != nil {
		return err
	}
	if err := b.site.StartAgent(ctx, hostGuarded); err != nil {
		return err
	}
	_, err := b.site.Agent(ctx, hostGuarded, "sync")
	return err
}

func writeIndicators(file string) error {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	// Writing to memory cannot fail; Flush's error would be in Error.
	_ = w.Write([]string{"type", "value", "action"})
	for i := range indicators {
		_ = w.Write([]string{"domain", fmt.Sprintf("n%d.blocked-%d.example.org", i, i%997), "block"})
	}
	w.Flush()
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing the indicators: %w", err)
	}
	return nil
}

// client runs a measurement on a host and returns its number.
func (b *bench) client(ctx context.Context, host string, args ...string) (float64, error) {
	cmd := b.lab.Command(ctx, host, b.self, append([]string{"client"}, args...)...)
	return number(cmd)
}

func number(cmd *exec.Cmd) (float64, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("measuring: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		return 0, fmt.Errorf("reading a measurement: %w", err)
	}
	return n, nil
}

// pair is one figure taken on the bare host and on the guarded one.
type pair struct{ bare, guarded float64 }

// pairs measures in turn, the order swapped every round so that drift of the
// machine falls on both.
func (b *bench) pairs(ctx context.Context, args ...string) ([]pair, error) {
	all := make([]pair, rounds)
	for i := range all {
		targets := []struct {
			host   string
			figure *float64
		}{{hostBare, &all[i].bare}, {hostGuarded, &all[i].guarded}}
		if i%2 == 1 {
			slices.Reverse(targets)
		}
		for _, t := range targets {
			n, err := b.client(ctx, t.host, args...)
			if err != nil {
				return nil, err
			}
			*t.figure = n
		}
	}
	return all, nil
}

// middle returns the median of a figure of the pairs.
func middle(all []pair, figure func(pair) float64) float64 {
	values := make([]float64, len(all))
	for i, p := range all {
		values[i] = figure(p)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// network compares the guarded host with the bare one.
func (b *bench) network(ctx context.Context) error {
	ratio := func(p pair) float64 { return p.guarded / p.bare }
	ca := b.lab.CAFile()

	c, err := b.pairs(ctx, "connect", ca, "www.example.com", strconv.Itoa(connects))
	if err != nil {
		return err
	}
	r := middle(c, ratio)
	b.row("new TLS connection, p50, 100,000 indicators, agent / no agent", "at most 1.03",
		fmt.Sprintf("%.3f (%.0f us / %.0f us)", r, middle(c, guarded)/1e3, middle(c, bare)/1e3), atMost(r, 1.03))

	d, err := b.pairs(ctx, "download", ca, "www.example.com", strconv.Itoa(megabytes<<20))
	if err != nil {
		return err
	}
	r = middle(d, ratio)
	b.row("bulk throughput of a decided flow, agent / no agent", "at least 0.99",
		fmt.Sprintf("%.3f (%.0f MB/s / %.0f MB/s)", r, middle(d, guarded)/1e6, middle(d, bare)/1e6), atLeast(r, 0.99))

	q, err := b.pairs(ctx, "dns", "/etc/resolv.conf", "example.com", strconv.Itoa(lookUps))
	if err != nil {
		return err
	}
	added := middle(q, func(p pair) float64 { return p.guarded - p.bare }) / 1e3
	b.row("DNS look-up, p50, added", "at most 60 us",
		fmt.Sprintf("%.0f us (%.0f us / %.0f us)", added, middle(q, guarded)/1e3, middle(q, bare)/1e3), atMost(added, 60))
	return nil
}

func bare(p pair) float64    { return p.bare }
func guarded(p pair) float64 { return p.guarded }
