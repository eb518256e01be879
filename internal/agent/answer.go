package agent

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"interdict/internal/agent/account"
	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/domainset"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// portHTTPS is where most connections lead.
const portHTTPS = 443

// answerer says what this device makes of a destination, now.
type answerer struct {
	enforcer *enforcer
	health   *health.Set
	// users finds the device's users by name; nil for nobody.
	users *account.Book
	// events is the directory of the local event log.
	events string
}

// answers returns who answers questions about destinations.
func (a *agent) answers() *answerer {
	return &answerer{enforcer: a.enforcer, health: a.health, users: a.accounts, events: a.cfg.Dir.Path(state.DirEvents)}
}

// Answer judges a destination as a connection to it would be judged, and says
// in which state the device is itself. An answer that cannot be given has an
// Error, and nothing else.
func (a *answerer) Answer(ctx context.Context, q bundle.Question) bundle.Answer {
	answer, _ := a.judge(ctx, q)
	return answer
}

// judge is Answer, with the decision that it tells of.
func (a *answerer) judge(ctx context.Context, q bundle.Question) (bundle.Answer, verdict.Decision) {
	s := verdict.Subject{Host: q.Host, Path: q.Path, Addr: q.IP, Port: cmp.Or(q.Port, portHTTPS)}
	if q.User != "" {
		if s.User = a.user(ctx, q.User); s.User == nil {
			return bundle.Answer{ID: q.ID, NoUser: true, Error: "this device knows no user " + q.User}, verdict.Decision{}
		}
	}
	d, version := a.enforcer.decide(s)
	answer := bundle.Answer{
		ID: q.ID, Version: version, Enforcing: a.enforcer.enforcing(), Listening: !a.enforcer.deaf.Load(),
		Action: d.Action, Step: string(d.Step), IndicatorID: d.Indicator.ID, Indicator: d.Indicator.Value,
		AppID: d.AppID, Mode: d.Mode, Bypass: d.Bypass, Settings: a.settings(), Health: a.health.Report(),
	}
	if s.User != nil {
		answer.UID, answer.UserGroups = s.User.UID, s.User.Groups
	}
	if rules := a.enforcer.rules(); rules != nil {
		answer.OutOfScope = rules.OutOfScope(s, time.Now())
	}
	if last, ok := a.lastEvent(ctx, q); ok {
		answer.LastEvent = &last
	}
	return answer, d
}

// user finds a user by name; nil if there is none.
func (a *answerer) user(ctx context.Context, name string) *indicator.User {
	if a.users == nil {
		return nil
	}
	uid, ok := a.users.UID(ctx, name)
	if !ok {
		return nil
	}
	u, _ := a.users.Find(ctx, uid)
	return u
}

// settings are all settings as they are in force.
func (a *answerer) settings() []fleet.SettingReport {
	var reports []fleet.SettingReport
	for _, s := range a.enforcer.reportAll() {
		reports = append(reports, fleet.SettingReport{
			Setting: s.Setting, Value: s.Value.Value, Channel: s.Channel, State: s.State, Text: s.Text,
		})
	}
	return reports
}

// lastEvent finds the newest event about a destination in the local log, as
// far as that is read before ctx ends.
func (a *answerer) lastEvent(ctx context.Context, q bundle.Question) (last event.Event, ok bool) {
	host := domainset.Normalize(q.Host)
	for e, err := range journal.Newest(a.events) {
		if err != nil || ctx.Err() != nil {
			return last, ok
		}
		if about(&e, host, q.IP) && !e.LastSeen.Before(last.LastSeen) {
			last, ok = e, true
		}
	}
	return last, ok
}

// about reports whether an event is about a host or, without one, an address.
func about(e *event.Event, host string, ip netip.Addr) bool {
	if host != "" {
		return domainset.Normalize(e.Destination.Host) == host
	}
	return ip.IsValid() && e.Destination.IP == ip
}

// Explanation says what would happen to a connection, and why.
type Explanation struct {
	Schema int `json:"schema"`
	// Host, Path, IP and User are what was asked.
	Host string     `json:"host,omitempty"`
	Path string     `json:"path,omitempty"`
	IP   netip.Addr `json:"ip,omitzero"`
	User string     `json:"user,omitempty"`
	bundle.Answer
	// ID hides that of the answer: nobody but the server gives one.
	ID string `json:"id,omitempty"`

	App      string `json:"app_name,omitempty"`
	PolicyID string `json:"policy_id,omitempty"`
	Policy   string `json:"policy_name,omitempty"`
	// Refused is the upshot, as far as anything is enforced.
	Refused bool `json:"refused"`
}

// explain answers who asks on the machine itself.
func (c *control) explain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	q := bundle.Question{Host: query.Get("host"), Path: query.Get("path"), User: query.Get("user")}
	if ip := query.Get("ip"); ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			reply(w, nil, fault.New(fault.Invalid, "%q is not an address", ip))
			return
		}
		q.IP = addr
	}
	if port := query.Get("port"); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			reply(w, nil, fault.New(fault.Invalid, "%q is not a port", port))
			return
		}
		q.Port = uint16(n)
	}
	answer, d := c.a.answers().judge(r.Context(), q)
	if answer.Error != "" {
		reply(w, nil, fault.New(fault.NotFound, "%s", answer.Error).WithHint("list them with: getent passwd"))
		return
	}
	reply(w, Explanation{
		Schema: 2, Host: q.Host, Path: q.Path, IP: q.IP, User: q.User, Answer: answer,
		App: d.AppName, PolicyID: d.PolicyID, Policy: c.a.enforcer.policyNames()[d.PolicyID], Refused: d.Refuses(),
	}, nil)
}
