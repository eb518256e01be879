package netguard

import (
	"sync"
	"time"

	"interdict/internal/event"
)

// explainWithin is how long after its arrival a refused request may still be
// answered. It is below the 250 ms after which the packet goes on without us,
// since a server and we must never answer the same request.
const explainWithin = 220 * time.Millisecond

// Explanation is what people read about a connection that was refused.
type Explanation struct {
	// App is the name of the refused app, empty where there is none, and
	// Host what was asked for.
	App, Host string
	// URL is where they read more and can ask for access; empty for nowhere.
	URL string
	// Contact is whom they are told to ask, and Support where they find help,
	// http or https. Both may be empty.
	Contact, Support string
	// Warned says that they may go on if they want to.
	Warned bool
}

// Replier answers refused requests in the place of their servers, so that
// people read why instead of seeing a connection break.
type Replier interface {
	// Reply answers the request in packet, which waits in the queue and whose
	// connection is refused right after, with a page that has e in it. It
	// reports whether it did: where that is not safe it does nothing. It
	// does not block.
	Reply(packet []byte, e Explanation) bool
}

// explainable returns an outcome with the request in it, if it is the refusal
// of one that may be answered: a plain HTTP request of a program of this host,
// that says in its connection's first packet where it goes.
func (in *Inspector) explainable(o outcome, p Packet, q question) outcome {
	if in.cfg.Replier != nil && q.opening && p.Hook == HookOutput && o.verdict.Decision == Refuse &&
		o.observed != nil && o.observed.Evidence == event.EvidenceHTTPHost {
		// A copy of its own: p itself must not escape for every packet.
		request := p
		o.request = &request
	}
	return o
}

// held is a packet that waits for what was observed of it to be looked into.
type held struct {
	in      *Inspector
	outcome outcome
	answer  func(Verdict)

	// mu guards answered: an explanation comes before the verdict or not at
	// all.
	mu       sync.Mutex
	answered bool
}

// release gives the packet its verdict, once.
func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.answered {
		h.answered = true
		h.answer(h.in.review(h.outcome))
	}
}

// explain answers the request in the packet, once, if it still waits.
func (h *held) explain(e Explanation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	request := h.outcome.request
	if request == nil || h.answered || h.in.cfg.Now().Sub(request.Received) > explainWithin {
		return
	}
	h.outcome.request = nil
	if h.in.cfg.Replier.Reply(request.Data, e) {
		h.in.explained.Add(1)
	}
}
