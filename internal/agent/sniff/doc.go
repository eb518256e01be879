// Package sniff decides which name a packet speaks of: bytes in, names out.
//
// It reads what a client sends first on a TCP connection ([TCP]), a QUIC
// flow's Initial packets ([QUIC]), and the answers of name servers
// ([ParseDNSAnswer]), and it rewrites such an answer so that it refuses a
// name ([RefuseDNS]) or does not offer Encrypted ClientHello ([StripECH]).
// [ParsePacket] and its counterparts take an IP packet apart and put it
// together again. What a name means, and what is to be done about it, is for
// others to decide.
//
// # Protocols
//
// A TCP connection is recognised by its content, whatever its port:
//
//   - TLS ClientHello (RFC 8446, RFC 5246) with server_name (RFC 6066), cut
//     into any number of records and segments
//   - HTTP/1 requests (RFC 9112): Host, absolute-form, CONNECT
//   - SOCKS5 (RFC 1928, RFC 1929), SOCKS4 and 4a
//   - what is inside a tunnel whose CONNECT or SOCKS request named only an
//     address
//
// The first name decides: what a connection says after it, such as another
// request to the same proxy, is not read.
//
// HTTP/2 with prior knowledge is recognised and reported as nameless: its
// :authority is compressed against state (RFC 7541), and no browser speaks
// it without TLS.
//
// QUIC is read in version 1 (RFC 9000, RFC 9001), version 2 (RFC 9369) and
// draft 29. DNS follows RFC 1035, 6891 (EDNS), 7830 (padding), 8914
// (extended errors), 9460 and 9848 (HTTPS records and their ech parameter).
//
// # Promises
//
// Everything here is pure: no clock, no input or output, no goroutine. Any
// input ends in a value and never in a panic. A reader holds at most
// [MaxHeld] bytes of a flow, twice that while it puts a ClientHello together
// from several records, and works in time linear in what it is fed; past its
// bounds it says [Nameless] with [ReasonLimit]. No reader is safe for
// concurrent use; different readers are independent.
//
// Cases live in testdata/*.txt, one file a case: packets in hexadecimal and
// the names that must come out. See testdata/README.md for adding one.
package sniff
