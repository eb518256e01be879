package eventexpr_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cli/eventexpr"
	"interdict/internal/fault"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, expr string
		want       url.Values
		wantErr    string
	}{
		{"an empty expression matches everything", "  ", url.Values{}, ""},
		{
			"terms become parameters", "event_id=1126 app=itunes\tdevice=alice-pc", url.Values{"event_id": {"1126"}, "app": {"itunes"}, "device": {"alice-pc"}}, "",
		},
		{"id is short for event_id", "id=5007", url.Values{"event_id": {"5007"}}, ""},
		{"a value with spaces stands in quotes", `user="Alice Adams" host=example.com`, url.Values{"user": {"Alice Adams"}, "host": {"example.com"}}, ""},
		{"only the first equals sign separates", "user=a=b", url.Values{"user": {"a=b"}}, ""},
		{"spans count back from now", "since=90m until=1d", url.Values{"since": {"2026-05-04T10:30:00Z"}, "until": {"2026-05-03T12:00:00Z"}}, ""},
		{"a date is its first instant", "since=2026-05-01", url.Values{"since": {"2026-05-01T00:00:00Z"}}, ""},
		{"a time keeps its zone's instant", "since=2026-05-01T02:00:00+02:00", url.Values{"since": {"2026-05-01T00:00:00Z"}}, ""},
		{"an unknown term", "application=itunes", nil, `the term "application" is not known`},
		{"a term without a value", "itunes", nil, `the term "itunes" has no value`},
		{"an empty value", "app=", nil, `the term "app" has an empty value`},
		{"the same term twice", "event_id=1 id=2", nil, `the term "id" is there twice`},
		{"a quote that is not closed", `user="alice`, nil, "a double quote is not closed"},
		{"a time that is none", "since=yesterday", nil, `since "yesterday" is not a time`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := eventexpr.Parse(tc.expr, noon)
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr || fault.CodeOf(err) != fault.Invalid {
					t.Fatalf("got error %v, want invalid: %s", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", tc.expr, diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"event_id=1126 app=itunes", `user="a b" since=1h`, `"`, "=", "a==b", "since=9999999999d", "until=\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		q, err := eventexpr.Parse(expr, noon)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("%q: got %v, want an invalid fault", expr, err)
			}
			return
		}
		for k, v := range q {
			if len(v) != 1 || v[0] == "" {
				t.Fatalf("%q: got %q for %s, want exactly one value", expr, v, k)
			}
			if k != "since" && k != "until" && !strings.Contains(strings.ReplaceAll(expr, `"`, ""), v[0]) {
				t.Fatalf("%q: value %q of %s does not come from the expression", expr, v[0], k)
			}
		}
	})
}
