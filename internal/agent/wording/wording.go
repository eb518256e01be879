// Package wording decides in which language a user of the endpoint is told
// something, and in which words.
//
// There is one table for each language, with a field for each text, so that
// the compiler knows which texts there are and a test that no language lacks
// one. Texts have names in braces that are filled in with [Fill].
//
// It is pure.
package wording

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// Language is the language of a table, as HTML and HTTP call it (BCP 47).
type Language string

// The languages there are tables for.
const (
	English Language = "en"
	German  Language = "de"
)

// For returns the table of a language; the English one for a language there
// is none for.
func For(l Language) *Texts {
	if l == German {
		return german()
	}
	return english()
}

// Fill puts values in the place of names in braces: of the pairs the first is
// the name, without its braces, and the second the value. What a value holds
// is not filled in again.
func Fill(text string, pairs ...string) string {
	with := make([]string, len(pairs))
	for i, p := range pairs {
		if i%2 == 0 {
			p = "{" + p + "}"
		}
		with[i] = p
	}
	return strings.NewReplacer(with...).Replace(text)
}

// Moment returns a point of time as people write it who live at now: without
// the day if that is today's.
func (t *Texts) Moment(at, now time.Time) string {
	at = at.In(now.Location())
	if at.Year() == now.Year() && at.YearDay() == now.YearDay() {
		return at.Format(t.clock)
	}
	return at.Format(t.date)
}

// ofName returns the language that a name such as de, de_AT.UTF-8 or de-CH
// stands for.
func ofName(name string) (Language, bool) {
	name = strings.ToLower(name)
	if end := strings.IndexAny(name, "_-.@"); end >= 0 {
		name = name[:end]
	}
	switch l := Language(name); l {
	case English, German:
		return l, true
	default:
		return "", false
	}
}

// OfLocale returns the language that the variables of an environment ask for,
// in the order of gettext(3): LANGUAGE, a list, unless the locale is C; then
// LC_ALL, LC_MESSAGES and LANG. ok is false where they ask for nothing that
// there is a table for.
func OfLocale(getenv func(string) string) (l Language, ok bool) {
	locale := cmp.Or(getenv("LC_ALL"), getenv("LC_MESSAGES"), getenv("LANG"))
	if base, _, _ := strings.Cut(locale, "."); base == "C" || base == "POSIX" {
		return English, true
	}
	if locale != "" {
		for name := range strings.SplitSeq(getenv("LANGUAGE"), ":") {
			if l, ok = ofName(name); ok {
				return l, true
			}
		}
	}
	return ofName(locale)
}

// maxRanges bounds the languages of a header that are looked at.
const maxRanges = 32

// OfHeader returns the language that a request asks for by its
// Accept-Language (RFC 9110, section 12.5.4); English where it asks for
// nothing that there is a table for.
func OfHeader(accept string) Language {
	best, most := English, 0.0
	for i, part := range strings.Split(accept, ",") {
		if i == maxRanges {
			break
		}
		name, weight, weighted := strings.Cut(strings.TrimSpace(part), ";")
		l, ok := ofName(strings.TrimSpace(name))
		if !ok {
			continue
		}
		q := 1.0
		if weighted {
			var err error
			value, _ := strings.CutPrefix(strings.TrimSpace(weight), "q=")
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				continue
			}
		}
		if q <= 1 && q > most {
			best, most = l, q
		}
	}
	return best
}
