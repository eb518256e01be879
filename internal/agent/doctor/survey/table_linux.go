package survey

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// tableName is what package nft calls its table.
const tableName = "interdict"

// table is what the kernel has of the table: for each of its parts, such as
// `chain "output"`, what is in it in the kernel's own words.
type table map[string][]string

// isSet reports whether a part, or what is said of it, is a set.
func isSet(part string) bool { return strings.HasPrefix(part, "set ") }

// readTable reads the table in the network namespace of the calling thread;
// nil if there is none.
func readTable() (table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("opening an nftables socket: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	t, err := conn.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if err != nil || t == nil {
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the table: %w", err)
	}
	found := table{"table": {fmt.Sprintf("flags %#x", t.Flags)}}
	if err = found.addChains(conn, t); err != nil {
		return nil, err
	}
	sets, err := conn.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("reading the sets: %w", err)
	}
	for _, s := range sets {
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("reading set %q: %w", s.Name, err)
		}
		part := fmt.Sprintf("set %q", s.Name)
		found[part] = []string{}
		for _, e := range elements {
			found[part] = append(found[part], fmt.Sprintf("%x %x %v", e.Key, e.KeyEnd, e.IntervalEnd))
		}
		slices.Sort(found[part])
	}
	return found, nil
}

func (found table) addChains(conn *nftables.Conn, t *nftables.Table) error {
	chains, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return fmt.Errorf("reading the chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != t.Name {
			continue
		}
		head, err := json.Marshal([]any{c.Type, c.Hooknum, c.Priority, c.Policy})
		if err != nil {
			return fmt.Errorf("reading chain %q: %w", c.Name, err)
		}
		rules, err := conn.GetRules(t, c)
		if err != nil {
			return fmt.Errorf("reading chain %q: %w", c.Name, err)
		}
		part := fmt.Sprintf("chain %q", c.Name)
		found[part] = []string{string(head)}
		for _, r := range rules {
			text, err := ruleText(r)
			if err != nil {
				return fmt.Errorf("reading chain %q: %w", c.Name, err)
			}
			found[part] = append(found[part], text)
		}
	}
	return nil
}

func ruleText(r *nftables.Rule) (string, error) {
	var text strings.Builder
	for _, e := range r.Exprs {
		value, err := json.Marshal(e)
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(&text, "%T%s ", e, value)
	}
	return text.String(), nil
}

// driftFrom says how a table differs from the one that is wanted, one sentence
// for each part.
func (found table) driftFrom(wanted table) []string {
	var drift []string
	for _, part := range slices.Sorted(maps.Keys(wanted)) {
		have, ok := found[part]
		if !ok {
			drift = append(drift, part+" is missing")
			continue
		}
		if text := difference(have, wanted[part]); text != "" {
			drift = append(drift, part+" "+text)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(found)) {
		if _, ok := wanted[part]; !ok {
			drift = append(drift, part+" does not belong there")
		}
	}
	return drift
}

// difference says how the lines of a part differ; empty if they do not.
func difference(have, want []string) string {
	count := make(map[string]int)
	for _, line := range want {
		count[line]++
	}
	foreign := 0
	for _, line := range have {
		if count[line] > 0 {
			count[line]--
		} else {
			foreign++
		}
	}
	missing := 0
	for _, n := range count {
		missing += n
	}
	switch {
	case missing > 0 && foreign > 0:
		return fmt.Sprintf("has %d foreign entries and lacks %d of %d", foreign, missing, len(want))
	case missing > 0:
		return fmt.Sprintf("lacks %d of %d entries", missing, len(want))
	case foreign > 0:
		return fmt.Sprintf("has %d foreign entries", foreign)
	case !slices.Equal(have, want):
		return "has its entries in another order"
	default:
		return ""
	}
}
