package why

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/wording"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// contentSecurityPolicy allows the page's own style and forms, and nothing
// else.
func contentSecurityPolicy() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

// page is what the template fills in.
type page struct {
	T   *wording.Texts
	CSS template.CSS
	// Title and Lead are what happened, in a line and in a sentence.
	Title, Lead string
	// Missing is set where there is nothing else to show.
	Missing bool
	// Fault is what went wrong with a form.
	Fault string
	// State are the sentences that say what has become of it, Good that it
	// is good news, Note the administrator's.
	State []string
	Good  bool
	Note  string
	Facts []fact
	// Form is what can be done about it; nil for nothing.
	Form *form
	// Ask is whom to ask, Support a link.
	Ask, Support string
	Details      []fact
}

// fact is a name and a value.
type fact struct{ Name, Value string }

// form is a form with a reason.
type form struct {
	Action, Heading, Text, Label, Button string
	// Required says that the reason has to be given.
	Required bool
}

func (s *Server) missing(w http.ResponseWriter, r *http.Request) {
	t := wording.For(wording.OfHeader(r.Header.Get("Accept-Language")))
	s.write(w, r, http.StatusNotFound, &page{T: t, Title: t.PageMissing, Lead: t.PageMissingBody, Missing: true})
}

// show writes the page of a refusal for a user; mistake is what was wrong with
// their form, nil for nothing.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, uid uint32, standing *appeal.Standing, mistake error) {
	t := wording.For(wording.OfHeader(r.Header.Get("Accept-Language")))
	p := compose(t, standing, s.cfg.Settings(), s.cfg.Now())
	if mistake != nil {
		p.Fault = sentenceOf(t, mistake)
	}
	if uid != standing.UID {
		p.Form = nil
	}
	s.write(w, r, status, p)
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, p *page) {
	p.CSS = template.CSS(pageCSS) //nolint:gosec // our own file
	var b bytes.Buffer
	if err := s.page.Execute(&b, p); err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "writing the why page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", string(p.T.Language))
	w.WriteHeader(status)
	// Whoever does not read the answer does not want it.
	_, _ = w.Write(b.Bytes())
}

// compose is the page of a refusal for its own user.
func compose(t *wording.Texts, s *appeal.Standing, settings fleet.Settings, now time.Time) *page {
	fill := func(text string, pairs ...string) string {
		return wording.Fill(text, append(pairs, "app", s.Name(), "host", s.Host())...)
	}
	p := &page{
		T: t, Title: fill(t.PageBlocked), Lead: s.Reason(t), Support: settings.SupportURL,
		Ask:   fill(t.AskBody, "contact", cmp.Or(settings.SupportContact, t.OurSupport)),
		Facts: factsOf(t, s, now), Details: detailsOf(t, s),
	}
	if s.Warned() {
		p.Title = fill(t.PageWarned)
	}
	p.state(t, s, now, fill)
	if p.Good {
		p.Title, p.Lead = fill(t.PageOpen), ""
	}
	switch {
	case s.CanContinue:
		p.Form = &form{pathOf(s.ID) + "/continue", t.ContinueHeading, t.ContinueBody, t.ReasonOptional, t.ContinueButton, s.ReasonRequired}
		if s.ReasonRequired {
			p.Form.Label = t.Reason
		}
	case s.CanRequest:
		p.Form = &form{pathOf(s.ID) + "/request", t.RequestHeading, t.RequestBody, t.ReasonOptional, t.RequestButton, false}
	}
	return p
}

// state says what has become of a refusal.
func (p *page) state(t *wording.Texts, s *appeal.Standing, now time.Time, fill func(text string, pairs ...string) string) {
	if s.Bypass != nil {
		p.Good = true
		p.State = append(p.State, fill(t.Continued, "until", t.Moment(s.Bypass.Until, now)), t.TryAgain)
	}
	q := s.Request
	if q == nil {
		return
	}
	p.Note = q.Note
	until := t.Moment(q.Until, now)
	switch {
	case q.State == access.StatePending:
		p.State = append(p.State, t.Pending)
	case q.State == access.StateDenied:
		p.State = append(p.State, t.Denied)
	case q.State != access.StateApproved, !q.Until.IsZero() && !now.Before(q.Until):
		p.State = append(p.State, t.Withdrawn)
	case q.Until.IsZero():
		p.Good = true
		p.State = append(p.State, fill(t.ApprovedUnlimited), t.TryAgain)
	default:
		p.Good = true
		p.State = append(p.State, fill(t.Approved, "until", until), t.TryAgain)
	}
}

// factsOf are what a user knows their own attempt by.
func factsOf(t *wording.Texts, s *appeal.Standing, now time.Time) []fact {
	d := &s.Event.Destination
	address := s.Host()
	switch {
	case d.URL != "":
		address = d.URL
	case d.Port != 0:
		address = net.JoinHostPort(address, strconv.Itoa(int(d.Port)))
	}
	program := s.Event.Process.Path
	if program != "" {
		program = filepath.Base(program) + " (" + program + ")"
	}
	last, first := t.Moment(s.Event.Time, now), t.Moment(s.Since, now)
	if first == last {
		first = ""
	}
	return known(
		fact{t.App, cmp.Or(s.Event.AppName, s.Event.AppID)}, fact{t.Address, address}, fact{t.Program, program},
		fact{t.Time, last}, fact{t.Attempts, first},
	)
}

// detailsOf are what somebody needs who is asked for help.
func detailsOf(t *wording.Texts, s *appeal.Standing) []fact {
	ip := ""
	if s.Event.Destination.IP.IsValid() {
		ip = s.Event.Destination.IP.String()
	}
	return known(
		fact{t.Indicator, s.Event.IndicatorID}, fact{t.Policy, s.Event.PolicyID}, fact{"IP", ip},
		fact{t.Evidence, string(s.Event.Evidence)}, fact{t.Time, s.Event.Time.UTC().Format(time.RFC3339)},
	)
}

// known leaves out what is not known.
func known(all ...fact) (some []fact) {
	for _, f := range all {
		if f.Value != "" {
			some = append(some, f)
		}
	}
	return some
}

// sentenceOf says what was wrong with a form.
func sentenceOf(t *wording.Texts, err error) string {
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return t.FaultReason
	case fault.TooMany:
		return t.FaultTooMany
	default:
		return t.FaultOther
	}
}
