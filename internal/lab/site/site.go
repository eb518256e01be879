// Package site runs Interdict's own programs in a lab, as they run in the
// field: one server process, an agent process on each endpoint, and the
// commands of both. It knows them by their command lines only.
package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"interdict/internal/event"
	"interdict/internal/lab"
)

const (
	// serverPort is where the server listens on its host.
	serverPort = 8443
	// poll is how often a state is looked at that cannot be waited for.
	poll = 20 * time.Millisecond
	// startPatience is how long a program may take to start.
	startPatience = 30 * time.Second
)

// Config says where to run what. All fields but Name are required.
type Config struct {
	Lab *lab.Lab
	// Name keeps the files of several sites in one lab apart: it is that of a
	// directory in the lab's.
	Name string
	// Programs is the directory with interdict and interdict-agent.
	Programs string
	// ServerHost is the host of the lab that the server runs on.
	ServerHost string
}

// Site is a server and its agents. Its methods are for one goroutine, except
// that processes it started go on by themselves.
type Site struct {
	cfg    Config
	token  string
	server *process
	agents map[string]*process // by host
}

// New returns a site on which nothing runs yet.
func New(cfg Config) *Site {
	return &Site{cfg: cfg, agents: make(map[string]*process)}
}

// Close ends all programs in good order, agents first.
func (s *Site) Close() error {
	var errs []error
	for _, p := range s.agents {
		errs = append(errs, p.stop())
	}
	if s.server != nil {
		errs = append(errs, s.server.stop())
	}
	return errors.Join(errs...)
}

// ServerAddr is the address and port that the server listens on.
func (s *Site) ServerAddr() netip.AddrPort {
	return netip.AddrPortFrom(s.cfg.Lab.Host(s.cfg.ServerHost).IPv4, serverPort)
}

// ServerURL is where agents and administrators reach the server.
func (s *Site) ServerURL() string { return "https://" + s.ServerAddr().String() }

// Token is the administrator's token. It is empty before StartServer.
func (s *Site) Token() string { return s.token }

// dir has the files of this site.
func (s *Site) dir() string { return filepath.Join(s.cfg.Lab.Dir, s.cfg.Name) }

// StateDir is the state directory of a host's agent.
func (s *Site) StateDir(host string) string { return filepath.Join(s.dir(), "agent-"+host) }

// PolicyDir is where a host's drop-in files of policy are. It is made when the
// host's agent is first started.
func (s *Site) PolicyDir(host string) string { return filepath.Join(s.dir(), "policy-"+host) }

// DataDir is the server's data directory.
func (s *Site) DataDir() string { return filepath.Join(s.dir(), "server") }

func (s *Site) program(name string) string { return filepath.Join(s.cfg.Programs, name) }

// StartServer starts the server, again after KillServer, and waits until it
// answers an administrator. More arguments follow those of the site.
func (s *Site) StartServer(ctx context.Context, args ...string) error {
	all := append([]string{"server", "--data-dir", s.DataDir(), "--listen", s.ServerAddr().String()}, args...)
	cmd := s.cfg.Lab.Command(context.WithoutCancel(ctx), s.cfg.ServerHost, s.program("interdict"), all...)
	if err := os.MkdirAll(s.dir(), 0o755); err != nil { //nolint:gosec // like the lab's own directory
		return fmt.Errorf("making the directory of site %q: %w", s.cfg.Name, err)
	}
	p, err := startProcess("server", cmd, s.dir())
	if err != nil {
		return err
	}
	s.server = p
	return s.await(ctx, p, "the server to answer", func(ctx context.Context) error {
		token, err := os.ReadFile(filepath.Join(s.DataDir(), "admin-token"))
		if err != nil {
			return err
		}
		s.token = strings.TrimSpace(string(token))
		_, err = s.Admin(ctx, "feature", "list")
		return err
	})
}

// KillServer ends the server as a power cut does.
func (s *Site) KillServer() error { return s.server.kill() }

// StopServer ends the server as an administrator does.
func (s *Site) StopServer() error { return s.server.stop() }

// ServerLog returns the end of what the server printed.
func (s *Site) ServerLog() string { return s.server.tail() }

// Enroll makes a host a device, with labels of the form key=value.
func (s *Site) Enroll(ctx context.Context, host string, labels ...string) error {
	token, err := s.Admin(ctx, "token", "create", "--name", "for "+host)
	if err != nil {
		return err
	}
	args := []string{strings.TrimSpace(token), "--name", host}
	for _, l := range labels {
		args = append(args, "--label", l)
	}
	_, err = s.Agent(ctx, host, "enroll", args...)
	return err
}

// StartAgent starts the agent of a host and waits until it answers. Variables,
// as NAME=value, are added to its environment.
func (s *Site) StartAgent(ctx context.Context, host string, variables ...string) error {
	if err := os.MkdirAll(s.PolicyDir(host), 0o755); err != nil { //nolint:gosec // like /etc, which it stands for
		return fmt.Errorf("making the directory of drop-in files of %s: %w", host, err)
	}
	cmd := s.cfg.Lab.Command(context.WithoutCancel(ctx), host, s.program("interdict-agent"), "run",
		"--state-dir", s.StateDir(host), "--policy-dir", s.PolicyDir(host))
	cmd.Env = append(os.Environ(), variables...)
	p, err := startProcess("agent-"+host, cmd, s.dir())
	if err != nil {
		return err
	}
	s.agents[host] = p
	return s.await(ctx, p, "the agent of "+host+" to answer", func(ctx context.Context) error {
		_, err := s.Agent(ctx, host, "status")
		return err
	})
}

// KillAgent ends the agent of a host as a power cut does.
func (s *Site) KillAgent(host string) error { return s.agents[host].kill() }

// StopAgent ends the agent of a host as an administrator does.
func (s *Site) StopAgent(host string) error { return s.agents[host].stop() }

// AgentPID is the process id of the agent of a host.
func (s *Site) AgentPID(host string) int { return s.agents[host].cmd.Process.Pid }

// AgentLog returns the end of what the agent of a host printed.
func (s *Site) AgentLog(host string) string {
	if p := s.agents[host]; p != nil {
		return p.tail()
	}
	return ""
}

// Admin runs an administrator's command and returns what it prints.
func (s *Site) Admin(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.program("interdict"), args...) //nolint:gosec // our own program
	cmd.Env = append(os.Environ(), "INTERDICT_SERVER="+s.ServerURL(), "INTERDICT_TOKEN="+s.token, "XDG_CONFIG_HOME="+s.dir())
	return output(cmd, "interdict "+strings.Join(args, " "))
}

// AdminList runs an administrator's command that lists things and reads them
// into items, a pointer to a slice.
func (s *Site) AdminList(ctx context.Context, items any, args ...string) error {
	return s.AdminShow(ctx, &struct {
		Items any `json:"items"`
	}{items}, args...)
}

// AdminShow runs an administrator's command that shows one thing and reads it
// into v, a pointer.
func (s *Site) AdminShow(ctx context.Context, v any, args ...string) error {
	text, err := s.Admin(ctx, append(args, "--output", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("reading the output of interdict %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// Agent runs a command of the agent on a host and returns what it prints.
func (s *Site) Agent(ctx context.Context, host, command string, args ...string) (string, error) {
	all := append([]string{command, "--state-dir", s.StateDir(host)}, args...)
	cmd := s.cfg.Lab.Command(ctx, host, s.program("interdict-agent"), all...)
	return output(cmd, "interdict-agent "+command+" on "+host)
}

// Events returns the events in the local log of a host's agent, oldest first;
// of an event that was written again only the last revision.
func (s *Site) Events(ctx context.Context, host string) ([]event.Event, error) {
	text, err := s.Agent(ctx, host, "events", "--output", "json")
	if err != nil {
		return nil, err
	}
	var events []event.Event
	at := make(map[string]int)
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		var e event.Event
		if err := dec.Decode(&e); err != nil {
			return nil, fmt.Errorf("reading the events of %s: %w", host, err)
		}
		if i, again := at[e.ID]; again {
			events[i] = e
			continue
		}
		at[e.ID] = len(events)
		events = append(events, e)
	}
	return events, nil
}

// WaitEvent waits until the local log of a host has an event that matches.
func (s *Site) WaitEvent(ctx context.Context, host string, match func(event.Event) bool) (event.Event, error) {
	var found event.Event
	err := Until(ctx, func(ctx context.Context) error {
		events, err := s.Events(ctx, host)
		if err != nil {
			return err
		}
		for _, e := range events {
			if match(e) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("none of %d events on %s matches", len(events), host)
	})
	return found, err
}

// await waits until a program that was just started answers. It ends early
// when the program does.
func (s *Site) await(ctx context.Context, p *process, what string, answers func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ctx, exited := context.WithCancelCause(ctx)
	defer exited(nil)
	stop := context.AfterFunc(p.gone, func() { exited(errors.New("it ended")) })
	defer stop()
	if err := Until(ctx, answers); err != nil {
		return fmt.Errorf("waiting for %s: %w\n%s", what, err, p.tail())
	}
	return nil
}

// Until calls try again and again until it succeeds. When the context ends it
// returns the last error of try and the context's cause.
func Until(ctx context.Context, try func(context.Context) error) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// output runs a command and returns what it prints to standard output. What
// it prints to standard error becomes part of the error.
func output(cmd *exec.Cmd, name string) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("running %s: %w: %s", name, err, bytes.TrimSpace(errOut.Bytes()))
	}
	return out.String(), nil
}
