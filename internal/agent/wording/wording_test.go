package wording

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// names returns the names in braces, each once, sorted.
func names(text string) []string {
	found := regexp.MustCompile(`\{[^}]*\}`).FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func TestEveryLanguageHasEveryText(t *testing.T) {
	tables := []*Texts{For(English), For(German)}
	reference := reflect.ValueOf(tables[0]).Elem()
	for _, table := range tables {
		v := reflect.ValueOf(table).Elem()
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			text := v.Field(i).String()
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s: %s is empty", table.Language, name)
			}
			if diff := cmp.Diff(names(reference.Field(i).String()), names(text)); diff != "" {
				t.Errorf("%s: %s does not fill in what the English text does (-want +got):\n%s", table.Language, name, diff)
			}
		}
	}
	if got := For("fr").Language; got != English {
		t.Errorf("where there is no table, got %s, want English", got)
	}
}

func TestWhatIsFilledInIsNotFilledInAgain(t *testing.T) {
	if got := Fill("{app} at {host}, {else}", "app", "{host}", "host", "a.example"); got != "{host} at a.example, {else}" {
		t.Errorf("got %q", got)
	}
}

func TestAMomentOfTodayHasNoDay(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, zone)
	today, tomorrow := time.Date(2026, 11, 23, 13, 5, 0, 0, time.UTC), time.Date(2026, 11, 23, 23, 30, 0, 0, time.UTC)
	for _, test := range []struct {
		language Language
		at       time.Time
		want     string
	}{
		{English, today, "14:05"},
		{German, today, "14:05 Uhr"},
		{English, tomorrow, "24 November 2026, 00:30"},
		{German, tomorrow, "24.11.2026, 00:30 Uhr"},
	} {
		if got := For(test.language).Moment(test.at, now); got != test.want {
			t.Errorf("%s in %s: got %q, want %q", test.at, test.language, got, test.want)
		}
	}
}

func TestTheLocaleSaysTheLanguage(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want Language
		ok   bool
	}{
		{"nothing is said", nil, "", false},
		{"an Austrian", map[string]string{"LANG": "de_AT.UTF-8"}, German, true},
		{"messages go before the language in general", map[string]string{"LANG": "de_DE.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, English, true},
		{"everything goes before messages", map[string]string{"LC_ALL": "de_DE", "LC_MESSAGES": "en_GB"}, German, true},
		{"a list goes before all", map[string]string{"LANG": "en_US.UTF-8", "LANGUAGE": "fr:de:en"}, German, true},
		{"a list counts for nothing in the C locale", map[string]string{"LANG": "C.UTF-8", "LANGUAGE": "de"}, English, true},
		{"a list counts for nothing without a locale", map[string]string{"LANGUAGE": "de"}, "", false},
		{"there is no table", map[string]string{"LANG": "fr_FR.UTF-8"}, "", false},
		{"with a modifier", map[string]string{"LANG": "de@euro"}, German, true},
	} {
		got, ok := OfLocale(func(name string) string { return test.env[name] })
		if got != test.want || ok != test.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", test.name, got, ok, test.want, test.ok)
		}
	}
}

func TestTheHeaderSaysTheLanguage(t *testing.T) {
	for accept, want := range map[string]Language{
		"":                           English,
		"de":                         German,
		"de-CH, en;q=0.5":            German,
		"en;q=0.5, de;q=0.9":         German,
		"fr, de;q=0.1, *;q=0.05":     German,
		"de;q=0, en;q=0.1":           English,
		"de;q=nonsense, en;q=0.1":    English,
		"de;q=NaN":                   English,
		"de;q=17, en":                English,
		strings.Repeat("fr,", 1<<12): English,
	} {
		if got := OfHeader(accept); got != want {
			t.Errorf("%.40q: got %s, want %s", accept, got, want)
		}
	}
}

func FuzzOfHeader(f *testing.F) {
	f.Add("de-CH, en;q=0.5, *;q=0.1")
	f.Add(";q=;,,de ; q = 1e400")
	f.Fuzz(func(t *testing.T, accept string) {
		if l := OfHeader(accept); l != English && l != German {
			t.Errorf("got %q", l)
		}
	})
}
