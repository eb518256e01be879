package agentapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/klauspost/compress/zstd"

	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// The bounds of a batch of events in bytes. What is compressed can grow a
// thousandfold, so both ends are bounded.
const (
	maxCompressed = 4 << 20
	maxEvents     = 32 << 20
	maxEventLine  = 64 << 10
	maxWindow     = 8 << 20
)

// maxKey bounds the length of an idempotency key.
const maxKey = 64

// ingest takes in a batch of events. It is stored when the agent gets the
// receipt.
func (a *API) ingest(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	key := r.Header.Get(bundle.HeaderIdempotencyKey)
	if key == "" || len(key) > maxKey {
		var fs fault.Fields
		fs.Add(bundle.HeaderIdempotencyKey, "must have 1 to %d characters", maxKey)
		return fs.Err("the request is not valid")
	}
	body := io.Reader(http.MaxBytesReader(w, r.Body, maxCompressed))
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
	case "zstd":
		d := a.decoders.Get().(*zstd.Decoder) //nolint:errcheck,forcetypeassert // the pool holds nothing else
		defer a.release(d)
		if err := d.Reset(body); err != nil {
			return bodyFault(r.Context(), err)
		}
		body = d
	default:
		return fault.New(fault.Invalid, "the content encoding %q is not known", encoding)
	}
	events, bad, err := readEvents(body)
	if err != nil {
		return batchFault(r, err)
	}
	receipt, err := a.observations.Ingest(r.Context(), id, key, events)
	if err != nil {
		return err
	}
	a.events.Add(int64(receipt.Stored))
	if bad.count > 0 {
		receipt.Rejected += bad.count
		receipt.Fault = bad.first
	}
	writeDocument(w, receipt)
	return nil
}

// release puts a decoder back, without what it read from. A reset to nothing
// does not fail.
func (a *API) release(d *zstd.Decoder) {
	_ = d.Reset(nil)
	a.decoders.Put(d)
}

// rejects are the lines of a batch that are no events. They must not keep the
// others from being stored: the agent would send them for ever.
type rejects struct {
	count int
	first string
}

var errTooMany = errors.New("too many events")

// readEvents reads events, one JSON object a line.
func readEvents(body io.Reader) ([]event.Event, rejects, error) {
	var events []event.Event
	var bad rejects
	sc := bufio.NewScanner(io.LimitReader(body, maxEvents+1))
	sc.Buffer(make([]byte, 0, 4<<10), maxEventLine)
	read := 0
	for line := 1; sc.Scan(); line++ {
		read += len(sc.Bytes()) + 1
		if len(sc.Bytes()) == 0 {
			continue
		}
		if len(events)+bad.count == bundle.MaxEventBatch || read > maxEvents {
			return nil, bad, errTooMany
		}
		var e event.Event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			if bad.count == 0 {
				bad.first = fmt.Sprintf("line %d: %v", line, err)
			}
			bad.count++
			continue
		}
		events = append(events, e)
	}
	return events, bad, sc.Err()
}

// batchFault says what is wrong with a batch.
func batchFault(r *http.Request, err error) error {
	switch {
	case errors.Is(err, errTooMany), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fault.New(fault.Invalid, "the batch is larger than %d events or %d bytes", bundle.MaxEventBatch, maxEvents).Because(err)
	case errors.Is(err, bufio.ErrTooLong):
		return fault.New(fault.Invalid, "an event is longer than %d bytes", maxEventLine).Because(err)
	default:
		return bodyFault(r.Context(), err)
	}
}
