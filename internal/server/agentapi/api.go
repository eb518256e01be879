// Package agentapi translates between the agent API and the use cases: the
// protocol of package bundle over mutual TLS. Enrolment takes a token, all
// else the certificate that enrolment gave.
//
// It is written for ten thousand agents at a time: a connected agent costs the
// server its connection and one goroutine, and an answer that many agents get
// is made once.
package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/appeal"
	"interdict/internal/control/enrol"
	"interdict/internal/control/inquiry"
	"interdict/internal/control/observation"
	"interdict/internal/control/usage"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/problem"
	"interdict/internal/server/gate"
	"interdict/internal/server/request"
)

// maxDocument bounds a request's JSON document in bytes.
const maxDocument = 64 << 10

// Config is what the API needs; all of it is required.
type Config struct {
	Control      *control.Service
	Enrolment    *enrol.Service
	Observations *observation.Service
	Appeals      *appeal.Service
	Usage        *usage.Service
	Inquiries    *inquiry.Service
	Gate         *gate.Gate
	Logger       *slog.Logger
	// PingInterval is how often a stream says something; 0 means
	// control.PingInterval.
	PingInterval time.Duration
}

// API serves the agent API.
type API struct {
	control      *control.Service
	enrolment    *enrol.Service
	observations *observation.Service
	appeals      *appeal.Service
	usage        *usage.Service
	inquiries    *inquiry.Service

	gate   *gate.Gate
	logger *slog.Logger
	ping   time.Duration
	mux    *http.ServeMux

	// decoders holds *zstd.Decoder, each of which costs some hundred
	// kilobytes.
	decoders sync.Pool
	streams  atomic.Int64
	events   atomic.Int64
	drained  chan struct{}
	drain    sync.Once
}

// New makes the API.
func New(c Config) *API {
	a := &API{
		control: c.Control, enrolment: c.Enrolment, observations: c.Observations, appeals: c.Appeals, usage: c.Usage,
		inquiries: c.Inquiries, gate: c.Gate, logger: c.Logger, ping: c.PingInterval, mux: http.NewServeMux(), drained: make(chan struct{}),
	}
	if a.ping == 0 {
		a.ping = control.PingInterval
	}
	a.decoders.New = func() any {
		// The options are valid, so there is no error.
		d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxEvents))
		return d
	}
	a.mux.HandleFunc("POST "+bundle.PathEnroll, a.enroll)
	a.mux.Handle("POST "+bundle.PathRenew, a.device(a.renew))
	a.mux.Handle("GET "+bundle.PathStream, a.device(a.stream))
	a.mux.Handle("GET "+bundle.PathBundle, a.device(a.bundle))
	a.mux.Handle("POST "+bundle.PathApplied, a.device(a.applied))
	a.mux.Handle("POST "+bundle.PathEvents, a.device(a.ingest))
	a.mux.Handle("POST "+bundle.PathUsage, a.device(a.report))
	a.mux.Handle("POST "+bundle.PathRequests, a.device(a.ask))
	a.mux.Handle("GET "+bundle.PathRequests, a.device(a.requests))
	a.mux.Handle("POST "+bundle.PathAnswer, a.device(a.answer))
	a.mux.Handle("POST "+bundle.PathUnenroll, a.device(a.unenroll))
	a.mux.Handle("/", a.device(a.unknown))
	return a
}

// ServeHTTP answers any path below bundle.PathPrefix.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	a.mux.ServeHTTP(w, r)
}

// Drain ends all streams; agents connect again, to another server or to this
// one when it is back. It returns at once and may be called again.
func (a *API) Drain() { a.drain.Do(func() { close(a.drained) }) }

// Streams returns how many agents are connected.
func (a *API) Streams() int64 { return a.streams.Load() }

// Events returns how many events were stored since the start.
func (a *API) Events() int64 { return a.events.Load() }

// deviceHandler answers a request of a device. The error it returns is told to
// the agent.
type deviceHandler func(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error

// device lets only those through to next who show the certificate of an
// enrolled device. TLS has verified it by VerifyClient.
func (a *API) device(next deviceHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cert, err := deviceCertificate(r, time.Now())
		if err != nil {
			a.unauthorized(w, r, err)
			return
		}
		id, err := a.enrolment.AuthenticateDevice(r.Context(), cert)
		if err == nil {
			err = next(w, r, id)
		}
		if err != nil {
			a.fail(w, r, err)
		}
	})
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	if fault.CodeOf(err) == fault.Unauthorized {
		a.unauthorized(w, r, err)
		return
	}
	request.Fail(w, r, a.logger, err)
}

// unauthorized tells who could not show who they are that they could not, or
// that they have to wait, and the audit log that they tried.
func (a *API) unauthorized(w http.ResponseWriter, r *http.Request, err error) {
	if wait := a.gate.Failed(request.Source(r)); wait > 0 {
		tooMany(w, r, wait)
		return
	}
	a.refused(r, err)
	problem.New(err, request.ID(r.Context())).Write(w)
}

func tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
	err := fault.New(fault.TooMany, "too many attempts that were refused").WithHint("try again in %s", wait)
	problem.New(err, request.ID(r.Context())).Write(w)
}

func (a *API) refused(r *http.Request, reason error) {
	err := a.control.Refused(r.Context(), control.Attempt{
		Actor:  control.Actor{Kind: control.ActorUnknown, Source: request.Source(r)},
		Action: r.Method + " " + r.URL.Path, Reason: reason.Error(),
	})
	if err != nil {
		a.logger.ErrorContext(r.Context(), "writing to the audit log", "request_id", request.ID(r.Context()), "error", err)
	}
}

// enroll asks the gate first, as nobody who keeps failing here can mean well.
// The use case tells the audit log.
func (a *API) enroll(w http.ResponseWriter, r *http.Request) {
	source := request.Source(r)
	if wait := a.gate.Wait(source); wait > 0 {
		tooMany(w, r, wait)
		return
	}
	in, err := readDocument[bundle.EnrollRequest](w, r)
	if err != nil {
		request.Fail(w, r, a.logger, err)
		return
	}
	out, err := a.enrolment.Enroll(r.Context(), in, source)
	if err != nil {
		if code := fault.CodeOf(err); code == fault.Unauthorized || code == fault.Invalid {
			a.gate.Failed(source)
		}
		request.Fail(w, r, a.logger, err)
		return
	}
	writeDocument(w, out)
}

func (a *API) renew(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	in, err := readDocument[bundle.RenewRequest](w, r)
	if err != nil {
		return err
	}
	out, err := a.enrolment.Renew(r.Context(), id, in)
	if err != nil {
		return err
	}
	writeDocument(w, out)
	return nil
}

func (a *API) applied(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	in, err := readDocument[fleet.Applied](w, r)
	if err != nil {
		return err
	}
	if err := a.control.Applied(r.Context(), id, in); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) unenroll(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	if err := a.control.Unenroll(r.Context(), id, request.Source(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (*API) unknown(_ http.ResponseWriter, r *http.Request, _ fleet.DeviceID) error {
	return fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path)
}

// bundle answers with an envelope that is shared by all devices which ask for
// the same step; it must not be changed.
func (a *API) bundle(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	q := r.URL.Query()
	var version uint64
	if text := q.Get("version"); text != "" {
		var err error
		if version, err = strconv.ParseUint(text, 10, 64); err != nil {
			var fs fault.Fields
			fs.Add("version", "must be a number, not %q", text)
			return fs.Err("the request is not valid")
		}
	}
	envelope, err := a.control.Bundle(r.Context(), id, version, q.Get("digest"))
	switch {
	case fault.CodeOf(err) == fault.Unavailable:
		// The protocol's word for a server that is behind the agent.
		d := problem.New(err, request.ID(r.Context()))
		d.Status, d.Title = http.StatusConflict, http.StatusText(http.StatusConflict)
		d.Write(w)
		return nil
	case err != nil:
		return err
	case envelope == nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	a.allowTime(w, len(envelope))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(envelope)))
	// The agent may be gone; it asks again.
	_, _ = w.Write(envelope) //nolint:gosec // G705: JSON for agents, not a page
	return nil
}

// slowest is the slowest link, in bytes a second, over which a bundle must
// still arrive.
const slowest = 8 << 10

// allowTime gives an answer of size bytes the time it needs on a slow link.
func (a *API) allowTime(w http.ResponseWriter, size int) {
	limit := time.Now().Add(time.Minute + time.Duration(size/slowest)*time.Second)
	if err := http.NewResponseController(w).SetWriteDeadline(limit); err != nil {
		a.logger.Error("setting a write deadline", "error", err)
	}
}

// readDocument reads a JSON document. Fields it does not know are ignored: the
// agent may be newer than the server.
func readDocument[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	return readDocumentOf[T](w, r, maxDocument)
}

// readDocumentOf is readDocument for one of at most so many bytes.
func readDocumentOf[T any](w http.ResponseWriter, r *http.Request, most int64) (T, error) {
	var v T
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return v, bodyFault(r.Context(), err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fault.New(fault.Invalid, "the body is not the JSON document of %s", r.URL.Path).Because(err)
	}
	return v, nil
}

// bodyFault says why a body could not be read.
func bodyFault(ctx context.Context, err error) error {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return fault.New(fault.Invalid, "the body is longer than %d bytes", tooLong.Limit)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		// A slow line: what was sent is as good as before.
		return fault.New(fault.Unavailable, "the body took too long to arrive").Because(err)
	default:
		return fault.New(fault.Invalid, "the body could not be read to its end").Because(err)
	}
}

func writeDocument(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The agent may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
