package session

import (
	"encoding/json"
	"net/url"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
)

// Items returns the items of the list at path, at most limit of them, or all
// when limit is 0.
func (s *Session) Items(cmd *cobra.Command, path string, q url.Values, limit int) ([]json.RawMessage, error) {
	if limit < 0 {
		return nil, usage.Fault(cmd, "--limit must be at least 0, which means all")
	}
	c, err := s.Client()
	if err != nil {
		return nil, err
	}
	return c.List(cmd.Context(), path, q, limit)
}

// List prints the list at path, at most limit of its items, or all when limit
// is 0.
func List[T any](s *Session, cmd *cobra.Command, path string, q url.Values, limit int, columns []output.Column[T]) error {
	items, err := s.Items(cmd, path, q, limit)
	if err != nil {
		return err
	}
	return output.List(s.Stdout, s.Format, items, columns)
}

// Show prints the one thing at path.
func Show[T any](s *Session, cmd *cobra.Command, path string, columns []output.Column[T]) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Get(cmd.Context(), path, nil)
	if err != nil {
		return err
	}
	return output.One(s.Stdout, s.Format, raw, columns)
}
