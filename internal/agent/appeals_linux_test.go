package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"interdict/internal/agent/journal"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// The whole way round: what the enforcer refuses is on the page; what the user
// does there reaches the enforcer; and what the server revokes ends.
func TestAUserGoesOnUntilTheServerEndsIt(t *testing.T) {
	_, e, set := newLab(t)
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Config{LogDir: dir.Path(state.DirEvents), Health: set, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{cfg: Config{Dir: dir, Log: log, WhyListen: "127.0.0.1:0", RuntimeDir: t.TempDir()}, enforcer: e, journal: j, health: set}
	users := a.newUsers(t.Context())
	e.cfg.Revoked = users.appeals.Revoke
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- users.run(ctx) }()
	defer func() {
		cancel()
		ran := <-ended
		users.close()
		if fault := errors.Join(ran, j.Close(t.Context())); fault != nil {
			t.Error(fault)
		}
	}()

	warned := indicator.Indicator{
		ID: "tunes:tunes.example", Type: indicator.TypeDomain, Value: "tunes.example", Action: indicator.ActionWarn,
		Source: indicator.SourceCatalog, AppID: "tunes", CreatedAt: time.Unix(1, 0),
	}
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, "", warned))
	// The client is this process.
	uid := uint32(os.Geteuid())
	step := func(uid uint32) verdict.Step {
		d, _ := e.decide(verdict.Subject{Host: "tunes.example", User: &indicator.User{UID: uid, Name: strconv.Itoa(int(uid))}})
		return d.Step
	}
	if got := step(uid); got != verdict.StepDomain {
		t.Fatalf("before, got %s", got)
	}
	page := users.refused(event.Event{
		EventID: event.IDBlocked, Action: event.ActionWarned, AppID: "tunes", AppName: "Tunes", IndicatorID: warned.ID, User: event.User{UID: &uid},
	})
	if page == "" {
		t.Fatal("the refusal has no page")
	}
	said, err := os.ReadFile(filepath.Join(a.cfg.RuntimeDir, "why-address"))
	if at := strings.TrimSpace(string(said)); err != nil || !strings.HasPrefix(page, "http://"+at+"/") {
		t.Errorf("the page is said to be at %q (%v), want where %s is", at, err, page)
	}
	resp, err := http.PostForm(page+"/continue", url.Values{"reason": {"work"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.String() != page {
		t.Errorf("going on got status %d at %s", resp.StatusCode, resp.Request.URL)
	}
	eventually(t, "the enforcer lets the user pass", func() bool { return step(uid) == verdict.StepBypassed })
	if got := step(uid + 1); got != verdict.StepDomain {
		t.Errorf("another user: got %s", got)
	}

	revoked := bundle.Revocation(bypass.Revocation{ID: "r-1", Subject: "tunes", Before: time.Now().Add(time.Minute)})
	records, err := bundle.NewSet(slices.Values([]bundle.Record{
		bundle.App("tunes", "Tunes"), bundle.Setting(fleet.SettingNetworkProtection, string(fleet.ModeBlock), "policy-1"), bundle.Indicator(warned), revoked,
	}))
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, e, state.Bundle{Header: bundle.Header{Version: 2, Digest: records.Digest(), Records: records.Len()}, Set: records})
	eventually(t, "the revocation counts", func() bool { return step(uid) == verdict.StepDomain && len(users.appeals.Bypasses()) == 0 })
}
