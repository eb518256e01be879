// Package fault decides how a mistake is told to the person who made it: one
// error type with a code, a sentence, the fields at fault and a hint, which
// the use cases return, the APIs write as problem documents, the client reads
// back and the command line prints.
//
// Anything that is not a fault is internal: the person is told a request id,
// the log has the rest.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Code says what kind of mistake it was. It is stable: scripts branch on it.
type Code string

// The codes.
const (
	Invalid      Code = "invalid"      // the input breaks a rule
	NotFound     Code = "not_found"    // what it names does not exist
	Conflict     Code = "conflict"     // it exists already, or is in use
	Stale        Code = "stale"        // somebody else changed it since it was read
	Unauthorized Code = "unauthorized" // who asks is not known
	Forbidden    Code = "forbidden"    // who asks may not
	TooMany      Code = "too_many"     // too often, or too much
	Disabled     Code = "disabled"     // a feature switch is off
	Unavailable  Code = "unavailable"  // try again later
	Unreachable  Code = "unreachable"  // the server does not answer
	Internal     Code = "internal"     // our mistake
)

// Field is one field of the input that breaks a rule.
type Field struct {
	// Name is the field as the caller wrote it, nested with dots.
	Name string `json:"field"`
	// Rule says which rule it breaks, as the end of a sentence that starts
	// with the field: "must be a host name without a path".
	Rule string `json:"rule"`
}

// Error is a mistake that its maker can mend.
type Error struct {
	Code    Code
	Message string
	Fields  []Field
	// Hint says what to do next, possibly a command to type.
	Hint string
	// Cause is for the log, never for the person.
	Cause error
}

// Error returns the message with the fields at fault.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for i, f := range e.Fields {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s %s", f.Name, f.Rule)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New returns a fault with a message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint adds what to do next and returns the same fault.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Because adds the cause and returns the same fault.
func (e *Error) Because(cause error) *Error {
	e.Cause = cause
	return e
}

// Fields collects what is wrong with an input, so that all of it can be told
// at once.
type Fields []Field

// Add notes that a field breaks a rule.
func (fs *Fields) Add(name, format string, args ...any) {
	*fs = append(*fs, Field{Name: name, Rule: fmt.Sprintf(format, args...)})
}

// Err is nil when nothing was added, else an Invalid fault with the message
// and all fields.
func (fs Fields) Err(format string, args ...any) error {
	if len(fs) == 0 {
		return nil
	}
	e := New(Invalid, format, args...)
	e.Fields = fs
	return e
}

// CodeOf returns the code of the fault in err's chain, Internal for any other
// error and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
