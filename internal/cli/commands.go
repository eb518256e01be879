package cli

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/usage"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

// listRaw returns the items of the list at path, all of them when limit is 0.
func (s *session) listRaw(cmd *cobra.Command, path string, q url.Values, limit int) ([]json.RawMessage, error) {
	if limit < 0 {
		return nil, usage.Fault(cmd, "--limit must be at least 0, which means all")
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	return c.List(cmd.Context(), path, q, limit)
}

// list prints the list at path, all of it when limit is 0.
func list[T any](s *session, cmd *cobra.Command, path string, q url.Values, limit int, columns []column[T]) error {
	items, err := s.listRaw(cmd, path, q, limit)
	if err != nil {
		return err
	}
	return printList(s, items, columns)
}

// show prints the one thing at path.
func show[T any](s *session, cmd *cobra.Command, path string, columns []column[T]) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	raw, err := c.Get(cmd.Context(), path, nil)
	if err != nil {
		return err
	}
	return printOne(s, raw, columns)
}

func addLimitFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 0, "print at most this `number`; 0 prints all")
}

func addScopeFlags(cmd *cobra.Command, scope *indicator.Scope) {
	cmd.Flags().StringSliceVar(&scope.Include, "include-group", nil, "only devices of this `group`; may be repeated")
	cmd.Flags().StringSliceVar(&scope.Exclude, "exclude-group", nil, "not the devices of this `group`, whatever else they are in; may be repeated")
}

// setQuery sets a query parameter if it has a value.
func setQuery(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// parseLabels reads K=V pairs of a flag.
func parseLabels(flag string, pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	labels := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fault.New(fault.Invalid, "--%s %q is not of the form KEY=VALUE", flag, p)
		}
		labels[k] = v
	}
	return labels, nil
}

// removal is what remove deletes: the one thing that ref names below path.
type removal struct {
	path, ref, kind string
	query           url.Values
}

func (s *session) remove(cmd *cobra.Command, w waitFlags, r removal) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	raw, err := c.Delete(cmd.Context(), r.path+url.PathEscape(r.ref), r.query)
	if err != nil {
		return err
	}
	return s.changed(cmd.Context(), c, w, raw, "deleted %s %s", r.kind, r.ref)
}
