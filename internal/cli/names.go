package cli

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/indicator"
)

// names are what people call things, by id. The API refers to groups, policies
// and devices by id.
type names map[string]string

// names asks for the names of what is in the list at path. They are for people
// only: JSON has what the API says.
func (s *session) names(cmd *cobra.Command, path string) (names, error) {
	if s.format == output.FormatJSON {
		return nil, nil //nolint:nilnil // no names is a value, and JSON needs none
	}
	items, err := s.listRaw(cmd, path, nil, 0)
	if err != nil {
		return nil, err
	}
	n := make(names, len(items))
	for _, raw := range items {
		v, err := client.Decode[struct{ ID, Name string }](raw)
		if err != nil {
			return nil, err
		}
		n[v.ID] = v.Name
	}
	return n, nil
}

// of returns the name of the thing with an id, the id if there is none.
func (n names) of(id string) string { return cmp.Or(n[id], id) }

// all returns the names of several things.
func (n names) all(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = n.of(id)
	}
	return out
}

// list is all in one cell.
func (n names) list(ids []string) string { return strings.Join(n.all(ids), ", ") }

// scope says for which groups something counts.
func (n names) scope(s indicator.Scope) string {
	return output.Scope(n.all(s.Include), n.all(s.Exclude))
}
