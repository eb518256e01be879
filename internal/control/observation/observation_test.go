package observation_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/control/controltest"
	"interdict/internal/control/observation"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/store/pgtest"
)

// postgres is the private server of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }

func blocked(count int) event.Event {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return event.Event{
		ID: ulid.Make().String(), Time: at, Device: "somebody else", EventID: event.IDBlocked, Action: event.ActionBlocked,
		AppID: "itunes", AppName: "iTunes", Severity: "medium", Destination: event.Destination{Host: "init.itunes.apple.com"},
		Count: count, FirstSeen: at, LastSeen: at, Alert: true,
	}
}

func TestBatchesThatAreNoneAreRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	_, err := s.Observations.Ingest(t.Context(), d.ID, "key", nil)
	controltest.WantFault(t, err, fault.Invalid)
	_, err = s.Observations.Ingest(t.Context(), d.ID, ulid.Make().String(), make([]event.Event, bundle.MaxEventBatch+1))
	controltest.WantFault(t, err, fault.Invalid)
}

func TestEventsThatCannotBeKeptAreRejectedAlone(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d := s.NewDevice("d")
			var batch []event.Event
			for _, spoil := range []func(*event.Event){
				func(*event.Event) {},
				func(e *event.Event) { e.ID = strings.Repeat("!", 26) },
				func(e *event.Event) { e.Count = 1 << 60 },
				func(e *event.Event) { e.LastSeen = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
				func(e *event.Event) { e.User.Name = "\xff" },
				func(e *event.Event) { e.Destination.Host = "a\x00b" },
			} {
				e := blocked(1)
				spoil(&e)
				batch = append(batch, e)
			}
			r, err := s.Observations.Ingest(t.Context(), d.ID, ulid.Make().String(), batch)
			if err != nil || r.Stored != 1 || r.Rejected != 5 || !strings.HasPrefix(r.Fault, "event 1: id:") {
				t.Errorf("receipt %+v (%v), want 1 stored, 5 rejected and why", r, err)
			}
			_, err = s.Observations.Events(t.Context(), observation.EventQuery{User: "\x00"})
			controltest.WantFault(t, err, fault.Invalid)
			_, err = s.Observations.AuditLog(t.Context(), observation.AuditQuery{Target: "\xff"})
			controltest.WantFault(t, err, fault.Invalid)
			_, err = s.Observations.Alert(t.Context(), "\x00")
			controltest.WantFault(t, err, fault.NotFound)
		})
	}
}
