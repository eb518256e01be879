package procfs

import (
	"regexp"
	"strings"
)

// redacted stands for what was taken out of a command line.
const redacted = "[redacted]"

// secretName matches the names of what is secret: by a part, or by a last word.
const secretName = `(?:[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_]?key|credential|cookie|session)[\w.-]*` +
	// Not author.
	`|[\w.-]*auth(?:ori[sz][\w.-]*|[a-np-z0-9_.-][\w.-]*)?` +
	`|(?:[\w.-]*[-_.])?(?:key|pass|pwd))`

// redaction takes out what its pattern finds, except for its groups.
type redaction struct {
	pattern *regexp.Regexp
	keep    string
}

// redactions are made one after another. A zero byte parts an argument from
// the next; within one there may be a command line of its own, as after sh -c.
var redactions = []redaction{
	// Keys in PEM.
	{regexp.MustCompile(`(?s)-----BEGIN [^\x00]*?-----END [^\x00-]*-----|-----BEGIN [^\x00]*`), redacted},
	// User, query and fragment of a URL.
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s\x00/?#]+@`), "${1}" + redacted + "@"},
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s\x00?#]*\?)[^\s\x00#]+`), "${1}" + redacted},
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s\x00#]*#)[^\s\x00]+`), "${1}" + redacted},
	// curl -u user:password
	{
		regexp.MustCompile(`((?:^|[\s\x00])(?:-[uU]|--(?:proxy-)?user)[=\s\x00]?["']?[^\s\x00:"'-][^\s\x00:"']*:)[^\s\x00]+`),
		"${1}" + redacted,
	},
	// An argument that is name=value or a header.
	{regexp.MustCompile(`(?is)((?:^|\x00)` + secretName + `\s*[=:]\s*)[^\x00]+`), "${1}" + redacted},
	// The same within an argument.
	{
		regexp.MustCompile(`(?i)(\b` + secretName + `["']?=)(?:"[^"\x00]*"?|'[^'\x00]*'?|[^\s\x00&"']+)`),
		"${1}" + redacted,
	},
	{
		regexp.MustCompile(`(?i)(\b` + secretName + `["']?\s*:\s*)(?:"[^"\x00]*"?|'[^'\x00]*'?|[^\x00"']+)`),
		"${1}" + redacted,
	},
	// An option and its value, as two arguments and within one.
	{regexp.MustCompile(`(?is)((?:^|[\s\x00])--?` + secretName + `\x00)[^\x00-][^\x00]*`), "${1}" + redacted},
	{
		regexp.MustCompile(`(?i)((?:^|[\s\x00])--?` + secretName + `[ \t]+)(?:"[^"\x00]*"?|'[^'\x00]*'?|[^\s\x00"'-][^\s\x00]*)`),
		"${1}" + redacted,
	},
	{regexp.MustCompile(`(?i)(\bbearer\s+)[^\s\x00"']+`), "${1}" + redacted},
}

// randomMin is the length from which on a word may be a key.
const randomMin = 32

var longWord = regexp.MustCompile(`[A-Za-z0-9+/_-]{32,}={0,2}`)

// redact takes what looks secret out of arguments, which zero bytes part. It
// goes by names and by looks, and so cannot find all that is.
func redact(args string) string {
	for _, r := range redactions {
		args = r.pattern.ReplaceAllString(args, r.keep)
	}
	return longWord.ReplaceAllStringFunc(args, func(word string) string {
		if strings.Contains(word, "/") && !strings.HasPrefix(word, "/") && random(word) {
			return redacted // Base64 too has slashes.
		}
		parts := strings.Split(word, "/")
		for i, part := range parts {
			if random(part) {
				parts[i] = redacted
			}
		}
		return strings.Join(parts, "/")
	})
}

// random reports whether a word is long and its letters and digits are of
// another kind than those before in three cases of ten; after a capital a small
// letter does not count, since words have that as well. Where base64 or
// hexadecimal digits were made of random bytes it is about every second.
func random(word string) bool {
	const enough = 0.3
	var last, changed, n int
	for _, c := range []byte(word) {
		kind := kindOf(c)
		if kind == 0 {
			continue
		}
		if n++; kind != last && (last != capital || kind != small) {
			changed++
		}
		last = kind
	}
	return len(word) >= randomMin && float64(changed) >= enough*float64(n)
}

// The kinds of characters.
const (
	digit = iota + 1
	small
	capital
)

// kindOf is 0 for what is neither a letter nor a digit.
func kindOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return digit
	case c >= 'a' && c <= 'z':
		return small
	case c >= 'A' && c <= 'Z':
		return capital
	default:
		return 0
	}
}
