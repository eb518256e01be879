package uplink

import (
	"context"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/fault"
)

const (
	// maxAnswers is how many of the server's questions are answered at the
	// same time. More are ignored: the server stops waiting after a moment.
	maxAnswers = 8
	// answerTimeout bounds what an answer may take to be found.
	answerTimeout = 5 * time.Second
)

// answer tells the server what this device makes of a destination.
func (u *Uplink) answer(ctx context.Context, q bundle.Question) {
	found, cancel := context.WithTimeout(ctx, answerTimeout)
	a := u.cfg.Answer(found, q)
	cancel()
	a.ID = q.ID
	if err := u.client.exchange(ctx, bundle.PathAnswer, a, nil); err != nil && ctx.Err() == nil {
		u.cfg.Log.WarnContext(ctx, "answering the server", "question", q.ID, "error", err)
	}
}

// fetchRequests asks for the requests for access whenever there may be news
// of them, until ctx ends.
func (u *Uplink) fetchRequests(ctx context.Context) {
	if u.cfg.Requests == nil {
		return
	}
	var retry backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.decided:
		}
		requests, err := u.client.requests(ctx)
		switch {
		case err == nil:
			retry.reset()
			u.cfg.Requests(requests)
			continue
		case ctx.Err() != nil:
			return
		case fault.CodeOf(err) == fault.NotFound:
			// A server that does not know of them will not learn in a minute.
			continue
		}
		u.cfg.Log.WarnContext(ctx, "asking for requests for access", "error", err)
		token(u.decided)
		if !pause(ctx, retry.next(), nil) {
			return
		}
	}
}
