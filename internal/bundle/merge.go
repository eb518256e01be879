package bundle

import (
	"fmt"
	"slices"
	"strings"
)

// Merge returns the records of all sets. Two records with the same kind and
// key are an error. It costs little more than a copy if one set is much
// larger than the others, and the sets share the text of the records.
func Merge(sets ...Set) (Set, error) {
	var all Set
	for _, s := range slices.SortedFunc(slices.Values(sets), func(a, b Set) int { return b.Len() - a.Len() }) {
		var err error
		if all, err = all.add(s.lines); err != nil {
			return Set{}, err
		}
	}
	return all, nil
}

// add inserts sorted lines.
func (s Set) add(lines []string) (Set, error) {
	if len(s.lines) == 0 {
		return Set{lines: lines}, nil
	}
	out := make([]string, 0, len(s.lines)+len(lines))
	rest := s.lines
	for _, l := range lines {
		i, _ := slices.BinarySearch(rest, l)
		out = append(out, rest[:i]...)
		rest = rest[i:]
		key := recordKey(l)
		if len(out) > 0 && recordKey(out[len(out)-1]) == key || len(rest) > 0 && recordKey(rest[0]) == key {
			return Set{}, fmt.Errorf("two records are called %.80q", strings.TrimSpace(key))
		}
		out = append(out, l)
	}
	return Set{lines: append(out, rest...)}, nil
}

// Replace returns the set without the records that have the kind and key of
// one in remove, and with those in put, which take the place of any with
// their kind and key.
func (s Set) Replace(remove, put []Record) (Set, error) {
	added, err := NewSet(slices.Values(put))
	if err != nil {
		return Set{}, err
	}
	removed := make(map[string]bool, len(remove)+len(put))
	for _, r := range remove {
		removed[string(r.Kind)+"\t"+r.Key+"\t"] = true
	}
	return s.merge(removed, added.lines)
}
