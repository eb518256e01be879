package catalog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"interdict/internal/cloudapp"
)

// The layout of the files.
const (
	categoriesFile = "categories.yaml"
	dataDir        = "data"
	dataExt        = ".yaml"
)

// appEntry is an app as it stands in a file. Its category is the file's name.
type appEntry struct {
	ID       string   `yaml:"id"`
	Name     string   `yaml:"name"`
	Vendor   string   `yaml:"vendor"`
	Homepage string   `yaml:"homepage"`
	Domains  []string `yaml:"domains"`
	// Shared are domains of this app that other apps use as well.
	Shared []string `yaml:"shared"`
}

// categoryEntry is a category as it stands in its file.
type categoryEntry struct {
	ID          string `yaml:"id"`
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
}

// read reads and checks a catalog. The error joins all faults there are; only
// a file that cannot be parsed hides the faults inside it.
func read(fsys fs.FS) (*Catalog, error) {
	var faults []error
	categories, err := readList[categoryEntry](fsys, categoriesFile)
	if err != nil {
		faults = append(faults, err)
	}
	entries, err := fs.ReadDir(fsys, dataDir)
	if err != nil {
		faults = append(faults, fmt.Errorf("listing the catalog's files: %w", err))
	}
	ck := newChecker()
	ck.categories(categories)
	var apps []cloudapp.App
	for _, entry := range entries {
		file := path.Join(dataDir, entry.Name())
		listed, err := readList[appEntry](fsys, file)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		category := strings.TrimSuffix(entry.Name(), dataExt)
		ck.apps(file, category, listed)
		for _, e := range listed {
			apps = append(apps, e.toDomain(category))
		}
	}
	ck.sharing()
	if err := errors.Join(append(faults, ck.faults...)...); err != nil {
		return nil, fmt.Errorf("reading the catalog:\n%w", err)
	}
	return compile(categories, apps), nil
}

// readList reads a file that is one YAML list. Unknown and repeated keys are
// errors, as is anything after the list.
func readList[T any](fsys fs.FS, file string) ([]T, error) {
	text, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, fmt.Errorf("reading a catalog file: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	var list []T
	if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var rest any
	if err := dec.Decode(&rest); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: must be one list, has a second document", file)
	}
	return list, nil
}

func (e appEntry) toDomain(category string) cloudapp.App {
	a := cloudapp.App{ID: e.ID, Name: e.Name, Vendor: e.Vendor, Category: category, Homepage: e.Homepage}
	for _, name := range e.Domains {
		a.Domains = append(a.Domains, cloudapp.Domain{Name: name})
	}
	for _, name := range e.Shared {
		a.Domains = append(a.Domains, cloudapp.Domain{Name: name, Shared: true})
	}
	slices.SortFunc(a.Domains, func(x, y cloudapp.Domain) int { return cmp.Compare(x.Name, y.Name) })
	return a
}

// compile builds the look-up tables of a checked catalog.
func compile(categories []categoryEntry, apps []cloudapp.App) *Catalog {
	slices.SortFunc(apps, func(x, y cloudapp.App) int { return cmp.Compare(x.ID, y.ID) })
	c := &Catalog{apps: apps, byID: make(map[string]int, len(apps)), owners: make(map[string]int)}
	for _, e := range categories {
		c.categories = append(c.categories, Category(e))
	}
	for i, a := range apps {
		c.byID[a.ID] = i
		for _, d := range a.Domains {
			c.owners[d.Name] = i
			if d.Shared {
				c.owners[d.Name] = shared
			}
		}
	}
	return c
}
