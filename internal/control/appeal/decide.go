package appeal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/edit"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Reach says for whom an approval counts.
type Reach string

// The reaches of an approval.
const (
	// ReachUser is the user who asked, on the device they asked from.
	ReachUser Reach = "user"
	// ReachDevice is everybody on that device.
	ReachDevice Reach = "device"
	// ReachUserEverywhere is the user of that name on every device.
	ReachUserEverywhere Reach = "user-everywhere"
)

const (
	// usualApproval is how long an approval lasts that does not say.
	usualApproval = 8 * time.Hour
	// maxApproval is how long one may last.
	maxApproval = 90 * 24 * time.Hour
)

// Approval grants a request.
type Approval struct {
	// Until or For say when it ends, one of them at most.
	Until time.Time  `json:"until,omitzero" doc:"When access ends; at most 90 days ahead"`
	For   fleet.Span `json:"for,omitempty" doc:"For how long access is given: 8h, which is usual"`
	// Reach is ReachUser if it is empty.
	Reach Reach  `json:"reach,omitempty" enum:"user,device,user-everywhere" doc:"For whom: the user on the device (usual), everybody on it, or the user on every device"`
	Note  string `json:"note,omitempty" doc:"What the user is told"`
}

// Note is what a user is told.
type Note struct {
	Note string `json:"note,omitempty" doc:"What the user is told"`
}

// Approve grants a pending request by allow indicators, all in one change, and
// has the device tell its user.
func (s *Service) Approve(ctx context.Context, actor control.Actor, id string, a Approval) (RequestView, control.Change, error) {
	before, err := s.Request(ctx, id)
	if err != nil {
		return RequestView{}, control.Change{}, err
	}
	now := s.control.Now().UTC()
	until, err := a.check(now)
	if err != nil {
		return RequestView{}, control.Change{}, err
	}
	after := before.Request
	after.State, after.DecidedBy, after.DecidedAt, after.Note, after.Until = access.StateApproved, actor.Name, now, a.Note, until
	grants, err := s.grants(ctx, &after, a.Reach)
	if err != nil {
		return RequestView{}, control.Change{}, err
	}
	for i := range grants {
		after.Indicators = append(after.Indicators, grants[i].ID)
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		return errors.Join(s.decide(tx, actor, "access.approve", before.Request, after), putAll(tx, grants))
	})
	if err != nil {
		return RequestView{}, control.Change{}, err
	}
	s.tell(ctx, after.Device)
	return s.requestView(after), change, nil
}

func putAll(tx *store.Tx, all []indicator.Indicator) error {
	for _, i := range all {
		if err := tx.Indicators().Put(i); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll deletes indicators. An administrator may have deleted some.
func deleteAll(tx *store.Tx, ids []string) error {
	for _, id := range ids {
		if err := tx.Indicators().Delete(id); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// check returns when the approval ends.
func (a *Approval) check(now time.Time) (time.Time, error) {
	var faults fault.Fields
	access.CheckText(&faults, "note", a.Note)
	until := now.Add(usualApproval)
	length := a.For.Duration()
	switch {
	case a.For != "" && !a.Until.IsZero():
		faults.Add("for", "must not be given together with until")
	case a.For != "" && (length <= 0 || length > maxApproval):
		faults.Add("for", "must be a span of time such as 8h, of at most %d days", int(maxApproval.Hours()/24))
	case a.For != "":
		until = now.Add(length)
	case !a.Until.IsZero() && (!a.Until.After(now) || a.Until.Sub(now) > maxApproval):
		faults.Add("until", "must be in the future, at most %d days ahead", int(maxApproval.Hours()/24))
	case !a.Until.IsZero():
		until = a.Until.UTC()
	}
	if !slices.Contains([]Reach{"", ReachUser, ReachDevice, ReachUserEverywhere}, a.Reach) {
		faults.Add("reach", "must be user, device or user-everywhere")
	}
	return until, faults.Err("the approval is not valid")
}

// decide writes what was decided about a request, unless it is in a state by now
// that this does not follow upon.
func (s *Service) decide(tx *store.Tx, actor control.Actor, action string, before, after access.Request) error {
	if !follows(before.State, after.State) {
		return outOfTurn(&before)
	}
	done, err := tx.DecideAccessRequest(after, before.State)
	if err != nil {
		return err
	}
	if !done {
		now, err := tx.AccessRequest(before.ID)
		if err != nil {
			return edit.Gone(err, "request", before.ID)
		}
		return outOfTurn(&now.Request)
	}
	tx.Audit(s.control.Entry(actor, action, before.ID, before, after))
	return nil
}

func outOfTurn(r *access.Request) error {
	if r.State == access.StatePending {
		return fault.New(fault.Conflict, "request %s is pending: there is nothing to revoke", r.ID).WithHint("approve or deny it")
	}
	return fault.New(fault.Conflict, "request %s is %s already, by %s", r.ID, r.State, r.DecidedBy).WithHint("the user can ask again")
}

// follows reports whether a request that is in one state may come into another.
func follows(before, after access.State) bool {
	if after == access.StateRevoked {
		return before == access.StateApproved
	}
	return before == access.StatePending
}

// grants returns the indicators that give access to what a request is about.
func (s *Service) grants(ctx context.Context, r *access.Request, reach Reach) ([]indicator.Indicator, error) {
	profile, err := s.profile(r, reach)
	if err != nil {
		return nil, err
	}
	var all []indicator.Indicator
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		if !state.Enabled(fleet.FeatureCustomIndicators) {
			return fault.New(fault.Disabled, "custom indicators are turned off, and access is given by them").
				WithHint("turn them on with: interdict feature set %s on", fleet.FeatureCustomIndicators)
		}
		if _, ok := state.Devices[r.Device]; !ok && reach != ReachUserEverywhere {
			return fault.New(fault.Conflict, "the device that asked was deleted")
		}
		all, err = s.destinations(state, r)
		return err
	})
	for i := range all {
		all[i].ID, all[i].Scope, all[i].ExpiresAt = ulid.Make().String(), profile, r.Until
		all[i].Action, all[i].Source, all[i].AppID = indicator.ActionAllow, indicator.SourceCustom, r.AppID
		all[i].Description = "access that " + who(r) + " asked for: request " + r.ID
		all[i].CreatedAt, all[i].CreatedBy = r.DecidedAt, r.DecidedBy
	}
	return all, err
}

// destinations returns the type and value of what a request is about: the
// domains of the app that no other app shares, and the host that was refused
// unless it is allowed with one of these.
func (s *Service) destinations(state *audience.State, r *access.Request) ([]indicator.Indicator, error) {
	var all []indicator.Indicator
	nearest := ""
	for _, name := range s.domains(r.AppID) {
		all = append(all, indicator.Indicator{Type: indicator.TypeDomain, Value: name})
		if below(r.Host, name) && len(name) > len(nearest) {
			nearest = name
		}
	}
	if r.Host != "" && (nearest == "" || refused(state, r.Host, nearest)) {
		kind, value, err := destination(r.Host)
		if err != nil {
			return nil, fmt.Errorf("granting request %s: %w", r.ID, err)
		}
		all = append(all, indicator.Indicator{Type: kind, Value: value})
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Conflict, "app %q is not known any more, and the request names no host", r.AppID)
	}
	return all, nil
}

// domains returns the domains of an app that no other app shares; none if the
// app is not known.
func (s *Service) domains(app string) []string {
	if app == "" {
		return nil
	}
	a, err := s.control.FindApp(app)
	if err != nil {
		return nil
	}
	var names []string
	for _, d := range a.Domains {
		if !d.Shared {
			names = append(names, d.Name)
		}
	}
	return names
}

// refused reports whether a custom indicator refuses a host for a longer name
// than the one that it is allowed by, so that it would win.
func refused(state *audience.State, host, allowed string) bool {
	for _, i := range state.Indicators {
		if i.Type == indicator.TypeDomain && i.Action.Refuses() && len(i.Value) > len(allowed) && below(host, i.Value) {
			return true
		}
	}
	return false
}

// below reports whether a name is a domain or below it.
func below(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

// profile returns for whom an approval counts.
func (s *Service) profile(r *access.Request, reach Reach) (indicator.Profile, error) {
	device := indicator.Scope{Include: []string{fleet.DeviceGroup(r.Device)}}
	name := r.User
	if strings.HasPrefix(name, "#") {
		// It would be taken for a number.
		name = ""
	}
	switch {
	case reach == ReachDevice:
		return indicator.Profile{Scope: device}, nil
	case reach == ReachUserEverywhere && name == "":
		return indicator.Profile{}, invalid("the approval is not valid", "reach",
			"must be user or device: the user has no name that other devices would know")
	case reach == ReachUserEverywhere:
		return indicator.Profile{People: indicator.People{IncludeUsers: []string{name}}}, nil
	case name == "":
		name = fmt.Sprintf("#%d", r.UID)
	}
	return indicator.Profile{Scope: device, People: indicator.People{IncludeUsers: []string{name}}}, nil
}

// who names the user who asked.
func who(r *access.Request) string {
	if r.User != "" {
		return r.User
	}
	return fmt.Sprintf("user %d", r.UID)
}

// Deny denies a pending request and has the device tell its user.
func (s *Service) Deny(ctx context.Context, actor control.Actor, id string, n Note) (RequestView, error) {
	before, err := s.Request(ctx, id)
	if err != nil {
		return RequestView{}, err
	}
	var faults fault.Fields
	access.CheckText(&faults, "note", n.Note)
	if err = faults.Err("the answer is not valid"); err != nil {
		return RequestView{}, err
	}
	after := before.Request
	after.State, after.DecidedBy, after.DecidedAt, after.Note = access.StateDenied, actor.Name, s.control.Now().UTC(), n.Note
	err = s.control.Write(ctx, func(tx *store.Tx) error {
		return s.decide(tx, actor, "access.deny", before.Request, after)
	})
	if err != nil {
		return RequestView{}, err
	}
	s.tell(ctx, after.Device)
	return s.requestView(after), nil
}

// Revoke takes an approval back: its indicators are deleted, and the device
// tells its user. One that has ended by itself is left as it is.
func (s *Service) Revoke(ctx context.Context, actor control.Actor, id string, n Note) (RequestView, control.Change, error) {
	before, err := s.Request(ctx, id)
	if err != nil {
		return RequestView{}, control.Change{}, err
	}
	now := s.control.Now().UTC()
	var faults fault.Fields
	access.CheckText(&faults, "note", n.Note)
	if err = faults.Err("the answer is not valid"); err != nil {
		return RequestView{}, control.Change{}, err
	}
	if before.State == access.StateApproved && !now.Before(before.Until) {
		return RequestView{}, control.Change{}, fault.New(fault.Conflict, "the access that request %s gave ended at %s",
			id, before.Until.Format(time.RFC3339))
	}
	after := before.Request
	after.State, after.DecidedBy, after.DecidedAt, after.Until, after.Indicators = access.StateRevoked, actor.Name, now, now, nil
	if n.Note != "" {
		after.Note = n.Note
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		return errors.Join(s.decide(tx, actor, "access.revoke", before.Request, after), deleteAll(tx, before.Indicators))
	})
	if err != nil {
		return RequestView{}, control.Change{}, err
	}
	s.tell(ctx, after.Device)
	return s.requestView(after), change, nil
}
