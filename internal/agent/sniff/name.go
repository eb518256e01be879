package sniff

import (
	"bytes"
	"net/netip"
	"strconv"
)

// The lengths of RFC 1035, section 2.3.4, without the root's label.
const (
	maxName  = 253
	maxLabel = 63
)

// parseHost reads a host as protocols write it: a name, an IPv4 address, or
// an IPv6 address with or without brackets. Exactly one of name, addr and
// reason is set, except that reason is ReasonAddress where addr is set.
//
// Letters, digits, hyphen and underscore make a label; anything else cannot
// be looked up by the programs this package watches. A name whose last label
// is all digits is an address or nothing: the URL standard reads it so.
func parseHost(b []byte) (string, netip.Addr, Reason) {
	if n := len(b); n > 2 && b[0] == '[' && b[n-1] == ']' {
		return parseAddr(b[1 : n-1])
	}
	b = bytes.TrimSuffix(b, []byte("."))
	if len(b) == 0 || len(b) > maxName {
		return "", netip.Addr{}, ReasonBadName
	}
	if bytes.IndexByte(b, ':') >= 0 || allDigits(b[bytes.LastIndexByte(b, '.')+1:]) {
		return parseAddr(b)
	}
	var lower [maxName]byte
	if !lowerName(lower[:], b) {
		return "", netip.Addr{}, ReasonBadName
	}
	return string(lower[:len(b)]), netip.Addr{}, ReasonNone
}

func parseAddr(b []byte) (string, netip.Addr, Reason) {
	addr, err := netip.ParseAddr(string(b))
	if err != nil {
		return "", netip.Addr{}, ReasonBadName
	}
	return "", addr.Unmap().WithZone(""), ReasonAddress
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// lowerName writes name in lower case to dst, which is at least as long, and
// reports whether each of its labels is well formed.
func lowerName(dst, name []byte) bool {
	label := 0
	for i, c := range name {
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label = -1
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		dst[i] = c
		if label++; label > maxLabel {
			return false
		}
	}
	return label > 0
}

// splitPort takes a port off an authority: "host", "host:port",
// "[address]:port". A colon without a port behind it is allowed by RFC 3986,
// section 3.2.3. The port is zero when there is none; ok is false when it is
// not a number up to 65535.
func splitPort(authority []byte) (host []byte, port uint16, ok bool) {
	colon := bytes.LastIndexByte(authority, ':')
	if colon < 0 || colon < bytes.LastIndexByte(authority, ']') {
		return authority, 0, true
	}
	host = authority[:colon]
	if colon+1 == len(authority) {
		return host, 0, true
	}
	n, err := strconv.ParseUint(string(authority[colon+1:]), 10, 16)
	return host, uint16(n), err == nil
}
