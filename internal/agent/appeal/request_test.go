package appeal

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/access"
	"interdict/internal/event"
	"interdict/internal/fault"
)

func TestRequest(t *testing.T) {
	for _, test := range []struct {
		name       string
		action     event.Action
		uid        uint32
		standalone bool
		reason     string
		want       fault.Code
	}{
		{"of what is blocked", event.ActionBlocked, 1, false, "the customer\nuses it", ""},
		{"without a reason", event.ActionBlocked, 1, false, "", ""},
		{"of what is warned of", event.ActionWarned, 1, false, "", fault.Conflict},
		{"as another user", event.ActionBlocked, 2, false, "", fault.NotFound},
		{"as root", event.ActionBlocked, 0, false, "", fault.NotFound},
		{"without a server", event.ActionBlocked, 1, true, "", fault.Disabled},
		{"with an endless reason", event.ActionBlocked, 1, false, strings.Repeat("x", access.MaxText+1), fault.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			if test.standalone {
				s.cfg.Send = nil
				s.restart()
			}
			id := s.refused(refusal(1, "Box", "box.example", test.action))
			if st, _ := s.a.Standing(id); test.standalone && st.CanRequest {
				t.Error("a request is offered that nobody takes")
			}
			r, err := s.a.Request(t.Context(), id, test.uid, test.reason)
			if got := fault.CodeOf(err); got != test.want {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if err != nil {
				return
			}
			want := access.Request{
				ID: r.ID, Device: "device", UID: 1, User: "anna", AppID: "box", AppName: "Box", Host: "box.example", Process: "/usr/bin/curl",
				Reason: strings.ReplaceAll(test.reason, "\n", " "), AskedAt: s.now, State: access.StatePending,
			}
			if diff := cmp.Diff(want, r); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, err := s.a.Request(t.Context(), id, 1, "please")
			if err != nil || again.ID != r.ID {
				t.Errorf("asking again: got %+v, %v", again, err)
			}
		})
	}
}

func TestARequestForAnAppHasNoHostThatNobodyUnderstands(t *testing.T) {
	s := newScene(t)
	for host, want := range map[string]string{"box.example": "box.example", "192.0.2.1": "192.0.2.1", `a\032b`: "", "com": ""} {
		r, err := s.a.Request(t.Context(), s.refused(refusal(1, "App "+host, host, event.ActionBlocked)), 1, "")
		if err != nil || r.Host != want {
			t.Errorf("%q: got %q, %v, want %q", host, r.Host, err, want)
		}
	}
}

func TestARequestWaitsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t).live()
		away := errors.New("the network is away")
		var sent []string
		s.cfg.Send = func(_ context.Context, r access.Request) (access.Request, error) {
			sent = append(sent, r.ID)
			return r, away
		}
		s.restart()
		stop := s.run()
		r, err := s.a.Request(t.Context(), s.refused(refusal(1, "Box", "box.example", event.ActionBlocked)), 1, "")
		if err != nil {
			t.Fatal(err)
		}
		elapse(time.Hour)
		synctest.Wait()
		if n := len(sent); n < 10 || n > 30 {
			t.Errorf("within an hour it was tried %d times", n)
		}
		stop()
		s.restart()
		away, sent = nil, nil
		defer s.run()()
		synctest.Wait()
		s.a.Requests(t.Context(), nil)
		synctest.Wait()
		if diff := cmp.Diff([]string{r.ID}, sent); diff != "" {
			t.Errorf("sent after a restart (-want +got):\n%s", diff)
		}
	})
}

func TestARequestThatTheServerNeverTakesIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t).live()
		s.cfg.Send = func(context.Context, access.Request) (access.Request, error) {
			return access.Request{}, fault.New(fault.Invalid, "no such app")
		}
		s.restart()
		defer s.run()()
		id := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked))
		if _, err := s.a.Request(t.Context(), id, 1, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st, _ := s.a.Standing(id); st.Request != nil || !st.CanRequest {
			t.Errorf("got %+v", st.Request)
		}
	})
}

func TestTheServersAnswerReachesTheUser(t *testing.T) {
	until := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	answer := func(state access.State, note string) func(*access.Request) {
		return func(r *access.Request) {
			r.State, r.Note, r.DecidedBy, r.DecidedAt = state, note, "admin", until.Add(-24*time.Hour)
			if state == access.StateApproved {
				r.Until = until
			}
			// Not the server's to say.
			r.UID, r.AppName = 99, "Another"
		}
	}
	for _, test := range []struct {
		name    string
		answers []func(*access.Request)
		want    []string
		again   bool
	}{
		{"approved", []func(*access.Request){answer(access.StateApproved, "ok")}, []string{"approved Box ok "}, false},
		{"denied", []func(*access.Request){answer(access.StateDenied, "use Tunes")}, []string{"denied Box use Tunes "}, true},
		{"told twice", []func(*access.Request){answer(access.StateDenied, ""), answer(access.StateDenied, "")}, []string{"denied Box  "}, true},
		{"still pending", []func(*access.Request){func(*access.Request) {}}, nil, false},
		{
			"approved and taken back",
			[]func(*access.Request){answer(access.StateApproved, ""), answer(access.StateRevoked, "")},
			[]string{"approved Box  ", "revoked Box  "},
			true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			id := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked))
			r, err := s.a.Request(t.Context(), id, 1, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, change := range test.answers {
				got := r
				change(&got)
				s.a.Requests(t.Context(), []access.Request{{ID: "of a former life", State: access.StateDenied}, got})
			}
			for i := range test.want {
				test.want[i] += id
			}
			if diff := cmp.Diff(test.want, s.answers); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			st, _ := s.a.Standing(id)
			if st.CanRequest != test.again {
				t.Errorf("may ask again: got %v, want %v", st.CanRequest, test.again)
			}
			if st.Request == nil || st.Request.UID != 1 || st.Request.AppName != "Box" {
				t.Errorf("got %+v", st.Request)
			}
		})
	}
}

func TestWhatTheServerForgotIsForgotten(t *testing.T) {
	s := newScene(t)
	id := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked))
	r, err := s.a.Request(t.Context(), id, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	has := func() bool {
		st, _ := s.a.Standing(id)
		return st.Request != nil
	}
	s.now = s.now.Add(time.Hour)
	if s.a.Requests(t.Context(), nil); !has() {
		t.Error("a request that was not sent yet was forgotten")
	}
	s.a.sent(t.Context(), r.ID, r, nil)
	if s.a.Requests(t.Context(), nil); !has() {
		t.Error("a request was forgotten by a list that may be older")
	}
	s.now = s.now.Add(2 * settled)
	if s.a.Requests(t.Context(), nil); has() {
		t.Error("a request that the server has not is kept for ever")
	}
}

func TestRequestsAreBounded(t *testing.T) {
	s := newScene(t)
	var first access.Request
	for i := range maxRequests {
		r, err := s.a.Request(t.Context(), s.refused(refusal(1, "App"+strconv.Itoa(i), "a.example", event.ActionBlocked)), 1, "")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = r
		}
	}
	id := s.refused(refusal(1, "One more", "a.example", event.ActionBlocked))
	if _, err := s.a.Request(t.Context(), id, 1, ""); fault.CodeOf(err) != fault.TooMany {
		t.Errorf("got %v", err)
	}
	first.State, first.DecidedAt = access.StateDenied, s.now
	s.a.Requests(t.Context(), []access.Request{first})
	if _, err := s.a.Request(t.Context(), id, 1, ""); err != nil {
		t.Errorf("what was decided does not make room: %v", err)
	}
}
