// Package input has the rules for what people and devices write: names,
// descriptions, labels, and text that is looked for or kept. Whether what a
// name refers to exists is decided elsewhere.
//
// The package is pure.
package input

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"interdict/internal/fault"
)

// The bounds of what is written, in bytes.
const (
	MaxName        = 128
	MaxDescription = 1024
	// MaxFact bounds what a device says of itself.
	MaxFact = 255

	maxLabels     = 64
	maxLabelKey   = 63
	maxLabelValue = 255
)

// CheckName wants the field "name" to be a name: printable, and not empty.
func CheckName(faults *fault.Fields, name string) {
	switch {
	case name == "":
		faults.Add("name", "is required")
	case len(name) > MaxName:
		faults.Add("name", "must not be longer than %d bytes", MaxName)
	case strings.TrimSpace(name) != name || !IsText(name):
		faults.Add("name", "must be printable text without white space around it")
	}
}

// CheckDescription wants the field "description" to be text, of several lines
// at will.
func CheckDescription(faults *fault.Fields, text string) {
	if len(text) > MaxDescription {
		faults.Add("description", "must not be longer than %d bytes", MaxDescription)
	}
	if !IsText(strings.NewReplacer("\n", "", "\t", "").Replace(text)) {
		faults.Add("description", "must be printable text")
	}
}

// CheckText refuses in a field what no database can look for.
func CheckText(faults *fault.Fields, field, text string) {
	if !IsText(text) {
		faults.Add(field, "must be printable text")
	}
}

// IsText reports whether all of s is printable, which a line break is not.
func IsText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// CheckLabels wants a field to have labels.
func CheckLabels(faults *fault.Fields, field string, labels map[string]string) {
	if len(labels) > maxLabels {
		faults.Add(field, "must not have more than %d labels", maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelKey || strings.ContainsFunc(k, notLabelKey) {
			faults.Add(field, "must have keys of 1 to %d letters, digits, dots, dashes, slashes and underscores; %q is none", maxLabelKey, k)
		}
		if len(v) > maxLabelValue || !IsText(v) {
			faults.Add(field, "must have printable values of at most %d bytes; that of %q is none", maxLabelValue, k)
		}
	}
}

func notLabelKey(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/", r)
}

// Clip makes text from a device fit to be kept: printable, and of at most so
// many bytes.
func Clip(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, " "))
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// Contains reports whether one of the texts contains what is searched for,
// regardless of case.
func Contains(search string, texts ...string) bool {
	search = strings.ToLower(search)
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(t), search) })
}

// OrList sorts names and joins them for a sentence, each once.
func OrList(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
