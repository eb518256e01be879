package session

import (
	"cmp"
	"net/url"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Names are what people call things, by id. The API refers to groups, policies
// and devices by id. The zero value knows none.
type Names struct {
	known map[string]string
	// ask is asked about others, and answers "" if it does not know either.
	ask func(id string) string
}

// NewNames returns names by id.
func NewNames(known map[string]string) Names { return Names{known: known} }

// Names asks for the names of what is in the list at path. They are for people
// only: JSON has what the API says.
func (s *Session) Names(cmd *cobra.Command, path string) (Names, error) {
	if s.Format == output.FormatJSON {
		return Names{}, nil
	}
	known, err := s.named(cmd, path, nil)
	return NewNames(known), err
}

// named asks for what a list has, by id.
func (s *Session) named(cmd *cobra.Command, path string, q url.Values) (map[string]string, error) {
	items, err := s.Items(cmd, path, q, 0)
	if err != nil {
		return nil, err
	}
	known := make(map[string]string, len(items))
	for _, raw := range items {
		v, err := client.Decode[struct{ ID, Name string }](raw)
		if err != nil {
			return nil, err
		}
		known[v.ID] = v.Name
	}
	return known, nil
}

// NamesOfDevices returns names of the devices that a query finds. They are asked
// for when there is one to be named, and those that cannot be had keep their
// ids.
func (s *Session) NamesOfDevices(cmd *cobra.Command, q url.Values) Names {
	all := sync.OnceValue(func() map[string]string {
		known, err := s.named(cmd, "/devices", q)
		if err != nil {
			return nil
		}
		return known
	})
	return Names{known: make(map[string]string), ask: func(id string) string { return all()[id] }}
}

// Groups asks for the names of what a scope can have: device groups, and single
// devices, as device:NAME.
func (s *Session) Groups(cmd *cobra.Command) (Names, error) {
	n, err := s.Names(cmd, "/groups")
	if err != nil || n.known == nil {
		return n, err
	}
	// Few scopes have single devices, and a fleet has many of them.
	n.ask = func(id string) string {
		device, ok := fleet.DeviceOf(id)
		if !ok {
			return ""
		}
		raw, err := s.api.Get(cmd.Context(), "/devices/"+url.PathEscape(string(device)), nil)
		if err != nil {
			return "" // what is gone keeps its id
		}
		d, err := client.Decode[fleet.Device](raw)
		if err != nil {
			return ""
		}
		return fleet.DeviceGroup(fleet.DeviceID(d.Name))
	}
	return n, nil
}

// Of returns the name of the thing with an id, the id if there is none.
func (n Names) Of(id string) string {
	if n.known[id] == "" && n.ask != nil {
		n.known[id] = cmp.Or(n.ask(id), id)
	}
	return cmp.Or(n.known[id], id)
}

// All returns the names of several things.
func (n Names) All(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = n.Of(id)
	}
	return out
}

// List is All in one cell.
func (n Names) List(ids []string) string { return strings.Join(n.All(ids), ", ") }

// Scope says for which groups something counts.
func (n Names) Scope(s indicator.Scope) string {
	return output.Scope(n.All(s.Include), n.All(s.Exclude))
}
