package control

import (
	"context"
	"errors"
	"slices"
	"strings"

	"interdict/internal/cloudapp"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// maxTagged bounds how many apps are tagged at once.
const maxTagged = 1000

// Apps returns cloud apps, sorted by id.
func (s *Service) Apps(ctx context.Context, q AppQuery) (page.Page[AppView], error) {
	if err := s.fresh(ctx); err != nil {
		return page.Page[AppView]{}, err
	}
	if q.Tag != "" && !q.Tag.Valid() {
		var faults fault.Fields
		faults.Add("tag", "must be none, sanctioned, unsanctioned or monitored")
		return page.Page[AppView]{}, faults.Err("the query is not valid")
	}
	if q.Category = foldCategory(q.Category); q.Category != "" {
		if err := s.checkCategory(q.Category); err != nil {
			return page.Page[AppView]{}, err
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []AppView
	for i := range s.apps {
		view := s.appView(&s.apps[i])
		if q.matches(&view) {
			found = append(found, view)
		}
	}
	return page.Of(found, q.Query, func(a *AppView) string { return a.ID })
}

func (q *AppQuery) matches(a *AppView) bool {
	if q.Tag != "" && a.Tagging.Tag != q.Tag || q.Category != "" && a.Category != q.Category {
		return false
	}
	return input.Contains(q.Search, a.ID, a.Name, a.Vendor) ||
		slices.ContainsFunc(a.Domains, func(d cloudapp.Domain) bool { return input.Contains(q.Search, d.Name) })
}

// appView is called with s.mu held.
func (s *Service) appView(a *cloudapp.App) AppView {
	tagging, ok := s.state.Taggings[a.ID]
	if !ok {
		tagging = cloudapp.Tagging{AppID: a.ID, Tag: cloudapp.TagNone}
	}
	return AppView{App: *a, Tagging: tagging}
}

// App returns the cloud app with an id or a name.
func (s *Service) App(ctx context.Context, ref string) (AppView, error) {
	if err := s.fresh(ctx); err != nil {
		return AppView{}, err
	}
	a, err := s.FindApp(ref)
	if err != nil {
		return AppView{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.appView(&a), nil
}

// findApp returns the app with an id, or with a name regardless of case.
func (s *Service) findApp(ref string) (cloudapp.App, bool) {
	if a, ok := s.index.App(ref); ok {
		return a, true
	}
	i := slices.IndexFunc(s.apps, func(a cloudapp.App) bool { return strings.EqualFold(a.Name, ref) })
	if i < 0 {
		return cloudapp.App{}, false
	}
	return s.apps[i], true
}

func (s *Service) nearApps(ref string) string {
	if near := s.index.Near(ref); len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	return "search with: interdict app search WORDS"
}

// TagApps tags apps, all of them or none. Tagging an app as it is tagged
// already changes nothing.
func (s *Service) TagApps(ctx context.Context, actor Actor, r TagRequest) (Change, error) {
	if err := s.fresh(ctx); err != nil {
		return Change{}, err
	}
	ids, scope, err := s.checkTagging(&r)
	if err != nil {
		return Change{}, err
	}
	now := s.now().UTC()
	return s.Change(ctx, func(tx *store.Tx) error {
		if err := edit.CheckGroups(tx, scope.Include, scope.Exclude); err != nil {
			return err
		}
		for _, id := range ids {
			t := cloudapp.Tagging{AppID: id, Tag: r.Tag, Scope: scope, By: actor.Name, At: now}
			if err := s.tag(tx, actor, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// tag writes one tagging. An untagged app has none.
func (s *Service) tag(tx *store.Tx, actor Actor, t cloudapp.Tagging) error {
	if err := CheckNotOnTrial(tx, staging.TargetTag, t.AppID, t.AppID); err != nil {
		return err
	}
	before, err := tx.Taggings().Get(t.AppID)
	missing := errors.Is(err, store.ErrNotFound)
	switch {
	case err != nil && !missing:
		return err
	case missing && t.Tag == cloudapp.TagNone:
		return nil
	case missing:
		tx.Audit(s.Entry(actor, "app.tag", t.AppID, nil, t))
		return tx.Taggings().Put(t)
	case t.Tag == cloudapp.TagNone:
		tx.Audit(s.Entry(actor, "app.untag", t.AppID, before, nil))
		return tx.Taggings().Delete(t.AppID)
	case before.Tag == t.Tag && before.Scope.Equal(&t.Scope):
		return nil
	default:
		tx.Audit(s.Entry(actor, "app.tag", t.AppID, before, t))
		return tx.Taggings().Put(t)
	}
}

// ScopeApp changes whom the tag of an app is for, and leaves the tag as it is:
// since when it is there, and by whom. It does not unless the tag still has the
// edition, see [cloudapp.Tagging.Edition], or that is edit.AnyVersion.
func (s *Service) ScopeApp(ctx context.Context, actor Actor, ref string, edition uint64, scope indicator.Profile) (AppView, Change, error) {
	app, err := s.FindApp(ref)
	if err != nil {
		return AppView{}, Change{}, err
	}
	if err = s.fresh(ctx); err != nil {
		return AppView{}, Change{}, err
	}
	var faults fault.Fields
	s.mu.RLock()
	scope = find.Profile(s.state, scope, &faults)
	s.mu.RUnlock()
	if err = faults.Err("the scope is not valid"); err != nil {
		return AppView{}, Change{}, err
	}
	change, err := s.Change(ctx, func(tx *store.Tx) error { return s.scopeTag(tx, actor, app.ID, edition, scope) })
	if err != nil {
		return AppView{}, Change{}, err
	}
	view, err := s.App(ctx, app.ID)
	return view, change, err
}

func (s *Service) scopeTag(tx *store.Tx, actor Actor, id string, edition uint64, scope indicator.Profile) error {
	before, err := tx.Taggings().Get(id)
	if errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.Conflict, "app %q has no tag, so there is nothing to scope", id).
			WithHint("tag it with: interdict app tag %s unsanctioned", id)
	}
	if err != nil {
		return err
	}
	if edition != edit.AnyVersion && edition != before.Edition() {
		return fault.New(fault.Stale, "somebody else changed the tag of app %q", id).WithHint("look at it again and repeat the change")
	}
	if before.Scope.Equal(&scope) {
		return nil
	}
	if err := errors.Join(edit.CheckGroups(tx, scope.Include, scope.Exclude), CheckNotOnTrial(tx, staging.TargetTag, id, id)); err != nil {
		return err
	}
	after := before
	after.Scope = scope
	tx.Audit(s.Entry(actor, "app.scope", id, before, after))
	return tx.Taggings().Put(after)
}

// checkTagging returns the ids of the apps, each once, and of the groups.
func (s *Service) checkTagging(r *TagRequest) ([]string, indicator.Profile, error) {
	var faults fault.Fields
	if len(r.Apps) == 0 || len(r.Apps) > maxTagged {
		faults.Add("apps", "must have 1 to %d apps", maxTagged)
		return nil, indicator.Profile{}, faults.Err("the apps cannot be tagged")
	}
	if !r.Tag.Valid() {
		faults.Add("tag", "must be none, sanctioned, unsanctioned or monitored")
	}
	s.mu.RLock()
	scope := find.Profile(s.state, r.Scope, &faults)
	s.mu.RUnlock()
	if r.Tag == cloudapp.TagNone && !scope.Equal(&indicator.Profile{}) {
		faults.Add("scope", "must be empty when tags are removed")
	}
	var ids []string
	for _, ref := range r.Apps {
		app, ok := s.findApp(ref)
		if !ok {
			faults.Add("apps", "must have known apps only; %q is none: %s", ref, s.nearApps(ref))
			continue
		}
		ids = append(ids, app.ID)
		s.checkAppProtected(&faults, app.ID, r.Tag)
	}
	slices.Sort(ids)
	return slices.Compact(ids), scope, faults.Err("the apps cannot be tagged")
}

// checkAppProtected refuses tags whose indicators would cut agents off.
func (s *Service) checkAppProtected(faults *fault.Fields, id string, tag cloudapp.Tag) {
	for _, i := range s.index.Indicators(cloudapp.Tagging{AppID: id, Tag: tag}) {
		if err := s.protected.Check(&i); err != nil {
			faults.Add("apps", "must not have %q: %s", id, err)
		}
	}
}

// checkCategory is NotFound unless some app is of the category.
func (s *Service) checkCategory(category string) error {
	var all, near []string
	words := strings.Split(category, "-")
	for i := range s.apps {
		c := s.apps[i].Category
		if c == category {
			return nil
		}
		all = append(all, c)
		if slices.ContainsFunc(words, func(w string) bool { return w != "" && slices.Contains(strings.Split(c, "-"), w) }) {
			near = append(near, c)
		}
	}
	e := fault.New(fault.NotFound, "there is no category %q", category)
	if len(near) > 0 {
		return e.WithHint("did you mean %s?", input.OrList(near))
	}
	return e.WithHint("the categories are %s", input.OrList(all))
}

// foldCategory writes a category as the catalog does.
func foldCategory(category string) string {
	return strings.NewReplacer(" ", "-", "_", "-").Replace(strings.ToLower(category))
}
