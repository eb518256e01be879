package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/why"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// Users that no real ones are.
const (
	anna = 61011
	ben  = 61012
)

// impostor is what this program is run with to answer in place of the agent.
const impostor = "impostor"

func beImpostor() int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	_, _ = fmt.Fprintln(os.Stdout, l.Addr())
	return map[bool]int{true: 0, false: 1}[http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"refusals":[{"id":"forged"}]}`))
	})) == nil]
}

// as returns a command that is this program as a user.
func as(t *testing.T, uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		const reason = "NOT TESTED: becoming another user needs root"
		if os.Getenv("CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	// The race detector would have every command end a second late.
	cmd.Dir, cmd.Env = "/", []string{"GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// runAs runs a command as a user.
func runAs(t *testing.T, uid uint32, args ...string) result {
	t.Helper()
	cmd := as(t, uid, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("running %q as user %d: %v, %v", args, uid, err, exit)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// newPage serves a why page with its appeals, as the agent does.
func newPage(t *testing.T) (*why.Server, *appeal.Appeals) {
	t.Helper()
	appeals := appeal.New(appeal.Config{
		File: filepath.Join(t.TempDir(), "appeals.json"), Device: "device", Settings: fleet.Defaults, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Record:   func(context.Context, event.Event) {},
		Changed:  func(context.Context, []bypass.Bypass) {},
		Send:     func(_ context.Context, r access.Request) (access.Request, error) { return r, nil },
		Answered: func(context.Context, access.Request, string) {},
	})
	peers, err := why.OpenPeers()
	if err != nil {
		t.Fatal(err)
	}
	server, err := why.Listen(t.Context(), why.Config{
		Listen: "127.0.0.1:0", Appeals: appeals, Settings: fleet.Defaults, UID: peers.UID, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, server.Close(), peers.Close()); err != nil {
			t.Error(err)
		}
	})
	return server, appeals
}

func refuse(t *testing.T, appeals *appeal.Appeals, uid uint32, app, program string, action event.Action) (id string) {
	t.Helper()
	r, ok := appeals.Refused(event.Event{
		EventID: event.IDBlocked, Action: action, AppID: strings.ToLower(app), AppName: app, IndicatorID: "tunes:init.tunes.example",
		Destination: event.Destination{Host: "init." + strings.ToLower(app) + ".example", IP: netip.MustParseAddr("192.0.2.7"), Port: 443},
		Process:     event.Process{Path: program}, User: event.User{UID: &uid},
	})
	if !ok {
		t.Fatal("the refusal was not taken")
	}
	return r.ID
}

func TestAUserWithoutADesktopLearnsWhyAndGoesOn(t *testing.T) {
	page, appeals := newPage(t)
	listen := page.Address().String()
	blocked := refuse(t, appeals, anna, "Tunes", "/home/anna/\x1b[2Jcurl", event.ActionBlocked)
	warned := refuse(t, appeals, anna, "Box", "/usr/bin/wget", event.ActionWarned)
	refuse(t, appeals, ben, "Secret", "/usr/bin/ssh", event.ActionBlocked)

	list := runAs(t, anna, "why", "--why-listen", listen)
	lines := strings.Split(strings.TrimSpace(list.stdout), "\n")
	if list.code != ExitDone || len(lines) != 3 {
		t.Fatalf("got %+v, want a heading and two refusals", list)
	}
	for i, want := range []string{"TIME", "warned /usr/bin/wget Box init.box.example " + page.URL(warned), "refused /home/anna/?[2Jcurl Tunes init.tunes.example " + page.URL(blocked)} {
		if line := strings.Join(strings.Fields(lines[i]), " "); !strings.Contains(line, want) {
			t.Errorf("line %d is %q, want %q in it", i, line, want)
		}
	}
	for name, uid := range map[string]uint32{"root": 0, "a user who was refused nothing": ben + 1} {
		if got := runAs(t, uid, "why", "--why-listen", listen); got.code != ExitDone || got.stdout != "" || !strings.Contains(got.stderr, "refused nothing") {
			t.Errorf("%s got %+v", name, got)
		}
	}

	got := runAs(t, anna, "why", page.URL(warned), "--continue", "--reason", "the customer", "--why-listen", listen)
	if got.code != ExitDone || !strings.Contains(got.stdout, "warned, continued until ") {
		t.Errorf("continuing got %+v", got)
	}
	if all := appeals.Bypasses(); len(all) != 1 || all[0].UID != anna || all[0].Reason != "the customer" {
		t.Errorf("the bypasses are %+v", all)
	}
	got = runAs(t, anna, "why", blocked, "--request", "--output", "json", "--why-listen", listen)
	var doc struct {
		Schema   int           `json:"schema"`
		Refusals []why.Refusal `json:"refusals"`
	}
	if err := json.Unmarshal([]byte(got.stdout), &doc); err != nil || doc.Schema != 1 || len(doc.Refusals) != 1 || doc.Refusals[0].Request != access.StatePending || doc.Refusals[0].CanRequest {
		t.Errorf("requesting got %+v (%v)", got, err)
	}
	for _, test := range []struct {
		name string
		uid  uint32
		args []string
		code int
		says string
	}{
		{"another user's", ben, []string{warned, "--continue"}, ExitFailed, "refused nothing with the id"},
		{"a user's by root", 0, []string{warned, "--continue"}, ExitFailed, "refused nothing with the id"},
		{"what is blocked", anna, []string{blocked, "--continue"}, ExitFailed, "nobody may go on"},
		{"one that is not there", anna, []string{"aaaa"}, ExitFailed, "hint: see what there is"},
	} {
		if got = runAs(t, test.uid, append([]string{"why", "--why-listen", listen}, test.args...)...); got.code != test.code || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%s: got %+v, want code %d and %q", test.name, got, test.code, test.says)
		}
	}
}

func TestAnotherUsersProgramIsNotTakenForTheAgent(t *testing.T) {
	cmd := as(t, ben, impostor)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	listen, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	listen = strings.TrimSpace(listen)
	if got := runAs(t, anna, "why", "--why-listen", listen); got.code != ExitUnreachable || strings.Contains(got.stdout, "forged") {
		t.Errorf("got %+v", got)
	}
	// Their own is theirs to believe.
	if got := runAs(t, ben, "why", "--output", "json", "--why-listen", listen); got.code != ExitDone || !strings.Contains(got.stdout, "forged") {
		t.Errorf("got %+v", got)
	}
}

func TestWhatIsWrongWithWhy(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"both", []string{"x", "--continue", "--request"}, ExitUsage, "give one of them"},
		{"no id", []string{"--continue"}, ExitUsage, "ID is missing"},
		{"a reason for nothing", []string{"x", "--reason", "y"}, ExitUsage, "--reason needs --continue or --request"},
		{"two ids", []string{"x", "y"}, ExitUsage, `too many: "y"`},
		{"an address elsewhere", []string{"--why-listen", "192.0.2.1:80"}, ExitUsage, "not an address on 127.0.0.1"},
		{"nobody there", []string{"--why-listen", "127.0.0.1:1"}, ExitUnreachable, "no agent answers on 127.0.0.1:1"},
	} {
		if got := run(t, append([]string{"why"}, test.args...)...); got.code != test.code || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%s: got %+v, want code %d and %q", test.name, got, test.code, test.says)
		}
	}
}
