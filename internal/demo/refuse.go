package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"interdict/internal/alert"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/site"
)

func (st *story) blockPolicy(ctx context.Context, n *notes) error {
	st.switched = time.Now()
	err := st.adminWait(ctx, n, "policy", "set", policyName, "--network-protection", "block",
		"--support-contact", contact, "--warn-bypass-duration", goOnFor.String())
	if err != nil {
		return err
	}
	return st.changed(ctx, n, settingProtection, string(fleet.ModeBlock), fleet.ChannelServer)
}

func (st *story) cut(ctx context.Context, n *notes) error {
	if st.download == nil {
		return errors.New("no download is open")
	}
	select {
	case <-st.download.done:
	case <-ctx.Done():
		return errors.Join(errors.New("the download goes on"), st.download.cmd.Process.Kill())
	}
	if st.download.err == nil {
		return errors.New("the download ended without an error")
	}
	took := st.download.at.Sub(st.switched)
	n.saw("curl ended with %v, %s after the command", st.download.err, inMilliseconds(took))
	n.took("from the command to the end of the open download", took)
	return nil
}

func (st *story) refused(ctx context.Context, n *notes) error {
	start := time.Now()
	if err := st.fails(ctx, n, st.alice(), urlUnsanctioned); err != nil {
		return err
	}
	n.took("from a connection to its refusal, as curl sees it", time.Since(start))
	return st.recorded(ctx, n, event.IDBlocked, st.alice(), appUnsanctioned)
}

// refusedByName connects to an address that curl is given, so that the name is
// seen in the TLS handshake only.
func (st *story) refusedByName(ctx context.Context, n *notes) error {
	start := time.Now()
	if err := st.fails(ctx, n, st.alice(), urlUnsanctioned, st.resolved(urlUnsanctioned)...); err != nil {
		return err
	}
	n.took("the same, refused by the name in the handshake", time.Since(start))
	return nil
}

// resolved are arguments that tell curl the address of the host of a URL.
func (st *story) resolved(address string) []string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // The addresses are our own.
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return []string{"--resolve", u.Host + ":" + port + ":" + st.lab.Addrs(u.Host)[0].String()}
}

func (st *story) notified(ctx context.Context, n *notes) error {
	note, err := st.told(ctx, n, "iTunes is blocked")
	if err != nil {
		return err
	}
	if !strings.Contains(note.Body, contact) {
		return fmt.Errorf("the notification should name %q", contact)
	}
	if more := st.desktop.Waiting(); more > 0 {
		return fmt.Errorf("there are %d notifications more, although program and app were the same", more)
	}
	return nil
}

// refusedPage asks for a URL over plain HTTP instead, which is refused, and
// returns the answer and the address of the why page that it leads to.
func (st *story) refusedPage(ctx context.Context, n *notes, secure string) (why string, answer page, err error) {
	address := strings.Replace(secure, "https:", "http:", 1)
	if answer, err = st.browse(ctx, n, st.alice(), address, st.resolved(address)...); err != nil {
		return "", page{}, err
	}
	why = regexp.MustCompile(`http://127\.0\.0\.1:\d+/why/\w+`).FindString(answer.body)
	if answer.status != http.StatusForbidden || why == "" {
		return "", answer, fmt.Errorf("the answer should be 403 and lead to the why page, and is %d: %s", answer.status, answer.text())
	}
	return why, answer, nil
}

func (st *story) blockPage(ctx context.Context, n *notes) error {
	why, answer, err := st.refusedPage(ctx, n, urlUnsanctioned)
	if err != nil {
		return err
	}
	n.saw("status %d: %s", answer.status, answer.text())
	st.whyPage = why
	return nil
}

func (st *story) why(ctx context.Context, n *notes) error {
	if st.whyPage == "" {
		return errors.New("nothing led to the why page")
	}
	answer, err := st.browse(ctx, n, st.alice(), st.whyPage)
	if err != nil {
		return err
	}
	n.saw("status %d: %s", answer.status, answer.text())
	if answer.status != http.StatusOK || !strings.Contains(answer.body, "iTunes is blocked") || !strings.Contains(answer.body, contact) {
		return errors.New("the page should say that iTunes is blocked, and whom to ask")
	}
	if st.alice().user == "" {
		return nil
	}
	if answer, err = st.browse(ctx, n, st.person(userBob, hostInside), st.whyPage); err != nil {
		return err
	}
	n.saw("status %d", answer.status)
	if answer.status != http.StatusNotFound {
		return errors.New("another user can see the page")
	}
	return nil
}

func (st *story) alerted(ctx context.Context, n *notes) error {
	n.did("interdict alert list")
	return site.Until(ctx, func(ctx context.Context) error {
		var alerts []alert.Alert
		if err := st.site.AdminList(ctx, &alerts, "alert", "list"); err != nil {
			return err
		}
		i := slices.IndexFunc(alerts, func(a alert.Alert) bool { return a.AppID == appUnsanctioned })
		if i < 0 {
			return fmt.Errorf("none of %d alerts is about %s", len(alerts), appUnsanctioned)
		}
		n.saw("%s on %s, %d times, severity %s", alerts[i].Title, alerts[i].DeviceName, alerts[i].Count, alerts[i].Severity)
		return nil
	})
}

func (st *story) sanctioned(ctx context.Context, n *notes) error {
	if err := st.adminWait(ctx, n, "app", "tag", appSanctioned, "sanctioned"); err != nil {
		return err
	}
	return st.works(ctx, n, st.alice(), urlSanctioned)
}

func (st *story) rest(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, st.alice(), urlElse); err != nil {
		return err
	}
	events, err := st.site.Events(ctx, hostInside)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.EventID != event.IDConfigChanged && e.AppID != appUnsanctioned {
			return fmt.Errorf("there is an event about something else: %s", describe(e))
		}
	}
	n.saw("no event on %s is about anything but %s", hostInside, appUnsanctioned)
	return nil
}

func (st *story) outside(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, st.person(userBob, hostOutside), urlUnsanctioned); err != nil {
		return err
	}
	events, err := st.site.Events(ctx, hostOutside)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.EventID == event.IDAudited || e.EventID == event.IDBlocked {
			return fmt.Errorf("there is an event on %s: %s", hostOutside, describe(e))
		}
	}
	n.saw("no 1125 and no 1126 on %s", hostOutside)
	return nil
}
