package indicator

import (
	"fmt"
	"slices"
	"strings"
)

// ParseWindow reads a window as people write it: days, from and to, and a time
// zone, of which days and zone may be missing. "mon-fri 08:00-17:30
// Europe/Berlin", "sat,sun 00:00-24:00", "22:00-06:00". The window passes
// Check.
func ParseWindow(text string) (Window, error) {
	var w Window
	words := strings.Fields(text)
	if len(words) > 1 && !strings.Contains(words[0], ":") {
		days, err := parseDays(words[0])
		if err != nil {
			return Window{}, fmt.Errorf("reading the window %q: %w", text, err)
		}
		w.Days, words = days, words[1:]
	}
	if len(words) == 2 {
		w.Zone, words = words[1], words[:1]
	}
	if len(words) != 1 {
		return Window{}, fmt.Errorf("reading the window %q: it is not of the form mon-fri 08:00-17:30 Europe/Berlin", text)
	}
	from, to, ok := strings.Cut(words[0], "-")
	if !ok {
		return Window{}, fmt.Errorf("reading the window %q: %q is no span such as 08:00-17:30", text, words[0])
	}
	w.From, w.To = from, to
	if err := w.Check(); err != nil {
		return Window{}, fmt.Errorf("reading the window %q: %w", text, err)
	}
	return w, nil
}

// parseDays reads days and ranges of days, separated by commas: "mon-fri,sun".
// A range may go over the end of the week. The days come in their order, each
// once.
func parseDays(text string) ([]Day, error) {
	on := make(map[Day]bool)
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(Days(), Day(first)), slices.Index(Days(), Day(last))
		if from < 0 || to < 0 {
			return nil, fmt.Errorf("%q is no day or range of days such as mon-fri", part)
		}
		for i := from; ; i = (i + 1) % len(Days()) {
			on[Days()[i]] = true
			if i == to {
				break
			}
		}
	}
	return slices.DeleteFunc(Days(), func(d Day) bool { return !on[d] }), nil
}

// String writes a window as ParseWindow reads it.
func (w *Window) String() string {
	var parts []string
	if len(w.Days) > 0 {
		parts = append(parts, daysText(w.Days))
	}
	parts = append(parts, w.From+"-"+w.To)
	if w.Zone != "" {
		parts = append(parts, w.Zone)
	}
	return strings.Join(parts, " ")
}

// daysText writes three and more days in a row as a range.
func daysText(days []Day) string {
	all := Days()
	var parts []string
	for i := 0; i < len(all); i++ {
		if !slices.Contains(days, all[i]) {
			continue
		}
		last := i
		for last+1 < len(all) && slices.Contains(days, all[last+1]) {
			last++
		}
		if last-i < 2 {
			parts = append(parts, string(all[i]))
			continue
		}
		parts = append(parts, string(all[i])+"-"+string(all[last]))
		i = last
	}
	return strings.Join(parts, ",")
}
