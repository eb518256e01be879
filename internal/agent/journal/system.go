package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"interdict/internal/event"
)

// systemQueue bounds the events on their way to the system's journal.
const systemQueue = 512

// System hands events to systemd's journal. It has a goroutine of its own: a
// journal that hangs must not hold up anybody who is being judged.
type System struct {
	queue chan event.Event
	log   *slog.Logger
}

// NewSystem returns a System, and false where systemd's journal does not
// run.
func NewSystem(log *slog.Logger) (*System, bool) {
	if !systemd.Enabled() {
		return nil, false
	}
	return &System{queue: make(chan event.Event, systemQueue), log: log}, true
}

// Write queues an event. When the queue is full the event is left out: it is
// in the local log.
func (s *System) Write(e event.Event) {
	select {
	case s.queue <- e:
	default:
	}
}

// Run writes what is queued until ctx ends.
func (s *System) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-s.queue:
			fields, err := systemFields(e)
			if err == nil {
				err = systemd.Send(Sentence(e), priority(e), fields)
			}
			if err != nil {
				s.log.DebugContext(ctx, "writing to the system's journal", "error", err)
			}
		}
	}
}

func priority(e event.Event) systemd.Priority {
	switch e.EventID {
	case event.IDBlocked, event.IDExecBlocked, event.IDBundleRefused, event.IDGuardRestored, event.IDSuspended:
		return systemd.PriWarning
	default:
		return systemd.PriNotice
	}
}

// systemFields flattens an event: every field of its JSON becomes one with
// the same name in capitals after INTERDICT_, nested ones with their parent's
// name in front.
func systemFields(e event.Event) (map[string]string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("flattening event %s: %w", e.ID, err)
	}
	var tree map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(b)))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("flattening event %s: %w", e.ID, err)
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": "interdict-agent"}
	flatten("INTERDICT", tree, fields)
	return fields, nil
}

func flatten(prefix string, tree map[string]any, out map[string]string) {
	for name, value := range tree {
		name = prefix + "_" + strings.ToUpper(name)
		if sub, ok := value.(map[string]any); ok {
			flatten(name, sub, out)
			continue
		}
		out[name] = fmt.Sprint(value)
	}
}
