package indicator_test

import (
	"testing"
	"time"

	"interdict/internal/indicator"
)

func TestScopeCovers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		scope  indicator.Scope
		groups []string
		want   bool
	}{
		{"an empty scope covers every device", indicator.Scope{}, nil, true},
		{"an included group is covered", indicator.Scope{Include: []string{"a", "b"}}, []string{"b"}, true},
		{"another group is not", indicator.Scope{Include: []string{"a"}}, []string{"b"}, false},
		{"no group is not", indicator.Scope{Include: []string{"a"}}, nil, false},
		{"an excluded group is not", indicator.Scope{Exclude: []string{"a"}}, []string{"a", "b"}, false},
		{"whoever is not excluded is", indicator.Scope{Exclude: []string{"a"}}, []string{"b"}, true},
		{"exclude beats include", indicator.Scope{Include: []string{"a"}, Exclude: []string{"b"}}, []string{"a", "b"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.scope.Covers(tt.groups); got != tt.want {
				t.Errorf("Covers(%q) = %t, want %t", tt.groups, got, tt.want)
			}
		})
	}
}

func TestAnIndicatorExpiresAtItsExpiry(t *testing.T) {
	i := indicator.Indicator{ExpiresAt: noon}
	for at, want := range map[time.Time]bool{noon.Add(-1): false, noon: true, noon.Add(1): true} {
		if got := i.Expired(at); got != want {
			t.Errorf("Expired(%s) = %t, want %t", at, got, want)
		}
	}
	if forever := (indicator.Indicator{}); forever.Expired(noon) {
		t.Error("an indicator without an expiry has expired")
	}
}
