package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/bundle"
	"interdict/test/load"
)

// tags is how often a fleet is measured.
const tags = 9

// fleets measures the time from a tag to "applied" on fleets of two sizes.
func (b *bench) fleets(ctx context.Context) error {
	for _, n := range []int{1, 1000} {
		token, err := b.site.Admin(ctx, "token", "create", "--uses", strconv.Itoa(n))
		if err != nil {
			return err
		}
		dir := filepath.Join(b.lab.Dir, fmt.Sprintf("fleet-%d", n))
		cmd := b.lab.Command(ctx, hostFleet, b.self, "client", "fleet", strings.TrimSpace(token), dir, strconv.Itoa(n))
		cmd.Env = append(os.Environ(), "INTERDICT_TOKEN="+b.site.Token(), "INTERDICT_CA="+filepath.Join(b.site.DataDir(), "ca.pem"))
		p99, err := number(cmd)
		if err != nil {
			return err
		}
		b.row(fmt.Sprintf("tag set to applied on %d simulated agents, p99", n), "under 1 s (10,000 agents)",
			fmt.Sprintf("%.0f ms", p99/1e6), atMost(p99, 1e9))
	}
	return nil
}

// fleetMain simulates n devices, tags an app a few times and returns the
// median over the tags of the 99th percentile over the devices, in
// nanoseconds.
func fleetMain(ctx context.Context, token, dir string, n int) (float64, error) {
	t, err := bundle.ParseToken(token)
	if err != nil {
		return 0, err
	}
	var seen load.Latencies
	f, err := load.Start(ctx, load.Config{Token: t, Devices: n, Dir: dir, Applied: seen.Applied})
	if err != nil {
		return 0, err
	}
	defer f.Shutdown()
	admin, err := newAdmin(t.URL)
	if err != nil {
		return 0, err
	}
	all := make([]time.Duration, tags)
	for i := range all {
		tag := []string{"unsanctioned", "none"}[i%2]
		start := time.Now()
		version, err := admin.tag(ctx, "dropbox", tag)
		if err != nil {
			return 0, err
		}
		took, err := await(ctx, &seen, start, version, n)
		if err != nil {
			return 0, err
		}
		all[i] = took[len(took)*99/100]
	}
	if _, err := admin.tag(ctx, "dropbox", "none"); err != nil {
		return 0, err
	}
	slices.Sort(all)
	return float64(all[len(all)/2]), nil
}

// await returns the devices' times, sorted, once all have applied a version.
func await(ctx context.Context, seen *load.Latencies, start time.Time, version uint64, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if took := seen.Since(start, version); len(took) == n {
			slices.Sort(took)
			return took, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for version %d on %d devices, it is on %d: %w", version, n, len(seen.Since(start, version)), ctx.Err())
		case <-tick.C:
		}
	}
}

// admin is as much of the admin API as the measurement needs.
type admin struct {
	client http.Client
	url    string
	token  string
}

func newAdmin(url string) (*admin, error) {
	pem, err := os.ReadFile(os.Getenv("INTERDICT_CA"))
	if err != nil {
		return nil, fmt.Errorf("reading the server's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("reading the server's CA: there is no certificate in it")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	return &admin{client: http.Client{Transport: transport}, url: url, token: os.Getenv("INTERDICT_TOKEN")}, nil
}

// tag tags an app and returns the revision that has it.
func (a *admin) tag(ctx context.Context, app, tag string) (uint64, error) {
	body, err := json.Marshal(map[string]any{"apps": []string{app}, "tag": tag})
	if err != nil {
		return 0, fmt.Errorf("tagging %s: %w", app, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, a.url+"/api/v1/app-tags", bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("tagging %s: %w", app, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("tagging %s: %w", app, err)
	}
	defer resp.Body.Close()
	var change struct {
		Revision uint64 `json:"revision"`
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("tagging %s: the server answers %s", app, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&change); err != nil {
		return 0, fmt.Errorf("tagging %s: %w", app, err)
	}
	return change.Revision, nil
}
