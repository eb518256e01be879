package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"interdict/internal/access"
	"interdict/internal/fleet"
)

// waitRequest waits until the server has alice's request for an app.
func (f *fixture) waitRequest(t *testing.T, appID string) access.Request {
	t.Helper()
	var found access.Request
	until(t, "the request is on the server", func(ctx context.Context) error {
		var all []access.Request
		if err := f.site.AdminList(ctx, &all, "request", "list", "--app", appID, "--state", "pending"); err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("there are %d requests: %+v", len(all), all)
		}
		found = all[0]
		return nil
	})
	return found
}

// waitPage waits until a why page of alice's says something.
func (f *fixture) waitPage(t *testing.T, page, text string) {
	t.Helper()
	until(t, "the why page says "+text, func(context.Context) error {
		if a := f.fetch(t, alice, page); !strings.Contains(a.body, text) {
			return fmt.Errorf("it is %d: %s", a.status, a.body)
		}
		return nil
	})
}

// inAuditLog fails the test unless the audit log has an action of an
// administrator about a thing.
func (f *fixture) inAuditLog(t *testing.T, action, id string) {
	t.Helper()
	var entries []struct {
		Action string `json:"action"`
		Target string `json:"target"`
		Actor  string `json:"actor"`
	}
	if err := f.site.AdminList(t.Context(), &entries, "audit-log", "list", "--action", action, "--target", id); err != nil {
		t.Error(err)
	}
	if len(entries) == 0 || entries[0].Action != action || entries[0].Target != id || entries[0].Actor == "" {
		t.Errorf("of %s of %s the audit log has %+v", action, id, entries)
	}
}

func TestAUserAsksForAccessAndGetsItForAWhile(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.tag(t, "trello", "unsanctioned")
	const host, reason = "www.trello.com", "Our customer plans the fair there."
	page := f.whyPage(t, alice, host)
	if a := f.post(t, alice, page+"/request", reason); a.status != http.StatusOK || !strings.Contains(a.body, "It is not decided yet") {
		t.Errorf("after the request the page is %d: %s", a.status, a.body)
	}
	q := f.waitRequest(t, "trello")
	if q.User != alice || q.UID != f.lab.User(alice).UID || q.Reason != reason || !strings.HasSuffix(q.Process, "/curl") {
		t.Errorf("the server has the request %+v", q)
	}
	says(t, "the request", f.admin(t, "request", "show", q.ID), "trello", alice, reason, "pending")
	refused(t, "before it is approved", f.curlAs(t, alice, "https://"+host+"/"))

	f.admin(t, "request", "approve", q.ID, "--for", "6s", "--note", "For the fair.", "--wait")
	approved := time.Now()
	until(t, "the user has access", f.worksNow(t, alice, "https://"+host+"/"))
	open := f.downloadAs(t, alice, host)
	refused(t, "another user", f.curlAs(t, bob, "https://"+host+"/"))
	f.waitPage(t, page, "Your request was approved")
	if a := f.fetch(t, alice, page); !strings.Contains(a.body, "For the fair.") {
		t.Errorf("the page does not have the note: %s", a.body)
	}

	ends(t, "what was open when the time was over", open)
	if held := time.Since(approved); held < 4*time.Second {
		t.Errorf("access was over after %s, want 6s", held)
	}
	refused(t, "after the time is over", f.curlAs(t, alice, "https://"+host+"/"))
	f.inAuditLog(t, "access.request", q.ID)
	f.inAuditLog(t, "access.approve", q.ID)
}

func TestAUserWhoseRequestIsDeniedIsToldWhy(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	desk := f.desktop(t, alice, "en_US.UTF-8")
	f.tag(t, "notion", "unsanctioned")
	const host, note = "www.notion.so", "Please use the wiki."
	refused(t, "an unsanctioned app", f.curlAs(t, alice, "https://"+host+"/"))
	shown := desk.Next()
	desk.Invoke(shown.ID, "request")
	if n := desk.Next(); n.Title != "Access to Notion requested" {
		t.Errorf("after the request the desktop shows %+v", n)
	}
	q := f.waitRequest(t, "notion")
	f.admin(t, "request", "deny", q.ID, "--note", note)
	if n := desk.Next(); n.Title != "Access to Notion denied" || !strings.Contains(n.Body, note) {
		t.Errorf("after the answer the desktop shows %+v", n)
	}
	page := f.whyPage(t, alice, host)
	f.waitPage(t, page, note)
	refused(t, "after the request was denied", f.curlAs(t, alice, "https://"+host+"/"))
	f.inAuditLog(t, "access.deny", q.ID)
}

func TestAccessThatIsTakenBackEndsAtOnce(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.tag(t, "asana", "unsanctioned")
	const host = "revoked.asana.com"
	page := f.whyPage(t, alice, host)
	f.post(t, alice, page+"/request", "")
	q := f.waitRequest(t, "asana")
	f.admin(t, "request", "approve", q.ID, "--scope", "device", "--wait")
	until(t, "another user of the device has access", f.worksNow(t, bob, "https://"+host+"/"))
	open := f.downloadAs(t, bob, host)
	f.admin(t, "request", "revoke", q.ID, "--wait")
	ends(t, "what was open when access was taken back", open)
	refused(t, "after access was taken back", f.curlAs(t, bob, "https://"+host+"/"))
	f.waitPage(t, page, "the approval was taken back")
	f.inAuditLog(t, "access.revoke", q.ID)
}

func TestARequestWaitsUntilTheServerIsBack(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.tag(t, "airtable", "unsanctioned")
	page := f.whyPage(t, alice, "www.airtable.com")
	if err := f.site.KillServer(); err != nil {
		t.Fatal(err)
	}
	f.post(t, alice, page+"/request", "For the inventory.")
	f.waitPage(t, page, "It is not decided yet")
	// Not even a power cut loses it.
	if err := f.site.KillAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	f.startServer(t)
	f.startAgent(t)
	if q := f.waitRequest(t, "airtable"); q.User != alice || q.Reason != "For the inventory." {
		t.Errorf("the server has the request %+v", q)
	}
}
