package e2e

import (
	"encoding/json"
	"testing"
)

// finding is what a check of the doctor found.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"`
	Text  string `json:"text"`
	Mend  string `json:"mend"`
}

// examination is what all checks found.
type examination []finding

// examine runs the doctor on anna.
func (f *fixture) examine(t *testing.T, args ...string) examination {
	t.Helper()
	// It ends with an error if a check fails; what it prints says more.
	out, err := f.site.Agent(t.Context(), hostInside, "doctor",
		append([]string{"--policy-dir", f.site.PolicyDir(hostInside), "--output", "json"}, args...)...)
	var report struct {
		Findings examination `json:"findings"`
	}
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil {
		t.Fatalf("the doctor printed %q: %v, %v", out, jsonErr, err)
	}
	return report.Findings
}

// of is what a check found first.
func (e examination) of(check string) finding {
	for _, found := range e {
		if found.Check == check {
			return found
		}
	}
	return finding{}
}
