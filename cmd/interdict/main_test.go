package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/event"
	"interdict/internal/server/servertest"
)

// asProgram makes the test's own binary behave as the program.
const asProgram = "INTERDICT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	servertest.Main(m.Run)
}

// program returns the program with arguments, not started.
func program(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, "config"))
	return cmd
}

// startServer starts a server as a process of its own and returns when it is
// ready.
func startServer(t *testing.T, dir, listen string) *exec.Cmd {
	t.Helper()
	cmd := program(t, dir, "server", "--data-dir", dir, "--listen", listen)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ready := make(chan bool, 1)
	go func() {
		sc := bufio.NewScanner(stderr)
		for sc.Scan() {
			if strings.Contains(sc.Text(), "server is ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			t.Fatal("the server ended before it was ready")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the server was not ready within 20 s")
	}
	return cmd
}

// run runs a command to its end.
func run(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := program(t, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func mustRun(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, errs, code := run(t, dir, args...)
	if code != 0 {
		t.Fatalf("interdict %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// address returns where the server in dir is, or was.
func address(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "url"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestAServerThatIsKilledKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	killed := startServer(t, dir, "127.0.0.1:0")
	mustRun(t, dir, "login", "--data-dir", dir)
	agent, err := servertest.Enroll(t.Context(), strings.TrimSpace(mustRun(t, dir, "token", "create")), "alice-pc")
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	var batch []event.Event
	for range 50 {
		now := time.Now().UTC()
		batch = append(batch, event.Event{
			ID: ulid.Make().String(), Time: now, EventID: event.IDBlocked, Action: event.ActionBlocked, AppID: "itunes",
			Count: 1, FirstSeen: now, LastSeen: now, Alert: true,
		})
	}
	key := ulid.Make().String()
	if _, err := agent.Send(t.Context(), key, batch...); err != nil {
		t.Fatal(err)
	}
	mustRun(t, dir, "app", "tag", "itunes", "unsanctioned")
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()

	_ = startServer(t, dir, strings.TrimPrefix(address(t, dir), "https://"))
	// The agent did not get the receipt, and sends the batch again.
	if _, err := agent.Send(t.Context(), key, batch...); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, dir, "app", "list", "--tag", "unsanctioned", "--output", "csv"); !strings.Contains(out, "itunes") {
		t.Errorf("got %q, want the tag to be there", out)
	}
	if out := mustRun(t, dir, "device", "list", "--output", "csv"); !strings.Contains(out, "alice-pc") {
		t.Errorf("got %q, want the device to be there", out)
	}
	var events struct{ Items []event.Event }
	if err := json.Unmarshal([]byte(mustRun(t, dir, "event", "query", "app=itunes", "--output", "json")), &events); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range events.Items {
		seen[e.ID] = true
	}
	if len(events.Items) != len(batch) || len(seen) != len(batch) {
		t.Errorf("got %d events with %d ids, want %d each", len(events.Items), len(seen), len(batch))
	}
}

func TestAServerEndsWhenItIsTerminated(t *testing.T) {
	dir := t.TempDir()
	server := startServer(t, dir, "127.0.0.1:0")
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0", err)
	}
	if _, _, code := run(t, dir, "--server", address(t, dir), "--token", "x", "app", "list"); code != 3 {
		t.Errorf("got exit code %d of a command afterwards, want 3 for a server that does not answer", code)
	}
}

func TestWrongUsageOfTheServer(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no data directory", []string{"server"}, 2, "interdict: the server takes --data-dir DIR"},
		{"an argument", []string{"server", "--data-dir", "x", "y"}, 2, "interdict: the server takes --data-dir DIR"},
		{"an argument of the demo", []string{"demo", "y"}, 2, `interdict: the demo takes no arguments: "y"`},
		{"an unknown level", []string{"server", "--data-dir", "x", "--log-level", "loud"}, 2, `interdict: --log-level "loud" is not known`},
		{"an address that is none", []string{"server", "--data-dir", t.TempDir(), "--listen", "nonsense"}, 2, `interdict: the address to listen on, "nonsense", is not`},
		{"a URL that is none", []string{"server", "--data-dir", t.TempDir(), "--url", "foo"}, 2, `interdict: the server's URL "foo" is not`},
		{"a database that is none", []string{"server", "--data-dir", t.TempDir(), "--database-url", "bogus"}, 2, "interdict: the database's URL does not begin with postgres://"},
		{"a database that is away", []string{"server", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--database-url", "postgres://x@127.0.0.1:1/x"}, 3, "interdict: starting the store: connecting to PostgreSQL: "},
		{"the port of another server", []string{"server", "--data-dir", t.TempDir(), "--listen", taken.Addr().String()}, 1, "interdict: starting the listener: 127.0.0.1:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs, code := run(t, t.TempDir(), tc.args...)
			if code != tc.code || !strings.HasPrefix(errs, tc.want) || strings.Contains(errs, `\n`) {
				t.Errorf("got exit code %d: %s; want %d: %s", code, errs, tc.code, tc.want)
			}
		})
	}
}
