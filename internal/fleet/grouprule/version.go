package grouprule

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// maxVersion bounds a version, in bytes.
const maxVersion = 64

// versionType is the type of versions in rules. It is opaque: versions are
// compared with each other and with text, and nothing else is done with them.
var versionType = types.NewOpaqueType("version")

// version is a value of that type: what a device says its version is.
type version string

// ConvertToNative is part of ref.Val.
func (v version) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("converting a version to %s: there is no way", t)
}

// ConvertToType is part of ref.Val: versions become text, with all that is
// around the number.
func (v version) ConvertToType(t ref.Type) ref.Val {
	if t.TypeName() == types.StringType.TypeName() {
		return types.String(v)
	}
	return types.NewErr("a version cannot be made a %s", t.TypeName())
}

// Equal is part of ref.Val.
func (v version) Equal(other ref.Val) ref.Val { return types.Bool(order(v, other) == types.IntZero) }

// Type is part of ref.Val.
func (v version) Type() ref.Type { return versionType }

// Value is part of ref.Val.
func (v version) Value() any { return string(v) }

// order is how rules compare versions, negative if a is the earlier one. Both
// are versions or texts.
func order(a, b ref.Val) ref.Val {
	x, err := operand(a)
	if err != nil {
		return types.WrapErr(err)
	}
	y, err := operand(b)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Int(compareVersions(x, y))
}

func operand(v ref.Val) (string, error) {
	switch v := v.(type) {
	case version:
		return findVersion(string(v))
	case types.String:
		if !isVersion(string(v)) {
			return "", fmt.Errorf("%.80q is no version", string(v))
		}
		return string(v), nil
	default:
		return "", fmt.Errorf("a %s is no version", v.Type().TypeName())
	}
}

// findVersion returns the first word of a text that is a version: devices say
// "Ubuntu 22.04.3 LTS".
func findVersion(text string) (string, error) {
	for word := range strings.FieldsSeq(text) {
		if isVersion(word) {
			return word, nil
		}
	}
	if text == "" {
		return "", fmt.Errorf("the device has not said its version")
	}
	return "", fmt.Errorf("there is no version in %.80q", text)
}

// isVersion reports whether text is numbers with dots between them, with a v
// before them or not, and possibly more after them: 1.4, v1.4.0-rc1, 9.2p1.
// A commit such as 89c8ee3 is none.
func isVersion(text string) bool {
	rest := strings.TrimLeft(withoutV(text), "0123456789.")
	numbers := strings.TrimSuffix(withoutV(text), rest)
	if numbers == "" || strings.HasPrefix(numbers, ".") || strings.HasSuffix(numbers, ".") || strings.Contains(numbers, "..") || len(text) > maxVersion {
		return false
	}
	if rest != "" && isLetter(rest[0]) {
		rest = strings.TrimLeft(strings.TrimLeftFunc(rest, func(r rune) bool { return r < 128 && isLetter(byte(r)) }), "0123456789")
	}
	return rest == "" || strings.IndexByte("-~+_", rest[0]) >= 0 && !strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' })
}

// compareVersions orders versions: by their numbers, a missing one being 0;
// of the same numbers, what is followed by letters (1.4-rc1) or by "~" is
// before and what is followed by more digits (1.4-12) after the plain one.
// What follows a "+" does not count.
func compareVersions(a, b string) int {
	a, _, _ = strings.Cut(withoutV(a), "+")
	b, _, _ = strings.Cut(withoutV(b), "+")
	for isNumber(a) || isNumber(b) {
		var x, y string
		x, a = cutNumber(a)
		y, b = cutNumber(b)
		if c := compareNumbers(x, y); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(standing(a), standing(b)); c != 0 {
		return c
	}
	return compareSuffixes(a, b)
}

func withoutV(s string) string {
	if len(s) > 1 && (s[0] == 'v' || s[0] == 'V') {
		return s[1:]
	}
	return s
}

// isNumber reports whether s begins with a number of the release, possibly
// after its dot.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, ".")
	return s != "" && isDigit(s[0])
}

// cutNumber cuts the first number off s; it is empty if there is none.
func cutNumber(s string) (number, rest string) {
	if !isNumber(s) {
		return "", s
	}
	s = strings.TrimPrefix(s, ".")
	n := run(s, isDigit)
	return s[:n], s[n:]
}

// standing is how a version with this suffix stands to the one without.
func standing(suffix string) int {
	switch next := strings.TrimLeft(suffix, "-_."); {
	case next == "" && suffix == "":
		return 0
	case next != "" && isDigit(next[0]):
		return 1
	default:
		return -1
	}
}

// compareSuffixes compares runs of digits and of letters, in turn; numbers are
// before words, and what ends first is before what goes on.
func compareSuffixes(a, b string) int {
	for {
		var x, y string
		x, a = cutToken(a)
		y, b = cutToken(b)
		switch {
		case x == "" || y == "":
			return cmp.Compare(len(x), len(y))
		case isDigit(x[0]) != isDigit(y[0]):
			if isDigit(x[0]) {
				return -1
			}
			return 1
		}
		c := cmp.Compare(strings.ToLower(x), strings.ToLower(y))
		if isDigit(x[0]) {
			c = compareNumbers(x, y)
		}
		if c != 0 {
			return c
		}
	}
}

// cutToken cuts the first run of digits or of letters off s, and what is
// before it; it is empty if there is none.
func cutToken(s string) (token, rest string) {
	s = s[run(s, func(c byte) bool { return !isDigit(c) && !isLetter(c) }):]
	n := run(s, isDigit)
	if n == 0 {
		n = run(s, isLetter)
	}
	return s[:n], s[n:]
}

// compareNumbers compares digits of any length; none are 0.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// run is how many bytes at the beginning of s are of a kind.
func run(s string, kind func(byte) bool) int {
	for i := range len(s) {
		if !kind(s[i]) {
			return i
		}
	}
	return len(s)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
