// Package eventexpr reads the language of 'interdict event': which events are
// meant, as terms that become parameters of a query. What the values mean is
// the server's to say.
package eventexpr

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"interdict/internal/cli/moment"
	"interdict/internal/fault"
)

// terms are the terms of an expression and the query parameters they become.
var terms = map[string]string{ //nolint:gochecknoglobals // a table that never changes
	"event_id": "event_id", "id": "event_id",
	"app":    "app",
	"device": "device",
	"host":   "host",
	"action": "action",
	"user":   "user",
	"since":  "since",
	"until":  "until",
}

// Help explains the language to people.
const Help = `An expression is a list of terms, all of which must hold:

    event_id=1126         the number of the event
    app=itunes            the id of the app
    device=alice-pc       the name or id of the device
    host=apple.com        the destination, and every name below it
    action=blocked        config_changed, audited, blocked, warned, bypassed, ...
    user=alice            the user's name
    since=1h until=10m    a span before now, a date, or a time in RFC 3339

A value with spaces stands in double quotes.`

// Parse reads an expression such as
//
//	event_id=1126 app=itunes since=1h host="a b"
//
// into the parameters of a query. Terms are separated by spaces and joined by
// and; a value with spaces stands in double quotes.
func Parse(expr string, now time.Time) (url.Values, error) {
	q := url.Values{}
	split, err := splitTerms(expr)
	if err != nil {
		return nil, err
	}
	for _, term := range split {
		key, value, ok := strings.Cut(term, "=")
		name, known := terms[key]
		switch {
		case !ok:
			return nil, termFault("the term %q has no value", term)
		case !known:
			return nil, termFault("the term %q is not known", key)
		case value == "":
			return nil, termFault("the term %q has an empty value", key)
		case q.Has(name):
			return nil, termFault("the term %q is there twice", key)
		}
		if name == "since" || name == "until" {
			t, err := moment.Parse(name, value, now, moment.Ago)
			if err != nil {
				return nil, err
			}
			value = t.Format(time.RFC3339Nano)
		}
		q.Set(name, value)
	}
	return q, nil
}

func termFault(format string, args ...any) error {
	names := slices.Sorted(maps.Keys(terms))
	names = slices.DeleteFunc(names, func(n string) bool { return n == "id" })
	return fault.New(fault.Invalid, format, args...).
		WithHint("terms are NAME=VALUE with one of %s; for example event_id=1126 app=itunes since=1h", strings.Join(names, ", "))
}

// splitTerms splits at spaces outside double quotes, and takes the quotes
// away.
func splitTerms(expr string) ([]string, error) {
	if !utf8.ValidString(expr) {
		return nil, termFault("the expression is not text in UTF-8")
	}
	var terms []string
	var b strings.Builder
	quoted, started := false, false
	for _, r := range expr {
		switch {
		case r == '"':
			quoted, started = !quoted, true
		case !quoted && strings.ContainsRune(" \t\n\r", r):
			if started {
				terms = append(terms, b.String())
			}
			b.Reset()
			started = false
		default:
			b.WriteRune(r)
			started = true
		}
	}
	if quoted {
		return nil, termFault("a double quote is not closed")
	}
	if started {
		terms = append(terms, b.String())
	}
	return terms, nil
}
