package staging_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/staging"
)

func TestNext(t *testing.T) {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	trial := staging.Rollout{State: staging.StateTrial, StartedAt: began.Add(-time.Hour), TriedAt: began, AdvanceAfter: "4h", StopAt: 10}
	manual, done, untried := trial, trial, trial
	manual.AdvanceAfter, manual.StopAt = "", 0
	done.State = staging.StateDone
	untried.TriedAt = time.Time{}
	for _, test := range []struct {
		name    string
		rollout staging.Rollout
		after   time.Duration
		refused int
		want    staging.Step
	}{
		{"a quiet trial goes on", trial, time.Hour, 9, staging.StepWait},
		{"a quiet trial advances in time", trial, 4 * time.Hour, 9, staging.StepAdvance},
		{"one that nobody tried waits", untried, 1000 * time.Hour, 9, staging.StepWait},
		{"too many refusals stop it", trial, time.Hour, 10, staging.StepStop},
		{"they stop it even when its time has come", trial, 4 * time.Hour, 10, staging.StepStop},
		{"without limits it waits for a word", manual, 1000 * time.Hour, 1000, staging.StepWait},
		{"what is done does nothing", done, 1000 * time.Hour, 1000, staging.StepWait},
	} {
		if got := test.rollout.Next(began.Add(test.after), test.refused); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestOnlyTheCanaryHasTheChange(t *testing.T) {
	policies := []fleet.Policy{{ID: "p", Priority: 1}, {ID: "q"}}
	taggings := []cloudapp.Tagging{{AppID: "box", Tag: cloudapp.TagSanctioned}}
	trials := []staging.Rollout{
		{State: staging.StateTrial, Canary: "c", AfterPolicy: &fleet.Policy{ID: "p", Priority: 2}},
		{State: staging.StateTrial, Canary: "c", AfterTag: &cloudapp.Tagging{AppID: "box", Tag: cloudapp.TagUnsanctioned}},
		{State: staging.StateTrial, Canary: "c", AfterTag: &cloudapp.Tagging{AppID: "new", Tag: cloudapp.TagUnsanctioned}},
		{State: staging.StateStopped, Canary: "c", AfterPolicy: &fleet.Policy{ID: "q", Priority: 9}},
	}
	for _, test := range []struct {
		name     string
		groups   []string
		policies []fleet.Policy
		taggings []cloudapp.Tagging
	}{
		{"others", []string{"x"}, policies, taggings},
		{
			"the canary",
			[]string{"c", "x"},
			[]fleet.Policy{{ID: "p", Priority: 2}, {ID: "q"}},
			[]cloudapp.Tagging{{AppID: "box", Tag: cloudapp.TagUnsanctioned}, {AppID: "new", Tag: cloudapp.TagUnsanctioned}},
		},
	} {
		if diff := cmp.Diff(test.policies, staging.Policies(policies, trials, test.groups)); diff != "" {
			t.Errorf("%s: policies (-want +got):\n%s", test.name, diff)
		}
		if diff := cmp.Diff(test.taggings, staging.Taggings(taggings, trials, test.groups)); diff != "" {
			t.Errorf("%s: taggings (-want +got):\n%s", test.name, diff)
		}
	}
	if policies[0].Priority != 1 || taggings[0].Tag != cloudapp.TagSanctioned {
		t.Error("what was given was altered")
	}
}
