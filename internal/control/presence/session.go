package presence

import (
	"sync"

	"interdict/internal/bundle"
	"interdict/internal/control/audience"
	"interdict/internal/fleet"
)

// Session is a device that is connected to this server.
type Session struct {
	id      fleet.DeviceID
	hub     *Hub
	onClose func()

	// mu guards the following, and the sending side of messages.
	mu       sync.Mutex
	closed   bool
	messages chan bundle.Message
}

// queued is how many messages can wait in a session, each of another type. It
// is more than there are types.
const queued = 16

// Messages returns what the device has to be told: hello first, and of the
// messages of one type that were not taken in time only the newest. It is
// closed by Close, by a newer session of the same device, when the device is
// deleted, and by the hub's CloseAll. Pings are the transport's.
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
// waiting one of the same type, or of the oldest if there is no room.
func (s *Session) send(m bundle.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(m)
}

func (s *Session) sendLocked(m bundle.Message) {
	if s.closed {
		return
	}
	waiting := append(s.takeOthers(m.Type), m)
	for _, w := range waiting[max(0, len(waiting)-queued):] {
		s.messages <- w
	}
}

// takeOthers empties the queue, and returns what waited in it but messages of
// one type.
func (s *Session) takeOthers(but bundle.MessageType) []bundle.Message {
	var waiting []bundle.Message
	for {
		select {
		case w := <-s.messages:
			if w.Type != but {
				waiting = append(waiting, w)
			}
		default:
			return waiting
		}
	}
}

// Hub knows the sessions of this server.
type Hub struct {
	// mu guards sessions.
	mu       sync.RWMutex
	sessions map[fleet.DeviceID]*Session
}

// NewHub returns a hub without sessions.
func NewHub() *Hub { return &Hub{sessions: make(map[fleet.DeviceID]*Session)} }

// Open makes the device's session and ends an older one. The first message is
// what hello returns once the session can be nudged, so that no change falls
// between the two. onClose is called when the session was closed and no newer
// one took its place.
func (h *Hub) Open(id fleet.DeviceID, hello func() bundle.Message, onClose func()) *Session {
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
func (h *Hub) remove(s *Session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] != s {
		return false
	}
	delete(h.sessions, s.id)
	return true
}

func (h *Hub) get(id fleet.DeviceID) *Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sessions[id]
}

// Connected reports whether the device has a session here.
func (h *Hub) Connected(id fleet.DeviceID) bool { return h.get(id) != nil }

// IDs returns the devices that are connected.
func (h *Hub) IDs() []fleet.DeviceID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]fleet.DeviceID, 0, len(h.sessions))
	for id := range h.sessions {
		all = append(all, id)
	}
	return all
}

// End ends the session of a device, if there is one.
func (h *Hub) End(id fleet.DeviceID) {
	if s := h.get(id); s != nil {
		s.Close()
	}
}

// CloseAll ends all sessions.
func (h *Hub) CloseAll() {
	for _, id := range h.IDs() {
		h.End(id)
	}
}

// Nudge tells those of the devices that are connected what to enforce.
func (h *Hub) Nudge(snapshot *audience.Snapshot, devices []fleet.DeviceID) {
	for _, id := range devices {
		if s := h.get(id); s != nil {
			a := snapshot.Of(id)
			s.send(bundle.Message{Type: bundle.MessageNudge, Version: a.Version, Digest: a.Digest})
		}
	}
}

// Tell queues a message for a device, in the place of one of the same type
// that it has not taken yet. It never blocks, and reports whether the device
// is connected here.
func (h *Hub) Tell(id fleet.DeviceID, m bundle.Message) bool {
	s := h.get(id)
	if s == nil {
		return false
	}
	s.send(m)
	return true
}
