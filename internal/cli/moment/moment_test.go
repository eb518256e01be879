package moment_test

import (
	"testing"
	"time"

	"interdict/internal/cli/moment"
	"interdict/internal/fault"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		dir      moment.Direction
		want     string
	}{
		{"a span ahead", "90m", moment.Ahead, "2026-05-04T13:30:00Z"},
		{"a span ago", "90m", moment.Ago, "2026-05-04T10:30:00Z"},
		{"days", "7d", moment.Ahead, "2026-05-11T12:00:00Z"},
		{"a date is its first instant", "2026-05-05", moment.Ago, "2026-05-05T00:00:00Z"},
		{"a time keeps its zone's instant", "2026-05-05T02:00:00+02:00", moment.Ahead, "2026-05-05T00:00:00Z"},
		{"a span that counts backwards", "-5m", moment.Ahead, ""},
		{"more days than there are", "99999d", moment.Ahead, ""},
		{"a word", "yesterday", moment.Ago, ""},
		{"nothing", "", moment.Ago, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := moment.Parse("--expires", tc.in, noon, tc.dir)
			if tc.want == "" {
				if fault.CodeOf(err) != fault.Invalid {
					t.Errorf("got %s and error %v, want it to be invalid", got, err)
				}
				return
			}
			if err != nil || got.Format(time.RFC3339) != tc.want {
				t.Errorf("got %s, %v; want %s", got.Format(time.RFC3339), err, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"90m", "7d", "2026-05-05", "2026-05-05T02:00:00+02:00", "", "d", "9223372036854775807d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := moment.Parse("since", s, noon, moment.Ago)
		if err != nil && fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: got %v, want an invalid fault", s, err)
		}
		if err == nil && got.Location() != time.UTC {
			t.Errorf("%q: got %s, want it in UTC", s, got)
		}
	})
}
