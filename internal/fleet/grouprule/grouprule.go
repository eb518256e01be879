// Package grouprule decides for which devices the rule of a group is true.
//
// A rule is an expression in CEL, the Common Expression Language, over the
// properties of one device; docs/group-rules.md is its manual. Only what a
// rule needs of the language is there, and rules that could take long are
// refused: what a rule costs is known before it is ever used. A rule has no
// clock, so that what it says of a device changes with the device or the rule
// only.
//
// It is pure, and part of the server: agents know nothing of groups.
package grouprule

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"interdict/internal/fleet"
)

// MaxLength bounds a rule, in bytes.
const MaxLength = 4096

// Property is something of a device that rules can ask for.
type Property struct {
	Name string
	// Type is what it is, as rules have it: string, version, map(string,
	// string) or timestamp.
	Type string
	// Summary says what it is, for people.
	Summary string

	celType *cel.Type
	value   func(*fleet.Device) ref.Val
}

// Properties returns all properties, in the order in which people read them.
func Properties() []Property {
	text := func(name, summary string, of func(*fleet.Device) string) Property {
		return Property{name, "string", summary, cel.StringType, func(d *fleet.Device) ref.Val { return types.String(of(d)) }}
	}
	number := func(name, summary string, of func(*fleet.Device) string) Property {
		return Property{name, "version", summary, versionType, func(d *fleet.Device) ref.Val { return version(of(d)) }}
	}
	return []Property{
		text("name", "what the device is called here", func(d *fleet.Device) string { return d.Name }),
		text("hostname", "its host name, as it says itself", func(d *fleet.Device) string { return d.Hostname }),
		text("os", "its operating system: linux or windows", func(d *fleet.Device) string { return d.OS }),
		number("os_version", "the version of the operating system or distribution", func(d *fleet.Device) string { return d.OSVersion }),
		text("arch", "its processor: amd64, arm64", func(d *fleet.Device) string { return d.Arch }),
		number("version", "the version of its agent", func(d *fleet.Device) string { return d.AgentVersion }),
		{"labels", "map(string, string)", "its labels", cel.MapType(cel.StringType, cel.StringType), func(d *fleet.Device) ref.Val {
			return types.NewStringStringMap(types.DefaultTypeAdapter, d.Labels)
		}},
		{"enrolled_at", "timestamp", "when it was enrolled", cel.TimestampType, func(d *fleet.Device) ref.Val {
			return types.Timestamp{Time: d.EnrolledAt.In(time.UTC)}
		}},
	}
}

// Error says what is wrong with a rule.
type Error struct {
	// Line and Column say where, from 1 on; columns count characters.
	Line, Column int
	// Text is a sentence without its full stop.
	Text string
}

// Error returns the text with its place.
func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

// Rule is a rule that can be asked. It is immutable, and safe for concurrent
// use.
type Rule struct{ program cel.Program }

// Compile makes a rule of its text. The error is an [*Error].
func Compile(text string) (*Rule, error) {
	if len(text) > MaxLength {
		return nil, &Error{Line: 1, Column: 1, Text: fmt.Sprintf("the rule has %d bytes, and may have %d at most", len(text), MaxLength)}
	}
	env := language()
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, firstError(issues)
	}
	if t := tree.OutputType(); !t.IsExactType(cel.BoolType) {
		return nil, &Error{Line: 1, Column: 1, Text: fmt.Sprintf("a rule is true or false for a device, and this is %s", inWords(t.String()))}
	}
	cost, err := env.EstimateCost(tree, sizes{})
	if err != nil {
		return nil, fmt.Errorf("estimating what a rule costs: %w", err)
	}
	if cost.Max > maxCost {
		return nil, &Error{Line: 1, Column: 1, Text: "the rule could take too long: take out regular expressions, and what goes over all labels or a long list"}
	}
	program, err := env.Program(tree, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		// Parts without properties are worked out beforehand: 1 / 0 == 1.
		return nil, &Error{Line: 1, Column: 1, Text: fmt.Sprintf("a part of the rule has no value: %v", err)}
	}
	return &Rule{program: program}, nil
}

// Match reports whether the rule is true for a device. Where it cannot be said,
// as of a label that the device has not got, it is false, and the error says
// why.
func (r *Rule) Match(d *fleet.Device) (bool, error) {
	result, _, err := r.program.Eval(facts{d})
	if err != nil {
		return false, fmt.Errorf("judging device %q: %w", d.Name, err)
	}
	return result == types.True, nil
}

// facts are the properties of a device, as the language asks for them.
type facts struct{ device *fleet.Device }

var _ interpreter.Activation = facts{}

// ResolveName is part of interpreter.Activation.
func (f facts) ResolveName(name string) (any, bool) {
	p, ok := byName()[name]
	if !ok {
		return nil, false
	}
	return p.value(f.device), true
}

// Parent is part of interpreter.Activation: there is nothing else.
func (facts) Parent() interpreter.Activation { return nil }

// byName are the properties by name, made once.
var byName = sync.OnceValue(func() map[string]Property {
	all := make(map[string]Property)
	for _, p := range Properties() {
		all[p.Name] = p
	}
	return all
})

// Same reports whether two states of a device are the same to every rule.
func Same(a, b *fleet.Device) bool {
	return a.Name == b.Name && a.Hostname == b.Hostname && a.OS == b.OS && a.OSVersion == b.OSVersion && a.Arch == b.Arch &&
		a.AgentVersion == b.AgentVersion && a.EnrolledAt.Equal(b.EnrolledAt) && maps.Equal(a.Labels, b.Labels)
}
