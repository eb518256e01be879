// Package bundle decides what the server tells an agent to enforce and how
// the agent knows that it was the server who said it.
//
// A bundle is a set of records: settings, app names, indicators, and names
// that are spared. A Set is identified by its digest, the SHA-256 of its
// records in their one canonical order, so that two sets with the same
// records have the same digest however they came about. The server signs a
// Header with the digest and a version that only grows; what travels is an
// Envelope with that header and either all records or the difference to a
// set which the agent has. Applying the difference and computing the digest
// proves the result, so the body itself needs no signature.
//
// The package also has the few shapes that agent and server exchange beside
// the bundle. All of them only grow.
package bundle

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"interdict/internal/bypass"
	"interdict/internal/indicator"
)

// Kind is the kind of a record.
type Kind string

// The kinds of records.
const (
	KindSetting   Kind = "set"
	KindApp       Kind = "app"
	KindIndicator Kind = "ind"
	KindSpare     Kind = "spare"
	// KindPolicy gives the name of a policy that settings come from.
	KindPolicy Kind = "pol"
	// KindRevocation ends bypasses of warnings.
	KindRevocation Kind = "rev"
)

// Record is one fact of a bundle. Kind and Key together are unique in a Set.
type Record struct {
	Kind Kind
	// Key is the setting's name, the app's id, the indicator's id, or the
	// spared name.
	Key string
	// Value is the setting's value, the app's or policy's name, or the id of the app
	// that a spared name belongs to.
	Value string
	// Origin is the policy a setting comes from; empty for a default.
	Origin string
	// Indicator is set for KindIndicator. Of its scope it has the people and
	// the times: the device that gets the record is in scope. It has no
	// description nor history.
	Indicator indicator.Indicator
	// Revocation is set for KindRevocation.
	Revocation bypass.Revocation
}

// Setting returns the record of a setting.
func Setting(name, value, policyID string) Record {
	return Record{Kind: KindSetting, Key: name, Value: value, Origin: policyID}
}

// App returns the record that gives an app's name, for events and
// notifications.
func App(id, name string) Record {
	return Record{Kind: KindApp, Key: id, Value: name}
}

// Policy returns the record that gives a policy's name, for people at the
// device.
func Policy(id, name string) Record {
	return Record{Kind: KindPolicy, Key: id, Value: name}
}

// Indicator returns the record of an indicator.
func Indicator(i indicator.Indicator) Record {
	return Record{Kind: KindIndicator, Key: i.ID, Indicator: indicator.Indicator{
		ID: i.ID, Type: i.Type, Value: i.Value, Action: i.Action, Severity: i.Severity, Source: i.Source,
		AppID: i.AppID, ExpiresAt: i.ExpiresAt.UTC().Truncate(time.Second), GenerateAlert: i.GenerateAlert,
		CreatedAt: i.CreatedAt.UTC().Truncate(time.Millisecond),
		Scope:     indicator.Profile{People: i.Scope.People, Windows: i.Scope.Windows},
	}}
}

// Revocation returns the record that ends bypasses.
func Revocation(r bypass.Revocation) Record {
	r.Before = r.Before.UTC().Truncate(time.Millisecond)
	return Record{Kind: KindRevocation, Key: r.ID, Revocation: r}
}

// Spare returns the record which says that a name, and what is below it,
// belongs to an app that the catalog's indicators of names above it must
// leave alone.
func Spare(domain, appID string) Record {
	return Record{Kind: KindSpare, Key: domain, Value: appID}
}

// line is the record's canonical form: fields separated by tabs, kind and
// key first. Fields may be added at the end; readers ignore what they do not
// know.
func (r Record) line() (string, error) {
	fields := []string{string(r.Kind), r.Key}
	switch r.Kind {
	case KindSetting:
		fields = append(fields, r.Value, r.Origin)
	case KindApp, KindPolicy, KindSpare:
		fields = append(fields, r.Value)
	case KindIndicator:
		i := &r.Indicator
		alert := "0"
		if i.GenerateAlert {
			alert = "1"
		}
		fields = append(fields, string(i.Type), i.Value, string(i.Action), string(i.Severity),
			string(i.Source), i.AppID, unixOrEmpty(i.ExpiresAt, time.Second), alert, unixOrEmpty(i.CreatedAt, time.Millisecond))
		profile, err := profileText(&i.Scope)
		if err != nil {
			return "", fmt.Errorf("writing record %s %.80q: %w", r.Kind, r.Key, err)
		}
		if profile != "" {
			fields = append(fields, profile)
		}
	case KindRevocation:
		v := &r.Revocation
		fields = append(fields, v.Subject, v.User, unixOrEmpty(v.Before, time.Millisecond))
	default:
		return "", fmt.Errorf("writing a record of kind %q: the kind is not known", r.Kind)
	}
	if r.Key == "" {
		return "", fmt.Errorf("writing a record of kind %q: the key is empty", r.Kind)
	}
	for _, f := range fields {
		if strings.ContainsAny(f, "\t\n\r") {
			return "", fmt.Errorf("writing record %s %.80q: %.80q holds a tab or a line break", r.Kind, r.Key, f)
		}
	}
	return strings.Join(fields, "\t"), nil
}

// profileText writes for whom and when an indicator counts, in JSON; empty for
// everybody at all times.
func profileText(p *indicator.Profile) (string, error) {
	if p.Anyone() {
		return "", nil
	}
	// The devices are not the device's business.
	text, err := json.Marshal(indicator.Profile{People: p.People, Windows: p.Windows})
	return string(text), err
}

// parseProfile is the reverse of profileText. It stands apart so that reading
// a record without a profile does not allocate.
func parseProfile(text string) (indicator.Profile, error) {
	var p indicator.Profile
	err := json.Unmarshal([]byte(text), &p)
	return p, err
}

func unixOrEmpty(t time.Time, unit time.Duration) string {
	if t.IsZero() {
		return ""
	}
	// Not by way of nanoseconds, whose number overflows in the year 2262:
	// "never" is often written as the last day of the year 9999.
	if unit == time.Second {
		return strconv.FormatInt(t.Unix(), 10)
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// parseLine is the reverse of line. An unknown kind is not an error: it comes
// from a newer server and counts in the digest like any other.
func parseLine(line string) (Record, error) {
	var f [12]string
	n := splitTabs(line, f[:])
	r := Record{Kind: Kind(f[0]), Key: f[1]}
	if n < 2 || r.Kind == "" || r.Key == "" {
		return Record{}, fmt.Errorf("reading record %.80q: kind or key is missing", line)
	}
	switch r.Kind {
	case KindSetting:
		r.Value, r.Origin = f[2], f[3]
	case KindApp, KindPolicy, KindSpare:
		r.Value = f[2]
	case KindIndicator:
		i := &r.Indicator
		i.ID, i.Type, i.Value = r.Key, indicator.Type(f[2]), f[3]
		i.Action, i.Severity, i.Source = indicator.Action(f[4]), indicator.Severity(f[5]), indicator.Source(f[6])
		i.AppID, i.GenerateAlert = f[7], f[9] == "1"
		var err error
		if i.ExpiresAt, err = parseUnix(f[8], time.Second); err != nil {
			return Record{}, fmt.Errorf("reading the expiry of record %.80q: %w", line, err)
		}
		if i.CreatedAt, err = parseUnix(f[10], time.Millisecond); err != nil {
			return Record{}, fmt.Errorf("reading the creation time of record %.80q: %w", line, err)
		}
		if f[11] != "" {
			if i.Scope, err = parseProfile(f[11]); err != nil {
				return Record{}, fmt.Errorf("reading for whom record %.80q counts: %w", line, err)
			}
		}
	case KindRevocation:
		before, err := parseUnix(f[4], time.Millisecond)
		if err != nil {
			return Record{}, fmt.Errorf("reading the time of record %.80q: %w", line, err)
		}
		r.Revocation = bypass.Revocation{ID: r.Key, Subject: f[2], User: f[3], Before: before}
	}
	return r, nil
}

// splitTabs fills fields with the tab-separated parts of s and returns how
// many there were, at most len(fields); it does not allocate.
func splitTabs(s string, fields []string) int {
	for n := range fields {
		i := strings.IndexByte(s, '\t')
		if i < 0 {
			fields[n] = s
			return n + 1
		}
		fields[n], s = s[:i], s[i+1:]
	}
	return len(fields)
}

func parseUnix(s string, unit time.Duration) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	if unit == time.Second {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.UnixMilli(n).UTC(), nil
}

// recordKey is the part of a line that identifies its record: kind and key
// with the tab after each.
func recordKey(line string) string {
	kind := strings.IndexByte(line, '\t')
	if kind < 0 {
		return line
	}
	if end := strings.IndexByte(line[kind+1:], '\t'); end >= 0 {
		return line[:kind+1+end+1]
	}
	return line
}
