package desktop

import (
	"strings"
	"testing"
)

func FuzzReports(f *testing.F) {
	f.Add(`{"key":"1","what":"invoked","action":"why"}` + "\n" + `{"key":"1","what":"closed"}`)
	f.Add("{\"key\":\"\"}\n{\"key\":7}\nnull\n[]")
	f.Add(strings.Repeat("{\"key\":\"x\"}\n", maxReports+1))
	f.Fuzz(func(t *testing.T, text string) {
		heard := 0
		readReports(strings.NewReader(text), func(r Report) {
			// A report about nothing is the end of the helper.
			if r == (Report{}) || r.Key == "" {
				t.Errorf("heard %+v", r)
			}
			heard++
		})
		if heard > maxReports {
			t.Errorf("%d reports were heard", heard)
		}
	})
}
