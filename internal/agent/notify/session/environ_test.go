package session

import (
	"strings"
	"testing"
)

func FuzzEnviron(f *testing.F) {
	f.Add("LANG=de_DE.UTF-8\x00HOME=/home/anna\x00DISPLAY=:0", "\x00")
	f.Add("# the machine's\nLANG=\"de_AT.UTF-8\"\nLANG=en\n=x\nX", "\n")
	f.Fuzz(func(t *testing.T, text, separator string) {
		for name := range parseEnviron(text, separator) {
			if strings.Contains(name, "=") {
				t.Errorf("a variable is called %q", name)
			}
		}
		for _, v := range display(parseEnviron(text, separator)) {
			if strings.Contains(v, "\x00") && separator == "\x00" {
				t.Errorf("the display has %q", v)
			}
		}
	})
}
