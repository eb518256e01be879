package internet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Names that start with one of these labels behave in a special way.
const (
	// LabelECH marks names with an HTTPS record that offers Encrypted Client
	// Hello.
	LabelECH = "ech."
	// LabelMissing marks names that do not exist.
	LabelMissing = "missing."
	// LabelBig marks names with a TXT record that does not fit into UDP.
	LabelBig = "big."
)

const (
	answerTTL = 60 // seconds
	// udpSize is the largest UDP answer, as advised for avoiding fragments
	// (DNS flag day 2020).
	udpSize = 1232
	bigTXT  = 20 // strings of 200 octets in the record of a big name
)

// dnsService is a dns.Server as a service.
type dnsService struct{ srv *dns.Server }

func (s dnsService) serve() error {
	if err := s.srv.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving DNS: %w", err)
	}
	return nil
}

// close closes the sockets themselves: a dns.Server can be shut down only
// once it has started to serve.
func (s dnsService) close() error {
	if s.srv.Listener != nil {
		return s.srv.Listener.Close()
	}
	return s.srv.PacketConn.Close()
}

func (in *Internet) openDNS(ctx context.Context) error {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		udp := w.LocalAddr().Network() == "udp"
		a := in.answer(q)
		if udp {
			a.Truncate(clientSize(q))
		}
		in.cfg.Logger.DebugContext(ctx, "dns query", "question", questionText(q), "client", w.RemoteAddr().String(), "udp", udp)
		if err := w.WriteMsg(a); err != nil {
			in.cfg.Logger.DebugContext(ctx, "dns answer not sent", "client", w.RemoteAddr().String(), "err", err)
		}
	})
	pc, err := listenUDP(ctx, PortDNS)
	if err != nil {
		return err
	}
	in.services = append(in.services, dnsService{&dns.Server{PacketConn: pc, Handler: handler}})
	l, err := listen(ctx, PortDNS)
	if err != nil {
		return err
	}
	in.services = append(in.services, dnsService{&dns.Server{Listener: l, Handler: handler}})
	if l, err = listen(ctx, PortDoT); err != nil {
		return err
	}
	in.services = append(in.services, dnsService{&dns.Server{Listener: tls.NewListener(l, in.tlsConfig()), Handler: handler}})
	return nil
}

// clientSize is the largest UDP answer that the client of a query takes.
func clientSize(q *dns.Msg) int {
	if opt := q.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
	}
	return dns.MinMsgSize
}

func questionText(q *dns.Msg) string {
	if len(q.Question) == 0 {
		return ""
	}
	return q.Question[0].Name + " " + dns.TypeToString[q.Question[0].Qtype]
}

// answer decides what a query gets.
func (in *Internet) answer(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg)
	if q.Opcode != dns.OpcodeQuery {
		return a.SetRcode(q, dns.RcodeNotImplemented)
	}
	if len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		return a.SetRcode(q, dns.RcodeRefused)
	}
	a.SetReply(q)
	a.Authoritative = true
	a.RecursionAvailable = true
	a.Compress = true
	if opt := q.IsEdns0(); opt != nil {
		a.SetEdns0(udpSize, opt.Do())
		if opt.Version() != 0 {
			a.Rcode = dns.RcodeBadVers // RFC 6891, section 6.1.3
			return a
		}
	}
	question := q.Question[0]
	name := canonical(question.Name)
	if strings.HasPrefix(name, LabelMissing) {
		a.Rcode = dns.RcodeNameError
	} else {
		a.Answer = in.records(question.Name, name, question.Qtype)
	}
	if len(a.Answer) == 0 {
		a.Ns = []dns.RR{soa()}
	}
	return a
}

// records returns what a name has of a type; owner is the name as the client
// wrote it.
func (in *Internet) records(owner, name string, qtype uint16) []dns.RR {
	hdr := dns.RR_Header{Name: owner, Rrtype: qtype, Class: dns.ClassINET, Ttl: answerTTL}
	var rrs []dns.RR
	switch qtype {
	case dns.TypeA:
		for _, ip := range family(in.Addrs(name), netip.Addr.Is4) {
			rrs = append(rrs, &dns.A{Hdr: hdr, A: ip})
		}
	case dns.TypeAAAA:
		for _, ip := range family(in.Addrs(name), netip.Addr.Is6) {
			rrs = append(rrs, &dns.AAAA{Hdr: hdr, AAAA: ip})
		}
	case dns.TypeTXT:
		if strings.HasPrefix(name, LabelBig) {
			rrs = append(rrs, bigRecord(hdr))
		}
	case dns.TypeHTTPS:
		if strings.HasPrefix(name, LabelECH) {
			rrs = append(rrs, &dns.HTTPS{SVCB: in.binding(hdr, name)})
		}
	case dns.TypeSVCB:
		if strings.HasPrefix(name, LabelECH) {
			svcb := in.binding(hdr, name)
			rrs = append(rrs, &svcb)
		}
	}
	return rrs
}

// binding is a service binding (RFC 9460) with ALPN, address hints and ech.
func (in *Internet) binding(hdr dns.RR_Header, name string) dns.SVCB {
	return dns.SVCB{Hdr: hdr, Priority: 1, Target: ".", Value: []dns.SVCBKeyValue{
		&dns.SVCBAlpn{Alpn: []string{"h3", "h2"}},
		&dns.SVCBIPv4Hint{Hint: family(in.Addrs(name), netip.Addr.Is4)},
		&dns.SVCBECHConfig{ECH: in.ech.list},
		&dns.SVCBIPv6Hint{Hint: family(in.Addrs(name), netip.Addr.Is6)},
	}}
}

func bigRecord(hdr dns.RR_Header) *dns.TXT {
	txt := &dns.TXT{Hdr: hdr}
	for range bigTXT {
		txt.Txt = append(txt.Txt, strings.Repeat("x", 200))
	}
	return txt
}

// family returns the addresses that are of one family.
func family(addrs []netip.Addr, is func(netip.Addr) bool) []net.IP {
	var ips []net.IP
	for _, a := range addrs {
		if is(a) {
			ips = append(ips, a.AsSlice())
		}
	}
	return ips
}

// soa lets resolvers keep negative answers for a second only.
func soa() *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 1},
		Ns:  "ns.example.", Mbox: "hostmaster.example.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 1,
	}
}
