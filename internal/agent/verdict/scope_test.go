package verdict_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func TestWhatIsForOthersOrForOtherTimesIsNamed(t *testing.T) {
	scoped := func(id string, typ indicator.Type, value string, p indicator.Profile) bundle.Record {
		return bundle.Indicator(indicator.Indicator{
			ID: id, Type: typ, Value: value, Action: indicator.ActionBlock, Source: indicator.SourceCustom, Scope: p, CreatedAt: noon,
		})
	}
	anna := indicator.Profile{People: indicator.People{IncludeUsers: []string{"anna"}}}
	night := indicator.Profile{Windows: []indicator.Window{{From: "22:00", To: "23:00"}}}
	gone := bundle.Indicator(indicator.Indicator{
		ID: "expired", Type: indicator.TypeDomain, Value: "example", Action: indicator.ActionBlock, Source: indicator.SourceCustom, Scope: anna,
		ExpiresAt: noon.Add(-time.Hour), CreatedAt: noon,
	})
	set := setOf(t,
		scoped("name", indicator.TypeDomain, "tunes.example", anna),
		scoped("night", indicator.TypeDomain, "example", night),
		scoped("path", indicator.TypeURL, "http://tunes.example/music", anna),
		scoped("address", indicator.TypeCIDR, "203.0.113.0/24", anna),
		scoped("elsewhere", indicator.TypeDomain, "other.example", anna),
		gone, custom(indicator.ActionBlock, indicator.TypeDomain, "plain.example"))
	r, err := verdict.Compile(verdict.Config{Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}, set)
	if err != nil {
		t.Fatal(err)
	}
	user := &indicator.User{UID: 1000, Name: "anna"}
	for name, test := range map[string]struct {
		subject verdict.Subject
		now     time.Time
		want    []string
	}{
		"for another user":           {verdict.Subject{Host: "Tunes.example"}, noon, []string{"name", "night"}},
		"with a path":                {verdict.Subject{Host: "tunes.example", Path: "/music/1"}, noon, []string{"name", "path", "night"}},
		"for the user, at noon":      {verdict.Subject{Host: "tunes.example", User: user}, noon, []string{"night"}},
		"for the user, at night":     {verdict.Subject{Host: "tunes.example", User: user}, noon.Add(10*time.Hour + 30*time.Minute), nil},
		"by its address":             {verdict.Subject{Addr: netip.MustParseAddr("203.0.113.7")}, noon, []string{"address"}},
		"by its address, the user's": {verdict.Subject{Addr: netip.MustParseAddr("203.0.113.7"), User: user}, noon, nil},
		"what is for everybody":      {verdict.Subject{Host: "plain.example"}, noon, []string{"night"}},
	} {
		if diff := cmp.Diff(test.want, r.OutOfScope(test.subject, test.now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
