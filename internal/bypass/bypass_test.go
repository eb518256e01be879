package bypass_test

import (
	"testing"
	"time"

	"interdict/internal/bypass"
)

func TestActive(t *testing.T) {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	b := bypass.Bypass{UID: 1000, User: "anna", Subject: "dropbox", Since: began, Until: began.Add(time.Hour)}
	later := began.Add(time.Minute)
	long := b
	long.Until = began.Add(bypass.MaxAge + time.Second)
	for _, test := range []struct {
		name        string
		bypass      bypass.Bypass
		now         time.Time
		revocations []bypass.Revocation
		want        bool
	}{
		{"when it begins", b, began, nil, true},
		{"before it begins, as after a clock went back", b, began.Add(-time.Second), nil, false},
		{"just before its end", b, began.Add(time.Hour - time.Nanosecond), nil, true},
		{"at its end", b, began.Add(time.Hour), nil, false},
		{"longer than any may last", long, later, nil, false},
		{"revoked for everybody", b, later, []bypass.Revocation{{Subject: "dropbox", Before: later}}, false},
		{"revoked for the user", b, later, []bypass.Revocation{{Subject: "dropbox", User: "anna", Before: later}}, false},
		{"everything of the user revoked", b, later, []bypass.Revocation{{User: "anna", Before: later}}, false},
		{"revoked for another user", b, later, []bypass.Revocation{{Subject: "dropbox", User: "ben", Before: later}}, true},
		{"another app revoked", b, later, []bypass.Revocation{{Subject: "box", Before: later}}, true},
		{"revoked before it began", b, later, []bypass.Revocation{{Subject: "dropbox", Before: began}}, true},
	} {
		if got := test.bypass.Active(test.now, test.revocations); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
