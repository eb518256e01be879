package observation

import (
	"context"
	"encoding/json"

	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/store"
)

// AuditQuery asks for the audit log, newest first.
type AuditQuery struct {
	// Each limits to entries that have exactly it. Actor and Target are ids, or
	// names of what still exists.
	Actor, Action, Target string
	page.Query
}

// AuditLog returns the audit log, newest first.
func (s *Service) AuditLog(ctx context.Context, q AuditQuery) (page.Page[control.AuditEntry], error) {
	var faults fault.Fields
	input.CheckText(&faults, "actor", q.Actor)
	input.CheckText(&faults, "action", q.Action)
	input.CheckText(&faults, "target", q.Target)
	if err := faults.Err("the query is not valid"); err != nil {
		return page.Page[control.AuditEntry]{}, err
	}
	return page.Read(q.Query, func(limit int) (found []control.AuditEntry, err error) {
		err = s.control.View(ctx, func(tx *store.Tx) error {
			by, unknown := s.auditActor(tx, q.Actor)
			if unknown != nil {
				return unknown
			}
			found, err = tx.AuditLog(store.AuditQuery{Actor: by, Action: q.Action, Target: s.auditTarget(q.Target), Before: q.Cursor, Limit: limit})
			return err
		})
		return found, err
	}, func(e *control.AuditEntry) string { return e.ID })
}

// maxAPITokens is how many of the newest API tokens are looked through for a
// name.
const maxAPITokens = 100

// auditActor returns the id of the actor that is meant: a device or an API
// token by name, or anybody by id who has done something.
func (s *Service) auditActor(tx *store.Tx, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	if id := s.deviceMeant(ref); id != ref || s.deviceName(id) != "" {
		return id, nil
	}
	made, err := tx.AuditLog(store.AuditQuery{Action: control.ActionAPIToken, Limit: maxAPITokens})
	if err != nil {
		return "", err
	}
	for i := range made {
		var t store.APIToken
		if err := json.Unmarshal(made[i].After, &t); err == nil && t.Name == ref {
			return t.ID, nil
		}
	}
	if did, err := tx.AuditLog(store.AuditQuery{Actor: ref, Limit: 1}); err != nil || len(did) > 0 {
		return ref, err
	}
	return "", fault.New(fault.NotFound, "nobody called %q has done anything", ref).
		WithHint("an actor is the name or id of a device or of an API token, such as admin-token")
}

// auditTarget returns the id of the thing that is meant. One that is not known
// may have been deleted, so it is taken for an id.
func (s *Service) auditTarget(ref string) string {
	target := ref
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) {
		if id, err := find.Device(state, ref); err == nil {
			target = string(id)
		} else if id, err := find.Group(state, ref); err == nil {
			target = id
		} else if id, err := find.Policy(state, ref); err == nil {
			target = id
		}
	})
	return target
}
