package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"interdict/internal/event"
	"interdict/internal/fleet"
)

// answer is what a web server answered curl.
type answer struct {
	result
	status int
	body   string
}

// fetch gets a page as a user, whatever its status.
func (f *fixture) fetch(t *testing.T, user string, args ...string) answer {
	t.Helper()
	a := answer{result: f.curlAs(t, user, append([]string{"-w", "\n%{http_code}"}, args...)...)}
	at := strings.LastIndexByte(a.out, '\n')
	if a.err != nil || at < 0 {
		return a
	}
	a.body = a.out[:at]
	var err error
	if a.status, err = strconv.Atoi(a.out[at+1:]); err != nil {
		t.Errorf("curl printed %q", a.out)
	}
	return a
}

// whyPage has a user try a plain HTTP address that is refused, with an answer
// that leads to the why page, and returns that page's address.
func (f *fixture) whyPage(t *testing.T, user, host string) string {
	t.Helper()
	page, ok := whyLink(f.fetch(t, user, append(f.resolve(host, 80), "http://"+host+"/")...))
	if !ok {
		t.Fatalf("the answer for %s leads to no why page", host)
	}
	return page
}

// whyLink returns the address of the why page that a refused request is
// answered with.
func whyLink(a answer) (page string, ok bool) {
	page = regexp.MustCompile(`http://127\.0\.0\.1:\d+/why/[a-z2-7]{26}`).FindString(a.body)
	return page, page != "" && a.status == http.StatusForbidden
}

// post sends the form of a why page as a user and follows to what comes of it.
func (f *fixture) post(t *testing.T, user, address, reason string) answer {
	t.Helper()
	return f.fetch(t, user, "-L", "--data-urlencode", "reason="+reason, address)
}

// worksNow is for until: a user gets a page.
func (f *fixture) worksNow(t *testing.T, user string, args ...string) func(context.Context) error {
	t.Helper()
	return func(context.Context) error {
		r := f.curlAs(t, user, args...)
		if r.err != nil {
			return fmt.Errorf("%w: %s", r.err, r.out)
		}
		return nil
	}
}

// waitBypass waits for the event that alice went on, with the reason she gave.
func (f *fixture) waitBypass(t *testing.T, appID, reason string) event.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == event.IDBypassed && e.AppID == appID && e.User.Name == alice && e.Reason == reason
	})
	if err != nil {
		t.Errorf("event 1129 of %s for %s: %v", alice, appID, err)
	}
	return e
}

// waitActivity waits until the server says of an app that it warned somebody,
// and that somebody went on.
func (f *fixture) waitActivity(t *testing.T, appID string) {
	t.Helper()
	until(t, "the server counts who was warned and went on", func(ctx context.Context) error {
		out, err := f.site.Admin(ctx, "app", "show", appID)
		if err != nil {
			return err
		}
		for _, what := range []string{"WARNED", "BYPASSED"} {
			if !regexp.MustCompile(`(?im)^` + what + `:?\s+1 user on 1 device, `).MatchString(out) {
				return errors.New(out)
			}
		}
		return nil
	})
}

func TestTheWhyPageIsForItsUserAlone(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.settings(t, "--support-url", "https://help.example.com/", "--support-contact", "Ada, ext. 5")
	f.tag(t, app, "unsanctioned")
	const host = "why.itunes.apple.com"
	page := f.whyPage(t, alice, host)

	a := f.fetch(t, alice, page)
	for _, want := range []string{"<html lang=\"en\">", "iTunes is blocked", host, "curl", "Ada, ext. 5", "https://help.example.com/", "Request access"} {
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("the page is %d and lacks %q:\n%s", a.status, want, a.body)
		}
	}
	if a = f.fetch(t, alice, "-H", "Accept-Language: de", page); !strings.Contains(a.body, "iTunes ist gesperrt") {
		t.Errorf("in German the page says\n%s", a.body)
	}
	if a = f.fetch(t, bob, page); a.status != http.StatusNotFound || strings.Contains(a.body, "iTunes") {
		t.Errorf("another user is shown, with status %d:\n%s", a.status, a.body)
	}
	if a = f.post(t, bob, page+"/request", "let me"); a.status != http.StatusNotFound {
		t.Errorf("another user's form is answered with status %d", a.status)
	}
	if a = f.fetch(t, alice, "-H", "Origin: https://evil.example", "-d", "reason=x", page+"/request"); a.status != http.StatusForbidden {
		t.Errorf("another site's form is answered with status %d", a.status)
	}
	if own := f.whyPage(t, bob, host); own == page {
		t.Error("two users have the same page")
	}
	if a = f.fetch(t, alice, page[:len(page)-26]+strings.Repeat("a", 26)); a.status != http.StatusNotFound {
		t.Errorf("a page that is not there has status %d", a.status)
	}
}

func TestARefusedPlainRequestIsAnsweredOverBothFamilies(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	f.tag(t, app, "unsanctioned")
	const host = "families.itunes.apple.com"
	for i, family := range []string{"IPv4", "IPv6"} {
		address := f.lab.Addrs(host)[i].String()
		if family == "IPv6" {
			address = "[" + address + "]"
		}
		a := f.fetch(t, alice, "--resolve", host+":80:"+address, "-H", "Accept: text/html", "http://"+host+"/")
		if _, ok := whyLink(a); !ok || !strings.Contains(a.body, "<h1>iTunes is blocked</h1>") {
			t.Errorf("%s: curl ended with %v and got %d: %s", family, a.err, a.status, a.body)
		}
		// What is not safe to answer is refused as everything else.
		refused(t, family+", a form", f.curlAs(t, alice, "--resolve", host+":80:"+address, "-d", "a=b", "http://"+host+"/"))
	}
}
