package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"interdict/internal/bundle"
	"interdict/internal/cli"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/server/servertest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"interdict": interdict})
}

// interdict is the program as its main is, without the server.
func interdict() {
	dir, _ := os.UserConfigDir()
	code := cli.Run(context.Background(), cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, ConfigDir: dir,
	}, os.Args[1:])
	os.Exit(code) //nolint:revive // deep-exit: it stands in for a main
}

// TestScripts plays sessions at a prompt, each with a server of its own. The
// scripts have, besides the usual commands:
//
//	exits CODE COMMAND...        runs a command that ends with this exit code
//	eventually TEXT COMMAND...   runs a command until it prints a text
//	agent start NAME TOKENFILE   enrols a device and keeps it connected
//	agent stop NAME              disconnects it
//	agent mode NAME MODE         waits until it has been told this mode
//	agent blocked NAME APP HOST  reports that a connection was refused
//	agent bypassed NAME USER APP reports that a user goes on after a warning
//	agent used NAME USER HOST    reports that a user connected to a host
//	agent asks NAME USER APP     asks for access; the request's id is in $REQUEST
//	agent told NAME STATE        wants $REQUEST to be in a state for the device
//	anonymous                    takes the login away
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			s := servertest.Start(t)
			all := &agents{server: s, running: map[string]*running{}}
			env.Values[agentsKey{}] = all
			env.Defer(func() { all.stopAll() })
			env.Setenv("DATA", s.Dir)
			env.Setenv("SERVER", s.LocalURL())
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":      exits,
			"eventually": eventually,
			"agent":      agentCmd,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) { //nolint:revive // flag-parameter: testscript wants it
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("got exit code %d, want %s", got, args[0])
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) { //nolint:revive // flag-parameter: testscript wants it
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually TEXT COMMAND...")
	}
	deadline, tick := time.After(10*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%q was not printed in time", args[0])
		}
	}
}

type agentsKey struct{}

// agents are the devices of one script.
type agents struct {
	server  *servertest.Server
	running map[string]*running
}

type running struct {
	agent *servertest.Agent
	stop  context.CancelFunc
	done  chan error

	mu      sync.Mutex // guards the following
	mode    string
	changed chan struct{}
}

func agentCmd(ts *testscript.TestScript, neg bool, args []string) { //nolint:revive // flag-parameter: testscript wants it
	all, ok := ts.Value(agentsKey{}).(*agents)
	if !ok || neg || len(args) < 2 {
		ts.Fatalf("usage: agent start|stop|mode|blocked NAME ...")
	}
	var err error
	switch args[0] {
	case "start":
		err = all.start(args[1], ts.ReadFile(args[2]))
	case "stop":
		err = all.running[args[1]].end()
	case "mode":
		err = all.running[args[1]].waitMode(args[2])
	case "blocked":
		err = all.running[args[1]].blocked(args[2], args[3])
	default:
		err = all.running[args[1]].appeal(ts, args[0], args[2:])
	}
	ts.Check(err)
}

func (f *agents) start(name, token string) error {
	ctx, stop := context.WithCancel(context.Background())
	a, err := servertest.Enroll(ctx, token, name)
	if err != nil {
		stop()
		return err
	}
	r := &running{agent: a, stop: stop, done: make(chan error, 1), changed: make(chan struct{})}
	a.Judge = func(q bundle.Question) bundle.Answer { return judge(a, q) }
	f.running[name] = r
	go func() {
		r.done <- a.Run(ctx, func(bundle.Header, bundle.Set) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.mode = string(a.Mode())
			close(r.changed)
			r.changed = make(chan struct{})
		})
	}()
	return nil
}

// judge is what an agent would say that does enforce what it has.
func judge(a *servertest.Agent, q bundle.Question) bundle.Answer {
	answer := bundle.Answer{Version: a.Have.Version, Enforcing: true, Listening: true, Mode: a.Mode(), Step: "none"}
	if answer.Mode == fleet.ModeDisabled {
		answer.Step = "disabled"
		return answer
	}
	for _, r := range a.Have.Set.All() {
		if r.Err == nil && r.Kind == bundle.KindIndicator && strings.HasSuffix("."+q.Host, "."+r.Indicator.Value) {
			answer.Action, answer.IndicatorID, answer.Indicator, answer.Step = indicator.ActionBlock, r.Key, r.Indicator.Value, "domain"
		}
	}
	if answer.Action != "" && answer.Mode == fleet.ModeAudit {
		answer.Action = indicator.ActionAudit
	}
	return answer
}

func (r *running) end() error {
	r.stop()
	err := <-r.done
	r.done <- nil
	r.agent.Close()
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("the agent ended with %w", err)
	}
	return nil
}

func (f *agents) stopAll() {
	for _, r := range f.running {
		_ = r.end()
	}
}

func (r *running) waitMode(want string) error {
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		got, changed := r.mode, r.changed
		r.mu.Unlock()
		if got == want {
			return nil
		}
		select {
		case <-changed:
		case <-deadline:
			return fmt.Errorf("the device was told the mode %q, want %q", got, want)
		}
	}
}

func (r *running) blocked(app, host string) error {
	now := time.Now().UTC()
	_, err := r.agent.Send(context.Background(), ulid.Make().String(), event.Event{
		ID: ulid.Make().String(), Time: now, EventID: event.IDBlocked, Action: event.ActionBlocked,
		AppID: app, AppName: strings.ToUpper(app[:1]) + app[1:], IndicatorID: app + ":" + host, Severity: "medium",
		Destination: event.Destination{Host: host, Port: 443, Protocol: "tcp"}, Evidence: event.EvidenceTLSSNI,
		Process: event.Process{PID: 42, Path: "/usr/bin/curl"}, User: event.User{Name: "alice"},
		Count: 1, FirstSeen: now, LastSeen: now, Alert: true,
	})
	return err
}
