package uplink

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/access"
	"interdict/internal/agent/health"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

func ask(id string) bundle.Message {
	return bundle.Message{Type: bundle.MessageAsk, Question: &bundle.Question{ID: id, Host: "app.example"}}
}

func TestAQuestionIsAnsweredUnderItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		a.answer = func(_ context.Context, q bundle.Question) bundle.Answer {
			return bundle.Answer{Step: "app " + q.Host, Enforcing: true}
		}
		settle()
		s.tell(ask("question-1"))
		s.say(bundle.MessageAsk) // Without a question there is no answer.
		settle()
		want := []bundle.Answer{{ID: "question-1", Step: "app app.example", Enforcing: true}}
		if diff := cmp.Diff(want, s.answers); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
	})
}

func TestSlowAnswersHoldUpNeitherTheStreamNorEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		a.answer = func(ctx context.Context, _ bundle.Question) bundle.Answer {
			<-ctx.Done()
			return bundle.Answer{Error: "not in time"}
		}
		settle()
		for i := range maxAnswers + 3 {
			s.tell(ask(strconv.Itoa(i)))
			synctest.Wait()
		}
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		s.say(bundle.MessageNudge)
		settle()
		if got := s.lastApplied(); got.Version != 1 {
			t.Errorf("acknowledged version %d while questions are open, want 1", got.Version)
		}
		elapse(answerTimeout)
		synctest.Wait()
		if len(s.answers) != maxAnswers {
			t.Errorf("%d answers, want %d: the rest is ignored", len(s.answers), maxAnswers)
		}

		// An agent that ends does not wait for an answer.
		s.tell(ask("last"))
		settle()
		began := time.Now()
		a.stop()
		if took := time.Since(began); took >= answerTimeout-time.Second {
			t.Errorf("the agent took %s to end", took)
		}
	})
}

func TestRequestsAreFetchedAfterAConnectAndWhenOneWasDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		made, err := a.Request(t.Context(), access.Request{ID: "request-1", UID: 1000, AppID: "app-1", Reason: "work"})
		if err != nil {
			t.Fatal(err)
		}
		want := access.Request{ID: "request-1", Device: testDevice, UID: 1000, AppID: "app-1", Reason: "work", State: access.StatePending}
		if diff := cmp.Diff(want, made); diff != "" {
			t.Errorf("the request as the server has it (-want +got):\n%s", diff)
		}
		s.mu.Lock()
		s.requests[0].State = access.StateApproved
		s.mu.Unlock()
		s.say(bundle.MessageRequests)
		settle()
		s.stop()
		s.start()
		elapse(maxPause)
		synctest.Wait()
		want.State = access.StateApproved
		if diff := cmp.Diff([][]access.Request{nil, {want}, {want}}, a.requests); diff != "" {
			t.Errorf("what the agent was told (-want +got):\n%s", diff)
		}
	})
}

func TestTheServerIsToldOfSettingsAndFaultsThatChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		setting := fleet.SettingReport{Setting: fleet.SettingGatewayMode, Value: "on", Channel: fleet.ChannelFile, State: fleet.SettingApplied}
		a.mu.Lock()
		a.settings = []fleet.SettingReport{setting}
		a.mu.Unlock()
		a.Changed()
		settle()
		if diff := cmp.Diff([]fleet.SettingReport{setting}, s.lastApplied().Settings); diff != "" {
			t.Errorf("settings told (-want +got):\n%s", diff)
		}

		a.health.Raise(health.CaptureMissing, "no queue")
		elapse(changeEvery)
		settle()
		if got := s.lastApplied().Health; len(got) != 1 || got[0].Code != string(health.CaptureMissing) || got[0].Text != "no queue" {
			t.Errorf("health told is %+v, want the missing queue", got)
		}
		if got := s.lastApplied(); got.Version != 1 || len(got.Settings) != 1 {
			t.Errorf("with it came %+v, want all that is in force", got)
		}

		// A text that counts does not make a request a count.
		before := len(s.applied)
		for i := range 100 {
			a.health.Raise(health.ObservationsDropped, "%d dropped", i)
			elapse(100 * time.Millisecond)
		}
		elapse(changeEvery)
		synctest.Wait()
		if told := len(s.applied) - before; told > 7 {
			t.Errorf("told %d times in 12 s, want no more than every %s", told, changeEvery)
		}
		if got := s.lastApplied().Health; got[len(got)-1].Text != "99 dropped" {
			t.Errorf("told last %+v, want the last count", got)
		}

		a.Changed()
		elapse(changeEvery)
		synctest.Wait()
		before = len(s.applied)
		a.Changed()
		elapse(changeEvery)
		synctest.Wait()
		if len(s.applied) != before {
			t.Error("told again although nothing is different")
		}
	})
}
