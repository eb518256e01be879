package control

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"interdict/internal/control/audience"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

const (
	maxName        = 128
	maxDescription = 1024
	maxLabels      = 64
	maxLabelKey    = 63
	maxLabelValue  = 255
	// maxNear bounds how many names are suggested in place of one that is not
	// known.
	maxNear = 3
)

// device returns the configuration of a device.
func (s *Service) device(id fleet.DeviceID) (audience.Device, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, ok := s.state.Devices[id]
	return d, ok
}

// known returns nil if the device is enrolled, which another server may have
// done a moment ago.
func (s *Service) known(ctx context.Context, id fleet.DeviceID) error {
	if _, ok := s.device(id); ok {
		return nil
	}
	if err := s.fresh(ctx); err != nil {
		return err
	}
	if _, ok := s.device(id); ok {
		return nil
	}
	return fault.New(fault.Unauthorized, "this device is not enrolled, or was deleted").
		WithHint("enrol it again with a new token")
}

// find returns what has ref as its id or its name. s.mu is held.
func find[K ~string, T any](all map[K]T, ref, what string, name func(*T) string) (K, error) {
	if _, ok := all[K(ref)]; ok {
		return K(ref), nil
	}
	var found []K
	var near []string
	for id, v := range all {
		switch have := name(&v); {
		case have == ref:
			found = append(found, id)
		case len(near) < maxNear && contains(ref, have):
			near = append(near, have)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		e := fault.New(fault.NotFound, "there is no %s %q", what, ref)
		if len(near) > 0 {
			return "", e.WithHint("did you mean %s?", orList(near))
		}
		return "", e
	default:
		return "", fault.New(fault.Conflict, "%d %ss are called %q", len(found), what, ref).WithHint("use the id")
	}
}

func (s *Service) findGroup(ref string) (string, error) {
	return find(s.state.Groups, ref, "group", func(g *fleet.Group) string { return g.Name })
}

func (s *Service) findPolicy(ref string) (string, error) {
	return find(s.state.Policies, ref, "policy", func(p *fleet.Policy) string { return p.Name })
}

func (s *Service) findDevice(ref string) (fleet.DeviceID, error) {
	return find(s.state.Devices, ref, "device", func(d *audience.Device) string { return d.Name })
}

// scope returns a scope with the ids of its groups, sorted, each once. s.mu
// is held.
func (s *Service) scope(in indicator.Scope, field string, faults *fault.Fields) indicator.Scope {
	out := indicator.Scope{
		Include: s.groups(in.Include, field+"include_groups", faults),
		Exclude: s.groups(in.Exclude, field+"exclude_groups", faults),
	}
	for _, g := range out.Include {
		if slices.Contains(out.Exclude, g) {
			faults.Add(field+"exclude_groups", "must not have group %q, which is also included", s.state.Groups[g].Name)
		}
	}
	return out
}

// groups returns the ids of groups, sorted, each once. s.mu is held.
func (s *Service) groups(refs []string, field string, faults *fault.Fields) []string {
	var ids []string
	for _, ref := range refs {
		id, err := s.findGroup(ref)
		if err != nil {
			faults.Add(field, "must have known groups only: %s", err)
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// checkGroups makes sure, inside a change, that the groups of a scope still
// exist: a scope that lost its only group would reach every device.
func checkGroups(tx *store.Tx, lists ...[]string) error {
	for _, list := range lists {
		for _, id := range list {
			if _, err := tx.Groups().Get(id); errors.Is(err, store.ErrNotFound) {
				return fault.New(fault.Conflict, "group %q was deleted in the meantime", id)
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// checkVersion compares the version that an edit is based on.
func checkVersion(what string, have, want uint64) error {
	if want == AnyVersion || have == want {
		return nil
	}
	return fault.New(fault.Stale, "somebody else changed the %s: it has version %d by now, not %d", what, have, want).
		WithHint("read it again and repeat the change")
}

func checkName(faults *fault.Fields, name string) {
	switch {
	case name == "":
		faults.Add("name", "is required")
	case len(name) > maxName:
		faults.Add("name", "must not be longer than %d bytes", maxName)
	case strings.TrimSpace(name) != name || !isText(name):
		faults.Add("name", "must be printable text without white space around it")
	}
}

func checkDescription(faults *fault.Fields, text string) {
	if len(text) > maxDescription {
		faults.Add("description", "must not be longer than %d bytes", maxDescription)
	}
	if !isText(strings.NewReplacer("\n", "", "\t", "").Replace(text)) {
		faults.Add("description", "must be printable text")
	}
}

// checkText refuses what no database can look for.
func checkText(faults *fault.Fields, field, text string) {
	if !isText(text) {
		faults.Add(field, "must be printable text")
	}
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func checkLabels(faults *fault.Fields, field string, labels map[string]string) {
	if len(labels) > maxLabels {
		faults.Add(field, "must not have more than %d labels", maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelKey || strings.ContainsFunc(k, notLabelKey) {
			faults.Add(field, "must have keys of 1 to %d letters, digits, dots, dashes, slashes and underscores; %q is none", maxLabelKey, k)
		}
		if len(v) > maxLabelValue || !isText(v) {
			faults.Add(field, "must have printable values of at most %d bytes; that of %q is none", maxLabelValue, k)
		}
	}
}

func notLabelKey(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/", r)
}

// clipText makes text from a device fit to be kept.
func clipText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, " "))
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// size returns how many items a page has.
func (q PageQuery) size() (int, error) {
	switch {
	case q.Limit == 0:
		return defaultPage, nil
	case q.Limit < 0 || q.Limit > maxPage:
		var faults fault.Fields
		faults.Add("limit", "must be between 1 and %d", maxPage)
		return 0, faults.Err("the page is not valid")
	default:
		return q.Limit, nil
	}
}

func badCursor() error {
	var faults fault.Fields
	faults.Add("cursor", "must be one that the server returned")
	return faults.Err("the page is not valid")
}

// paginate returns one page of a list that is in memory. key tells the
// place of an item and is unique.
func paginate[T any](items []T, q PageQuery, key func(*T) string) (Page[T], error) {
	size, err := q.size()
	if err != nil {
		return Page[T]{}, err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil {
		return Page[T]{}, badCursor()
	}
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(key(&a), key(&b)) })
	if q.Cursor != "" {
		at, found := slices.BinarySearchFunc(items, string(after), func(v T, k string) int { return cmp.Compare(key(&v), k) })
		if found {
			at++
		}
		items = items[at:]
	}
	page := Page[T]{Items: items[:min(size, len(items))]}
	if len(items) > size {
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(key(&page.Items[size-1])))
	}
	if page.Items == nil {
		page.Items = []T{}
	}
	return page, nil
}

// contains reports whether one of the texts contains what is searched for,
// regardless of case.
func contains(search string, texts ...string) bool {
	search = strings.ToLower(search)
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(t), search) })
}
