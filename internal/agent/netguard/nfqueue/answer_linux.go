package nfqueue

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	florianl "github.com/florianl/go-nfqueue/v2"

	"interdict/internal/agent/netguard"
)

// The states of a waiting packet.
const (
	stateOpen int32 = iota
	stateAnswered
	stateExpired
)

// waiting is a packet the kernel is waiting on.
type waiting struct {
	queue *queue
	id    uint32
	mark  uint32
	data  []byte
	// timer is nil while nothing has to be waited for.
	timer atomic.Pointer[time.Timer]
	state atomic.Int32
}

// handle is called by the queue's goroutine for each packet. It returns 0 to
// be called again.
func (q *queue) handle(a florianl.Attribute) int {
	if a.PacketID == nil {
		return 0
	}
	q.last.Store(*a.PacketID)
	q.received[q.kind].Add(1)
	p := netguard.Packet{Queue: q.kind, Received: time.Now()}
	if a.Hook != nil {
		p.Hook = netguard.Hook(*a.Hook)
	}
	if a.Payload != nil {
		p.Data = *a.Payload
	}
	if a.Mark != nil {
		p.Mark = *a.Mark
	}
	if a.UID != nil {
		p.UID, p.HasUID = *a.UID, true
	}
	w := &waiting{queue: q, id: *a.PacketID, mark: p.Mark, data: p.Data}
	q.waiting.Add(1)
	q.judge(p, w)
	if w.state.Load() == stateOpen {
		// Most packets are answered by now: a timer for each would wake
		// another thread every time. One that runs late expires in vain.
		w.timer.Store(time.AfterFunc(q.config.Deadline, w.expire))
	}
	return 0
}

// judge calls the handler. If that panics the packet passes.
func (q *queue) judge(p netguard.Packet, w *waiting) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		q.panics.Add(1)
		q.panicLogged.Do(func() {
			q.config.Logger.Error("judging a packet panicked; further panics are only counted",
				"queue", q.kind, "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
		})
		w.finish(stateAnswered, netguard.Verdict{Decision: netguard.Pass})
	}()
	q.config.Handler.Handle(p, w.answer)
}

// answer is what the handler calls.
func (w *waiting) answer(v netguard.Verdict) {
	if !w.finish(stateAnswered, v) && w.state.Load() == stateAnswered {
		w.queue.repeated.Add(1)
	}
}

// expire answers in the handler's place.
func (w *waiting) expire() {
	v := netguard.Verdict{Decision: netguard.Pass}
	if w.queue.config.FailClosed {
		v.Decision = netguard.Refuse
	}
	w.finish(stateExpired, v)
}

// finish sends v if nothing was sent before, and tells whether it did.
func (w *waiting) finish(state int32, v netguard.Verdict) bool {
	if !w.state.CompareAndSwap(stateOpen, state) {
		return false
	}
	// Whoever sees the packet's effect must see it counted.
	w.queue.waiting.Add(-1)
	if state == stateExpired {
		// The timer may have run before anybody could note it.
		w.queue.late.Add(1)
	} else {
		if t := w.timer.Load(); t != nil {
			t.Stop()
		}
	}
	if err := w.send(v); err != nil {
		w.queue.unsent.Add(1)
	}
	return true
}

// send translates v into what the rules of package nft understand: a
// decision about the connection is a mark on a packet that runs through the
// chain again. Answers of name servers belong to no connection that is
// judged, so there only the packet counts.
func (w *waiting) send(v netguard.Verdict) error {
	dns := w.queue.kind == netguard.QueueDNS
	switch {
	case v.Decision == netguard.Drop, dns && v.Decision == netguard.Refuse:
		return w.verdict(florianl.NfDrop)
	case v.Decision == netguard.Replace && len(v.Data) > 0:
		return w.verdict(florianl.NfAccept, florianl.WithAlteredPacket(v.Data))
	case dns:
		return w.verdict(florianl.NfAccept)
	case v.Decision == netguard.Accept:
		return w.repeat(netguard.MarkAccept)
	case v.Decision == netguard.Refuse:
		err := w.repeat(netguard.MarkRefuse)
		w.queue.resets.reset(w.data)
		return err
	case w.queue.kind == netguard.QueueAddress:
		// Both bits: on to the rules that inspect.
		return w.repeat(netguard.MarkMask)
	default:
		return w.verdict(florianl.NfAccept)
	}
}

// repeat sends the packet through the chain again with these bits in its
// mark and all others as they were.
func (w *waiting) repeat(bits uint32) error {
	mark := w.mark&^netguard.MarkMask | bits
	return w.verdict(florianl.NfRepeat, florianl.WithMark(mark))
}

func (w *waiting) verdict(verdict int, options ...florianl.VerdictOption) error {
	if err := w.queue.nf.SetVerdictWithOption(w.id, verdict, options...); err != nil {
		return fmt.Errorf("answering packet %d: %w", w.id, err)
	}
	return nil
}
