package sniff

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"interdict/internal/event"
)

const (
	quicV1      = 1
	quicV2      = 0x6b3343cf
	quicDraft29 = 0xff00001d
)

var testDestID = []byte{0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08}

// initialPacket describes an Initial to be built and protected.
type initialPacket struct {
	version uint32
	// destID is on the packet, source is what the keys are made of; they
	// are the same when source is nil.
	destID, source []byte
	token          []byte
	number         uint32
	frames         []byte
}

// seal protects the packet as a client does.
func (p initialPacket) seal(tb testing.TB) []byte {
	tb.Helper()
	v, ok := findVersion(p.version)
	if !ok {
		tb.Fatalf("version %#x is not known", p.version)
	}
	source := p.source
	if source == nil {
		source = p.destID
	}
	k, err := newInitialKeys(v, source)
	if err != nil {
		tb.Fatal(err)
	}
	const numberSize, tag = 4, 16
	b := p.header(v.initialType<<4, numberSize+len(p.frames)+tag)
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, p.number)
	nonce := append([]byte(nil), k.iv...)
	for i := range 4 {
		nonce[8+i] ^= byte(p.number >> (24 - 8*i))
	}
	b = k.aead.Seal(b, nonce, p.frames, b)
	var mask [16]byte
	k.header.Encrypt(mask[:], b[at+4:at+20])
	b[0] ^= mask[0] & 0x0f
	for i := range numberSize {
		b[at+i] ^= mask[1+i]
	}
	return b
}

// header is a long header up to the packet number.
func (p initialPacket) header(kind byte, length int) []byte {
	b := []byte{0xc3 | kind}
	b = binary.BigEndian.AppendUint32(b, p.version)
	b = append(append(b, byte(len(p.destID))), p.destID...)
	b = append(b, 0)
	b = append(appendVarint(b, len(p.token)), p.token...)
	return appendVarint(b, length)
}

func appendVarint(b []byte, n int) []byte { return binary.BigEndian.AppendUint16(b, 0x4000|uint16(n)) }

func cryptoFrame(message []byte, s span) []byte {
	b := appendVarint(appendVarint([]byte{frameCrypto}, s.from), s.to-s.from)
	return append(b, message[s.from:s.to]...)
}

// padded fills frames up, so that there is something to sample.
func padded(frames []byte) []byte { return append(frames, make([]byte, 40)...) }

// TestInitialKeys checks the derivation against RFC 9001, appendix A.1, and
// RFC 9369, appendix A.1. Whole packets of both are under testdata.
func TestInitialKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		version uint32
		iv      string
	}{
		{"version 1", quicV1, "fa044b2f42a3fd3b46fb255c"},
		{"version 2", quicV2, "91f73e2351d8fa91660e909f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, ok := findVersion(tt.version)
			if !ok {
				t.Fatal("the version is not known")
			}
			k, err := newInitialKeys(v, testDestID)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(k.iv); got != tt.iv {
				t.Errorf("the iv is %s, want %s", got, tt.iv)
			}
		})
	}
}

func TestQUIC(t *testing.T) {
	t.Parallel()
	named := Finding{State: Named, Host: "a.example", Evidence: event.EvidenceQUICSNI}
	message := hello{name: "a.example", pad: 200}.message()
	whole := cryptoFrame(message, span{0, len(message)})
	half, rest := cryptoFrame(message, span{0, 250}), cryptoFrame(message, span{250, len(message)})
	base := initialPacket{version: quicV1, destID: testDestID, number: 2, frames: padded(whole)}
	with := func(change func(*initialPacket)) []byte {
		p := base
		change(&p)
		return p.seal(t)
	}
	otherID := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	first := with(func(p *initialPacket) { p.frames = padded(half) })
	second := func(p *initialPacket) { p.frames, p.number = padded(rest), 3 }
	broken := base.seal(t)
	broken[len(broken)-1] ^= 1
	zeroRTT := base.seal(t)
	zeroRTT = append([]byte{0xd3}, append(zeroRTT[1:15:15], zeroRTT[17:]...)...) // no token
	unknown := base.seal(t)
	binary.BigEndian.PutUint32(unknown[1:], 0x1a2a3a4a)

	tests := []struct {
		name      string
		datagrams [][]byte
		want      Finding
	}{
		{"version 1", [][]byte{base.seal(t)}, named},
		{"version 2", [][]byte{with(func(p *initialPacket) { p.version = quicV2 })}, named},
		{"draft 29", [][]byte{with(func(p *initialPacket) { p.version = quicDraft29 })}, named},
		{"a token", [][]byte{with(func(p *initialPacket) { p.token = make([]byte, 90) })}, named},
		{"a large packet number", [][]byte{with(func(p *initialPacket) { p.number = 0x7fff_0000 })}, named},
		{"PING, ACK and padding in front", [][]byte{with(func(p *initialPacket) {
			p.frames = append([]byte{framePing, 0, 0, frameACK, 9, 0, 1, 2, 0, 1, frameACKECN, 9, 0, 0, 3, 1, 1, 1}, padded(whole)...)
		})}, named},
		{"a second half in the same datagram", [][]byte{append(append([]byte(nil), first...), with(second)...)}, named},
		{"a second half that came first", [][]byte{with(second), first}, named},
		{"a 0-RTT packet in front, in the same datagram", [][]byte{append(append([]byte(nil), zeroRTT...), base.seal(t)...)}, named},
		{"a 0-RTT packet in front, on its own", [][]byte{zeroRTT, base.seal(t)}, named},
		{"the server's connection id for the second half", [][]byte{first, with(func(p *initialPacket) {
			second(p)
			p.source, p.destID = testDestID, otherID
		})}, named},
		{"all of it again after a Retry", [][]byte{
			first,
			with(func(p *initialPacket) {
				p.destID, p.token, p.frames, p.number = otherID, []byte("token"), padded(half), 3
			}),
			with(func(p *initialPacket) {
				p.destID, p.token, p.frames, p.number = otherID, []byte("token"), padded(rest), 4
			}),
		}, named},
		{"garbage between the halves", [][]byte{first, broken, []byte("garbage"), unknown, {}, with(second)}, named},
		{"no name", [][]byte{with(func(p *initialPacket) {
			m := hello{}.message()
			p.frames = padded(cryptoFrame(m, span{0, len(m)}))
		})}, nameless(ReasonNoName)},
		{"a frame that may not be there", [][]byte{with(func(p *initialPacket) { p.frames = append([]byte{0x08}, padded(whole)...) })}, Finding{}},
		{"CRYPTO data past the bounds", [][]byte{with(func(p *initialPacket) {
			p.frames = padded(append([]byte{frameCrypto, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1, 'x'))
		})}, nameless(ReasonLimit)},
		{"a packet that does not decrypt", [][]byte{broken}, nameless(ReasonUndecryptable)},
		{"an unknown version", [][]byte{unknown}, nameless(ReasonVersion)},
		{"version negotiation", [][]byte{{0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}, nameless(ReasonVersion)},
		{"a short header", [][]byte{{0x40, 1, 2, 3, 4, 5, 6, 7}}, nameless(ReasonProtocol)},
		{"DNS", [][]byte{{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}}, nameless(ReasonProtocol)},
		{"an empty datagram", [][]byte{{}}, nameless(ReasonProtocol)},
		{"a connection id that is too long", [][]byte{append([]byte{0xc0, 0, 0, 0, 1, 21}, make([]byte, 60)...)}, nameless(ReasonMalformed)},
		{"a packet that is cut off", [][]byte{base.seal(t)[:100]}, nameless(ReasonMalformed)},
		{"a Retry, which clients do not send", [][]byte{append([]byte{0xf0, 0, 0, 0, 1, 0, 0}, make([]byte, 30)...)}, nameless(ReasonMalformed)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := NewQUIC()
			var got Finding
			for _, d := range tt.datagrams {
				got = r.Add(d)
			}
			if got != tt.want {
				t.Errorf("the finding is %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestQUICGivesUpAfterManyDatagrams(t *testing.T) {
	t.Parallel()
	message := hello{name: "a.example"}.message()
	datagram := initialPacket{
		version: quicV1, destID: testDestID, frames: padded(cryptoFrame(message, span{0, 10})),
	}.seal(t)
	r := NewQUIC()
	for i := range maxDatagrams - 1 {
		if f := r.Add(datagram); f != (Finding{}) {
			t.Fatalf("datagram %d gives %+v, want undecided", i+1, f)
		}
	}
	if f := r.Add(datagram); f != nameless(ReasonLimit) {
		t.Errorf("the last datagram gives %+v, want nameless by the limit", f)
	}
}

// TestCryptoFramesInAnyOrder cuts a ClientHello into CRYPTO frames that
// overlap, shuffles them and spreads them over packets and datagrams.
func TestCryptoFramesInAnyOrder(t *testing.T) {
	t.Parallel()
	want := Finding{State: Named, Host: "a.example", ECH: true, Evidence: event.EvidenceQUICSNI}
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 2))
		h := hello{name: "a.example", ech: true, pad: random.IntN(3000)}
		message := h.message()
		pieces := cut(random, len(message), 1+random.IntN(20))
		random.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		p := initialPacket{version: []uint32{quicV1, quicV2}[random.IntN(2)], destID: testDestID}
		r := NewQUIC()
		var got Finding
		var datagram []byte
		for i, piece := range pieces {
			p.frames = append(p.frames, cryptoFrame(message, piece)...)
			last := i == len(pieces)-1
			if !last && random.IntN(3) > 0 {
				continue
			}
			p.frames = padded(p.frames)
			datagram = append(datagram, p.seal(t)...)
			p.number, p.frames = p.number+1+random.Uint32N(3), nil
			if last || random.IntN(2) == 0 {
				got, datagram = r.Add(datagram), nil
			}
		}
		if got != want {
			t.Fatalf("seed %d: the finding is %+v, want %+v; the frames were %v", seed, got, want, pieces)
		}
	}
}

func TestFullNumber(t *testing.T) {
	t.Parallel()
	tests := []struct {
		largest, truncated int64
		size               int
		want               int64
	}{
		{-1, 2, 4, 2},
		{-1, 0xffffffff, 4, 0xffffffff},
		{0xa82f30ea, 0x9b32, 2, 0xa82f9b32}, // RFC 9000, appendix A.3
		{0xff, 0x01, 1, 0x101},
		{0x101, 0xfe, 1, 0xfe},
	}
	for _, tt := range tests {
		if got := fullNumber(tt.largest, tt.truncated, tt.size); got != tt.want {
			t.Errorf("fullNumber(%#x, %#x, %d) = %#x, want %#x", tt.largest, tt.truncated, tt.size, got, tt.want)
		}
	}
}
