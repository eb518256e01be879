package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/labtest"
)

// installUsers is install for tests that need users.
func installUsers(t *testing.T) *fixture {
	t.Helper()
	f := install(t)
	labtest.RequireUsers(t, f.lab)
	return f
}

// waitUserEvent waits for an event on anna that names a user and a host name.
func (f *fixture) waitUserEvent(t *testing.T, id event.ID, user, host string) event.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == id && e.User.Name == user && e.Destination.Host == host
	})
	if err != nil {
		t.Errorf("event %d of %s for %s: %v", id, user, host, err)
	}
	return e
}

// downloadAs begins a download without an end as a user, see download.
func (f *fixture) downloadAs(t *testing.T, user, host string) chan time.Time {
	t.Helper()
	return download(t, user+"'s download", f.slow(t.Context(), user, host))
}

func (f *fixture) slow(ctx context.Context, user, host string) *exec.Cmd {
	return f.lab.CommandAs(ctx, hostInside, user, "curl", "-sSN", "--cacert", f.lab.CAFile(), "https://"+host+"/slow")
}

// ends fails the test unless a download is cut.
func ends(t *testing.T, what string, end <-chan time.Time) {
	t.Helper()
	select {
	case <-end:
	case <-time.After(patience):
		t.Errorf("%s goes on", what)
	}
}

// goesOn fails the test if a download has ended.
func goesOn(t *testing.T, what string, end <-chan time.Time) {
	t.Helper()
	select {
	case <-end:
		t.Errorf("%s was cut", what)
	default:
	}
}

func TestOfTwoUsersOnlyTheOneInScopeIsRefused(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	const host = "scope.itunes.apple.com"
	alices, bobs := f.downloadAs(t, alice, host), f.downloadAs(t, bob, host)

	f.tag(t, app, "unsanctioned", "--user-group", usersFinance)
	ends(t, "the open download of the user in scope", alices)
	refused(t, "the user in scope", f.curlAs(t, alice, "https://"+host+"/"))
	e := f.waitUserEvent(t, event.IDBlocked, alice, host)
	if e.AppID != app || e.User.UID == nil || *e.User.UID != f.lab.User(alice).UID {
		t.Errorf("the event says %+v", e)
	}
	works(t, "the user out of scope", f.curlAs(t, bob, "https://"+host+"/"))
	works(t, "root", f.curl(t, hostInside, "https://"+host+"/"))
	goesOn(t, "the download of the user out of scope", bobs)

	// The scope is edited in place: the tag stays.
	f.admin(t, "app", "scope", app, "--clear", "--user", bob, "--wait")
	ends(t, "the open download of the user now in scope", bobs)
	refused(t, "the user now in scope", f.curlAs(t, bob, "https://"+host+"/"))
	f.waitUserEvent(t, event.IDBlocked, bob, host)
	works(t, "the user now out of scope", f.curlAs(t, alice, "https://"+host+"/"))

	f.admin(t, "app", "scope", app, "--clear", "--exclude-user", bob, "--wait")
	refused(t, "a user who is not spared", f.curlAs(t, alice, "https://"+host+"/"))
	works(t, "the user who is spared", f.curlAs(t, bob, "https://"+host+"/"))
}

// window is a span of the week, as --window takes it, which has begun and ends
// with the minute that the time is in.
func window(end time.Time) string {
	end = end.UTC().Truncate(time.Minute)
	start := end.Add(-2 * time.Minute)
	day := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}[start.Weekday()]
	return fmt.Sprintf("%s %s-%s UTC", day, start.Format("15:04"), end.Format("15:04"))
}

func TestATagThatHasHoursCountsWithinThemOnly(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	const host = "hours.itunes.apple.com"
	now := time.Now().UTC()
	f.tag(t, app, "unsanctioned", "--window", window(now.Add(2*time.Minute)))
	refused(t, "within the hours", f.curlAs(t, alice, "https://"+host+"/"))
	f.admin(t, "app", "scope", app, "--window", window(now.Add(-24*time.Hour)), "--wait")
	works(t, "out of them", f.curlAs(t, alice, "https://"+host+"/"))
}

// opening is a span of the week, as --window takes it, which begins with the
// minute that the time is in and holds for another.
func opening(start time.Time) string {
	return window(start.UTC().Truncate(time.Minute).Add(2 * time.Minute))
}

// It waits for the clock of the machine, a minute at most, and lets the demo
// run meanwhile.
func TestHoursBeginAndEndByThemselves(t *testing.T) {
	labtest.Require(t)
	t.Parallel()
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	// The next minute, unless it is too near to see how things are before it.
	minute := time.Now().Add(8 * time.Second).Truncate(time.Minute).Add(time.Minute)
	const begins, ends = "begins.itunes.apple.com", "ends.trello.com"
	f.tag(t, app, "unsanctioned", "--window", opening(minute))
	f.tag(t, "trello", "unsanctioned", "--window", window(minute))
	works(t, "before its hours", f.curl(t, hostInside, "https://"+begins+"/"))
	refused(t, "within its hours", f.curl(t, hostInside, "https://"+ends+"/"))
	open := download(t, "a download before its hours", f.lab.Command(t.Context(), hostInside,
		"curl", "-sSN", "--cacert", f.lab.CAFile(), "https://"+begins+"/slow"))
	if now := time.Now(); !now.Before(minute) {
		t.Fatalf("this took until %s, the hours were to begin at %s", now, minute)
	}

	select {
	case at := <-open:
		if early := minute.Sub(at); early > 0 {
			t.Errorf("the download was cut %s before the hours began", early)
		}
		t.Logf("the download was cut %s after the hours began", at.Sub(minute).Round(time.Millisecond))
	case <-time.After(time.Until(minute) + patience):
		t.Error("the download goes on though the hours have begun")
	}
	refused(t, "when its hours have begun", f.curl(t, hostInside, "https://begun."+begins+"/"))
	f.waitEvent(t, event.IDBlocked, "begun."+begins)
	until(t, "it works when its hours are over", func(context.Context) error {
		return f.curl(t, hostInside, "https://"+ends+"/").err
	})
}
