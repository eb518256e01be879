package controltest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/control/presence"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// Device is an agent as far as the use cases see it.
type Device struct {
	*Server

	ID fleet.DeviceID
	// Have is the bundle it took in last.
	Have bundle.Current

	key []byte
}

// Fetch takes in the newest bundle and returns its size in bytes, 0 if there
// was nothing newer.
func (d *Device) Fetch() int {
	d.t.Helper()
	text, err := d.Bundle(d.t.Context(), d.ID, d.Have.Version, d.Have.Digest)
	if err != nil {
		d.t.Fatalf("fetching the bundle of %s: %v", d.ID, err)
	}
	if text == nil {
		return 0
	}
	var e bundle.Envelope
	if err = json.Unmarshal(text, &e); err != nil {
		d.t.Fatalf("reading an envelope: %v", err)
	}
	h, set, err := e.Open(d.key, d.Have, d.Clock.Now())
	if err != nil {
		d.t.Fatalf("opening the bundle of %s: %v", d.ID, err)
	}
	if h.Version <= d.Have.Version {
		d.t.Errorf("version %d came after %d", h.Version, d.Have.Version)
	}
	d.Have = bundle.Current{Version: h.Version, Digest: h.Digest, Set: set}
	return len(text)
}

// Apply fetches and acknowledges.
func (d *Device) Apply() {
	d.t.Helper()
	d.Fetch()
	err := d.Applied(d.t.Context(), d.ID, fleet.Applied{Version: d.Have.Version, Digest: d.Have.Digest, Mode: fleet.ModeBlock})
	if err != nil {
		d.t.Fatalf("acknowledging: %v", err)
	}
}

// Record returns the record of a kind and key, if the device has it.
func (d *Device) Record(kind bundle.Kind, key string) (bundle.Record, bool) {
	d.t.Helper()
	for _, r := range d.Have.Set.All() {
		if r.Err != nil {
			d.t.Fatalf("reading a record: %v", r.Err)
		}
		if r.Kind == kind && r.Key == key {
			return r.Record, true
		}
	}
	return bundle.Record{}, false
}

// Open opens the device's stream.
func (d *Device) Open() *presence.Session {
	d.t.Helper()
	session, err := d.Connect(d.t.Context(), d.ID, bundle.Facts{Hostname: "host", AgentVersion: "1"})
	if err != nil {
		d.t.Fatalf("connecting: %v", err)
	}
	d.t.Cleanup(session.Close)
	return session
}

// Next returns the next message, which must be of a type.
func Next(tb testing.TB, s *presence.Session, want bundle.MessageType) bundle.Message {
	tb.Helper()
	select {
	case m := <-s.Messages():
		if m.Type != want {
			tb.Fatalf("got message %+v, want a %s", m, want)
		}
		return m
	case <-time.After(10 * time.Second):
		tb.Fatalf("no %s came", want)
		return bundle.Message{}
	}
}

// Silent fails if there is a message.
func Silent(tb testing.TB, s *presence.Session) {
	tb.Helper()
	select {
	case m := <-s.Messages():
		tb.Errorf("got message %+v, want none", m)
	default:
	}
}

// Observe reports events.
func (d *Device) Observe(events ...event.Event) {
	d.t.Helper()
	r, err := d.Observations.Ingest(d.t.Context(), d.ID, ulid.Make().String(), events)
	if err != nil || r.Stored != len(events) {
		d.t.Fatalf("reporting events of %s: %+v (%v)", d.ID, r, err)
	}
}
