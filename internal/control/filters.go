package control

import (
	"encoding/json"
	"slices"
	"strings"

	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// checkFilters explains an answer that is empty: it is NotFound if a filter
// names a device or an app that does not exist. With an answer nothing is
// wrong, because what was recorded outlives devices and the catalog.
func (s *Service) checkFilters(device, app string) error {
	if device != "" {
		s.mu.RLock()
		_, err := s.findDevice(device)
		s.mu.RUnlock()
		// Two devices with the name are a fault that says so itself.
		if err != nil {
			return err
		}
	}
	if app != "" {
		_, err := s.knownApp(app)
		return err
	}
	return nil
}

// eventDevice returns the id of the device that is meant. One that is not
// known may have been deleted, so it is taken for an id.
func (s *Service) eventDevice(ref string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id, err := s.findDevice(ref); err == nil {
		return string(id)
	}
	return ref
}

// eventApp returns the id of the app that is meant. One that is not known may
// have left the catalog, so it is taken for an id.
func (s *Service) eventApp(ref string) string {
	if a, ok := s.findApp(ref); ok {
		return a.ID
	}
	return ref
}

// deviceName returns what a device is called, "" if it was deleted.
func (s *Service) deviceName(id string) string {
	d, _ := s.device(fleet.DeviceID(id))
	return d.Name
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
		return e.WithHint("did you mean %s?", orList(near))
	}
	return e.WithHint("the categories are %s", orList(all))
}

// foldCategory writes a category as the catalog does.
func foldCategory(category string) string {
	return strings.NewReplacer(" ", "-", "_", "-").Replace(strings.ToLower(category))
}

// orList sorts names and joins them for a sentence, each once.
func orList(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
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
	if id := s.eventDevice(ref); id != ref || s.deviceName(id) != "" {
		return id, nil
	}
	made, err := tx.AuditLog(store.AuditQuery{Action: actionAPIToken, Limit: maxAPITokens})
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
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id, err := s.findDevice(ref); err == nil {
		return string(id)
	}
	if id, err := s.findGroup(ref); err == nil {
		return id
	}
	if id, err := s.findPolicy(ref); err == nil {
		return id
	}
	return ref
}
