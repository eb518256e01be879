package sniff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// CanaryDomain is the name whose negative answer makes Firefox stay with the
// system's resolver when DNS over HTTPS is on by default only
// (support.mozilla.org, "Canary domain", 2026).
const CanaryDomain = "use-application-dns.net"

const (
	dnsHeader = 12
	// The fixed fields of a question and of a record behind its name.
	questionFields = 4
	recordFields   = 10

	// Bounds of what is believed of an answer.
	maxAliases = 64 // CNAME records
	maxChain   = 16
	maxAddrs   = 256
	maxTTL     = 24 * time.Hour
)

// DNSAnswer is what a name server's answer says about the name it was asked
// for. Names are lower case without a trailing dot; a byte that cannot stand
// in a name is escaped as in a zone file.
type DNSAnswer struct {
	// Name and Type are those of the question.
	Name string
	Type uint16
	// RCode is the response code, with the upper bits that EDNS adds.
	RCode int
	// Addrs are the addresses of Name, or of the names it stands for, and
	// the address hints of its HTTPS and SVCB records. Each is there once.
	Addrs []netip.Addr
	// Chain are the names that Name stands for: targets of CNAME records in
	// their order, then those of HTTPS and SVCB records.
	Chain []string
	// TTL is the least of the records used, at most a day; zero when none
	// was.
	TTL time.Duration
	// HasECH says that an HTTPS or SVCB record, of whatever name and section,
	// carries keys for Encrypted ClientHello.
	HasECH bool
}

// ParseDNSAnswer reads an answer. Anything that is not a well-formed standard
// answer to one question of class IN is an error; a record whose data is
// broken is passed over.
func ParseDNSAnswer(msg []byte) (DNSAnswer, error) {
	m, err := parseMessage(msg)
	if err != nil {
		return DNSAnswer{}, err
	}
	if msg[2]&0x80 == 0 {
		return DNSAnswer{}, errors.New("reading a dns answer: it is a query")
	}
	r := answerReader{m: m, answer: DNSAnswer{
		Name:  m.name(dnsHeader),
		Type:  m.kind,
		RCode: int(msg[3] & 0x0f),
	}}
	r.followAliases()
	for i := range m.records {
		r.read(&m.records[i])
	}
	return r.answer, nil
}

// answerReader collects what the records of a message say.
type answerReader struct {
	m      message
	answer DNSAnswer
	// hasTTL says that answer.TTL is that of a record.
	hasTTL bool
}

// followAliases collects the CNAME chain. Its records come in order from any
// server in use, though RFC 1034 does not ask for it: hence the outer loop.
func (r *answerReader) followAliases() {
	type alias struct {
		from, to string
		ttl      uint32
	}
	var aliases []alias
	for i := range r.m.records {
		rec := &r.m.records[i]
		if rec.kind == dns.TypeCNAME && rec.section == sectionAnswer && len(aliases) < maxAliases {
			aliases = append(aliases, alias{r.m.name(rec.owner), r.m.name(rec.data), rec.ttl})
		}
	}
	for n := -1; n < len(r.answer.Chain); {
		n = len(r.answer.Chain)
		for _, a := range aliases {
			if r.stands(a.from) {
				r.addAlias(a.to, a.ttl)
			}
		}
	}
}

func (r *answerReader) addAlias(name string, ttl uint32) {
	if name == "" || name == r.answer.Name || slices.Contains(r.answer.Chain, name) || len(r.answer.Chain) == maxChain {
		return
	}
	r.answer.Chain = append(r.answer.Chain, name)
	r.used(ttl)
}

// concerns reports whether a record's owner is the name asked for or one that
// it stands for.
func (r *answerReader) concerns(rec *record) bool {
	if rec.class != dns.ClassINET {
		return false
	}
	if r.m.pointsToQuestion(rec.owner) {
		return true
	}
	return r.stands(r.m.name(rec.owner))
}

// stands reports whether name is the one asked for or one that it stands for.
func (r *answerReader) stands(name string) bool {
	return name == r.answer.Name || slices.Contains(r.answer.Chain, name)
}

func (r *answerReader) read(rec *record) {
	data := r.m.msg[rec.data:rec.end]
	switch rec.kind {
	case dns.TypeOPT:
		r.answer.RCode |= int(rec.ttl>>24) << 4
	case dns.TypeA, dns.TypeAAAA:
		if rec.section != sectionAuthority && r.concerns(rec) {
			r.addAddr(data, rec)
		}
	case dns.TypeHTTPS, dns.TypeSVCB:
		r.readECH(rec)
		if rec.section == sectionAnswer && r.concerns(rec) {
			r.readService(rec)
		}
	}
}

// addAddr takes an address if it has its family's length.
func (r *answerReader) addAddr(data []byte, rec *record) {
	addr, ok := netip.AddrFromSlice(data)
	if !ok || addr.Is4() != (rec.kind == dns.TypeA) {
		return
	}
	r.keepAddr(addr, rec.ttl)
}

func (r *answerReader) keepAddr(addr netip.Addr, ttl uint32) {
	addr = addr.Unmap()
	r.used(ttl)
	if len(r.answer.Addrs) < maxAddrs && !slices.Contains(r.answer.Addrs, addr) {
		r.answer.Addrs = append(r.answer.Addrs, addr)
	}
}

// readECH notes keys in any record: resolvers put the records of a target
// into the additional section (RFC 9460, section 4.2), and clients may use
// them.
func (r *answerReader) readECH(rec *record) {
	_, params, ok := r.m.service(rec)
	r.answer.HasECH = r.answer.HasECH || ok && hasECH(r.m.msg[params:rec.end])
}

// readService takes target and hints of an HTTPS or SVCB record. A target
// that is the root stands for the owner itself (RFC 9460, section 2.5).
func (r *answerReader) readService(rec *record) {
	target, params, ok := r.m.service(rec)
	if !ok {
		return
	}
	r.used(rec.ttl)
	r.addAlias(r.m.name(target), rec.ttl)
	for p, rest := range svcParams(r.m.msg[params:rec.end]) {
		if rest {
			return
		}
		switch p.key {
		case paramIPv4Hint:
			r.addHints(p.value, 4, rec.ttl)
		case paramIPv6Hint:
			r.addHints(p.value, 16, rec.ttl)
		}
	}
}

func (r *answerReader) addHints(value []byte, size int, ttl uint32) {
	for hint := range slices.Chunk(value, size) {
		if addr, ok := netip.AddrFromSlice(hint); ok && len(hint) == size {
			r.keepAddr(addr, ttl)
		}
	}
}

// used lowers the answer's TTL to that of a record. One with its highest bit
// set counts as zero (RFC 2181, section 8).
func (r *answerReader) used(ttl uint32) {
	d := max(0, min(time.Duration(int32(ttl))*time.Second, maxTTL))
	if !r.hasTTL || d < r.answer.TTL {
		r.answer.TTL, r.hasTTL = d, true
	}
}

// section is a part of a DNS message.
type section uint8

const (
	sectionAnswer section = iota
	sectionAuthority
	sectionAdditional
)

// record says where in a message a resource record lies.
type record struct {
	section     section
	owner       int
	kind, class uint16
	ttl         uint32
	data, end   int
}

// message is a DNS message with one question of class IN, taken apart into
// records whose data was not looked into.
type message struct {
	msg []byte
	// kind is the question's type, question where the question ends.
	kind     uint16
	question int
	records  []record
}

// parseMessage takes a message apart. Bytes behind the last record are
// allowed: they are no part of the message, and resolvers ignore them.
func parseMessage(msg []byte) (message, error) {
	if len(msg) < dnsHeader {
		return message{}, fmt.Errorf("reading a dns message: %d bytes are less than a header", len(msg))
	}
	if opcode := msg[2] >> 3 & 0x0f; opcode != dns.OpcodeQuery {
		return message{}, fmt.Errorf("reading a dns message: opcode %d is not a standard query", opcode)
	}
	if n := binary.BigEndian.Uint16(msg[4:]); n != 1 {
		return message{}, fmt.Errorf("reading a dns message: %d questions are not one", n)
	}
	m := message{msg: msg}
	end, compressed, ok := skipName(msg, dnsHeader)
	if !ok || compressed || len(msg) < end+questionFields {
		return message{}, errors.New("reading a dns message: its question is broken")
	}
	m.kind = binary.BigEndian.Uint16(msg[end:])
	if class := binary.BigEndian.Uint16(msg[end+2:]); class != dns.ClassINET {
		return message{}, fmt.Errorf("reading a dns message: class %d is not the Internet's", class)
	}
	m.question = end + questionFields
	return m, m.readRecords()
}

// readRecords finds the records behind the question.
func (m *message) readRecords() error {
	const leastRecord = 1 + recordFields
	off, total := m.question, 0
	for s := range sectionAdditional + 1 {
		total += m.count(s)
	}
	m.records = make([]record, 0, min(total, (len(m.msg)-off)/leastRecord))
	for s := range sectionAdditional + 1 {
		for range m.count(s) {
			rec, ok := readRecord(m.msg, off)
			if !ok {
				return fmt.Errorf("reading a dns message: record %d of %d ends too early", len(m.records)+1, total)
			}
			rec.section = s
			m.records = append(m.records, rec)
			off = rec.end
		}
	}
	return nil
}

// count is the number of records the header promises for a section.
func (m *message) count(s section) int {
	return int(binary.BigEndian.Uint16(m.msg[6+2*int(s):]))
}

func readRecord(msg []byte, off int) (record, bool) {
	end, _, ok := skipName(msg, off)
	if !ok || len(msg) < end+recordFields {
		return record{}, false
	}
	fields := msg[end:]
	rec := record{
		owner: off,
		kind:  binary.BigEndian.Uint16(fields),
		class: binary.BigEndian.Uint16(fields[2:]),
		ttl:   binary.BigEndian.Uint32(fields[4:]),
		data:  end + recordFields,
	}
	rec.end = rec.data + int(binary.BigEndian.Uint16(fields[8:]))
	return rec, rec.end <= len(msg)
}

// skipName returns where the name at off ends, and whether it ends in a
// pointer to another.
func skipName(msg []byte, off int) (end int, compressed, ok bool) {
	for off < len(msg) {
		switch n := int(msg[off]); {
		case n == 0:
			return off + 1, false, true
		case n >= 0xc0:
			return off + 2, true, off+2 <= len(msg)
		case n > maxLabel:
			return 0, false, false
		default:
			off += 1 + n
		}
	}
	return 0, false, false
}

// name reads the name at off. It is empty for the root and for a broken one.
func (m *message) name(off int) string {
	name, _, err := dns.UnpackDomainName(m.msg, off)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// pointsToQuestion reports whether the name at off is a pointer to the
// question's name, as almost every server writes it.
func (m *message) pointsToQuestion(off int) bool {
	return m.msg[off] == 0xc0 && m.msg[off+1] == dnsHeader
}
