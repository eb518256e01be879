package verdicttest

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

func TestAMistakeInACaseIsTold(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a file of another name", "-- rules --\n", `no place for a file "rules"`},
		{"an unknown line", "-- policy --\nrule block example.com\n", "no app, spare, indicator or anything else"},
		{"a line cut short", "-- policy --\nindicator block domain\n", "no app, spare, indicator or anything else"},
		{"a value that is not canonical", "-- policy --\nindicator block domain Example.com\n", `would be "example.com"`},
		{"a value that breaks a rule", "-- policy --\nindicator block domain com\n", "two labels"},
		{"an unknown action", "-- policy --\nindicator deny domain example.com\n", `action "deny"`},
		{"an unknown option", "-- policy --\nindicator block domain example.com device=a\n", `no option "device"`},
		{"a damaged time", "-- policy --\nnow noon\n", `cannot parse "noon"`},
		{"two indicators of one id", "-- policy --\nindicator block domain a.example\nindicator warn domain a.example\n-- flows in block --\n", "two records"},
		{"a window that is none", "-- policy --\nindicator block domain example.com window=8-17\n", `"8"`},
		{"a bypass of nobody", "-- policy --\nbypass anna box 2026-06-01T12:00:00Z\n", `no user "anna"`},
		{"a flow by nobody", "-- flows in block --\nexample.com by anna -> none\n", `no user "anna"`},
		{"a flow with a word too many", "-- flows in block --\nexample.com from home -> none\n", `"from home"`},
		{"a flow without a result", "-- flows in block --\nexample.com\n", "arrow"},
		{"a flow to what is no address", "-- flows in block --\nat home -> none\n", `"home"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse("case", txtar.Parse([]byte(tt.text)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that says %q", err, tt.want)
			}
		})
	}
}
