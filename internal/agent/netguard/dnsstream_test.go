package netguard

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestMessagesAreFoundHoweverTheStreamIsCut(t *testing.T) {
	messages := [][]byte{[]byte("first"), []byte("the second message"), []byte("3"), bytes.Repeat([]byte("x"), 700)}
	var stream []byte
	for _, m := range messages {
		stream = append(stream, byte(len(m)>>8), byte(len(m)))
		stream = append(stream, m...)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 500 {
		seq := rng.Uint32()
		s := &dnsStream{next: seq}
		var begun []dnsPart
		for rest := stream; len(rest) > 0; {
			n := 1 + rng.IntN(min(len(rest), 40))
			begun = append(begun, s.parts(seq, rest[:n])...)
			seq, rest = seq+uint32(n), rest[n:]
		}
		if len(begun) != len(messages) {
			t.Fatalf("round %d: got %d messages, want %d", round, len(begun), len(messages))
		}
		for i, part := range begun {
			if part.length != len(messages[i]) || !bytes.HasPrefix(messages[i], part.bytes) || len(part.bytes) == 0 {
				t.Fatalf("round %d: message %d: got %q of %d bytes", round, i, part.bytes, part.length)
			}
		}
	}
}

func TestASegmentOutOfOrderBeginsAnew(t *testing.T) {
	s := &dnsStream{next: 1}
	s.parts(1, []byte("\x00\x64half of"))
	if got := s.parts(5000, []byte("\x00\x02ab")); len(got) != 1 || string(got[0].bytes) != "ab" {
		t.Errorf("got %+v", got)
	}
}
