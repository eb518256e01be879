package sniff

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"interdict/internal/event"
)

// hello describes a ClientHello to be built.
type hello struct {
	name string
	ech  bool
	// pad is the size of a padding extension in front of the name.
	pad int
	// bare leaves the extensions out.
	bare bool
}

// message is the ClientHello as a handshake message.
func (h hello) message() []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint8(typeClientHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(0x0303)
		b.AddBytes(make([]byte, 32))
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(make([]byte, 32)) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(0x0a0a); b.AddUint16(0x1301) })
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) })
		if !h.bare {
			b.AddUint16LengthPrefixed(h.extensions)
		}
	})
	return b.BytesOrPanic()
}

func (h hello) extensions(b *cryptobyte.Builder) {
	add := func(kind uint16, data []byte) {
		b.AddUint16(kind)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data) })
	}
	add(0x2a2a, nil) // GREASE (RFC 8701)
	if h.pad > 0 {
		add(21, make([]byte, h.pad))
	}
	if h.name != "" {
		add(extServerName, serverName(h.name))
	}
	if h.ech {
		add(extECH, []byte{0})
	}
}

func serverName(name string) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(nameTypeHostName)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
	})
	return b.BytesOrPanic()
}

// records puts a message into records of at most size bytes.
func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, recordHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

// addAll feeds a stream in pieces of at most size bytes.
func addAll(stream []byte, size int) Finding {
	r := NewTCP()
	var f Finding
	for off := 0; off < len(stream); off += size {
		f = r.Add(uint32(off), stream[off:min(off+size, len(stream))])
	}
	return f
}

func TestTLS(t *testing.T) {
	t.Parallel()
	named := Finding{State: Named, Host: "a.example", Evidence: event.EvidenceTLSSNI}
	withECH := named
	withECH.ECH = true
	good := hello{name: "a.example"}.message()
	wrongLength := records(good, maxRecord)
	wrongLength[3], wrongLength[4] = 0xff, 0xff
	tests := []struct {
		name   string
		stream []byte
		want   Finding
	}{
		{"a ClientHello in one record", records(good, maxRecord), named},
		{"a ClientHello in records of one byte", records(good, 1), named},
		{"a ClientHello of many kilobytes", records(hello{name: "a.example", pad: 40_000}.message(), maxRecord), named},
		{"data behind the ClientHello", append(records(good, maxRecord), "more"...), named},
		{"another message in the same record", records(append(hello{name: "a.example"}.message(), 1, 0, 0, 0), maxRecord), named},
		{"upper case", records(hello{name: "A.ExAmPle"}.message(), maxRecord), named},
		{"a trailing dot", records(hello{name: "a.example."}.message(), maxRecord), named},
		{"ech behind the name", records(hello{name: "a.example", ech: true}.message(), maxRecord), withECH},
		{"no name", records(hello{}.message(), maxRecord), nameless(ReasonNoName)},
		{"no extensions", records(hello{bare: true}.message(), maxRecord), nameless(ReasonNoName)},
		{"ech and no name", records(hello{ech: true}.message(), maxRecord), Finding{State: Nameless, Reason: ReasonNoName, ECH: true}},
		{"a name with a space", records(hello{name: "a b"}.message(), maxRecord), Finding{State: Nameless, Reason: ReasonBadName, Evidence: event.EvidenceTLSSNI}},
		{"a name with a zero byte", records(hello{name: "a\x00b"}.message(), maxRecord), Finding{State: Nameless, Reason: ReasonBadName, Evidence: event.EvidenceTLSSNI}},
		{"an address for a name", records(hello{name: "192.0.2.7"}.message(), maxRecord), Finding{State: Nameless, Reason: ReasonAddress, Addr: documentation, Evidence: event.EvidenceTLSSNI}},
		{"not a ClientHello", records([]byte{2, 0, 0, 0}, maxRecord), nameless(ReasonMalformed)},
		{"an alert", []byte{21, 3, 1, 0, 2, 1, 0}, nameless(ReasonProtocol)},
		{"an alert in the middle", append(records(good[:50], maxRecord), 21, 3, 1, 0, 2, 1, 0), nameless(ReasonMalformed)},
		{"an empty record", []byte{22, 3, 1, 0, 0}, Finding{}},
		{"empty records before the ClientHello", append([]byte{22, 3, 1, 0, 0, 22, 3, 1, 0, 0}, records(good, maxRecord)...), named},
		{"empty records without end", bytes.Repeat([]byte{22, 3, 1, 0, 0}, MaxHeld), nameless(ReasonLimit)},
		{"a record that is too long", wrongLength, nameless(ReasonMalformed)},
		{"a version that is not TLS", []byte{22, 2, 0}, nameless(ReasonMalformed)},
		{"a body that ends early", records([]byte{1, 0, 0, 2, 3, 3}, maxRecord), nameless(ReasonMalformed)},
		{"half a ClientHello", records(good, maxRecord)[:60], Finding{}},
		{
			"a name at the start of a ClientHello without end",
			records(append([]byte{1, 0xff, 0xff, 0xff}, append(good[4:], make([]byte, 2*MaxHeld)...)...), maxRecord), named,
		},
		{
			"no name within the bounds",
			records(append([]byte{1, 0xff, 0xff, 0xff}, append(good[4:60], make([]byte, 2*MaxHeld)...)...), 1000), nameless(ReasonLimit),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 7, 1400, len(tt.stream)} {
				if got := addAll(tt.stream, size); got != tt.want {
					t.Errorf("in segments of %d bytes the finding is %+v, want %+v", size, got, tt.want)
				}
			}
		})
	}
}

// TestSegmentsInAnyOrder cuts a ClientHello at random, repeats and shuffles
// the pieces, and begins near the end of the sequence numbers.
func TestSegmentsInAnyOrder(t *testing.T) {
	t.Parallel()
	want := Finding{State: Named, Host: "a.example", ECH: true, Evidence: event.EvidenceTLSSNI}
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		h := hello{name: "a.example", ech: true, pad: random.IntN(4000)}
		stream := records(h.message(), 1+random.IntN(2000))
		base := uint32(0) - uint32(random.IntN(len(stream)))
		pieces := cut(random, len(stream), 1+random.IntN(20))
		r := NewTCP()
		// The first piece says where the stream begins; the rest is free.
		order := append([]span{{0, 1 + random.IntN(len(stream))}}, pieces...)
		random.Shuffle(len(pieces), func(i, j int) { order[i+1], order[j+1] = order[j+1], order[i+1] })
		var got Finding
		for _, p := range order {
			got = r.Add(base+uint32(p.from), stream[p.from:p.to])
		}
		if got != want {
			t.Fatalf("seed %d: the finding is %+v, want %+v; the pieces were %v", seed, got, want, order)
		}
	}
}

// cut covers the bytes from zero to size with n pieces, or a few more, that
// may overlap.
func cut(random *rand.Rand, size, n int) []span {
	var pieces []span
	for from := 0; from < size; {
		to := min(size, from+1+random.IntN(2*size/n+1))
		pieces = append(pieces, span{max(0, from-random.IntN(20)), to})
		from = to
	}
	return pieces
}

func TestTCPBounds(t *testing.T) {
	t.Parallel()
	t.Run("gaps", func(t *testing.T) {
		t.Parallel()
		r := NewTCP()
		f := r.Add(0, []byte{recordHandshake})
		for i := uint32(1); f.State == Undecided; i++ {
			if i > maxGaps+1 {
				t.Fatalf("%d gaps leave it undecided", i)
			}
			f = r.Add(2*i, []byte{0})
		}
		if f != nameless(ReasonLimit) {
			t.Errorf("the finding is %+v, want nameless by the limit", f)
		}
	})
	t.Run("a segment far ahead", func(t *testing.T) {
		t.Parallel()
		r := NewTCP()
		r.Add(0, []byte{recordHandshake})
		if f := r.Add(MaxHeld, []byte{0}); f != nameless(ReasonLimit) {
			t.Errorf("the finding is %+v, want nameless by the limit", f)
		}
	})
	t.Run("a segment from before the start", func(t *testing.T) {
		t.Parallel()
		r := NewTCP()
		r.Add(0, []byte{recordHandshake})
		if f := r.Add(0xffff_fff0, []byte("before")); f != (Finding{}) {
			t.Errorf("the finding is %+v, want undecided", f)
		}
	})
	t.Run("a finding stays", func(t *testing.T) {
		t.Parallel()
		r := NewTCP()
		want := r.Add(0, records(hello{name: "a.example"}.message(), maxRecord))
		if got := r.Add(500, []byte(strings.Repeat("x", 500))); got != want {
			t.Errorf("the finding becomes %+v, was %+v", got, want)
		}
	})
	t.Run("nothing is read from an empty payload", func(t *testing.T) {
		t.Parallel()
		r := NewTCP()
		r.Add(99, nil)
		if got := r.Add(100, records(hello{name: "a.example"}.message(), maxRecord)); got.State != Named {
			t.Errorf("the finding is %+v, want named", got)
		}
	})
}

// TestOneSegmentIsNotCopied holds Add to its promise: the reader and the
// name are all that is allocated.
func TestOneSegmentIsNotCopied(t *testing.T) {
	stream := records(hello{name: "a.example", pad: 1600}.message(), maxRecord)
	allocs := testing.AllocsPerRun(100, func() {
		if f := NewTCP().Add(0, stream); f.State != Named {
			t.Fatalf("the finding is %+v, want named", f)
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations for a ClientHello in one segment, want at most 2", allocs)
	}
}
