package usage

import (
	"interdict/internal/cloudapp"
	"interdict/internal/domainset"
)

// Owners answers which app a name belongs to. It is immutable and safe for
// concurrent use.
type Owners struct {
	set     *domainset.Set
	domains []owned
}

// owned is a domain of an app.
type owned struct {
	name, app string
	shared    bool
}

// NewOwners returns the owners of the domains of apps.
func NewOwners(apps []cloudapp.App) *Owners {
	o := &Owners{}
	for _, a := range apps {
		for _, d := range a.Domains {
			o.domains = append(o.domains, owned{d.Name, a.ID, d.Shared})
		}
	}
	o.set = domainset.New(func(yield func(uint32) bool) {
		for i := range o.domains {
			if !yield(uint32(i)) {
				return
			}
		}
	}, func(value uint32) string { return o.domains[value].name })
	return o
}

// Of returns the id of the app with the longest domain that host is, or is
// below; "" if there is none, or if that domain is not one app's alone: it
// says nothing then of which of them was used.
func (o *Owners) Of(host string) string {
	longest, app := "", ""
	for name, i := range o.set.Lookup(domainset.Normalize(host)) {
		d := &o.domains[i]
		switch {
		case longest != "" && name != longest:
			return app
		case d.shared || app != "" && app != d.app:
			return ""
		}
		longest, app = name, d.app
	}
	return app
}
