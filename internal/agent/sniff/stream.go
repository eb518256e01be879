package sniff

import "slices"

const (
	// MaxHeld bounds the bytes of one flow: a name that does not come
	// within so many bytes of the flow's start is not waited for.
	MaxHeld = 64 << 10
	// maxGaps bounds the pieces that wait for bytes before them. Chrome
	// and quic-go cut a ClientHello into a few dozen at most.
	maxGaps = 128
)

// stream puts pieces of a byte stream in order. The zero value is empty.
//
// Bytes that are in order already are never overwritten. Of pieces that
// overlap ahead of them, the later one wins.
type stream struct {
	// buf holds bytes by their offset; between next and the spans ahead
	// its content means nothing.
	buf []byte
	// next is the number of bytes in order from the start.
	next int
	// ahead are the parts of buf that came early: sorted, disjoint and not
	// touching each other or next.
	ahead []span
}

// span is the half-open range from from to to.
type span struct{ from, to int }

// inOrder returns the bytes without a gap from the start on. They stay valid
// until the next add.
func (s *stream) inOrder() []byte { return s.buf[:s.next] }

// add copies data to offset off, which may be negative for bytes from before
// the start: they are ignored. It reports whether the bounds allow it; of
// bytes that cross MaxHeld those before it are kept.
func (s *stream) add(off int, data []byte) bool {
	if known := s.next - off; known > 0 {
		if known >= len(data) {
			return true
		}
		off, data = s.next, data[known:]
	}
	switch {
	case len(data) == 0:
		return true
	case off > MaxHeld:
		return false
	}
	fits := len(data) <= MaxHeld-off
	data = data[:min(len(data), MaxHeld-off)]
	end := off + len(data)
	if end > len(s.buf) {
		s.buf = slices.Grow(s.buf, end-len(s.buf))[:end]
	}
	copy(s.buf[off:], data)
	if off == s.next {
		s.next = end
		s.close()
		return fits
	}
	s.insert(span{off, end})
	return fits && len(s.ahead) <= maxGaps
}

// close moves next over the spans that it has reached.
func (s *stream) close() {
	n := 0
	for n < len(s.ahead) && s.ahead[n].from <= s.next {
		s.next = max(s.next, s.ahead[n].to)
		n++
	}
	s.ahead = slices.Delete(s.ahead, 0, n)
}

// insert adds a span and joins it with those it meets.
func (s *stream) insert(in span) {
	first, _ := slices.BinarySearchFunc(s.ahead, in.from, func(a span, from int) int { return a.to - from })
	last := first
	for last < len(s.ahead) && s.ahead[last].from <= in.to {
		in.from = min(in.from, s.ahead[last].from)
		in.to = max(in.to, s.ahead[last].to)
		last++
	}
	s.ahead = slices.Replace(s.ahead, first, last, in)
}
