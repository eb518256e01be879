package grouprule

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
)

// firstError returns the first mistake in people's words.
func firstError(issues *cel.Issues) *Error {
	first := slices.MinFunc(issues.Errors(), func(a, b *cel.Error) int {
		return cmp.Or(cmp.Compare(a.Location.Line(), b.Location.Line()), cmp.Compare(a.Location.Column(), b.Location.Column()))
	})
	// What is wrong with the whole has no place.
	return &Error{Line: max(1, first.Location.Line()), Column: max(0, first.Location.Column()) + 1, Text: explain(first.Message)}
}

// explanation says in people's words what the language says in its own.
type explanation struct {
	pattern *regexp.Regexp
	text    func(parts []string) string
}

// explanations are tried in turn.
var explanations = []explanation{
	{regexp.MustCompile(`^undeclared reference to '(.*)' \(in container`), func(p []string) string {
		return fmt.Sprintf("nothing is called %q: a device has %s", p[1], knownProperties())
	}},
	{regexp.MustCompile(`^found no matching overload for '(.*)' applied to '(.*)'$`), func(p []string) string { return misused(p[1], p[2]) }},
	{regexp.MustCompile(`^expected type '(.*)' but found '(.*)'$`), func(p []string) string {
		return fmt.Sprintf("there has to be %s here, and this is %s", inWords(p[1]), inWords(p[2]))
	}},
	{regexp.MustCompile(`^undefined field '(.*)'$|^type '(.*)' does not support field selection`), func([]string) string {
		return "only labels have something after a dot, as in labels.ring"
	}},
	{regexp.MustCompile(`^expression of type '(.*)' cannot be range`), func(p []string) string {
		return fmt.Sprintf("there has to be a list or labels here, and this is %s", inWords(p[1]))
	}},
	{regexp.MustCompile(`^invalid (timestamp|duration|matches) argument`), func(p []string) string {
		return "this is no " + map[string]string{
			"timestamp": `time such as "2026-01-31T12:00:00Z"`, "duration": `length of time such as "24h"`, "matches": "regular expression",
		}[p[1]]
	}},
	{regexp.MustCompile(`^Syntax error: token recognition error at: '=`), func([]string) string { return "write == to compare" }},
	{regexp.MustCompile(`^Syntax error: token recognition error at: '["']`), func([]string) string { return "a text that begins here does not end" }},
	{regexp.MustCompile(`^Syntax error: (?:mismatched|extraneous) input '(and|or|not)'`), func(p []string) string {
		return fmt.Sprintf("write %s for %s", map[string]string{"and": "&&", "or": "||", "not": "!"}[p[1]], p[1])
	}},
	{regexp.MustCompile(`^Syntax error: .*'<EOF>'(?: expecting .*)?$`), func([]string) string { return "the rule ends before it is complete" }},
	{regexp.MustCompile(`(?s)^Syntax error: (?:mismatched input|extraneous input|token recognition error at:|no viable alternative at input) '(.*?)'(?: expecting .*)?$`), func(p []string) string {
		return fmt.Sprintf("%.40q is not expected here", p[1])
	}},
	{regexp.MustCompile(`error recovery`), func([]string) string { return "the rule cannot be read" }},
	{regexp.MustCompile(`recursion (?:depth|limit)|nesting depth`), func([]string) string { return "the rule is nested too deep" }},
}

func explain(message string) string {
	for _, e := range explanations {
		if parts := e.pattern.FindStringSubmatch(message); parts != nil {
			return e.text(parts)
		}
	}
	return strings.TrimPrefix(message, "Syntax error: ")
}

// misused says that a function or an operator cannot be used with values of
// some types, which are written "(string, int)" or "string.(int)".
func misused(function, signature string) string {
	var with []string
	for _, t := range splitTypes(signature) {
		with = append(with, inWords(t))
	}
	switch function {
	case functionOrder, functionAmong:
		other := slices.DeleteFunc(slices.Clone(with), func(w string) bool { return w == inWords("version") })
		if function == functionOrder && len(other) == 1 {
			return fmt.Sprintf("a version cannot be compared with %s: write a text such as \"1.4\"", other[0])
		}
		return `a version can be in a list of texts only: version in ["1.4", "1.5"]`
	case "@in":
		function = "in"
	case "_[_]":
		function = "[ ]"
	case "_?_:_":
		function = "?:"
	default:
		function = strings.Trim(function, "_@")
	}
	return fmt.Sprintf("%s cannot be used with %s", function, strings.Join(with, " and "))
}

// splitTypes splits a signature into types: commas within map(string, string)
// do not count.
func splitTypes(signature string) []string {
	var all []string
	if target, rest, ok := strings.Cut(signature, ".("); ok {
		all, signature = append(all, target), "("+rest
	}
	signature = strings.TrimSuffix(strings.TrimPrefix(signature, "("), ")")
	depth, begin := 0, 0
	for i, c := range signature {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			all, begin = append(all, strings.TrimSpace(signature[begin:i])), i+1
		}
	}
	return append(all, strings.TrimSpace(signature[begin:]))
}

// inWords is what a type is called.
func inWords(t string) string {
	kind, _, _ := strings.Cut(t, "(")
	switch kind {
	case "string":
		return "a text"
	case "int", "uint", "double":
		return "a number"
	case "bool":
		return "true or false"
	case "version":
		return "a version"
	case "timestamp", "google.protobuf.Timestamp":
		return "a time"
	case "duration", "google.protobuf.Duration":
		return "a length of time"
	case "map":
		return "labels"
	case "list":
		return "a list"
	case "":
		return "nothing"
	default:
		return "a " + kind
	}
}

func knownProperties() string {
	var names []string
	for _, p := range Properties() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
