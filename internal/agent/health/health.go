// Package health decides which lasting faults of the agent people are told
// about, and since when.
//
// A fault that lasts is one item with a code that scripts can branch on. It
// is raised when it begins, stays as long as it lasts and is cleared when it
// ends; `status` and `doctor` show the items. A fault that is over at once is
// an error or a log line, not an item.
package health

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"interdict/internal/fleet"
)

// Code names a fault. It is stable.
type Code string

// The codes.
const (
	// ServerUnreachable: there is no stream to the server; the last good
	// bundle stays in force.
	ServerUnreachable Code = "server_unreachable"
	// DeviceRefused: the server does not accept this device's certificate.
	DeviceRefused Code = "device_refused"
	// CertificateExpired: the device's certificate is out of date.
	CertificateExpired Code = "certificate_expired"
	// ClockWrong: this machine's clock differs from the server's.
	ClockWrong Code = "clock_wrong"
	// BundleRefused: the server's newest bundle was not acceptable.
	BundleRefused Code = "bundle_refused"
	// BundleDamaged: the bundle on disk could not be used at start.
	BundleDamaged Code = "bundle_damaged"
	// BundleNotSaved: the bundle in force is not on disk, so that a restart
	// would fall back to an older one.
	BundleNotSaved Code = "bundle_not_saved"
	// ApplyFailed: the newest bundle could not be put into force.
	ApplyFailed Code = "apply_failed"
	// EventsDropped: events were lost because the spool was full.
	EventsDropped Code = "events_dropped"
	// EventsRejected: the server did not take events.
	EventsRejected Code = "events_rejected"
	// JournalFailing: events cannot be written to disk.
	JournalFailing Code = "journal_failing"
	// CaptureMissing: connections cannot be inspected.
	CaptureMissing Code = "capture_missing"
	// CuttingMissing: open connections cannot be ended.
	CuttingMissing Code = "cutting_missing"
	// RulesDisturbed: another program changed the kernel rules and they
	// could not be put back.
	RulesDisturbed Code = "rules_disturbed"
	// WatchMissing: nobody would notice the kernel rules being removed.
	WatchMissing Code = "watch_missing"
	// AttributionMissing: connections cannot be traced to processes.
	AttributionMissing Code = "attribution_missing"
	// ObservationsDropped: more happened than could be written down.
	ObservationsDropped Code = "observations_dropped"
	// Panicked: the agent made a mistake of its own and went on.
	Panicked Code = "panicked"
	// PolicyFileRefused: a drop-in file of policy was not taken; what it said
	// before stays in force.
	PolicyFileRefused Code = "policy_file_refused"
	// PolicyFilesUnwatched: nobody tells when drop-in files change.
	PolicyFilesUnwatched Code = "policy_files_unwatched"
	// PolicyFilesUnkept: a restart would not know what drop-in files said
	// that are not good any more by then.
	PolicyFilesUnkept Code = "policy_files_unkept"
	// EnvironmentRefused: a variable of the environment makes no setting.
	EnvironmentRefused Code = "environment_refused"
	// SetDamaged: what was set on this machine cannot be read.
	SetDamaged Code = "set_damaged"
	// Suspended: an administrator ran rescue; nothing is enforced.
	Suspended Code = "suspended"
)

// Item is a fault that lasts.
type Item struct {
	Code  Code      `json:"code"`
	Since time.Time `json:"since"`
	// Text is a sentence for people: what is wrong and what follows.
	Text string `json:"text"`
}

// Set holds the items. The zero value is empty and ready for use; it is safe
// for concurrent use.
type Set struct {
	// mu guards what follows.
	mu    sync.Mutex
	items map[Code]Item
	// changed is made when somebody first asks for it.
	changed chan struct{}
}

// Raise notes that a fault is there. Raised again it keeps its Since and
// takes the new text.
func (s *Set) Raise(code Code, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items == nil {
		s.items = make(map[Code]Item)
	}
	item, ok := s.items[code]
	if !ok {
		item = Item{Code: code, Since: time.Now().UTC()}
	}
	text := fmt.Sprintf(format, args...)
	if ok && item.Text == text {
		return
	}
	item.Text = text
	s.items[code] = item
	s.signal()
}

// Clear notes that a fault is over, if it was there.
func (s *Set) Clear(code Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.items[code]; ok {
		delete(s.items, code)
		s.signal()
	}
}

// Changed returns a channel, always the same, that holds a token when an item
// began, ended or got another text since the last was taken.
func (s *Set) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.channel()
}

// channel and signal are called with mu held.
func (s *Set) channel() chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{}, 1)
	}
	return s.changed
}

func (s *Set) signal() {
	select {
	case s.channel() <- struct{}{}:
	default:
	}
}

// Items returns what is wrong now, in the order of the codes.
func (s *Set) Items() []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]Item, 0, len(s.items))
	for _, i := range s.items {
		items = append(items, i)
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return items
}

// Report returns the items as the server is told of them: without those that
// say how this device stands with it, which it knows better.
func (s *Set) Report() []fleet.HealthItem {
	var report []fleet.HealthItem
	for _, i := range s.Items() {
		if i.Code != ServerUnreachable && i.Code != DeviceRefused {
			report = append(report, fleet.HealthItem{Code: string(i.Code), Since: i.Since, Text: i.Text})
		}
	}
	return report
}
