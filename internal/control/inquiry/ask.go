package inquiry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/explain"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

const (
	// maxOpen bounds how many questions a server has open at a time.
	maxOpen = 64
	// readInterval is how often is looked whether an answer came in at another
	// server.
	readInterval = 50 * time.Millisecond
)

// question is one that a device is asked.
type question struct {
	device fleet.DeviceID
	// answer has room for the one that counts.
	answer chan bundle.Answer
}

// errBusy says that too much is asked at the same time.
var errBusy = errors.New("too many questions are open")

// ask asks a device what it makes of a destination. The answer is nil if the
// device is not connected, and has an Error if it did not answer.
func (s *Service) ask(ctx context.Context, d *fleet.Device, subject explain.Subject) *bundle.Answer {
	if !d.Online {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.patient)
	defer cancel()
	q := bundle.Question{
		// Nobody but the device shall be able to name it.
		ID:   ulid.MustNew(ulid.Now(), rand.Reader).String(),
		Host: subject.Host, Path: subject.Path, IP: subject.IP, Port: subject.Port, User: subject.User,
	}
	asked, err := s.begin(ctx, d.ID, q)
	defer s.forget(ctx, q.ID)
	if err == nil {
		var a bundle.Answer
		if a, err = s.await(ctx, q.ID, asked); err == nil {
			return &a
		}
	}
	switch {
	case errors.Is(err, errBusy):
		return &bundle.Answer{ID: q.ID, Error: "the device could not be asked, because many others are being asked now"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &bundle.Answer{ID: q.ID, Error: fmt.Sprintf("the device is connected, but did not answer within %s", s.patient)}
	default:
		s.logger.WarnContext(ctx, "asking a device about a destination", "device", d.ID, "error", err)
		return &bundle.Answer{ID: q.ID, Error: "the device could not be asked: see the server's log"}
	}
}

// begin opens a question and tells the device, wherever it is connected.
func (s *Service) begin(ctx context.Context, id fleet.DeviceID, q bundle.Question) (question, error) {
	asked := question{device: id, answer: make(chan bundle.Answer, 1)}
	s.mu.Lock()
	if len(s.open) >= maxOpen {
		s.mu.Unlock()
		return asked, errBusy
	}
	s.open[q.ID] = asked
	s.mu.Unlock()
	if s.store.Shared() {
		// Whichever server the device tells, it knows that it was asked.
		err := s.control.Write(ctx, func(tx *store.Tx) error { return tx.OpenQuestion(q.ID, id, s.control.Now()) })
		if err != nil {
			return asked, err
		}
	}
	m := bundle.Message{Type: bundle.MessageAsk, Question: &q}
	if s.control.Tell(id, m) || !s.store.Shared() {
		return asked, nil
	}
	return asked, s.control.Write(ctx, func(tx *store.Tx) error { return s.control.TellElsewhere(tx, id, m) })
}

// await waits for the answer.
func (s *Service) await(ctx context.Context, id string, asked question) (bundle.Answer, error) {
	var elsewhere <-chan time.Time
	if s.store.Shared() {
		tick := time.NewTicker(readInterval)
		defer tick.Stop()
		elsewhere = tick.C
	}
	for {
		select {
		case a := <-asked.answer:
			return a, nil
		case <-ctx.Done():
			return bundle.Answer{}, ctx.Err()
		case <-elsewhere:
		}
		a, found, err := s.read(ctx, id)
		if err != nil || found {
			return a, err
		}
	}
}

// read reads an answer that came in at another server.
func (s *Service) read(ctx context.Context, id string) (a bundle.Answer, found bool, err error) {
	var text []byte
	err = s.control.View(ctx, func(tx *store.Tx) (err error) {
		text, err = tx.QuestionAnswer(id)
		return err
	})
	if err != nil || text == nil {
		return a, false, err
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, false, fmt.Errorf("reading the answer to question %q: %w", id, err)
	}
	return a, true, nil
}

// forget closes a question.
func (s *Service) forget(ctx context.Context, id string) {
	s.mu.Lock()
	delete(s.open, id)
	s.mu.Unlock()
	if !s.store.Shared() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.control.Write(ctx, func(tx *store.Tx) error { return tx.CloseQuestion(id) }); err != nil {
		s.logger.WarnContext(ctx, "closing a question", "question", id, "error", err)
	}
}

// Answer takes in the answer of a device, and reports whether it is waited
// for: somebody asks, this device, and has no answer yet.
func (s *Service) Answer(ctx context.Context, id fleet.DeviceID, a bundle.Answer) (bool, error) {
	s.mu.Lock()
	asked, here := s.open[a.ID]
	s.mu.Unlock()
	switch {
	case here && asked.device != id:
		return false, nil
	case here:
		select {
		case asked.answer <- a:
			return true, nil
		default:
			return false, nil
		}
	case !s.store.Shared():
		return false, nil
	}
	if _, err := ulid.ParseStrict(a.ID); err != nil {
		return false, nil //nolint:nilerr // nobody asked that
	}
	text, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("keeping the answer to question %q: %w", a.ID, err)
	}
	var taken bool
	err = s.control.Write(ctx, func(tx *store.Tx) (err error) {
		taken, err = tx.AnswerQuestion(a.ID, id, text)
		return err
	})
	return taken, err
}
