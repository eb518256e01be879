package admincmd

import (
	"encoding/json"
	"testing"
)

func TestPeopleKnowTheTargetOfAChange(t *testing.T) {
	for _, tc := range []struct{ name, change, want string }{
		{"a group", `{"id":"1","name":"laptops"}`, "laptops"},
		{"an indicator", `{"id":"1","value":"a.example"}`, "a.example"},
		{"an enrolment", `{"device":{"name":"alice-pc"},"token":"x"}`, "alice-pc"},
		{"a rollout of a policy", `{"id":"1","before_policy":{"name":"a"},"after_policy":{"name":"b"}}`, "b"},
		{"a rollout of a tag", `{"id":"1","after_tag":{"app_id":"itunes"}}`, "itunes"},
		{"something else", `[1]`, ""},
		{"nothing", `null`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got thing
			if err := json.Unmarshal([]byte(tc.change), &got); err != nil || got.name != tc.want {
				t.Errorf("%s: got %q and %v, want %q", tc.change, got.name, err, tc.want)
			}
		})
	}
}
