package sniff

import (
	"bytes"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"

	"interdict/internal/event"
)

// Numbers of RFC 1928 and RFC 1929, and of the SOCKS4 and 4a memos.
const (
	socks4Version = 4
	socks5Version = 5

	authUserPassword = 1 // version of the sub-negotiation

	commandConnect = 1
	commandBind    = 2

	atypIPv4   = 1
	atypDomain = 3
	atypIPv6   = 4

	// maxSOCKS4Text bounds user id and domain, which a NUL ends.
	maxSOCKS4Text = 255
)

// readSOCKS5 reads what a client says to a SOCKS5 server: greeting, user name
// and password if it was asked for them, request. Data are all bytes from the
// greeting on. Length is that of the whole when it is complete. Every part
// has a bound below 600 bytes, so that it may be read afresh each time.
//
// Whether the server asked for a password is not seen, but it shows: the
// sub-negotiation begins with 1, the request with 5.
func readSOCKS5(data []byte) (f Finding, length int) {
	in := cryptobyte.String(data)
	var methods cryptobyte.String
	if !in.Skip(1) || !in.ReadUint8LengthPrefixed(&methods) {
		return Finding{}, 0
	}
	if len(methods) == 0 {
		return nameless(ReasonMalformed), 0
	}
	if len(in) > 0 && in[0] == authUserPassword {
		var user, password cryptobyte.String
		if !in.Skip(1) || !in.ReadUint8LengthPrefixed(&user) || !in.ReadUint8LengthPrefixed(&password) {
			return Finding{}, 0
		}
	}
	return socks5Request(in, len(data))
}

// socks5Request reads the request of RFC 1928, section 4, at the end of total
// bytes.
func socks5Request(in cryptobyte.String, total int) (f Finding, length int) {
	if len(in) > 0 && in[0] != socks5Version || len(in) > 1 && !knownCommand(in[1]) {
		return nameless(ReasonMalformed), 0
	}
	var kind uint8
	if !in.Skip(3) || !in.ReadUint8(&kind) {
		return Finding{}, 0
	}
	var host []byte
	var whole bool
	switch kind {
	case atypIPv4:
		whole = in.ReadBytes(&host, 4)
	case atypIPv6:
		whole = in.ReadBytes(&host, 16)
	case atypDomain:
		whole = in.ReadUint8LengthPrefixed((*cryptobyte.String)(&host))
	default:
		return nameless(ReasonMalformed), 0
	}
	var port uint16
	if !whole || !in.ReadUint16(&port) {
		return Finding{}, 0
	}
	if kind == atypDomain {
		return destination(host, port, event.EvidenceSOCKS5), total - len(in)
	}
	addr, _ := netip.AddrFromSlice(host)
	return addressed(addr, port), total - len(in)
}

// readSOCKS4 reads a SOCKS4 or 4a request, likewise. In 4a an address
// 0.0.0.x, x not zero, says that a domain follows the user id.
func readSOCKS4(data []byte) (f Finding, length int) {
	in := cryptobyte.String(data)
	if len(in) > 1 && !knownCommand(in[1]) {
		return nameless(ReasonMalformed), 0
	}
	var port uint16
	var ip []byte
	if !in.Skip(2) || !in.ReadUint16(&port) || !in.ReadBytes(&ip, 4) {
		return Finding{}, 0
	}
	if _, without, ok := readText(&in); !ok {
		return without, 0
	}
	if ip[0] != 0 || ip[1] != 0 || ip[2] != 0 || ip[3] == 0 {
		addr, _ := netip.AddrFromSlice(ip)
		return addressed(addr, port), len(data) - len(in)
	}
	domain, without, ok := readText(&in)
	if !ok {
		return without, 0
	}
	return destination(domain, port, event.EvidenceSOCKS5), len(data) - len(in)
}

// knownCommand leaves UDP ASSOCIATE out: what it names is not where the
// datagrams go.
func knownCommand(c byte) bool { return c == commandConnect || c == commandBind }

// addressed is the finding of a request that named an address. An IPv4-mapped
// one is the IPv4 address.
func addressed(addr netip.Addr, port uint16) Finding {
	return Finding{
		State: Nameless, Reason: ReasonAddress,
		Addr: addr.Unmap(), Port: port, Evidence: event.EvidenceSOCKS5,
	}
}

// readText takes bytes up to a NUL. When it cannot, without is the finding:
// the NUL has not come yet, or it is too far.
func readText(in *cryptobyte.String) (text []byte, without Finding, ok bool) {
	i := bytes.IndexByte(*in, 0)
	if i > maxSOCKS4Text || i < 0 && len(*in) > maxSOCKS4Text {
		return nil, nameless(ReasonMalformed), false
	}
	if i < 0 {
		return nil, Finding{}, false
	}
	text = (*in)[:i]
	in.Skip(i + 1)
	return text, Finding{}, true
}
