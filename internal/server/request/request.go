// Package request decides what every HTTP request gets, whichever API it is
// for: an id, a bound on its body, a line in the log, a recovered panic, and a
// problem document when it fails.
package request

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/fault"
	"interdict/internal/problem"
)

// HeaderID is the response header that carries the request's id.
const HeaderID = "Request-Id"

type idKey struct{}

// ID returns the id of the request that ctx belongs to; "" outside of one.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// Source returns the address that a request came from, without the port.
// Forwarding headers are not believed: there is TLS from end to end, so there
// is nothing that could have set them but the caller.
func Source(r *http.Request) string {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return ap.Addr().Unmap().String()
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// Config is what Wrap needs; all of it is required.
type Config struct {
	Handler http.Handler
	Logger  *slog.Logger
	// MaxBody bounds the body of any request in bytes. APIs may bound theirs
	// closer.
	MaxBody int64
	// Observe is told of every finished request.
	Observe func(r *http.Request, status int, took time.Duration)
}

// Wrap returns the handler with what every request gets around it.
func Wrap(c Config) http.Handler {
	limited := http.MaxBytesHandler(c.Handler, c.MaxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := ulid.Make().String()
		r = r.WithContext(context.WithValue(r.Context(), idKey{}, id))
		rec := &recorder{ResponseWriter: w}
		rec.Header().Set(HeaderID, id)
		rec.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			abort := survive(recover(), rec, r, c.Logger)
			took := time.Since(start)
			c.Observe(r, rec.code(), took)
			// Asked first, because the arguments cost more than the rest.
			if c.Logger.Enabled(r.Context(), slog.LevelDebug) {
				c.Logger.DebugContext(r.Context(), "request", "request_id", id, "method", r.Method, "path", r.URL.Path,
					"status", rec.code(), "took", took, "source", Source(r))
			}
			if abort {
				panic(http.ErrAbortHandler)
			}
		}()
		limited.ServeHTTP(rec, r)
	})
}

// survive deals with what was recovered from a handler. A panic is our
// mistake: the caller gets an internal problem, the log the stack. It reports
// whether the answer has to be broken off, because it had begun already or
// because the handler asked for it.
func survive(recovered any, w *recorder, r *http.Request, logger *slog.Logger) bool {
	if recovered == nil {
		return false
	}
	if err, ok := recovered.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	logger.ErrorContext(r.Context(), "panic while serving a request",
		"request_id", ID(r.Context()), "path", r.URL.Path, "panic", recovered, "stack", string(debug.Stack()))
	if w.status != 0 {
		return true
	}
	problem.New(errors.New("panic"), ID(r.Context())).Write(w)
	return false
}

// Fail answers a request with the problem that err tells, and logs what the
// caller is not told.
func Fail(w http.ResponseWriter, r *http.Request, logger *slog.Logger, err error) {
	Log(r.Context(), logger, err)
	problem.New(err, ID(r.Context())).Write(w)
}

// Log logs an error that is our mistake, and at a lower level what is away for
// a while; other faults are the caller's to know. It is for APIs that write the problem themselves.
func Log(ctx context.Context, logger *slog.Logger, err error) {
	code := fault.CodeOf(err)
	if ctx.Err() != nil || code != fault.Internal && code != fault.Unavailable {
		return
	}
	text, level := err.Error(), slog.LevelError
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Cause != nil {
		text += ": " + f.Cause.Error()
	} else if code == fault.Unavailable {
		// Who or what the caller asked for is away; nothing of ours broke.
		level = slog.LevelInfo
	}
	logger.Log(ctx, level, "request failed", "request_id", ID(ctx), "error", text)
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter

	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the real writer.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
