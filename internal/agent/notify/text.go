package notify

import (
	"cmp"
	"path/filepath"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/wording"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
)

// The actions of notifications. A click on the notification itself is what the
// specification calls "default".
const (
	actionDefault  = "default"
	actionWhy      = "why"
	actionRequest  = "request"
	actionContinue = "continue"
)

// The icons, by the Icon Naming Specification.
const (
	iconRefused = "security-high"
	iconWarned  = "dialog-warning"
	iconAnswer  = "dialog-information"
)

// refused says what was refused, why, and whom to ask.
func refused(t *wording.Texts, s *appeal.Standing, settings *fleet.Settings, url string) desktop.Message {
	program := t.AProgram
	if path := s.Event.Process.Path; path != "" {
		program = filepath.Base(path)
	}
	fill := func(text string) string {
		return wording.Fill(text, "app", s.Name(), "host", s.Host(), "program", program,
			"reason", s.Reason(t), "contact", cmp.Or(settings.SupportContact, t.OurSupport))
	}
	m := desktop.Message{
		Title: fill(t.BlockedTitle), Body: fill(cmp.Or(settings.NotificationText, t.Body)), Icon: iconRefused,
		Actions: pageActions(t, url), Link: url, Help: desktop.Help{Label: t.AskLink, URL: settings.SupportURL},
	}
	if s.Warned() {
		m.Title, m.Icon = fill(t.WarnedTitle), iconWarned
	}
	switch {
	case s.CanContinue:
		m.Actions = append(m.Actions, desktop.Action{Name: actionContinue, Label: t.Continue})
	case s.CanRequest:
		m.Actions = append(m.Actions, desktop.Action{Name: actionRequest, Label: t.Request})
	}
	return m
}

// pageActions are those that open a page, if there is one.
func pageActions(t *wording.Texts, url string) []desktop.Action {
	if url == "" {
		return nil
	}
	return []desktop.Action{{Name: actionDefault, Label: t.Why}, {Name: actionWhy, Label: t.Why}}
}

// continued says how long a user may go on.
func continued(t *wording.Texts, b *bypass.Bypass, now time.Time) desktop.Message {
	body := wording.Fill(t.ContinuedBody, "app", b.Name, "until", t.Moment(b.Until, now))
	return desktop.Message{Title: t.ContinuedTitle, Body: body, Icon: iconAnswer}
}

// requested says that a request is on its way.
func requested(t *wording.Texts, r *access.Request) desktop.Message {
	return desktop.Message{Title: wording.Fill(t.RequestedTitle, "app", nameOf(r)), Body: t.RequestedBody, Icon: iconAnswer}
}

func nameOf(r *access.Request) string { return cmp.Or(r.AppName, r.AppID, r.Host) }

// answered says what became of a request.
func answered(t *wording.Texts, r *access.Request, url string, now time.Time) desktop.Message {
	title, body := t.DeniedTitle, t.DeniedBody
	switch {
	case r.State == access.StateApproved && r.Until.IsZero():
		title, body = t.ApprovedTitle, t.ApprovedUnlimitedBody
	case r.State == access.StateApproved:
		title, body = t.ApprovedTitle, t.ApprovedBody
	case r.State == access.StateRevoked:
		title, body = t.WithdrawnTitle, t.WithdrawnBody
	}
	if r.Note != "" {
		body += " " + t.NoteSays
	}
	fill := func(text string) string {
		return wording.Fill(text, "app", nameOf(r), "until", t.Moment(r.Until, now), "note", r.Note)
	}
	return desktop.Message{Title: fill(title), Body: fill(body), Icon: iconAnswer, Actions: pageActions(t, url), Link: url}
}
