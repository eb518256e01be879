package session_test

import (
	"testing"

	"interdict/internal/cli/session"
	"interdict/internal/indicator"
)

func TestWhatHasANameIsCalledByIt(t *testing.T) {
	names := session.NewNames(map[string]string{"1": "laptops", "2": "lab"})
	for _, tc := range []struct {
		name  string
		scope indicator.Scope
		want  string
	}{
		{"everything", indicator.Scope{}, "all devices"},
		{"one of several", indicator.Scope{Include: []string{"1", "3"}, Exclude: []string{"2"}}, "laptops, 3 except lab"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := names.Scope(tc.scope); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	var none session.Names
	if got := none.List([]string{"1", "2"}); got != "1, 2" {
		t.Errorf("got %q without names, want the ids", got)
	}
}
