package indicator

import (
	"fmt"
	"net/url"
	"strings"
)

// MaxURL bounds a url in bytes, in canonical form.
const MaxURL = 2048

// parseURL returns the canonical form of a url, or the rule it breaks.
func parseURL(s string) (canonical, rule string) {
	scheme, rest, found := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !found || scheme != "http" && scheme != "https" {
		return "", "must start with http:// or https://"
	}
	// An empty fragment does not survive url.Parse.
	if strings.Contains(rest, "#") {
		return "", "must not have a fragment: it is never sent"
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return "", "must be a URL"
	}
	if rule = checkURL(u); rule != "" {
		return "", rule
	}
	host, rule := parseHost(u.Hostname())
	if rule != "" {
		return "", rule
	}
	path := CanonicalPath(u.EscapedPath())
	if scheme == "https" && path != "/" {
		return "", "must not have a path: on https the path is inside the encryption and cannot be seen, only the host can; leave the path off, or use http"
	}
	canonical = scheme + "://" + host + path
	if len(canonical) > MaxURL {
		return "", fmt.Sprintf("must not be longer than %d bytes", MaxURL)
	}
	return canonical, ""
}

// checkURL returns the rule that a part other than host and path breaks.
func checkURL(u *url.URL) (rule string) {
	switch {
	case u.User != nil:
		return "must not have a user name"
	case u.RawQuery != "" || u.ForceQuery:
		return "must not have a query: a path is matched with any query"
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"),
		u.Port() != "" && u.Port() != defaultPort(u.Scheme):
		return "must not have a port: a host is matched on every port"
	default:
		return ""
	}
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// SplitURL takes a canonical url apart. A url matches connections to exactly
// its host, not to subdomains, on any port. With the path "/" it matches all
// of them, and the scheme does not count; with a longer path those plain HTTP
// requests whose path it covers, see [PathCovers]. Path is empty if the value
// is not canonical.
func SplitURL(value string) (host, path string) {
	_, rest, _ := strings.Cut(value, "://")
	if i := strings.IndexByte(rest, '/'); i > 0 {
		return rest[:i], rest[i:]
	}
	return "", ""
}

// PathCovers reports whether the path of a url indicator covers a request's
// path: the same path or one below it, segment by segment. Both are
// canonical.
func PathCovers(rule, path string) bool {
	if rule == "/" || rule == path {
		return true
	}
	return len(path) > len(rule) && path[:len(rule)] == rule && path[len(rule)] == '/'
}

// CanonicalPath returns the form of an HTTP request's path in which paths are
// compared, so that other spellings of a blocked path are blocked as well:
// without query, percent-encoding and dot segments normalised as in RFC 3986,
// sections 6.2.2.1 to 6.2.2.3, and, as most servers read them, without empty
// segments and without a slash at the end. It starts with a slash.
func CanonicalPath(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	var segments []string
	for s := range strings.SplitSeq(normalizePercent(path), "/") {
		switch s {
		case "", ".":
		case "..":
			segments = segments[:max(0, len(segments)-1)]
		default:
			segments = append(segments, s)
		}
	}
	return "/" + strings.Join(segments, "/")
}

// normalizePercent decodes what needs no percent-encoding and encodes what
// does, in upper case. A stray percent sign stands for itself.
func normalizePercent(s string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		encoded := false
		if c == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 16 && lo < 16 {
				c, encoded = hi<<4|lo, true
				i += 2
			}
		}
		if isUnreserved(c) || !encoded && strings.IndexByte("/!$&'()*+,;=:@", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

// isUnreserved is the set of RFC 3986, section 2.3.
func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 16
	}
}
