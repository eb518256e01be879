package usage_test

import (
	"testing"

	"interdict/catalog"
	"interdict/internal/cloudapp"
	"interdict/internal/control/usage"
)

func TestWhichAppANameBelongsTo(t *testing.T) {
	o := usage.NewOwners([]cloudapp.App{
		{ID: "shop", Domains: []cloudapp.Domain{{Name: "shop.example"}, {Name: "cdn.example", Shared: true}, {Name: "both.example"}}},
		{ID: "cloud", Domains: []cloudapp.Domain{
			{Name: "cloud.shop.example"}, {Name: "cdn.example", Shared: true}, {Name: "both.example"}, {Name: "own.cdn.example"},
		}},
	})
	for host, want := range map[string]string{
		"shop.example":            "shop",
		"WWW.Shop.Example.":       "shop",
		"a.b.cloud.shop.example":  "cloud",
		"notshop.example":         "",
		"example":                 "",
		"":                        "",
		"192.0.2.1":               "",
		"x.cdn.example":           "",
		"x.own.cdn.example":       "cloud",
		"both.example":            "",
		"shop.example.elsewhere.": "",
	} {
		if got := o.Of(host); got != want {
			t.Errorf("%q belongs to %q, want %q", host, got, want)
		}
	}
}

// The catalog's own names are found again, unless they are shared.
func TestTheCatalogOwnsItsNames(t *testing.T) {
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	owners := make(map[string]map[string]bool)
	shared := make(map[string]bool)
	for _, a := range c.Apps() {
		for _, d := range a.Domains {
			if owners[d.Name] == nil {
				owners[d.Name] = make(map[string]bool)
			}
			owners[d.Name][a.ID] = true
			shared[d.Name] = shared[d.Name] || d.Shared
		}
	}
	o := usage.NewOwners(c.Apps())
	for name, of := range owners {
		got := o.Of("x." + name)
		if alone := len(of) == 1 && !shared[name]; alone != (got != "") || alone && !of[got] {
			t.Errorf("x.%s belongs to %q, want one of %v if it is one, shared %v", name, got, of, shared[name])
		}
	}
}

func FuzzOwners(f *testing.F) {
	o := usage.NewOwners([]cloudapp.App{{ID: "a", Domains: []cloudapp.Domain{{Name: "a.example"}, {Name: "b.example", Shared: true}}}})
	for _, seed := range []string{"a.example", "x.b.example", "..", "A.EXAMPLE.", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if got := o.Of(host); got != "" && got != "a" {
			t.Errorf("%q belongs to %q", host, got)
		}
	})
}
