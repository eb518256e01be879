package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interdict/internal/agent/notify/desktoptest"
	"interdict/internal/agent/notify/session"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// desktop gives a user a desktop session until the test ends: a real session
// bus with a notification service on it, and logind on the system bus, which
// says that the session is there. Programs of the session have the locale.
func (f *fixture) desktop(t *testing.T, user, locale string) *desktoptest.Service {
	t.Helper()
	u := f.lab.User(user)
	leader := f.lab.CommandAs(t.Context(), hostInside, user, "sleep", "infinity")
	leader.Env = append(leader.Env, "LANG="+locale)
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = leader.Process.Kill() // The end of the test has killed it.
		_ = leader.Wait()
		_ = os.Remove(filepath.Join(u.RuntimeDir(), "bus"))
	})
	dir := t.TempDir()
	desktoptest.Logind(t, dir, desktoptest.Session{
		ID: "1", UID: u.UID, Name: user, RuntimePath: u.RuntimeDir(), Type: "wayland", Class: "user", Active: true,
		Leader: uint32(leader.Process.Pid),
	})
	system := strings.TrimPrefix(session.SystemBus, "unix:path=")
	if err := os.MkdirAll(filepath.Dir(system), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "bus"), system); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(system) })
	return desktoptest.NewService(t, desktoptest.Bus(t, u.UID, u.RuntimeDir()), u.UID, "actions", "body").WithPortal()
}

func TestAWarnedUserIsToldInTheirLanguageAndGoesOnForAWhile(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.settings(t, "--warn-bypass-duration", "4s", "--support-contact", "Ada, Tel. 5")
	desk := f.desktop(t, alice, "de_DE.UTF-8")
	f.tag(t, "dropbox", "monitored")

	const host = "www.dropbox.com"
	refused(t, "before the user has gone on", f.curlAs(t, alice, "https://"+host+"/"))
	if e := f.waitUserEvent(t, event.IDBlocked, alice, host); e.Action != event.ActionWarned {
		t.Errorf("the event says %q, want warned", e.Action)
	}
	note := desk.Next()
	if note.UID != f.lab.User(alice).UID || note.Title != "Dropbox: Möchten Sie fortfahren?" ||
		!strings.Contains(note.Body, "curl wollte sich mit "+host+" verbinden") || !strings.Contains(note.Body, "Ada, Tel. 5") {
		t.Errorf("the desktop shows %+v", note)
	}
	desk.Invoke(note.ID, "continue")
	if note = desk.Next(); note.Title != "Sie dürfen fortfahren" {
		t.Errorf("after that the desktop shows %+v", note)
	}
	until(t, "the user can go on", f.worksNow(t, alice, "https://"+host+"/"))
	e := f.waitBypass(t, "dropbox", "")
	if length := e.Until.Sub(e.Time); length < 3*time.Second || length > 5*time.Second {
		t.Errorf("it lasts from %s until %s, want 4s", e.Time, e.Until)
	}
	open := f.downloadAs(t, alice, host)
	refused(t, "another user", f.curlAs(t, bob, "https://"+host+"/"))

	ends(t, "what was open when the time was over", open)
	if early := time.Until(e.Until); early > 0 {
		t.Errorf("it was cut %s before the time was over", early)
	}
	refused(t, "after the time is over", f.curlAs(t, alice, "https://"+host+"/"))
	desk.Silent()
}

func TestUsersAreToldNothingWhereNotificationsAreOff(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.settings(t, "--notifications", "off")
	desk := f.desktop(t, alice, "en_US.UTF-8")
	f.tag(t, "box", "unsanctioned")
	refused(t, "an unsanctioned app", f.curlAs(t, alice, "https://www.box.com/"))
	f.waitUserEvent(t, event.IDBlocked, alice, "www.box.com")
	// The one that comes is that of the second app: had the first been told,
	// it would come before.
	f.tag(t, "spotify", "unsanctioned")
	f.settings(t, "--notifications", "on", "--notification-text", "Not {app} ({host}), please. Ask {contact}.", "--support-contact", "Ada")
	refused(t, "another unsanctioned app", f.curlAs(t, alice, "https://open.spotify.com/"))
	if note := desk.Next(); note.Title != "Spotify is blocked" || note.Body != "Not Spotify (open.spotify.com), please. Ask Ada." {
		t.Errorf("the desktop shows %+v", note)
	}
	desk.Silent()
}

func TestARevokedBypassEndsAtOnce(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.settings(t, "--bypass-reason", "required")
	f.tag(t, "wetransfer", "monitored")
	const host = "www.wetransfer.com"
	page := f.whyPage(t, alice, host)

	if a := f.post(t, alice, page+"/continue", ""); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "Please give a reason") {
		t.Errorf("without a reason the page answers %d: %s", a.status, a.body)
	}
	refused(t, "without a reason", f.curlAs(t, alice, "https://"+host+"/"))
	const reason = "The printer's files are too large for mail."
	if a := f.post(t, alice, page+"/continue", reason); a.status != http.StatusOK || !strings.Contains(a.body, "You can use WeTransfer") {
		t.Errorf("with a reason the page answers %d: %s", a.status, a.body)
	}
	until(t, "the user can go on", f.worksNow(t, alice, "https://"+host+"/"))
	f.waitBypass(t, "wetransfer", reason)
	f.waitActivity(t, "wetransfer")
	open := f.downloadAs(t, alice, host)
	if active := f.bypasses(t, "wetransfer"); len(active) != 1 || active[0].User != alice || active[0].Reason != reason {
		t.Errorf("the server says that these have gone on: %+v", active)
	}

	start := time.Now()
	f.admin(t, "bypass", "revoke", "wetransfer", "--user", alice, "--wait")
	ends(t, "what was open when the bypass was revoked", open)
	t.Logf("it was cut %s after the bypass was revoked", time.Since(start).Round(time.Millisecond))
	refused(t, "after the bypass was revoked", f.curlAs(t, alice, "https://"+host+"/"))
	if active := f.bypasses(t, "wetransfer"); len(active) != 0 {
		t.Errorf("after that the server says that these have gone on: %+v", active)
	}
	f.inAuditLog(t, "bypass.revoke", "wetransfer")
}

func TestABypassOutlivesTheAgent(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.tag(t, "figma", "monitored")
	const host = "www.figma.com"
	f.post(t, alice, f.whyPage(t, alice, host)+"/continue", "")
	until(t, "the user can go on", f.worksNow(t, alice, "https://"+host+"/"))
	if err := f.site.KillAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	f.startAgent(t)
	until(t, "the user can go on with the new agent", f.worksNow(t, alice, "https://"+host+"/"))
	refused(t, "another user", f.curlAs(t, bob, "https://"+host+"/"))
}

// bypass is one that counts now, as the server knows.
type bypass struct {
	User   string `json:"user"`
	Reason string `json:"reason"`
}

func (f *fixture) bypasses(t *testing.T, appID string) []bypass {
	t.Helper()
	var all []bypass
	if err := f.site.AdminList(t.Context(), &all, "bypass", "list", "--app", appID); err != nil {
		t.Error(err)
	}
	return all
}
