package agentapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// writeTimeout is how long an agent may take to read one message.
const writeTimeout = 20 * time.Second

// stream tells an agent what it ought to enforce for as long as both are
// there. It costs the goroutine that net/http runs it in.
func (a *API) stream(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	session, err := a.control.Connect(r.Context(), id, facts(r))
	if err != nil {
		return err
	}
	defer session.Close()
	a.streams.Add(1)
	defer a.streams.Add(-1)

	w.Header().Set("Content-Type", "application/x-ndjson")
	s := streamWriter{w: w, control: http.NewResponseController(w)}
	if s.control.SetReadDeadline(time.Time{}) != nil {
		return nil // the connection is gone
	}
	pings := time.NewTicker(a.ping)
	defer pings.Stop()
	for {
		ok := true
		var m bundle.Message
		select {
		case m, ok = <-session.Messages():
		case <-pings.C:
			m = bundle.Message{Type: bundle.MessagePing}
		case <-a.drained:
			ok = false
		case <-r.Context().Done():
			ok = false
		}
		// An agent that is gone needs no error: it connects again.
		if !ok || s.send(m) != nil {
			return nil
		}
	}
}

// facts returns what the agent says of itself, if it does.
func facts(r *http.Request) bundle.Facts {
	var f bundle.Facts
	if json.Unmarshal([]byte(r.Header.Get(bundle.HeaderFacts)), &f) != nil {
		return bundle.Facts{}
	}
	return f
}

// streamWriter writes messages, each of which arrives at once or ends the
// stream.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

func (s *streamWriter) send(m bundle.Message) error {
	s.buf.Reset()
	if err := json.NewEncoder(&s.buf).Encode(m); err != nil {
		return err
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	// HTTP/2 ends a stream whose deadline passes even if nothing is being
	// written.
	return s.control.SetWriteDeadline(time.Time{})
}
