package catalog

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cloudapp"
)

func TestBuiltInCatalogIsValidAndHasTheWellKnownApps(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if got := len(c.Apps()); got < 100 {
		t.Errorf("got %d apps, want at least 100", got)
	}
	for _, id := range []string{"itunes", "dropbox", "discord", "wetransfer", "chatgpt", "amazon", "amazon-web-services"} {
		if a, ok := c.App(id); !ok || a.ID != id {
			t.Errorf("App(%q) = %+v, %v", id, a, ok)
		}
	}
	if a, ok := c.App("no-such-app"); ok {
		t.Errorf("App of an unknown id returned %+v", a)
	}
	var ids []string
	for _, category := range c.Categories() {
		ids = append(ids, category.ID)
	}
	for _, a := range c.Apps() {
		if !slices.Contains(ids, a.Category) {
			t.Errorf("app %q has the unknown category %q", a.ID, a.Category)
		}
	}
}

func TestOwner(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, host, want string }{
		{"a domain itself", "dropbox.com", "dropbox"},
		{"a name far below a domain", "init.itunes.apple.com", "itunes"},
		{"upper case and a trailing dot", "WWW.Dropbox.COM.", "dropbox"},
		{"the longest domain wins", "console.aws.amazon.com", "amazon-web-services"},
		{"the rest stays with the shorter one", "www.amazon.com", "amazon"},
		{"a suffix of the private section", "someone.github.io", "github-pages"},
		{"a shared domain has no owner", "is1-ssl.mzstatic.com", ""},
		{"the end of a label is no match", "notdropbox.com", ""},
		{"a parent of a domain is no match", "apple.com", ""},
		{"an unknown name", "www.example.org", ""},
		{"the empty name", "", ""},
		{"dots only", "...", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, ok := c.Owner(tt.host)
			if a.ID != tt.want || ok != (tt.want != "") {
				t.Errorf("Owner(%q) = %q, %v, want %q", tt.host, a.ID, ok, tt.want)
			}
		})
	}
}

func TestReturnedAppsAreCopies(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	a, _ := c.App("dropbox")
	a.Domains[0].Name = "changed.example"
	c.Apps()[0].Domains[0].Name = "changed.example"
	again, _ := c.App("dropbox")
	if again.Domains[0].Name == "changed.example" || c.Apps()[0].Domains[0].Name == "changed.example" {
		t.Error("a caller could change the catalog")
	}
}

// testFiles is a small valid catalog with some files replaced.
func testFiles(changes map[string]string) fstest.MapFS {
	files := map[string]string{
		"categories.yaml": "- {id: cloud-storage, name: Storage, description: Places}\n- {id: music, name: Music, description: Songs}\n",
		"data/music.yaml": "- {id: tunes, name: Tunes, homepage: 'https://tunes.example/', domains: [tunes.example], shared: [cdn.example]}\n",
		"data/cloud-storage.yaml": "- id: box\n  name: Box\n  domains: [box.example, xn--bcher-kva.example]\n  shared: [cdn.example]\n" +
			"- {id: pages, name: Pages, domains: [github.io]}\n",
	}
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range changes {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestReadAValidCatalog(t *testing.T) {
	c, err := read(testFiles(nil))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := c.App("tunes")
	want := cloudapp.App{
		ID: "tunes", Name: "Tunes", Category: "music", Homepage: "https://tunes.example/",
		Domains: []cloudapp.Domain{{Name: "cdn.example", Shared: true}, {Name: "tunes.example"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("app (-want +got):\n%s", diff)
	}
}

func TestReadRefusesFaults(t *testing.T) {
	const music = "data/music.yaml"
	app := func(fields string) map[string]string {
		return map[string]string{music: "- {" + fields + "}\n"}
	}
	tests := []struct {
		name  string
		files map[string]string
		want  string // part of the error
	}{
		{"an unknown key", app("id: a, name: A, domains: [a.example], colour: red"), "colour"},
		{"a repeated key", map[string]string{music: "- id: a\n  id: b\n  name: A\n  domains: [a.example]\n"}, "already defined"},
		{"text that is not YAML", map[string]string{music: "- {"}, music},
		{"a mapping for a list", map[string]string{music: "id: a\n"}, music},
		{"a second document", map[string]string{music: "- {id: a, name: A, domains: [a.example]}\n---\n- {id: b, name: B, domains: [b.example]}\n"}, "second document"},
		{"a file without a category", map[string]string{"data/films.yaml": ""}, "films.yaml: is not named after a category"},
		{"an id in two files", app("id: box, name: A, domains: [a.example]"), "id is taken by an app in data/cloud-storage.yaml"},
		{"an id that is no slug", app("id: Two Words, name: A, domains: [a.example]"), "must be a slug"},
		{"a missing id", app("name: A, domains: [a.example]"), "must be a slug"},
		{"a missing name", app("id: a, domains: [a.example]"), "name must be set"},
		{"no domains", app("id: a, name: A"), "at least one domain"},
		{"shared domains only", app("id: a, name: A, shared: [cdn.example]"), "at least one domain"},
		{"a homepage without https", app("id: a, name: A, homepage: 'http://a.example/', domains: [a.example]"), "https URL"},
		{"apps out of order", map[string]string{music: "- {id: b, name: B, domains: [b.example]}\n- {id: a, name: A, domains: [a.example]}\n"}, "sorted by id"},
		{"domains out of order", app("id: a, name: A, domains: [b.example, a.example]"), "domains must be sorted"},
		{"an upper case domain", app("id: a, name: A, domains: [A.example]"), `"A.example" must be`},
		{"a U-label", app("id: a, name: A, domains: [bücher.example]"), "xn--bcher-kva.example"},
		{"an A-label that decodes to nothing", app("id: a, name: A, domains: [xn--0.example]"), "must be a host name"},
		{"a trailing dot", app("id: a, name: A, domains: [a.example.]"), "must be"},
		{"an underscore", app("id: a, name: A, domains: [a_b.example]"), "must be a host name"},
		{"a URL for a domain", app("id: a, name: A, domains: ['https://a.example/']"), "must be a host name"},
		{"an address for a domain", app("id: a, name: A, domains: [192.0.2.1]"), "must be a host name"},
		{"a wildcard", app("id: a, name: A, domains: ['*.a.example']"), "must be a host name"},
		{"a single label", app("id: a, name: A, domains: [localhost]"), "at least two labels"},
		{"a public suffix of two labels", app("id: a, name: A, domains: [co.uk]"), "public suffix"},
		{"a name below the app's own", app("id: a, name: A, domains: [a.example, b.a.example]"), `covered by the app's own "a.example"`},
		{"a shared name below the app's own", app("id: a, name: A, domains: [a.example], shared: [b.a.example]"), "covered by"},
		{"a domain of another app", app("id: a, name: A, domains: [box.example]"), `"box.example" stands in box, a`},
		{"a domain that only one app marks as shared", app("id: a, name: A, domains: [cdn.example]"), `"cdn.example" stands in box, a`},
		{"a domain twice in one app", app("id: a, name: A, domains: [a.example, a.example]"), `"a.example" stands in a, a`},
		{"a category twice", map[string]string{"categories.yaml": "- {id: music, name: M, description: D}\n- {id: music, name: M, description: D}\n"}, "taken by another category"},
		{"a category without a description", map[string]string{"categories.yaml": "- {id: music, name: M}\n"}, "description must be set"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := read(testFiles(tt.files))
			if err == nil {
				t.Fatalf("got a catalog of %d apps, want an error with %q", len(c.Apps()), tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %q, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestReadTellsAllFaultsAtOnce(t *testing.T) {
	_, err := read(testFiles(map[string]string{
		"data/music.yaml": "- {id: A, domains: [com]}\n",
		"data/films.yaml": "- {id: x, name: X, domains: [box.example], price: 1}\n",
	}))
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"must be a slug", "name must be set", `"com" must`, "price"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got error %q, want it to contain %q", err, want)
		}
	}
}

func TestReadWithoutFiles(t *testing.T) {
	if _, err := read(fstest.MapFS{}); err == nil {
		t.Error("got a catalog from an empty file system")
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(); err != nil {
			b.Fatal(err)
		}
	}
}
