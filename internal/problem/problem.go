// Package problem decides how a fault travels over HTTP: as a problem document
// of RFC 9457, which the APIs write and their clients turn back into the same
// fault. It has the one table from fault codes to HTTP statuses.
package problem

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"interdict/internal/fault"
)

// ContentType is the media type of a problem document, RFC 9457 section 3.
const ContentType = "application/problem+json"

// maxDocument bounds how much of an answer is read in search of a document.
const maxDocument = 64 << 10

// Document is a problem document. The members type (always "about:blank",
// therefore left out), title, status and detail are the standard's; the others
// are extensions, RFC 9457 section 3.2.
type Document struct {
	Title  string `json:"title" doc:"The HTTP status in words"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail" doc:"What went wrong, as a sentence for people"`
	// Code is stable: programs branch on it, not on the detail.
	Code      fault.Code    `json:"code" doc:"What kind of mistake it was; stable" enum:"invalid,not_found,conflict,stale,unauthorized,forbidden,too_many,disabled,unavailable,unreachable,internal"`
	Errors    []fault.Field `json:"errors,omitempty" nullable:"false" doc:"Every field of the input that breaks a rule"`
	Hint      string        `json:"hint,omitempty" doc:"What to do next"`
	RequestID string        `json:"request_id,omitempty" doc:"Finds the request in the server's log"`
}

// Status returns the HTTP status that tells a fault code.
func Status(code fault.Code) int {
	switch code {
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict, fault.Disabled:
		return http.StatusConflict
	case fault.Stale:
		return http.StatusPreconditionFailed
	case fault.Unauthorized:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.TooMany:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Unreachable:
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}

// Code returns the fault code for a status that came without a document, or
// that a library chose before any use case ran.
func Code(status int) fault.Code {
	switch status {
	case http.StatusUnauthorized:
		return fault.Unauthorized
	case http.StatusForbidden:
		return fault.Forbidden
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict:
		return fault.Conflict
	case http.StatusPreconditionFailed:
		return fault.Stale
	case http.StatusTooManyRequests:
		return fault.TooMany
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fault.Unavailable
	}
	if status >= 400 && status < 500 {
		return fault.Invalid
	}
	return fault.Internal
}

// New returns the document that tells err. Of an error that is no fault, it
// tells nothing but the request id: the log has the rest.
func New(err error, requestID string) Document {
	var f *fault.Error
	if !errors.As(err, &f) || f.Code == fault.Internal {
		f = fault.New(fault.Internal, "something went wrong in the server").
			WithHint("look for request_id %s in the server's log", requestID)
	}
	status := Status(f.Code)
	return Document{
		Title: http.StatusText(status), Status: status, Detail: f.Message, Code: f.Code,
		Errors: f.Fields, Hint: f.Hint, RequestID: requestID,
	}
}

// Fault returns the fault that the document tells.
func (d Document) Fault() *fault.Error {
	return &fault.Error{Code: d.Code, Message: d.Detail, Fields: d.Errors, Hint: d.Hint}
}

// Write answers a request with the document.
func (d Document) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(d.Status)
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(d) //nolint:errchkjson // a Document always marshals
}

// Read returns the fault that an answer with an error status tells. It does
// not close the body. Something else than a document, say of a proxy on the
// way, becomes a fault with the status.
func Read(resp *http.Response) *fault.Error {
	var d Document
	err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(&d)
	if err != nil || d.Code == "" {
		return fault.New(Code(resp.StatusCode), "the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return d.Fault()
}
