package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
)

// MaxLine bounds the length of one record in bytes; longer ones are refused.
const MaxLine = 16 << 10

// Set is an immutable set of records. The zero value is the empty set.
type Set struct {
	// lines are the canonical forms, sorted by their bytes, one for each
	// kind and key. A record is decoded when it is asked for, so that a
	// hundred thousand of them cost little more than their text.
	lines []string
}

// NewSet makes a set. Two records with the same kind and key are an error.
func NewSet(records iter.Seq[Record]) (Set, error) {
	var lines []string
	for r := range records {
		l, err := r.line()
		if err != nil {
			return Set{}, err
		}
		if len(l) > MaxLine {
			return Set{}, fmt.Errorf("writing record %s %.80q: %d bytes are more than %d", r.Kind, r.Key, len(l), MaxLine)
		}
		lines = append(lines, l)
	}
	slices.Sort(lines)
	return newSetFromSorted(lines)
}

func newSetFromSorted(lines []string) (Set, error) {
	for i := 1; i < len(lines); i++ {
		if recordKey(lines[i-1]) == recordKey(lines[i]) {
			return Set{}, fmt.Errorf("two records are called %.80q", strings.TrimSpace(recordKey(lines[i])))
		}
		if lines[i-1] > lines[i] {
			return Set{}, fmt.Errorf("record %.80q is out of order", lines[i])
		}
	}
	return Set{lines: lines}, nil
}

// Len returns the number of records.
func (s Set) Len() int { return len(s.lines) }

// Record decodes the i-th record.
func (s Set) Record(i int) (Record, error) { return parseLine(s.lines[i]) }

// All decodes the records in order, with their index. It stops after the
// first that cannot be read, which it yields as an error.
func (s Set) All() iter.Seq2[int, Result] {
	return func(yield func(int, Result) bool) {
		for i := range s.lines {
			r, err := parseLine(s.lines[i])
			if !yield(i, Result{Record: r, Err: err}) || err != nil {
				return
			}
		}
	}
}

// OfKind decodes the records of one kind, in order, without looking at the
// others.
func (s Set) OfKind(k Kind) iter.Seq[Result] {
	prefix := string(k) + "\t"
	return func(yield func(Result) bool) {
		first, _ := slices.BinarySearch(s.lines, prefix)
		for _, line := range s.lines[first:] {
			if !strings.HasPrefix(line, prefix) {
				return
			}
			r, err := parseLine(line)
			if !yield(Result{Record: r, Err: err}) {
				return
			}
		}
	}
}

// Result is a record, or why it could not be read.
type Result struct {
	Record
	Err error
}

// Digest identifies the set: the SHA-256, in lower-case hexadecimal, of its
// lines in order, each ended by a line feed.
func (s Set) Digest() string {
	h := sha256.New()
	buf := make([]byte, 0, 64<<10)
	for _, l := range s.lines {
		if len(buf)+len(l)+1 > cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
		buf = append(append(buf, l...), '\n')
	}
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil))
}

// Diff returns the changes that turn from into to, as lines: "-KEY" for a
// record that goes, "+LINE" for one that comes or takes the place of the one
// with its key. From the empty set it is the whole of to.
func Diff(from, to Set) []byte {
	var b bytes.Buffer
	i, j := 0, 0
	for i < len(from.lines) || j < len(to.lines) {
		switch {
		case j == len(to.lines) || i < len(from.lines) && recordKey(from.lines[i]) < recordKey(to.lines[j]):
			fmt.Fprintf(&b, "-%s\n", recordKey(from.lines[i]))
			i++
		case i == len(from.lines) || recordKey(to.lines[j]) < recordKey(from.lines[i]):
			fmt.Fprintf(&b, "+%s\n", to.lines[j])
			j++
		default:
			if from.lines[i] != to.lines[j] {
				fmt.Fprintf(&b, "+%s\n", to.lines[j])
			}
			i, j = i+1, j+1
		}
	}
	return b.Bytes()
}

// Apply returns the set that results from changes as Diff writes them. The
// receiver stays as it is.
func (s Set) Apply(changes io.Reader) (Set, error) {
	removed := make(map[string]bool)
	var put []string
	sc := bufio.NewScanner(changes)
	sc.Buffer(nil, MaxLine+2)
	for sc.Scan() {
		line := sc.Text()
		if len(line) < 2 || len(line) > MaxLine+1 {
			return Set{}, fmt.Errorf("reading change %.80q: its length of %d bytes is not between 2 and %d", line, len(line), MaxLine+1)
		}
		switch rest := line[1:]; line[0] {
		case '-':
			removed[rest] = true
		case '+':
			if _, err := parseLine(rest); err != nil {
				return Set{}, err
			}
			put = append(put, rest)
		default:
			return Set{}, fmt.Errorf("reading change %.80q: it starts with neither + nor -", line)
		}
	}
	if err := sc.Err(); err != nil {
		return Set{}, fmt.Errorf("reading changes: %w", err)
	}
	return s.merge(removed, put)
}

func (s Set) merge(removed map[string]bool, put []string) (Set, error) {
	slices.Sort(put)
	if len(s.lines) == 0 {
		return newSetFromSorted(put)
	}
	for _, l := range put {
		removed[recordKey(l)] = true
	}
	out := make([]string, 0, len(s.lines)+len(put))
	j := 0
	for _, l := range s.lines {
		if removed[recordKey(l)] {
			continue
		}
		for j < len(put) && put[j] < l {
			out = append(out, put[j])
			j++
		}
		out = append(out, l)
	}
	return newSetFromSorted(append(out, put[j:]...))
}
