package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab"
	"interdict/internal/lab/labtest"
	"interdict/internal/lab/site"
)

const (
	hostServer  = "hq"
	hostInside  = "anna"
	hostOutside = "ben"
	policy      = "standard"
	group       = "managed"
	app         = "itunes"
	// The users: alice is in the group finance.
	alice        = "alice"
	bob          = "bob"
	usersFinance = "finance"
)

// patience bounds what must happen within a second or so.
const patience = 15 * time.Second

// fixture is the installation that all tests share.
type fixture struct {
	lab  *lab.Lab
	site *site.Site
	// requests are those that the lab's web servers got.
	requests *requests
}

// shared is the fixture once a test has asked for it.
var shared = struct {
	once sync.Once
	f    *fixture
	err  error
}{}

// install returns the installation with both agents running, network
// protection in audit mode and no app tagged. What a test tags or adds, it
// takes back at its end.
func install(t *testing.T) *fixture {
	t.Helper()
	labtest.Require(t)
	shared.once.Do(func() { shared.f, shared.err = newFixture(context.Background()) })
	if shared.err != nil {
		t.Fatalf("installing: %v", shared.err)
	}
	f := shared.f
	f.mode(t, fleet.ModeAudit)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("server:\n%s\nagent:\n%s", f.site.ServerLog(), f.site.AgentLog(hostInside))
		}
	})
	return f
}

func newFixture(ctx context.Context) (*fixture, error) {
	asked := newRequests()
	l, err := lab.New(ctx, lab.Config{
		Hosts:  []string{hostServer, hostInside, hostOutside, hostEast, hostWest, hostCarl},
		Users:  []lab.User{{Name: alice, UID: 2001, Groups: []string{usersFinance}}, {Name: bob, UID: 2002}},
		Logger: slog.New(asked),
	})
	if err != nil {
		return nil, err
	}
	programs := site.New(site.Config{Lab: l, Programs: os.Getenv(envPrograms), ServerHost: hostServer})
	f := &fixture{lab: l, site: programs, requests: asked}
	if err := f.site.StartServer(ctx); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"group", "create", group, "--rule", `labels.group == "` + group + `"`},
		{"policy", "create", policy, "--network-protection", "audit"},
		{"policy", "assign", policy, "--include-group", group},
	} {
		if _, err := f.site.Admin(ctx, args...); err != nil {
			return nil, err
		}
	}
	for host, label := range map[string]string{hostInside: "group=" + group, hostOutside: "group=none"} {
		if err := errors.Join(f.site.Enroll(ctx, host, label), f.site.StartAgent(ctx, host)); err != nil {
			return nil, err
		}
	}
	return f, f.waitOnline(ctx, 2)
}

func closeFixture() {
	if shared.f == nil {
		return
	}
	if err := errors.Join(shared.f.site.Close(), shared.f.lab.Close()); err != nil {
		fmt.Fprintln(os.Stderr, "taking the installation down:", err)
	}
}

// waitOnline waits until so many devices are online and up to date.
func (f *fixture) waitOnline(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return site.Until(ctx, func(ctx context.Context) error {
		var devices []fleet.Device
		if err := f.site.AdminList(ctx, &devices, "device", "list"); err != nil {
			return err
		}
		ready := 0
		for _, d := range devices {
			if d.Online && d.Applied.Digest == d.Desired {
				ready++
			}
		}
		if ready != want {
			return fmt.Errorf("%d of %d devices are online and up to date: %+v", ready, want, devices)
		}
		return nil
	})
}

// admin runs an administrator's command that has to succeed.
func (f *fixture) admin(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.site.Admin(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mode sets the network protection mode of anna.
func (f *fixture) mode(t *testing.T, m fleet.Mode) {
	t.Helper()
	f.admin(t, "policy", "set", policy, "--network-protection", string(m), "--wait")
}

// settings makes settings of anna's policy, as flags of "policy set", until the
// test ends.
func (f *fixture) settings(t *testing.T, flags ...string) {
	t.Helper()
	f.admin(t, append([]string{"policy", "set", policy, "--wait"}, flags...)...)
	unset := []string{"policy", "set", policy, "--wait"}
	for _, flag := range flags {
		if name, ok := strings.CutPrefix(flag, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			unset = append(unset, "--unset", name)
		}
	}
	t.Cleanup(func() {
		if _, err := f.site.Admin(context.Background(), unset...); err != nil {
			t.Error(err)
		}
	})
}

// tag tags an app until the test ends, within the scope that flags of "app
// tag" say.
func (f *fixture) tag(t *testing.T, id, tag string, scope ...string) {
	t.Helper()
	f.admin(t, append([]string{"app", "tag", id, tag, "--wait"}, scope...)...)
	t.Cleanup(func() {
		if _, err := f.site.Admin(context.Background(), "app", "tag", id, "none", "--wait"); err != nil {
			t.Error(err)
		}
	})
}

// result is what a program did.
type result struct {
	out  string
	err  error
	took time.Duration
}

// run runs a program on a host to its end.
func (f *fixture) run(t *testing.T, host, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	return finish(f.lab.Command(ctx, host, program, args...))
}

func finish(cmd *exec.Cmd) result {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	return result{out: strings.TrimSpace(out.String()), err: err, took: time.Since(start)}
}

// curl runs curl on a host.
func (f *fixture) curl(t *testing.T, host string, args ...string) result {
	t.Helper()
	return f.run(t, host, "curl", f.curlArgs(args...)...)
}

func (f *fixture) curlArgs(args ...string) []string {
	return append([]string{"-sS", "--max-time", "10", "--cacert", f.lab.CAFile()}, args...)
}

// curlAs runs curl on anna as a user.
func (f *fixture) curlAs(t *testing.T, user string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	return finish(f.lab.CommandAs(ctx, hostInside, user, "curl", f.curlArgs(args...)...))
}

// until waits until something holds.
func until(t *testing.T, what string, holds func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := site.Until(ctx, holds); err != nil {
		t.Fatalf("never: %s: %v", what, err)
	}
}

// peer prepares this program to run as a peer on a host.
func (f *fixture) peer(ctx context.Context, host, name string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := f.lab.Command(ctx, host, self, append([]string{f.lab.CAFile()}, args...)...)
	cmd.Env = append(os.Environ(), envPeer+"="+name)
	return cmd
}

// works fails the test unless a page was got.
func works(t *testing.T, what string, r result) {
	t.Helper()
	if r.err != nil {
		t.Errorf("%s: %v: %s", what, r.err, r.out)
	}
}

// noAnswer is a time in which even a busy machine refuses, and after which a
// program has been left waiting: the peers themselves give up after ten
// seconds.
const noAnswer = 5 * time.Second

// refused fails the test if a page was got, or if nobody said no.
func refused(t *testing.T, what string, r result) {
	t.Helper()
	if r.err == nil {
		t.Errorf("%s should be refused and got %q", what, r.out)
	}
	if r.took > noAnswer {
		t.Errorf("%s was left waiting for %s instead of being refused", what, r.took)
	}
	t.Logf("%s: %s, after %s", what, firstLine(r.out), r.took.Round(time.Millisecond))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// waitEvent waits for an event about a host name in anna's local log, that is
// not about a connection which was open already.
func (f *fixture) waitEvent(t *testing.T, id event.ID, host string) event.Event {
	t.Helper()
	e, err := f.findEvent(t.Context(), id, host)
	if err != nil {
		t.Errorf("event %d for %s: %v", id, host, err)
	}
	return e
}

func (f *fixture) findEvent(ctx context.Context, id event.ID, host string) (event.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == id && e.Destination.Host == host && !e.Cut
	})
}

// events returns the events of a host about names that contain a text.
func (f *fixture) events(t *testing.T, host, about string) []event.Event {
	t.Helper()
	all, err := f.site.Events(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e event.Event) bool {
		return e.Destination.Host == "" || !strings.Contains(e.Destination.Host, about)
	})
}
