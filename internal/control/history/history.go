// Package history tells what made the versions of a policy: who changed what,
// and when. It reads the audit log and writes nothing.
package history

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/page"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Config is what a Service needs; all of it is required.
type Config struct {
	Control *control.Service
}

// Service reads the past. It is safe for concurrent use.
type Service struct {
	control *control.Service
}

// New returns a Service.
func New(c Config) *Service { return &Service{control: c.Control} }

// PolicyEdit is what made a version of a policy.
type PolicyEdit struct {
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
	// Action is as in the audit log: "policy.update".
	Action string `json:"action"`
	// Changes are what differs from the version before.
	Changes []fleet.Difference `json:"changes"`

	id string
}

// Policy returns what made the versions of a policy, newest first. It is
// what the audit log knows of them.
func (s *Service) Policy(ctx context.Context, ref string, q page.Query) (page.Page[PolicyEdit], error) {
	policy, err := s.control.Policy(ctx, ref)
	if err != nil {
		return page.Page[PolicyEdit]{}, err
	}
	read := func(limit int) ([]PolicyEdit, error) {
		return s.edits(ctx, store.AuditQuery{Target: policy.ID, Before: q.Cursor, Limit: limit})
	}
	p, err := page.Read(q, read, func(e *PolicyEdit) string { return e.id })
	if err != nil {
		return page.Page[PolicyEdit]{}, err
	}
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) {
		for i := range p.Items {
			for j := range p.Items[i].Changes {
				nameGroups(state, &p.Items[i].Changes[j])
			}
		}
	})
	return p, nil
}

func (s *Service) edits(ctx context.Context, q store.AuditQuery) ([]PolicyEdit, error) {
	var entries []store.AuditEntry
	err := s.control.View(ctx, func(tx *store.Tx) (err error) {
		entries, err = tx.AuditLog(q)
		return err
	})
	if err != nil {
		return nil, err
	}
	edits := make([]PolicyEdit, len(entries))
	for i := range entries {
		if edits[i], err = edit(&entries[i]); err != nil {
			return nil, err
		}
	}
	return edits, nil
}

func edit(e *store.AuditEntry) (PolicyEdit, error) {
	var before, after fleet.Policy
	for _, side := range []struct {
		text json.RawMessage
		into *fleet.Policy
	}{{e.Before, &before}, {e.After, &after}} {
		if len(side.text) == 0 {
			continue
		}
		if err := json.Unmarshal(side.text, side.into); err != nil {
			return PolicyEdit{}, fmt.Errorf("reading line %s of the audit log: %w", e.ID, err)
		}
	}
	return PolicyEdit{
		Version: after.Version, At: e.Time, By: e.Actor, Action: e.Action, Changes: fleet.Differences(&before, &after), id: e.ID,
	}, nil
}

// nameGroups writes names for the ids of groups.
func nameGroups(state *audience.State, d *fleet.Difference) {
	if !strings.HasPrefix(d.Field, "assignment.") {
		return
	}
	for _, text := range []*string{&d.Before, &d.After} {
		ids := strings.Split(*text, ", ")
		for i, id := range ids {
			ids[i] = find.Name(state, id)
		}
		*text = strings.Join(ids, ", ")
	}
}
