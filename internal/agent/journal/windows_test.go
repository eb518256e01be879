package journal

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

// seen is an observation at a second of the test.
type seen struct {
	second   int
	id       event.ID
	host     string
	ip       string
	path     string
	uid      int
	pid      int
	evidence event.Evidence
}

// written is what a table expects to be written, and when.
type written struct {
	Second   int
	Host     string
	Count    int
	Evidence event.Evidence
	Last     int
}

func (s seen) event(start time.Time) event.Event {
	at := start.Add(time.Duration(s.second) * time.Second)
	e := event.Event{
		EventID: s.id, Action: event.ActionBlocked, Time: at, FirstSeen: at, LastSeen: at, Count: 1, Evidence: s.evidence,
		Destination: event.Destination{Host: s.host}, Process: event.Process{Path: s.path, PID: s.pid},
	}
	if s.id == event.IDAudited {
		e.Action = event.ActionAudited
	}
	if s.ip != "" {
		e.Destination.IP = netip.MustParseAddr(s.ip)
	}
	if s.uid >= 0 {
		uid := uint32(s.uid)
		e.User.UID = &uid
	}
	return e
}

func TestRepetitionsAreOneEvent(t *testing.T) {
	const blocked, audited, changed = event.IDBlocked, event.IDAudited, event.IDConfigChanged
	tests := []struct {
		name string
		seen []seen
		want []written
	}{
		{
			"a first occurrence is written at once and alone never again",
			[]seen{{0, blocked, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI}},
			[]written{{0, "a.example", 1, event.EvidenceTLSSNI, 0}},
		},
		{
			"repetitions are written with their count after 1, 5 and 20 seconds and when the window closes",
			[]seen{
				{0, blocked, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
				{3, blocked, "a.example", "", "/curl", 0, 2, event.EvidenceTLSSNI},
				{9, blocked, "a.example", "", "/curl", 0, 3, event.EvidenceTLSSNI},
				{59, blocked, "a.example", "", "/curl", 0, 4, event.EvidenceTLSSNI},
			},
			[]written{{0, "a.example", 1, event.EvidenceTLSSNI, 0}, {5, "a.example", 2, event.EvidenceTLSSNI, 3}, {20, "a.example", 3, event.EvidenceTLSSNI, 9}, {60, "a.example", 4, event.EvidenceTLSSNI, 59}},
		},
		{
			"a count that goes on growing is written no more often",
			func() (all []seen) {
				for second := range 60 {
					all = append(all, seen{second, blocked, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI})
				}
				return all
			}(),
			[]written{
				{0, "a.example", 1, event.EvidenceTLSSNI, 0},
				{5, "a.example", 5, event.EvidenceTLSSNI, 4},
				{20, "a.example", 20, event.EvidenceTLSSNI, 19},
				{60, "a.example", 60, event.EvidenceTLSSNI, 59},
			},
		},
		{
			"stronger evidence is written at once",
			[]seen{
				{0, audited, "a.example", "", "/curl", 0, 1, event.EvidenceDNS},
				{1, audited, "a.example", "192.0.2.1", "/curl", 0, 1, event.EvidenceTLSSNI},
			},
			[]written{{0, "a.example", 1, event.EvidenceDNS, 0}, {1, "a.example", 2, event.EvidenceTLSSNI, 1}},
		},
		{
			"weaker and equal evidence waits",
			[]seen{
				{0, audited, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
				{1, audited, "a.example", "", "/curl", 0, 1, event.EvidenceDNS},
				{2, audited, "a.example", "", "/curl", 0, 1, event.EvidenceQUICSNI},
			},
			[]written{{0, "a.example", 1, event.EvidenceTLSSNI, 0}, {5, "a.example", 3, event.EvidenceTLSSNI, 2}},
		},
		{
			"after its window the same is a new event",
			[]seen{
				{0, blocked, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
				{60, blocked, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
			},
			[]written{{0, "a.example", 1, event.EvidenceTLSSNI, 0}, {60, "a.example", 1, event.EvidenceTLSSNI, 60}},
		},
		{
			"another host, program, user or action is another event",
			[]seen{
				{0, blocked, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
				{0, blocked, "b.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
				{0, blocked, "a.example", "", "/wget", 0, 1, event.EvidenceTLSSNI},
				{0, blocked, "a.example", "", "/curl", 7, 1, event.EvidenceTLSSNI},
				{0, blocked, "a.example", "", "/curl", -1, 1, event.EvidenceTLSSNI},
				{0, audited, "a.example", "", "/curl", 0, 1, event.EvidenceTLSSNI},
			},
			[]written{
				{0, "a.example", 1, event.EvidenceTLSSNI, 0},
				{0, "b.example", 1, event.EvidenceTLSSNI, 0},
				{0, "a.example", 1, event.EvidenceTLSSNI, 0},
				{0, "a.example", 1, event.EvidenceTLSSNI, 0},
				{0, "a.example", 1, event.EvidenceTLSSNI, 0},
				{0, "a.example", 1, event.EvidenceTLSSNI, 0},
			},
		},
		{
			"without a host the address counts",
			[]seen{
				{0, blocked, "", "192.0.2.1", "/curl", 0, 1, event.EvidenceIP},
				{1, blocked, "", "192.0.2.2", "/curl", 0, 1, event.EvidenceIP},
				{2, blocked, "", "192.0.2.1", "/curl", 0, 1, event.EvidenceIP},
			},
			[]written{{0, "", 1, event.EvidenceIP, 0}, {1, "", 1, event.EvidenceIP, 1}, {5, "", 2, event.EvidenceIP, 2}},
		},
		{
			"changes of settings never count as one",
			[]seen{{0, changed, "", "", "", -1, 0, ""}, {0, changed, "", "", "", -1, 0, ""}},
			[]written{{0, "", 1, "", 0}, {0, "", 1, "", 0}},
		},
		{
			"beyond the bound the oldest window closes early",
			[]seen{
				{0, blocked, "0.example", "", "", 0, 1, event.EvidenceDNS},
				{2, blocked, "1.example", "", "", 0, 1, event.EvidenceDNS},
				{3, blocked, "2.example", "", "", 0, 1, event.EvidenceDNS},
				{4, blocked, "3.example", "", "", 0, 1, event.EvidenceDNS},
				{5, blocked, "4.example", "", "", 0, 1, event.EvidenceDNS},
				{6, blocked, "5.example", "", "", 0, 1, event.EvidenceDNS},
				{6, blocked, "0.example", "", "", 0, 1, event.EvidenceDNS},
				{7, blocked, "6.example", "", "", 0, 1, event.EvidenceDNS},
			},
			[]written{
				{0, "0.example", 1, event.EvidenceDNS, 0},
				{2, "1.example", 1, event.EvidenceDNS, 2},
				{3, "2.example", 1, event.EvidenceDNS, 3},
				{4, "3.example", 1, event.EvidenceDNS, 4},
				{5, "4.example", 1, event.EvidenceDNS, 5},
				{6, "5.example", 1, event.EvidenceDNS, 6},
				{7, "0.example", 2, event.EvidenceDNS, 6},
				{7, "6.example", 1, event.EvidenceDNS, 7},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			w := newWindows(time.Minute, 6)
			var got []written
			note := func(now time.Time, events []event.Event) {
				for _, e := range events {
					got = append(got, written{
						int(now.Sub(start).Seconds()), e.Destination.Host, e.Count, e.Evidence, int(e.LastSeen.Sub(start).Seconds()),
					})
				}
			}
			until := func(now time.Time) {
				for at, ok := w.next(); ok && !at.After(now); at, ok = w.next() {
					note(at, w.due(at))
				}
			}
			for _, s := range test.seen {
				now := start.Add(time.Duration(s.second) * time.Second)
				until(now)
				note(now, w.add(now, s.event(start)))
			}
			// The table's windows all close within this.
			until(start.Add(2 * time.Minute))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			if len(w.byKey) != 0 {
				t.Errorf("%d windows are left open", len(w.byKey))
			}
		})
	}
}

func TestARevisionKeepsIdAndFirstSightAndGainsTheProcess(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWindows(time.Minute, 6)
	first := seen{0, event.IDAudited, "a.example", "", "", -1, 0, event.EvidenceDNS}.event(start)
	first.ID = "first"
	w.add(start, first)
	second := seen{3, event.IDAudited, "a.example", "192.0.2.9", "", -1, 77, event.EvidenceTLSSNI}.event(start)
	second.ID, second.Destination.Port = "second", 443
	got := w.add(start.Add(3*time.Second), second)
	if len(got) != 1 {
		t.Fatalf("%d events written, want the revision", len(got))
	}
	e := got[0]
	if e.ID != "first" || !e.FirstSeen.Equal(start) || !e.Time.Equal(start) || e.Destination.Port != 443 || e.Process.PID != 77 {
		t.Errorf("got %+v, want the first one's id and time with the second one's port and process", e)
	}
}
