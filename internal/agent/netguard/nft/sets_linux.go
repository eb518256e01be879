package nft

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"

	"interdict/internal/agent/netguard"
)

// The names of sets.
const (
	setRefused4 = "refused4"
	setRefused6 = "refused6"
	setWatched4 = "watched4"
	setWatched6 = "watched6"
	setExempt4  = "exempt4"
	setExempt6  = "exempt6"
)

// chunk is how many elements go into one netlink message. The list is one
// attribute, whose length is 16 bits; an IPv6 element takes 36 bytes.
const chunk = 1500

// contents is what the sets hold, split by family.
type contents struct {
	refused4, refused6, watched4, watched6 []netguard.Range
	exempt4, exempt6                       []netip.AddrPort
}

func contentsOf(c netguard.Config) contents {
	var s contents
	s.refused4, s.refused6 = splitFamilies(c.Refused)
	s.watched4, s.watched6 = splitFamilies(c.Watched)
	for _, e := range c.Exempt {
		e = netip.AddrPortFrom(e.Addr().Unmap().WithZone(""), e.Port())
		if e.Addr().Is4() {
			s.exempt4 = append(s.exempt4, e)
		} else {
			s.exempt6 = append(s.exempt6, e)
		}
	}
	return s
}

// intervals returns the sets of ranges in a fixed order.
func (s *contents) intervals() []struct {
	name   string
	ranges []netguard.Range
} {
	return []struct {
		name   string
		ranges []netguard.Range
	}{
		{setRefused4, s.refused4},
		{setRefused6, s.refused6},
		{setWatched4, s.watched4},
		{setWatched6, s.watched6},
	}
}

func intervalSet(t *nftables.Table, name string) *nftables.Set {
	key := nftables.TypeIPAddr
	if name == setRefused6 || name == setWatched6 {
		key = nftables.TypeIP6Addr
	}
	return &nftables.Set{Table: t, Name: name, KeyType: key, Interval: true}
}

func exemptSet(t *nftables.Table, name string, address nftables.SetDatatype) (*nftables.Set, error) {
	key, err := nftables.ConcatSetType(address, nftables.TypeInetService)
	if err != nil {
		return nil, fmt.Errorf("describing set %q: %w", name, err)
	}
	return &nftables.Set{Table: t, Name: name, KeyType: key, Concatenation: true}, nil
}

// declare puts all sets, empty, into the batch.
func declare(conn *nftables.Conn, t *nftables.Table) error {
	exempt4, err := exemptSet(t, setExempt4, nftables.TypeIPAddr)
	if err != nil {
		return err
	}
	exempt6, err := exemptSet(t, setExempt6, nftables.TypeIP6Addr)
	if err != nil {
		return err
	}
	sets := []*nftables.Set{exempt4, exempt6}
	for _, name := range []string{setRefused4, setRefused6, setWatched4, setWatched6} {
		sets = append(sets, intervalSet(t, name))
	}
	for _, s := range sets {
		if err := conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("declaring set %q: %w", s.Name, err)
		}
		conn.FlushSet(s)
	}
	return nil
}

// fill puts everything s holds into the batch.
func (s *contents) fill(conn *nftables.Conn, t *nftables.Table) error {
	for _, i := range s.intervals() {
		if err := inChunks(conn.SetAddElements, intervalSet(t, i.name), rangeElements(i.ranges)); err != nil {
			return err
		}
	}
	for name, endpoints := range map[string][]netip.AddrPort{setExempt4: s.exempt4, setExempt6: s.exempt6} {
		set := &nftables.Set{Table: t, Name: name}
		if err := inChunks(conn.SetAddElements, set, endpointElements(endpoints)); err != nil {
			return err
		}
	}
	return nil
}

// change is what one set has to lose and to gain.
type change struct {
	set            string
	removed, added []netguard.Range
}

// since returns what turns the ranges of before into those of s, and how many
// of them that moves out of how many there will be.
func (s *contents) since(before *contents) (changes []change, moved, whole int) {
	old := before.intervals()
	for n, i := range s.intervals() {
		removed, added := diffRanges(old[n].ranges, i.ranges)
		changes = append(changes, change{set: i.name, removed: removed, added: added})
		moved += len(removed) + len(added)
		whole += len(i.ranges)
	}
	return changes, moved, whole
}

// put puts the change into the batch.
func (c change) put(conn *nftables.Conn, t *nftables.Table) error {
	set := intervalSet(t, c.set)
	if err := inChunks(conn.SetDeleteElements, set, rangeElements(c.removed)); err != nil {
		return err
	}
	return inChunks(conn.SetAddElements, set, rangeElements(c.added))
}

// rangeElements returns two elements a range: its first address, and the
// address after its last, which ends it. A range up to the last address of
// all has no end.
func rangeElements(ranges []netguard.Range) []nftables.SetElement {
	elements := make([]nftables.SetElement, 0, 2*len(ranges))
	for _, r := range ranges {
		elements = append(elements, nftables.SetElement{Key: r.From.AsSlice()})
		if end := r.To.Next(); end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return elements
}

// endpointElements returns address and port, each padded to four bytes.
func endpointElements(endpoints []netip.AddrPort) []nftables.SetElement {
	var elements []nftables.SetElement
	seen := make(map[netip.AddrPort]bool, len(endpoints))
	for _, e := range endpoints {
		if seen[e] {
			continue
		}
		seen[e] = true
		key := append(e.Addr().AsSlice(), net16(e.Port())...)
		elements = append(elements, nftables.SetElement{Key: append(key, 0, 0)})
	}
	return elements
}

// inChunks calls do with at most chunk elements at a time.
func inChunks(
	do func(*nftables.Set, []nftables.SetElement) error, set *nftables.Set, elements []nftables.SetElement,
) error {
	for len(elements) > 0 {
		n := min(chunk, len(elements))
		if err := do(set, elements[:n]); err != nil {
			return fmt.Errorf("encoding elements of set %q: %w", set.Name, err)
		}
		elements = elements[n:]
	}
	return nil
}
