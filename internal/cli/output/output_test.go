package output_test

import (
	"testing"

	"interdict/internal/cli/output"
)

func TestWhatStrangersWroteCannotControlTheTerminal(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain text stays", "Füße 東京 a b", "Füße 東京 a b"},
		{"an escape sequence", "\x1b]0;owned\a", `\x1b]0;owned\a`},
		{"a line break", "a\nb", `a\nb`},
		{"a right-to-left override", "a\u202eb", `a\u202eb`},
		{"bytes that are no text", "a\xffb", "a\ufffdb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := output.Printable(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
