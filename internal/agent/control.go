package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// The control socket speaks HTTP with JSON. Who may open it, the owner of the
// state directory, may do everything.
const (
	pathStatus   = "/v1/status"
	pathSync     = "/v1/sync"
	pathExplain  = "/v1/explain"
	pathRescue   = "/v1/rescue"
	pathUnenroll = "/v1/unenroll"
	pathSetting  = "/v1/setting"
	pathEnrolled = "/v1/enrolled"
)

// Status is how an agent is doing.
type Status struct {
	// Schema is the version of this document.
	Schema       int       `json:"schema"`
	AgentVersion string    `json:"agent_version"`
	StartedAt    time.Time `json:"started_at"`
	// Managed is whether there is a server. Without one DeviceID, Server,
	// Uplink and Spool are empty.
	Managed  bool           `json:"managed"`
	DeviceID fleet.DeviceID `json:"device_id"`
	Server   string         `json:"server"`
	// PolicyDir is where drop-in files are; empty for none.
	PolicyDir string `json:"policy_dir,omitempty"`
	// Mode, FailMode and PolicyID are of the rules in force.
	Mode     fleet.Mode     `json:"network_protection"`
	FailMode fleet.FailMode `json:"fail_mode,omitempty"`
	PolicyID string         `json:"policy_id,omitempty"`
	// PolicyName is what the policy of PolicyID is called.
	PolicyName string `json:"policy_name,omitempty"`
	// Enforcing is false when no bundle is in force or all is suspended.
	Enforcing bool `json:"enforcing"`
	// Settings are all settings.
	Settings  []Setting          `json:"settings"`
	Uplink    uplink.Status      `json:"uplink"`
	Inspector netguard.Stats     `json:"inspector"`
	Spool     journal.SpoolStats `json:"spool"`
	Health    []health.Item      `json:"health"`
}

// control serves the control socket.
type control struct {
	a        *agent
	listener net.Listener
}

// listen opens the control socket. The lock on the state directory says that
// one that is there is nobody's.
func (a *agent) listen() (*control, error) {
	path := a.cfg.Dir.Path(state.FileSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	// The directory has mode 0700, so nobody can come in between.
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket (a path has at most 107 bytes): %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("closing the control socket to others: %w", err), listener.Close())
	}
	return &control{a: a, listener: listener}, nil
}

// serve answers until ctx ends.
func (c *control) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathStatus, c.status)
	mux.HandleFunc("POST "+pathSync, c.sync)
	mux.HandleFunc("GET "+pathExplain, c.explain)
	mux.HandleFunc("GET "+pathKernel, c.kernel)
	mux.HandleFunc("POST "+pathRescue, c.rescue)
	mux.HandleFunc("POST "+pathUnenroll, c.unenroll)
	mux.HandleFunc("POST "+pathSetting, c.setting)
	mux.HandleFunc("POST "+pathEnrolled, c.enrolled)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		// Requests end with the agent.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shutdownCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = srv.Shutdown(shutdownCtx)
	})
	err := srv.Serve(c.listener)
	if stop() {
		return fmt.Errorf("serving the control socket: %w", err)
	}
	<-ended
	return nil
}

// reply writes an answer, or a fault if err is not nil.
func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer = problemOf(err)
	}
	// Whoever does not read the answer does not want it.
	_ = json.NewEncoder(w).Encode(answer)
}

// problem is a fault on the control socket.
type problem struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

func problemOf(err error) problem {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return problem{f.Code, f.Error(), f.Hint}
	}
	return problem{Code: fault.Internal, Message: err.Error()}
}

func (c *control) status(w http.ResponseWriter, _ *http.Request) {
	a := c.a
	s := Status{
		Schema: 1, AgentVersion: a.cfg.Facts.AgentVersion, StartedAt: a.started,
		Managed: a.managed(), DeviceID: a.id.DeviceID, Server: a.id.ServerURL, PolicyDir: a.cfg.PolicyDir,
		Mode: a.enforcer.mode(), Enforcing: a.enforcer.enforcing(), Settings: a.settings(),
		Inspector: a.enforcer.cfg.Inspector.Stats(), Spool: a.journal.Spool().Stats(), Health: a.health.Items(),
	}
	if a.managed() {
		s.Uplink = a.uplink.Status()
	}
	if rules := a.enforcer.rules(); rules != nil {
		s.FailMode, s.PolicyID = rules.FailMode(), rules.PolicyID()
		s.PolicyName = a.enforcer.policyNames()[s.PolicyID]
	}
	reply(w, s, nil)
}

// settings returns every setting, with what was set on this machine.
func (a *agent) settings() []Setting {
	all, set, names := a.enforcer.reportAll(), a.locals.Stored(), a.enforcer.policyNames()
	for i := range all {
		all[i].PolicyName = names[all[i].Policy()]
		if value, ok := set[all[i].Setting]; ok {
			all[i].Set = &value
		}
	}
	return all
}

// sync fetches now, reads the drop-in files, and ends a suspension.
func (c *control) sync(w http.ResponseWriter, r *http.Request) {
	err := c.a.enforcer.Resume(r.Context())
	if err == nil {
		err = c.a.locals.Refresh(r.Context())
	}
	if err == nil && c.a.managed() {
		err = c.a.uplink.Sync(r.Context())
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	c.status(w, r)
}

// setting makes a setting on this machine, or unmakes it where no value is
// given.
func (c *control) setting(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := strings.ReplaceAll(q.Get("name"), "-", "_")
	var value *string
	if q.Has("value") {
		value = new(q.Get("value"))
	}
	if err := c.a.locals.Set(r.Context(), name, value); err != nil {
		reply(w, nil, err)
		return
	}
	for _, s := range c.a.settings() {
		if s.Setting == name {
			reply(w, s, nil)
			return
		}
	}
}

// enrolled has an agent without a server begin anew with the identity that
// there is now. It reports whether it does.
func (c *control) enrolled(w http.ResponseWriter, _ *http.Request) {
	begins := !c.a.managed() && c.a.cfg.Dir.Enrolled() == nil
	reply(w, begins, nil)
	if begins {
		c.a.renew.Store(true)
		c.a.end(errEnrolled)
	}
}

func (c *control) rescue(w http.ResponseWriter, r *http.Request) {
	err := c.a.enforcer.Suspend(r.Context())
	if c.a.managed() {
		c.a.uplink.Changed()
	}
	reply(w, struct{}{}, err)
}

// sendRest sends the server what it has not been sent, as far as that can be
// done soon: a device that is gone can send nothing more.
func (a *agent) sendRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	a.journal.Flush(ctx)
	a.uplink.Flush()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for a.uplink.Status().Connected && a.journal.Spool().Stats().Events > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// unenroll deletes the device on the server and here, and ends the agent.
func (c *control) unenroll(w http.ResponseWriter, r *http.Request) {
	if c.a.managed() && r.URL.Query().Get("local") == "" {
		c.a.sendRest(r.Context())
		if err := c.a.uplink.Unenroll(r.Context()); err != nil {
			reply(w, nil, err)
			return
		}
	}
	err := c.a.enforcer.Withdraw(r.Context())
	reply(w, struct{}{}, err)
	if err == nil {
		c.a.enforcer.leave(context.WithoutCancel(r.Context()))
		c.a.keepEvents.Store(r.URL.Query().Get("keep_events") != "")
		c.a.erase.Store(true)
		c.a.end(errUnenrolled)
	}
}
