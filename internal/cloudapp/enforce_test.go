package cloudapp_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cloudapp"
	"interdict/internal/indicator"
)

func index() *cloudapp.Index {
	app := func(id string, domains ...cloudapp.Domain) cloudapp.App {
		return cloudapp.App{ID: id, Name: "The " + id, Domains: domains}
	}
	own := func(name string) cloudapp.Domain { return cloudapp.Domain{Name: name} }
	shared := func(name string) cloudapp.Domain { return cloudapp.Domain{Name: name, Shared: true} }
	return cloudapp.NewIndex([]cloudapp.App{
		app("amazon", own("amazon.com"), shared("cdn.amazon.com")),
		app("aws", own("aws.amazon.com"), shared("cdn.amazon.com")),
		app("chime", own("chime.aws.amazon.com")),
		app("dropbox", own("dropbox.com"), own("dl.dropbox.com")),
	})
}

func TestEnforce(t *testing.T) {
	tag := func(app string, tag cloudapp.Tag, scope indicator.Scope) cloudapp.Tagging {
		return cloudapp.Tagging{AppID: app, Tag: tag, Scope: indicator.Profile{Scope: scope}}
	}
	everybody := indicator.Scope{}
	only := func(t cloudapp.Tagging, users ...string) cloudapp.Tagging {
		t.Scope.IncludeUsers = users
		return t
	}
	daily := func(t cloudapp.Tagging, from string) cloudapp.Tagging {
		t.Scope.Windows = []indicator.Window{{From: from, To: "17:00"}}
		return t
	}
	for _, test := range []struct {
		name       string
		taggings   []cloudapp.Tagging
		groups     []string
		indicators []string // value and action
		spares     []string // domain and app
	}{
		{name: "no tag has no consequence"},
		{
			name:     "sanctioned and untagged apps have none",
			taggings: []cloudapp.Tagging{tag("aws", cloudapp.TagSanctioned, everybody), tag("dropbox", cloudapp.TagNone, everybody)},
		},
		{
			name:       "an unsanctioned app is blocked, and spares nothing of its own",
			taggings:   []cloudapp.Tagging{tag("dropbox", cloudapp.TagUnsanctioned, everybody)},
			indicators: []string{"dropbox.com block", "dl.dropbox.com block"},
		},
		{
			name:       "a monitored app is warned about",
			taggings:   []cloudapp.Tagging{tag("chime", cloudapp.TagMonitored, everybody)},
			indicators: []string{"chime.aws.amazon.com warn"},
		},
		{
			name:       "names below that belong to others are spared, shared ones are not blocked",
			taggings:   []cloudapp.Tagging{tag("amazon", cloudapp.TagUnsanctioned, everybody)},
			indicators: []string{"amazon.com block"},
			spares:     []string{"aws.amazon.com aws", "cdn.amazon.com aws", "chime.aws.amazon.com chime"},
		},
		{
			name:       "sanctioning the other app does not change that",
			taggings:   []cloudapp.Tagging{tag("amazon", cloudapp.TagUnsanctioned, everybody), tag("aws", cloudapp.TagSanctioned, everybody)},
			indicators: []string{"amazon.com block"},
			spares:     []string{"aws.amazon.com aws", "cdn.amazon.com aws", "chime.aws.amazon.com chime"},
		},
		{
			name:       "the names of apps that are tagged as well are not spared",
			taggings:   []cloudapp.Tagging{tag("amazon", cloudapp.TagUnsanctioned, everybody), tag("aws", cloudapp.TagMonitored, everybody)},
			indicators: []string{"amazon.com block", "aws.amazon.com warn"},
			spares:     []string{"chime.aws.amazon.com chime"},
		},
		{
			name: "a tag for other groups does not count",
			taggings: []cloudapp.Tagging{
				tag("amazon", cloudapp.TagUnsanctioned, indicator.Scope{Include: []string{"g1"}}),
				tag("aws", cloudapp.TagUnsanctioned, indicator.Scope{Include: []string{"g1"}, Exclude: []string{"g2"}}),
			},
			groups:     []string{"g1", "g2"},
			indicators: []string{"amazon.com block"},
			spares:     []string{"aws.amazon.com aws", "cdn.amazon.com aws", "chime.aws.amazon.com chime"},
		},
		{
			name: "a name of an app that is tagged for some people only is spared from what is for all",
			taggings: []cloudapp.Tagging{
				tag("amazon", cloudapp.TagUnsanctioned, everybody), only(tag("aws", cloudapp.TagUnsanctioned, everybody), "ada"),
				tag("chime", cloudapp.TagMonitored, everybody),
			},
			indicators: []string{"amazon.com block", "aws.amazon.com block", "chime.aws.amazon.com warn"},
			spares:     []string{"aws.amazon.com aws", "cdn.amazon.com aws"},
		},
		{
			name: "tags for the same people go together",
			taggings: []cloudapp.Tagging{
				only(tag("amazon", cloudapp.TagUnsanctioned, everybody), "ada"), only(tag("aws", cloudapp.TagUnsanctioned, indicator.Scope{Include: []string{"g1"}}), "ada"),
				tag("chime", cloudapp.TagMonitored, everybody),
			},
			groups:     []string{"g1"},
			indicators: []string{"amazon.com block", "aws.amazon.com block", "chime.aws.amazon.com warn"},
		},
		{
			name: "tags at different times do not",
			taggings: []cloudapp.Tagging{
				daily(tag("aws", cloudapp.TagUnsanctioned, everybody), "08:00"), daily(tag("chime", cloudapp.TagUnsanctioned, everybody), "09:00"),
			},
			indicators: []string{"aws.amazon.com block", "chime.aws.amazon.com block"},
			spares:     []string{"chime.aws.amazon.com chime"},
		},
		{
			name:     "an app that left the catalog has no consequence",
			taggings: []cloudapp.Tagging{tag("gone", cloudapp.TagUnsanctioned, everybody)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var enforced []*cloudapp.Tagging
			var indicators, spares []string
			for _, t := range test.taggings {
				if !t.Tag.Enforced() || !t.Scope.Covers(test.groups) {
					continue
				}
				enforced = append(enforced, &t)
				for _, i := range index().Indicators(t) {
					indicators = append(indicators, i.Value+" "+string(i.Action))
				}
			}
			for _, s := range index().Spares(enforced) {
				spares = append(spares, s.Domain+" "+s.AppID)
			}
			if diff := cmp.Diff(test.indicators, indicators); diff != "" {
				t.Errorf("indicators (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.spares, spares); diff != "" {
				t.Errorf("spares (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIndicatorsCarryTheTagging(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	scope := indicator.Scope{Include: []string{"g"}}
	got := index().Indicators(cloudapp.Tagging{AppID: "chime", Tag: cloudapp.TagUnsanctioned, Scope: indicator.Profile{Scope: scope}, By: "ada", At: at})
	want := []indicator.Indicator{{
		ID: "chime:chime.aws.amazon.com", Type: indicator.TypeDomain, Value: "chime.aws.amazon.com", Action: indicator.ActionBlock,
		Severity: indicator.SeverityMedium, Source: indicator.SourceCatalog, AppID: "chime", Scope: indicator.Profile{Scope: scope}, GenerateAlert: true,
		CreatedAt: at, CreatedBy: "ada",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNear(t *testing.T) {
	for _, test := range []struct {
		ref  string
		want []string
	}{
		{"drpbox", []string{"dropbox"}},
		{"Box", []string{"dropbox"}},
		{"chimee", []string{"chime"}},
		{"nothing-like-it", nil},
	} {
		if got := index().Near(test.ref); !slices.Equal(got, test.want) {
			t.Errorf("Near(%q) = %v, want %v", test.ref, got, test.want)
		}
	}
}
