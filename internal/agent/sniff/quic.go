package sniff

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"

	"interdict/internal/event"
)

const (
	// maxDatagrams bounds how many datagrams of a flow are looked at. The
	// longest ClientHello in use fits three; retransmissions multiply it.
	maxDatagrams = 32
	// maxConnectionID is the length limit of RFC 9000, section 17.2.
	maxConnectionID = 20
)

// Frames that an Initial may carry (RFC 9000, sections 12.4 and 19).
const (
	framePing       = 0x01
	frameACK        = 0x02
	frameACKECN     = 0x03
	frameCrypto     = 0x06
	frameClose      = 0x1c
	longHeaderBit   = 0x80
	versionAtByte   = 1
	fixedHeaderSize = 5
)

// QUIC reads what the client of one QUIC flow sends. It is made by [NewQUIC].
type QUIC struct {
	datagrams int
	// keys open the packets; they are those of the connection id that the
	// client chose first, or of the one a Retry gave it.
	keys   *initialKeys
	crypto stream
	found  Finding
}

// NewQUIC returns a reader for a flow of which nothing was seen yet.
func NewQUIC() *QUIC { return &QUIC{} }

// Add takes the payload of one UDP datagram from the client and returns what
// is known after it. It neither changes nor keeps the datagram. Once the
// finding is not Undecided, the reader lets go of its memory and repeats
// itself.
//
// Packets other than Initials are skipped; those of a 0-RTT packet that
// overtook its Initial leave the flow Undecided. Version negotiation makes a
// client begin anew, in the same flow or another: an unknown version ends
// this reader.
func (q *QUIC) Add(datagram []byte) Finding {
	if q.found.State != Undecided {
		return q.found
	}
	q.datagrams++
	if q.found = q.read(datagram); q.found.State == Undecided && q.datagrams >= maxDatagrams {
		q.found = nameless(ReasonLimit)
	}
	if q.found.State != Undecided {
		q.keys, q.crypto = nil, stream{}
	}
	return q.found
}

// Held returns the number of bytes the reader keeps of the flow.
func (q *QUIC) Held() int {
	held := cap(q.crypto.buf)
	if q.keys != nil {
		held += cap(q.keys.scratch)
	}
	return held
}

// read goes through the coalesced packets of a datagram (RFC 9000, section
// 12.2).
func (q *QUIC) read(datagram []byte) Finding {
	for first, rest := true, datagram; ; first = false {
		p, reason := parseLongHeader(rest)
		if reason != ReasonNone {
			// Anything may follow the packets of a connection that is
			// being read; a flow must begin with one we know.
			if first && q.keys == nil {
				return nameless(reason)
			}
			return Finding{}
		}
		rest = rest[len(p.raw):]
		if p.kind == packetInitial {
			if f := q.initial(p); f.State != Undecided {
				return f
			}
		}
		if len(rest) == 0 {
			return Finding{}
		}
	}
}

// initial reads one Initial packet.
func (q *QUIC) initial(p longPacket) Finding {
	frames, ok := q.decrypt(p)
	if !ok {
		if q.keys == nil {
			return nameless(ReasonUndecryptable)
		}
		return Finding{}
	}
	if !q.frames(frames) {
		return nameless(ReasonLimit)
	}
	return readHello(q.crypto.inOrder(), event.EvidenceQUICSNI)
}

// decrypt opens a packet with the keys at hand. Where they fail and the
// packet goes to another connection id than they were made of, keys are made
// of that one: after a Retry the client starts over so (RFC 9001, section
// 5.2), and a new connection may follow an old one in the same flow. Either
// way CRYPTO data begins again at its start.
func (q *QUIC) decrypt(p longPacket) ([]byte, bool) {
	if q.keys != nil {
		if plain, ok := q.keys.open(p); ok {
			return plain, true
		}
		if q.keys.version == p.version && bytes.Equal(q.keys.source, p.destID) {
			return nil, false
		}
	}
	keys, err := newInitialKeys(p.version, p.destID)
	if err != nil {
		return nil, false
	}
	plain, ok := keys.open(p)
	if !ok {
		return nil, false
	}
	q.keys, q.crypto = keys, stream{}
	return plain, true
}

// frames takes the CRYPTO frames out of a decrypted packet. It reports false
// when they outgrow the bounds. A frame that may not be in an Initial, or is
// broken, ends the packet: the server will end the connection over it.
func (q *QUIC) frames(in cryptobyte.String) bool {
	for {
		in = bytes.TrimLeft(in, "\x00") // PADDING
		kind, ok := readVarint(&in)
		if !ok {
			return true
		}
		switch kind {
		case framePing:
		case frameACK, frameACKECN:
			ok = skipACK(&in, kind)
		case frameCrypto:
			var offset int
			var data []byte
			if offset, data, ok = readCrypto(&in); ok && !q.crypto.add(offset, data) {
				return false
			}
		default:
			return true
		}
		if !ok {
			return true
		}
	}
}

// readCrypto reads a CRYPTO frame behind its type (RFC 9000, section 19.6).
func readCrypto(in *cryptobyte.String) (offset int, data []byte, ok bool) {
	off, ok1 := readVarint(in)
	n, ok2 := readVarint(in)
	if !ok1 || !ok2 || n > uint64(len(*in)) {
		return 0, nil, false
	}
	in.ReadBytes(&data, int(n))
	// An offset past every bound stays past it and does not overflow.
	return int(min(off, 2*MaxHeld)), data, true
}

// skipACK skips an ACK frame behind its type (RFC 9000, section 19.3).
func skipACK(in *cryptobyte.String, kind uint64) bool {
	const largestAndDelay, afterCount, perRange, ecnCounts = 2, 1, 2, 3
	if !skipVarints(in, largestAndDelay) {
		return false
	}
	ranges, ok := readVarint(in)
	if !ok || ranges > uint64(len(*in)) {
		return false
	}
	n := afterCount + perRange*int(ranges)
	if kind == frameACKECN {
		n += ecnCounts
	}
	return skipVarints(in, n)
}

func skipVarints(in *cryptobyte.String, n int) bool {
	for range n {
		if _, ok := readVarint(in); !ok {
			return false
		}
	}
	return true
}

// readVarint reads a variable-length integer (RFC 9000, section 16).
func readVarint(in *cryptobyte.String) (uint64, bool) {
	var first uint8
	if !in.ReadUint8(&first) {
		return 0, false
	}
	v := uint64(first & 0x3f)
	var more []byte
	if !in.ReadBytes(&more, 1<<(first>>6)-1) {
		return 0, false
	}
	for _, b := range more {
		v = v<<8 | uint64(b)
	}
	return v, true
}

// packetKind is what of the type of a long header packet matters here.
type packetKind uint8

const (
	packetOther packetKind = iota
	packetInitial
)

// longPacket is a packet with a long header, still protected. Its slices
// point into the datagram.
type longPacket struct {
	version quicVersion
	kind    packetKind
	destID  []byte
	// number is where the packet number begins in raw, which is the whole
	// packet.
	number int
	raw    []byte
}

// parseLongHeader reads the first packet of b (RFC 9000, section 17.2).
func parseLongHeader(b []byte) (longPacket, Reason) {
	if len(b) < fixedHeaderSize || b[0]&longHeaderBit == 0 {
		return longPacket{}, ReasonProtocol
	}
	in := cryptobyte.String(b[versionAtByte:])
	var number uint32
	in.ReadUint32(&number)
	version, ok := findVersion(number)
	if !ok {
		return longPacket{}, ReasonVersion
	}
	p := longPacket{version: version}
	var destID, sourceID cryptobyte.String
	if !in.ReadUint8LengthPrefixed(&destID) || len(destID) > maxConnectionID ||
		!in.ReadUint8LengthPrefixed(&sourceID) || len(sourceID) > maxConnectionID {
		return longPacket{}, ReasonMalformed
	}
	p.destID = destID
	kind := b[0] >> 4 & 3
	if kind == version.retryType {
		return longPacket{}, ReasonMalformed // only servers send it
	}
	if kind == version.initialType {
		p.kind = packetInitial
		token, whole := readVarint(&in)
		if !whole || token > uint64(len(in)) {
			return longPacket{}, ReasonMalformed
		}
		in.Skip(int(token))
	}
	length, ok := readVarint(&in)
	if !ok || length > uint64(len(in)) {
		return longPacket{}, ReasonMalformed
	}
	p.number = len(b) - len(in)
	p.raw = b[:p.number+int(length)]
	return p, ReasonNone
}
