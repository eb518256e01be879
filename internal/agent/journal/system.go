package journal

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/event"
)

// systemQueue bounds the events on their way to the system's journal.
const systemQueue = 512

const (
	// systemSocket is where systemd's journal listens.
	systemSocket = "/run/systemd/journal/socket"
	// systemTimeout bounds what the journal may take to make room.
	systemTimeout = 5 * time.Second
)

// SystemConfig is what a System needs.
type SystemConfig struct {
	// Socket is where the journal listens; empty for where systemd's does.
	Socket string
	Log    *slog.Logger
}

// System hands events to systemd's journal. It has a goroutine of its own: a
// journal that hangs must not hold up anybody who is being judged.
type System struct {
	queue chan event.Event
	cfg   SystemConfig
}

// NewSystem returns a System, and false where systemd's journal does not
// run.
func NewSystem(cfg SystemConfig) (*System, bool) {
	cfg.Socket = cmp.Or(cfg.Socket, systemSocket)
	s := &System{queue: make(chan event.Event, systemQueue), cfg: cfg}
	conn, err := s.dial()
	if err != nil {
		return nil, false
	}
	_ = conn.Close()
	return s, true
}

func (s *System) dial() (*net.UnixConn, error) {
	return net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.cfg.Socket, Net: "unixgram"})
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
			if err := s.send(e); err != nil {
				s.cfg.Log.DebugContext(ctx, "writing to the system's journal", "error", err)
			}
		}
	}
}

// send writes an event as one datagram of the journal's native protocol. The
// bounds of an event's fields keep it below what a socket takes at once. Each
// is sent over a socket of its own, since the journal may have been started
// again.
func (s *System) send(e event.Event) error {
	fields, err := systemFields(e)
	if err != nil {
		return err
	}
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err = conn.SetWriteDeadline(time.Now().Add(systemTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(native(fields))
	return err
}

// native writes fields in the journal's native protocol: a line each, or,
// where a value has more than one, its name, its length and then itself.
func native(fields map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		b = append(b, name...)
		if strings.Contains(value, "\n") {
			b = append(b, '\n')
			b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
		} else {
			b = append(b, '=')
		}
		b = append(b, value...)
		b = append(b, '\n')
	}
	return b
}

// The priorities of syslog(3) that events have.
const (
	priorityWarning = 4
	priorityNotice  = 5
)

func priority(e event.Event) int {
	switch e.EventID {
	case event.IDBlocked, event.IDExecBlocked, event.IDBundleRefused, event.IDGuardRestored, event.IDSuspended:
		return priorityWarning
	default:
		return priorityNotice
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
	fields := map[string]string{
		"SYSLOG_IDENTIFIER": "interdict-agent", "MESSAGE": Sentence(e), "PRIORITY": strconv.Itoa(priority(e)),
	}
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
