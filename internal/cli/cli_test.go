package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"interdict/internal/cli/session"
	"interdict/internal/fault"
)

func TestEveryCommandIsDocumented(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the short help %q should be a phrase without a full stop", c.CommandPath(), c.Short)
		}
		if c.Example == "" && !c.HasSubCommands() && c.Flags().HasFlags() {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Args == nil {
			t.Errorf("%s takes whatever arguments it is given", c.CommandPath())
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(newRootCmd(&session.Session{Env: Env{Getenv: func(string) string { return "" }}}))
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"no error", nil, 0},
		{"an error that is no fault", errors.New("disk full"), 1},
		{"a thing that does not exist", fault.New(fault.NotFound, "x"), 1},
		{"a name that is taken", fault.New(fault.Conflict, "x"), 1},
		{"input that breaks a rule", fmt.Errorf("wrapped: %w", fault.New(fault.Invalid, "x")), 2},
		{"no answer", fault.New(fault.Unreachable, "x"), 3},
		{"a server that cannot answer now", fault.New(fault.Unavailable, "x"), 3},
		{"an unknown caller", fault.New(fault.Unauthorized, "x"), 4},
		{"a caller who may not", fault.New(fault.Forbidden, "x"), 4},
		{"an interrupt", context.Canceled, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := exitCode(tc.err); got != tc.want {
				t.Errorf("got %d for %v, want %d", got, tc.err, tc.want)
			}
		})
	}
}

func TestWhatIsNotThereIsListedByACommand(t *testing.T) {
	root := newRootCmd(new(session.Session))
	for _, tc := range []struct{ message, want string }{
		{`there is no group "lab"`, "interdict group list"},
		{`there is no enrolment token "x"`, "interdict token list"},
		{`there is no category "group"`, ""},
		{`no path`, ""},
		{``, ""},
	} {
		got := ""
		if c := listOf(root, tc.message); c != nil {
			got = c.CommandPath()
		}
		if got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.message, got, tc.want)
		}
	}
}

func TestErrorsComeWithTheirHint(t *testing.T) {
	var b bytes.Buffer
	tell(&b, fault.New(fault.NotFound, "no app %q", "a\x1b[31mb").WithHint("type 'interdict app search a'"))
	want := "interdict: no app \"a\\x1b[31mb\"\nhint: type 'interdict app search a'\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}
