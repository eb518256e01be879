package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

var slug = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// claim is an app's statement that a domain belongs to it.
type claim struct {
	app    string
	shared bool
}

// checker collects the faults of a catalog while its files go by.
type checker struct {
	known  map[string]bool    // category ids
	files  map[string]string  // app id to the file it stands in
	claims map[string][]claim // domain to the apps that claim it
	faults []error
}

func newChecker() *checker {
	return &checker{known: map[string]bool{}, files: map[string]string{}, claims: map[string][]claim{}}
}

func (ck *checker) fault(format string, args ...any) {
	ck.faults = append(ck.faults, fmt.Errorf(format, args...))
}

func (ck *checker) categories(list []categoryEntry) {
	for _, e := range list {
		at := fmt.Sprintf("%s: category %q", categoriesFile, e.ID)
		if !slug.MatchString(e.ID) {
			ck.fault("%s: id must be a slug of a-z, 0-9 and single hyphens", at)
		}
		if ck.known[e.ID] {
			ck.fault("%s: id is taken by another category", at)
		}
		if e.Name == "" || e.Description == "" {
			ck.fault("%s: name and description must be set", at)
		}
		ck.known[e.ID] = true
	}
	if !slices.IsSortedFunc(list, func(a, b categoryEntry) int { return cmp.Compare(a.ID, b.ID) }) {
		ck.fault("%s: must be sorted by id", categoriesFile)
	}
}

// apps checks one file of apps.
func (ck *checker) apps(file, category string, list []appEntry) {
	if !ck.known[category] {
		ck.fault("%s: is not named after a category of %s", file, categoriesFile)
	}
	for _, e := range list {
		at := fmt.Sprintf("%s: app %q", file, e.ID)
		ck.app(at, e)
		if other, taken := ck.files[e.ID]; taken {
			ck.fault("%s: id is taken by an app in %s", at, other)
		}
		ck.files[e.ID] = file
	}
	if !slices.IsSortedFunc(list, func(a, b appEntry) int { return cmp.Compare(a.ID, b.ID) }) {
		ck.fault("%s: must be sorted by id", file)
	}
}

func (ck *checker) app(at string, e appEntry) {
	if !slug.MatchString(e.ID) {
		ck.fault("%s: id must be a slug of a-z, 0-9 and single hyphens", at)
	}
	if e.Name == "" {
		ck.fault("%s: name must be set", at)
	}
	if u, err := url.Parse(e.Homepage); e.Homepage != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		ck.fault("%s: homepage %q must be an https URL", at, e.Homepage)
	}
	if len(e.Domains) == 0 {
		ck.fault("%s: needs at least one domain of its own", at)
	}
	if !slices.IsSorted(e.Domains) || !slices.IsSorted(e.Shared) {
		ck.fault("%s: domains must be sorted", at)
	}
	own := slices.Concat(e.Domains, e.Shared)
	for _, name := range own {
		if err := checkDomain(name); err != nil {
			ck.fault("%s: domain %q %w", at, name, err)
		}
		if parent, ok := parentIn(name, own); ok {
			ck.fault("%s: domain %q is covered by the app's own %q", at, name, parent)
		}
	}
	for _, name := range e.Domains {
		ck.claims[name] = append(ck.claims[name], claim{app: e.ID})
	}
	for _, name := range e.Shared {
		ck.claims[name] = append(ck.claims[name], claim{app: e.ID, shared: true})
	}
}

// sharing checks, once all files are read, that a domain which stands more
// than once is marked as shared wherever it stands.
func (ck *checker) sharing() {
	for _, name := range slices.Sorted(maps.Keys(ck.claims)) {
		claims := ck.claims[name]
		if len(claims) < 2 {
			continue
		}
		var apps []string
		all := true
		for _, c := range claims {
			apps = append(apps, c.app)
			all = all && c.shared
		}
		if !all {
			ck.fault("domain %q stands in %s and must be listed under shared in each of them", name, strings.Join(apps, ", "))
		}
	}
}

// parentIn finds a domain of a list that a name lies below.
func parentIn(name string, list []string) (string, bool) {
	for _, parent := range list {
		if parent != "" && strings.HasSuffix(name, "."+parent) {
			return parent, true
		}
	}
	return "", false
}

// checkDomain says whether a name can be the domain of an app: a lower case
// host name in A-label form (RFC 5890, section 2.3.2.1) that is not a public
// suffix of the ICANN section. Suffixes of the private section, such as
// github.io, are what a hosting app hands to its users: they are welcome. The
// error continues a sentence that starts with the name.
func checkDomain(name string) error {
	ascii, err := idna.Registration.ToASCII(name)
	switch {
	case err != nil:
		return fmt.Errorf("must be a host name: %w", err)
	case ascii != name:
		return fmt.Errorf("must be written in lower case A-label form, as %q", ascii)
	case !isHostName(name):
		return errors.New("must be a host name of at least two labels")
	}
	if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name {
		return errors.New("must not be a public suffix")
	}
	return nil
}

// isHostName applies the letters, digits and hyphens rule of RFC 952 and RFC
// 1123, section 2.1. A last label of digits only is an address, not a name.
func isHostName(name string) bool {
	labels := strings.Split(name, ".")
	if len(labels) < 2 || len(name) > 253 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		if strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
