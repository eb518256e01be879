package control

import (
	"sync"

	"interdict/internal/bundle"
	"interdict/internal/control/audience"
	"interdict/internal/fleet"
)

// Session is a device that is connected to this server.
type Session struct {
	id      fleet.DeviceID
	hub     *hub
	onClose func()

	// mu guards the following, and the sending side of messages.
	mu       sync.Mutex
	closed   bool
	messages chan bundle.Message
}

// queued is how many messages can wait in a session: a hello, a nudge and a
// sync, each once.
const queued = 3

// Messages returns what the device has to be told: hello first, and of the
// nudges that were not taken in time only the newest. It is closed by Close,
// by a newer session of the same device, when the device is deleted, and by
// Shutdown. Pings are the transport's, every PingInterval.
func (s *Session) Messages() <-chan bundle.Message { return s.messages }

// Close ends the session. Calling it again does nothing.
func (s *Session) Close() {
	if s.hub.remove(s) {
		s.onClose()
	}
	s.end()
}

func (s *Session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.messages)
	}
}

// send queues a message. It never blocks: a message takes the place of a
// waiting one of the same type.
func (s *Session) send(m bundle.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(m)
}

func (s *Session) sendLocked(m bundle.Message) {
	if s.closed {
		return
	}
	var waiting []bundle.Message
	for {
		select {
		case w := <-s.messages:
			if w.Type != m.Type {
				waiting = append(waiting, w)
			}
			continue
		default:
		}
		break
	}
	for _, w := range append(waiting, m) {
		s.messages <- w
	}
}

// hub knows the sessions of this server.
type hub struct {
	// mu guards sessions.
	mu       sync.RWMutex
	sessions map[fleet.DeviceID]*Session
}

func newHub() *hub { return &hub{sessions: make(map[fleet.DeviceID]*Session)} }

// open makes the device's session and ends an older one. The first message is
// what hello returns once the session can be nudged, so that no change falls
// between the two. onClose is called when the session was closed and no newer
// one took its place.
func (h *hub) open(id fleet.DeviceID, hello func() bundle.Message, onClose func()) *Session {
	s := &Session{id: id, hub: h, onClose: onClose, messages: make(chan bundle.Message, queued)}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.mu.Lock()
	older := h.sessions[id]
	h.sessions[id] = s
	h.mu.Unlock()
	if older != nil {
		older.end()
	}
	s.sendLocked(hello())
	return s
}

// remove forgets a session, and reports whether it was still the device's.
func (h *hub) remove(s *Session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] != s {
		return false
	}
	delete(h.sessions, s.id)
	return true
}

func (h *hub) get(id fleet.DeviceID) *Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sessions[id]
}

// connected reports whether the device has a session here.
func (h *hub) connected(id fleet.DeviceID) bool { return h.get(id) != nil }

// ids returns the devices that are connected.
func (h *hub) ids() []fleet.DeviceID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]fleet.DeviceID, 0, len(h.sessions))
	for id := range h.sessions {
		all = append(all, id)
	}
	return all
}

// end ends the session of a device, if there is one.
func (h *hub) end(id fleet.DeviceID) {
	if s := h.get(id); s != nil {
		s.Close()
	}
}

// closeAll ends all sessions.
func (h *hub) closeAll() {
	for _, id := range h.ids() {
		h.end(id)
	}
}

// nudge tells those of the devices that are connected what to enforce.
func (h *hub) nudge(snapshot *audience.Snapshot, devices []fleet.DeviceID) {
	for _, id := range devices {
		if s := h.get(id); s != nil {
			a := snapshot.Of(id)
			s.send(bundle.Message{Type: bundle.MessageNudge, Version: a.Version, Digest: a.Digest})
		}
	}
}

// sync asks a device to check now. It reports whether it is connected here.
func (h *hub) sync(id fleet.DeviceID) bool {
	s := h.get(id)
	if s == nil {
		return false
	}
	s.send(bundle.Message{Type: bundle.MessageSync})
	return true
}
