package channel

import (
	"fmt"
	"slices"
	"strings"

	"interdict/internal/fleet"
)

// environmentPrefix starts the name of every variable that makes a setting.
const environmentPrefix = "INTERDICT_"

// Variable returns the name of the environment's variable that makes a
// setting: INTERDICT_NETWORK_PROTECTION.
func Variable(setting string) string { return environmentPrefix + strings.ToUpper(setting) }

// FromEnvironment reads settings from variables of the form NAME=VALUE, as
// os.Environ returns them. A variable with a bad value is left out and is a
// fault, a sentence for people; so is one that is nearly called like a setting.
// Any other may be for somebody else: Kubernetes and Docker tell of a service
// that is called interdict in the same way. An empty variable says nothing, as in most programs.
func FromEnvironment(environ []string) (values map[string]string, faults []string) {
	values = make(map[string]string)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		setting, ok := strings.CutPrefix(name, environmentPrefix)
		if !ok || value == "" {
			continue
		}
		d, known := define(strings.ToLower(setting))
		if !known || name != Variable(d.Name) {
			if near := Near(strings.ToLower(setting)); len(near) > 0 {
				faults = append(faults, fmt.Sprintf("%s makes no setting; did you mean %s?", name, Variable(near[0])))
			}
			continue
		}
		canonical, err := d.Parse(value)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s=%.80q is ignored: it %v", name, value, err))
			continue
		}
		values[d.Name] = canonical
	}
	slices.Sort(faults)
	return values, faults
}

// define is fleet.Define for the one spelling of a setting's name.
func define(name string) (fleet.Definition, bool) {
	d, ok := fleet.Define(name)
	return d, ok && d.Name == name
}

// Near returns the names of settings that a mistyped name may have been meant
// to be, the nearest first.
func Near(name string) []string {
	name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	for _, d := range fleet.Definitions() {
		distance := edits(name, d.Name)
		// A third of the letters may be wrong; a whole word of the name
		// will do as well.
		if distance <= len(d.Name)/3 || len(name) > 2 && slices.Contains(strings.Split(d.Name, "_"), name) {
			near = append(near, candidate{d.Name, distance})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.distance - b.distance })
	names := make([]string, len(near))
	for i := range near {
		names[i] = near[i].name
	}
	return names
}

// maxTyped bounds a name that is compared.
const maxTyped = 64

// edits is how many letters have to be put in, taken out or replaced to make
// b of a (Levenshtein's distance).
func edits(a, b string) int {
	if len(a) > maxTyped {
		return maxTyped
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
