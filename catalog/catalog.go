// Package catalog carries the built-in cloud apps: which names on the
// Internet belong to which app.
//
// The facts are plain files that are compiled into the program:
// categories.yaml lists the categories, data/CATEGORY.yaml the apps of one
// category. README.md says how to change them. What an administrator thinks of
// an app is not here but in the store.
package catalog

import (
	"embed"
	"slices"
	"strings"

	"interdict/internal/cloudapp"
)

//go:embed categories.yaml data/*.yaml
var files embed.FS

// Category is a kind of cloud app.
type Category struct {
	// ID is a slug of [a-z0-9-], unique among the categories.
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// Catalog is a valid set of apps. It never changes and is safe for concurrent
// use; what its methods return is the caller's own copy.
type Catalog struct {
	categories []Category
	apps       []cloudapp.App // sorted by id
	byID       map[string]int
	owners     map[string]int // domain to index in apps, or shared
}

// shared stands for an app in Catalog.owners where a domain has several.
const shared = -1

// Load reads the built-in catalog. It fails only if the files that were
// compiled in break a rule, and then names every fault.
func Load() (*Catalog, error) {
	return read(files)
}

// Apps returns all apps, sorted by id.
func (c *Catalog) Apps() []cloudapp.App {
	apps := make([]cloudapp.App, len(c.apps))
	for i, a := range c.apps {
		apps[i] = clone(a)
	}
	return apps
}

// App returns the app with an id.
func (c *Catalog) App(id string) (cloudapp.App, bool) {
	i, ok := c.byID[id]
	if !ok {
		return cloudapp.App{}, false
	}
	return clone(c.apps[i]), true
}

// Owner returns the app that a host name belongs to: the one with the longest
// domain that is the name or a parent of it. Case and one trailing dot do not
// matter. A name whose longest domain is shared belongs to no app.
func (c *Catalog) Owner(host string) (cloudapp.App, bool) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	for name != "" {
		if i, ok := c.owners[name]; ok {
			if i == shared {
				return cloudapp.App{}, false
			}
			return clone(c.apps[i]), true
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return cloudapp.App{}, false
}

// Categories returns all categories, sorted by id.
func (c *Catalog) Categories() []Category {
	return slices.Clone(c.categories)
}

func clone(a cloudapp.App) cloudapp.App {
	a.Domains = slices.Clone(a.Domains)
	return a
}
