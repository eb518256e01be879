package session

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/indicator"
)

// Names are what people call things, by id. The API refers to groups, policies
// and devices by id.
type Names map[string]string

// Names asks for the names of what is in the list at path. They are for people
// only: JSON has what the API says.
func (s *Session) Names(cmd *cobra.Command, path string) (Names, error) {
	if s.Format == output.FormatJSON {
		return nil, nil //nolint:nilnil // no names is a value, and JSON needs none
	}
	items, err := s.Items(cmd, path, nil, 0)
	if err != nil {
		return nil, err
	}
	n := make(Names, len(items))
	for _, raw := range items {
		v, err := client.Decode[struct{ ID, Name string }](raw)
		if err != nil {
			return nil, err
		}
		n[v.ID] = v.Name
	}
	return n, nil
}

// Of returns the name of the thing with an id, the id if there is none.
func (n Names) Of(id string) string { return cmp.Or(n[id], id) }

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
