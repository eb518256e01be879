package server_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/control/appeal"
	"interdict/internal/control/usage"
	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/adminapi"
	"interdict/internal/server/servertest"
)

func TestAUserHearsAtOnceWhatWasDecided(t *testing.T) {
	s := servertest.Start(t)
	a, other := s.Enroll(t, "alice-pc"), s.Enroll(t, "bob-pc")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := make(chan bundle.MessageType, 16)
	go func() {
		_ = a.Stream(ctx, func(m bundle.Message) error {
			said <- m.Type
			return nil
		})
	}()
	wait(t, said, bundle.MessageHello)

	// Whose it is says the certificate, not the body.
	sent := access.Request{ID: ulid.Make().String(), Device: other.ID, User: "alice", AppID: "itunes", Reason: "please", AskedAt: time.Now()}
	kept, err := a.Ask(t.Context(), sent)
	if err != nil || kept.Device != a.ID || kept.State != access.StatePending {
		t.Fatalf("got %+v (%v), want it pending and the device's own", kept, err)
	}
	if text := metrics(t, s); !strings.Contains(text, "\ninterdict_access_requests_pending 1\n") {
		t.Errorf("the metrics do not have one pending request:\n%s", text)
	}
	var p problem.Document
	if got := s.Call(t, http.MethodPost, "/api/v1/requests/"+sent.ID+"/approve", map[string]any{"for": "forever"}, &p); got != http.StatusUnprocessableEntity || p.Code != fault.Invalid {
		t.Errorf("approving for ever: got status %d and %+v", got, p)
	}
	var approved adminapi.RequestChanged
	if got := s.Call(t, http.MethodPost, "/api/v1/requests/"+sent.ID+"/approve", appeal.Approval{For: "1h"}, &approved); got != http.StatusOK || approved.Revision == 0 {
		t.Fatalf("approving: got status %d and %+v", got, approved)
	}
	wait(t, said, bundle.MessageRequests)
	all, err := a.Requests(t.Context())
	if err != nil || len(all) != 1 || all[0].State != access.StateApproved || len(all[0].Indicators) == 0 {
		t.Errorf("the device is told %+v (%v), want the approval", all, err)
	}
	if all, err := other.Requests(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("another device is told %+v (%v), want nothing", all, err)
	}
	sent.Reason = strings.Repeat("a", 1<<20)
	if _, err := a.Ask(t.Context(), sent); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("an endless request got %v", err)
	}
}

func wait(t *testing.T, said <-chan bundle.MessageType, want bundle.MessageType) {
	t.Helper()
	for {
		select {
		case got := <-said:
			if got == want {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the device was not told %s", want)
		}
	}
}

func metrics(t *testing.T, s *servertest.Server) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.LocalURL()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestUseIsTakenInOnce(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	now := time.Now()
	report := bundle.UsageReport{Start: now.Add(-time.Minute), End: now, Uses: []bundle.Use{{Host: "init.itunes.apple.com", User: "alice", Count: 2}}}
	key := ulid.Make().String()
	for range 2 {
		if err := a.Use(t.Context(), key, report); err != nil {
			t.Fatal(err)
		}
	}
	var impact usage.Impact
	if got := s.Call(t, http.MethodPost, "/api/v1/apps/impact", map[string]any{"apps": []string{"itunes"}, "tag": "unsanctioned"}, &impact); got != http.StatusOK {
		t.Fatalf("got status %d, want the impact", got)
	}
	if u := impact.Total; u.Devices != 1 || u.Users != 1 || len(u.TopUsers) != 1 || u.TopUsers[0].Count != 2 {
		t.Errorf("got %+v, want alice twice", u)
	}
	if err := a.Use(t.Context(), "", report); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a report without a key got %v", err)
	}
	// As many as there may be, with the longest names.
	report.Uses = make([]bundle.Use, bundle.MaxUses)
	for i := range report.Uses {
		report.Uses[i] = bundle.Use{Host: strings.Repeat("a.", 100) + "itunes.apple.com", Process: strings.Repeat("p", 1024), User: "alice", Count: 1}
	}
	if err := a.Use(t.Context(), ulid.Make().String(), report); err != nil {
		t.Errorf("the largest report got %v", err)
	}
	report.Uses[0].Process = strings.Repeat("p", 5<<20)
	if err := a.Use(t.Context(), ulid.Make().String(), report); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("an endless report got %v", err)
	}
}
