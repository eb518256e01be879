package input_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"interdict/internal/control/input"
	"interdict/internal/fault"
)

func TestWhatBreaksARule(t *testing.T) {
	many := make(map[string]string)
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	for _, tc := range []struct {
		name  string
		check func(*fault.Fields)
		want  string
	}{
		{"a name", func(f *fault.Fields) { input.CheckName(f, "Füße 1") }, ""},
		{"no name", func(f *fault.Fields) { input.CheckName(f, "") }, "is required"},
		{"a long name", func(f *fault.Fields) { input.CheckName(f, strings.Repeat("a", 129)) }, "longer than 128"},
		{"a name with space around it", func(f *fault.Fields) { input.CheckName(f, " a") }, "without white space"},
		{"a name with a line break", func(f *fault.Fields) { input.CheckName(f, "a\nb") }, "must be printable"},
		{"a description of two lines", func(f *fault.Fields) { input.CheckDescription(f, "a\n\tb") }, ""},
		{"a description with a bell", func(f *fault.Fields) { input.CheckDescription(f, "a\a") }, "must be printable"},
		{"a long description", func(f *fault.Fields) { input.CheckDescription(f, strings.Repeat("a", 1025)) }, "longer than 1024"},
		{"bytes that are no text", func(f *fault.Fields) { input.CheckText(f, "user", "\xff") }, "must be printable"},
		{"labels", func(f *fault.Fields) { input.CheckLabels(f, "labels", map[string]string{"a.b/c-d_1": "x y"}) }, ""},
		{"a label without a key", func(f *fault.Fields) { input.CheckLabels(f, "labels", map[string]string{"": "x"}) }, "must have keys"},
		{"a label with a space in its key", func(f *fault.Fields) { input.CheckLabels(f, "labels", map[string]string{"a b": "x"}) }, "must have keys"},
		{"a label with a long value", func(f *fault.Fields) {
			input.CheckLabels(f, "labels", map[string]string{"a": strings.Repeat("a", 256)})
		}, "at most 255"},
		{"too many labels", func(f *fault.Fields) { input.CheckLabels(f, "labels", many) }, "more than 64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f fault.Fields
			tc.check(&f)
			if tc.want == "" {
				if len(f) != 0 {
					t.Errorf("got faults %+v, want none", f)
				}
				return
			}
			if len(f) == 0 || !strings.Contains(f[0].Rule, tc.want) {
				t.Errorf("got faults %+v, want one with %q", f, tc.want)
			}
		})
	}
}

func FuzzClip(f *testing.F) {
	for _, seed := range []string{"", "host", "a\x00b", "\xff\xfe", "Füße", strings.Repeat("ü", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := input.Clip(s, 20)
		if len(got) > 20 || !utf8.ValidString(got) || !input.IsText(got) {
			t.Errorf("%q was clipped to %q, which cannot be kept", s, got)
		}
		if len(s) <= 20 && input.IsText(s) && got != s {
			t.Errorf("%q was clipped to %q though nothing was wrong with it", s, got)
		}
	})
}

func TestOrListIsSortedAndHasEachOnce(t *testing.T) {
	for want, names := range map[string][]string{
		"": nil, "a": {"a", "a"}, "a or b": {"b", "a"}, "a, b or c": {"c", "a", "b", "a"},
	} {
		if got := input.OrList(names); got != want {
			t.Errorf("got %q for %q, want %q", got, names, want)
		}
	}
}
