package control

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// maxPriority bounds a policy's priority.
const maxPriority = 1_000_000

// Policies returns the configuration policies, sorted by name.
func (s *Service) Policies(ctx context.Context, q page.Query) (page.Page[PolicyView], error) {
	if err := s.fresh(ctx); err != nil {
		return page.Page[PolicyView]{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []PolicyView
	for _, p := range s.state.Policies {
		all = append(all, PolicyView{Policy: p})
	}
	found, err := page.Of(all, q, func(p *PolicyView) string { return p.Name + "\x00" + p.ID })
	torn := s.torn()
	for i := range found.Items {
		found.Items[i].Conflicts = s.conflictsOf(found.Items[i].Policy, torn)
	}
	return found, err
}

// PolicyView returns the policy with an id or a name, and its conflicts.
func (s *Service) PolicyView(ctx context.Context, ref string) (PolicyView, error) {
	p, err := s.Policy(ctx, ref)
	if err != nil {
		return PolicyView{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return PolicyView{Policy: p, Conflicts: s.conflictsOf(p, s.torn())}, nil
}

// Policy returns the policy with an id or a name.
func (s *Service) Policy(ctx context.Context, ref string) (fleet.Policy, error) {
	if err := s.fresh(ctx); err != nil {
		return fleet.Policy{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, err := find.Policy(s.state, ref)
	if err != nil {
		return fleet.Policy{}, err
	}
	return s.state.Policies[id], nil
}

// CreatePolicy makes a policy that is not assigned to anybody yet.
func (s *Service) CreatePolicy(ctx context.Context, actor Actor, n NewPolicy) (fleet.Policy, Change, error) {
	if err := n.check(); err != nil {
		return fleet.Policy{}, Change{}, err
	}
	now := s.now().UTC()
	p := fleet.Policy{
		ID: ulid.Make().String(), Name: n.Name, Description: n.Description, Settings: n.Settings, Priority: n.Priority,
		Platforms: n.Platforms,
		Version:   1, CreatedAt: now, UpdatedAt: now,
	}
	change, err := s.Change(ctx, func(tx *store.Tx) error {
		if err := edit.CheckFreeName(tx.Policies(), n.Name); err != nil {
			return err
		}
		tx.Audit(s.Entry(actor, "policy.create", p.ID, nil, p))
		return tx.Policies().Put(p)
	})
	if err != nil {
		return fleet.Policy{}, Change{}, err
	}
	return p, change, nil
}

// UpdatePolicy makes a policy what n says, unless it no longer has the
// version. Its assignment stays.
func (s *Service) UpdatePolicy(ctx context.Context, actor Actor, ref string, version uint64, n NewPolicy) (fleet.Policy, Change, error) {
	if err := n.check(); err != nil {
		return fleet.Policy{}, Change{}, err
	}
	return s.editPolicy(ctx, actor, "policy.update", ref, version, func(tx *store.Tx, p *fleet.Policy) error {
		if n.Name != p.Name {
			if err := edit.CheckFreeName(tx.Policies(), n.Name); err != nil {
				return err
			}
		}
		p.Name, p.Description, p.Settings, p.Priority, p.Platforms = n.Name, n.Description, n.Settings, n.Priority, n.Platforms
		return nil
	})
}

// AssignPolicy says to whom a policy applies, unless it no longer has the
// version.
func (s *Service) AssignPolicy(ctx context.Context, actor Actor, ref string, version uint64, scope indicator.Scope) (fleet.Policy, Change, error) {
	if err := s.fresh(ctx); err != nil {
		return fleet.Policy{}, Change{}, err
	}
	var faults fault.Fields
	s.mu.RLock()
	scope = find.Scope(s.state, scope, "", &faults)
	s.mu.RUnlock()
	if err := faults.Err("the policy cannot be assigned"); err != nil {
		return fleet.Policy{}, Change{}, err
	}
	return s.editPolicy(ctx, actor, "policy.assign", ref, version, func(tx *store.Tx, p *fleet.Policy) error {
		p.Assignment, p.Assigned = scope, true
		return edit.CheckGroups(tx, scope.Include, scope.Exclude)
	})
}

func (s *Service) editPolicy(ctx context.Context, actor Actor, action, ref string, version uint64,
	alter func(*store.Tx, *fleet.Policy) error,
) (fleet.Policy, Change, error) {
	known, err := s.Policy(ctx, ref)
	if err != nil {
		return fleet.Policy{}, Change{}, err
	}
	var after fleet.Policy
	change, err := s.Change(ctx, func(tx *store.Tx) error {
		before, missing := tx.Policies().Get(known.ID)
		if missing != nil {
			return edit.Gone(missing, "policy", ref)
		}
		if stale := edit.CheckVersion("policy", before.Version, version); stale != nil {
			return stale
		}
		if trial := CheckNotOnTrial(tx, staging.TargetPolicy, before.ID, before.Name); trial != nil {
			return trial
		}
		after = before
		if invalid := alter(tx, &after); invalid != nil || reflect.DeepEqual(before, after) {
			return invalid
		}
		after.Version++
		after.UpdatedAt = s.now().UTC()
		tx.Audit(s.Entry(actor, action, before.ID, before, after))
		return tx.Policies().Put(after)
	})
	if err != nil {
		return fleet.Policy{}, Change{}, err
	}
	return after, change, nil
}

// DeletePolicy deletes a policy, unless it no longer has the version. One that
// is assigned goes only if the deletion says so.
func (s *Service) DeletePolicy(ctx context.Context, actor Actor, ref string, d PolicyDeletion) (Change, error) {
	known, err := s.Policy(ctx, ref)
	if err != nil {
		return Change{}, err
	}
	return s.Change(ctx, func(tx *store.Tx) error {
		p, err := tx.Policies().Get(known.ID)
		if err != nil {
			return edit.Gone(err, "policy", ref)
		}
		if err := edit.CheckVersion("policy", p.Version, d.Version); err != nil {
			return err
		}
		if err := CheckNotOnTrial(tx, staging.TargetPolicy, p.ID, p.Name); err != nil {
			return err
		}
		if p.Assigned && !d.Assigned {
			return fault.New(fault.Conflict, "policy %q is assigned to %s", p.Name, s.scopeText(p.Assignment)).
				WithHint("its settings cease to count there; if that is meant, type: interdict policy delete %s --force", p.Name)
		}
		tx.Audit(s.Entry(actor, "policy.delete", p.ID, p, nil))
		return tx.Policies().Delete(p.ID)
	})
}

// scopeText says for people which groups a scope has.
func (s *Service) scopeText(scope indicator.Scope) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := func(ids []string) string {
		var names []string
		for _, id := range ids {
			names = append(names, find.Name(s.state, id))
		}
		return strings.Join(names, ", ")
	}
	text := "all devices"
	if len(scope.Include) > 0 {
		text = names(scope.Include)
	}
	if len(scope.Exclude) > 0 {
		text += " except " + names(scope.Exclude)
	}
	return text
}

// check brings what is in the policy into its canonical form.
func (n *NewPolicy) check() error {
	var faults fault.Fields
	input.CheckName(&faults, n.Name)
	input.CheckDescription(&faults, n.Description)
	for _, d := range fleet.Definitions() {
		if err := d.Set(&n.Settings, d.Get(&n.Settings)); err != nil {
			faults.Add("settings."+d.Name, "%s", err)
		}
	}
	if n.Priority < -maxPriority || n.Priority > maxPriority {
		faults.Add("priority", "must be between %d and %d", -maxPriority, maxPriority)
	}
	n.Platforms = slices.Compact(slices.Sorted(slices.Values(n.Platforms)))
	if slices.ContainsFunc(n.Platforms, func(p string) bool { return !slices.Contains(platforms(), p) }) {
		faults.Add("platforms", "must be %s", input.OrList(platforms()))
	}
	return faults.Err("the policy is not valid")
}

// platforms are the operating systems that there are agents for.
func platforms() []string { return []string{"linux", "windows"} }
