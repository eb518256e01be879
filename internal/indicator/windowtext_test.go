package indicator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/indicator"
)

func TestParseWindow(t *testing.T) {
	weekdays := indicator.Days()[:5]
	for _, test := range []struct {
		name, in string
		want     indicator.Window
		text     string
	}{
		{"days, span and zone", "mon-fri 08:00-17:30 Europe/Berlin", indicator.Window{Days: weekdays, From: "08:00", To: "17:30", Zone: "Europe/Berlin"}, ""},
		{"days in any order and case", " Tue,MON,tue 00:00-24:00", indicator.Window{Days: weekdays[:2], From: "00:00", To: "24:00"}, "mon,tue 00:00-24:00"},
		{"a range over the end of the week", "sat-mon 10:00-11:00", indicator.Window{Days: []indicator.Day{"mon", "sat", "sun"}, From: "10:00", To: "11:00"}, "mon,sat,sun 10:00-11:00"},
		{"every day, over midnight", "22:00-06:00", indicator.Window{From: "22:00", To: "06:00"}, ""},
		{"every day in a zone", "08:00-09:00 UTC", indicator.Window{From: "08:00", To: "09:00", Zone: "UTC"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := indicator.ParseWindow(test.in)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Fatalf("%q (-want +got): %v\n%s", test.in, err, diff)
			}
			want := test.text
			if want == "" {
				want = test.in
			}
			if text := got.String(); text != want {
				t.Errorf("written as %q, want %q", text, want)
			}
		})
	}
}

func TestParseWindowSaysWhatIsWrong(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "is not of the form",
		"mon-fri":                        "no time of day",
		"mon-fry 08:00-17:00":            `"mon-fry" is no day`,
		"mon 0800":                       `"0800" is no span`,
		"mon 08:00-25:00":                "no time of day",
		"24:00-08:00":                    "no time of day",
		"mon 08:00-17:00 Mars/Olympus":   "no time zone",
		"mon 08:00-17:00 Europe/Paris x": "is not of the form",
		"mon, 08:00-17:00":               `"" is no day`,
	} {
		if w, err := indicator.ParseWindow(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want a fault with %q", in, w, err, want)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, seed := range []string{"mon-fri 08:00-17:30 Europe/Berlin", "sat,sun 00:00-24:00", "22:00-06:00", "fri-mon 1:00-2", "- -", "mon 08:00-09:00 ../../etc/passwd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := indicator.ParseWindow(text)
		if err != nil {
			return
		}
		if err = w.Check(); err != nil {
			t.Fatalf("%q became %+v: %v", text, w, err)
		}
		again, err := indicator.ParseWindow(w.String())
		if err != nil || !slices.Equal(again.Days, w.Days) || again.From != w.From || again.To != w.To || again.Zone != w.Zone {
			t.Fatalf("%q became %+v, and %q %+v (%v)", text, w, w.String(), again, err)
		}
	})
}
