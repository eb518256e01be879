package grouprule_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
	"interdict/internal/fleet/grouprule"
)

func device() *fleet.Device {
	return &fleet.Device{
		Name: "desk-7", Hostname: "desk-7.example.net", OS: "linux", OSVersion: "Ubuntu 22.04.3 LTS", Arch: "amd64", AgentVersion: "v1.9.0",
		Labels:     map[string]string{"finance": "", "ring": "1", "site": "berlin", "least": "1.10"},
		EnrolledAt: time.Date(2026, 3, 1, 13, 0, 0, 0, time.FixedZone("", 3600)),
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		name, rule string
		want       bool
		fails      string // part of the error, if there is to be one
	}{
		{name: "the properties together", rule: `os == "linux" && "finance" in labels && version < "1.10"`, want: true},
		{name: "a version is no text", rule: `version < "1.10" && version >= "1.9"`, want: true},
		{name: "the text before the version", rule: `"1.10" > version && "1.9" == version`, want: true},
		{name: "equal versions", rule: `version == "1.9" && version != "1.9.1"`, want: true},
		{name: "a version in a list", rule: `version in ["1.4", "v1.9.0"]`, want: true},
		{name: "a version out of a list", rule: `!(version in ["1.4", "1.5"])`, want: true},
		{name: "a version and a label", rule: `version < labels["least"] && version < labels.least`, want: true},
		{name: "two versions", rule: `version < os_version`, want: true},
		{name: "a version and itself", rule: `version == version`, want: true},
		{name: "the version of the system", rule: `os_version >= "22.04" && os_version < "24.04"`, want: true},
		{name: "its name", rule: `string(os_version).contains("Ubuntu")`, want: true},
		{name: "a version under a condition", rule: `os == "linux" ? version == "1.9" : true`, want: true},
		{name: "a label's value", rule: `labels["ring"] == "1" && labels.site == "berlin"`, want: true},
		{name: "whether there is a label", rule: `has(labels.site) && !has(labels.room) && !("room" in labels)`, want: true},
		{name: "all labels", rule: `labels.exists(k, k.startsWith("fin")) && labels.all(k, size(k) < 10)`, want: true},
		{name: "a regular expression", rule: `name.matches("^desk-[0-9]+$") && !hostname.endsWith(".com")`, want: true},
		{name: "several values", rule: `arch in ["arm64", "amd64"]`, want: true},
		{name: "when it was enrolled", rule: `enrolled_at >= timestamp("2026-03-01T12:00:00Z") && enrolled_at < timestamp("2026-03-01T12:00:00Z") + duration("1s")`, want: true},
		{name: "a comment and several lines", rule: "// who pays\nos == \"linux\"\n&& arch == \"amd64\"", want: true},
		{name: "another system", rule: `os == "windows"`},
		{name: "a label that is missing", rule: `labels["room"] == "5"`, fails: "room"},
		{name: "a label that is missing, by its dot", rule: `labels.room == "5"`, fails: "room"},
		{name: "a label that is missing does not matter where the rest decides", rule: `labels["room"] == "5" || os == "linux"`, want: true},
		{name: "a label that is no version", rule: `version < labels["site"]`, fails: `"berlin" is no version`},
		{name: "a label in a list that is no version", rule: `version in [labels["site"]]`, fails: `"berlin" is no version`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := grouprule.Compile(test.rule)
			if err != nil {
				t.Fatalf("compiling %s: %v", test.rule, err)
			}
			got, err := r.Match(device())
			if got != test.want {
				t.Errorf("%s is %v (%v)", test.rule, got, err)
			}
			if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%s: error %v, want one with %q", test.rule, err, test.fails)
			}
		})
	}
}

func TestADeviceThatSaidNothing(t *testing.T) {
	for rule, fails := range map[string]string{
		`version < "9"`:               "has not said its version",
		`os_version in ["1"]`:         "has not said its version",
		`os == "linux"`:               "",
		`"finance" in labels`:         "",
		`labels.exists(k, k == "x")`:  "",
		`enrolled_at == enrolled_at`:  "",
		`version != "1" || os == "x"`: "has not said its version",
	} {
		r, err := grouprule.Compile(rule)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Match(&fleet.Device{})
		if (err != nil) != (fails != "") || err != nil && !strings.Contains(err.Error(), fails) {
			t.Errorf("%s: error %v, want one with %q", rule, err, fails)
		}
	}
}

func TestBadRules(t *testing.T) {
	const properties = "a device has arch, enrolled_at, hostname, labels, name, os, os_version and version"
	for _, test := range []struct {
		name, rule   string
		line, column int
		text         string
	}{
		{"an empty rule", ``, 1, 1, "the rule ends before it is complete"},
		{"a rule that is a text", `os`, 1, 1, "a rule is true or false for a device, and this is a text"},
		{"a rule that is a number", `size(os)`, 1, 1, "a rule is true or false for a device, and this is a number"},
		{"a property that there is not", `os == "linux" && color == "red"`, 1, 18, `nothing is called "color": ` + properties},
		{"a function that there is not", `os.upper() == "LINUX"`, 1, 9, `nothing is called "upper": ` + properties},
		{"an unfinished rule", `os == "linux" &&`, 1, 17, "the rule ends before it is complete"},
		{"an unfinished text", `os == "linux`, 1, 7, "a text that begins here does not end"},
		{"a single equals sign", `os = "linux"`, 1, 4, "write == to compare"},
		{"words for operators", `os == "linux" and arch == "amd64"`, 1, 15, "write && for and"},
		{"a bracket too many", `os == "linux")`, 1, 14, `")" is not expected here`},
		{"a sign of no meaning", `os == "linux" # yes`, 1, 15, `"#" is not expected here`},
		{"the second line", "os == \"linux\"\n&& colour == 1", 2, 4, `nothing is called "colour": ` + properties},
		{"columns are characters", `name == "Zoë" && x`, 1, 18, `nothing is called "x": ` + properties},
		{"a version and a number", `version < 1.4`, 1, 9, `a version cannot be compared with a number: write a text such as "1.4"`},
		{"a number and a version", `2 == version`, 1, 3, `a version cannot be compared with a number: write a text such as "1.4"`},
		{"a version and what is none", `version < "newest"`, 1, 11, `"newest" is no version such as 1.4 or 22.04.1`},
		{"a version with a name", `os_version == "Ubuntu 22.04"`, 1, 15, `"Ubuntu 22.04" is no version such as 1.4 or 22.04.1`},
		{"a list with what is no version", `version in ["1.4", "x"]`, 1, 20, `"x" is no version such as 1.4 or 22.04.1`},
		{"a version in labels", `version in labels`, 1, 9, `a version can be in a list of texts only: version in ["1.4", "1.5"]`},
		{"a part of a version", `version.startsWith("1")`, 1, 19, "startsWith cannot be used with a version and a text"},
		{"a text and a number", `name == 5`, 1, 6, "== cannot be used with a text and a number"},
		{"a text as a condition", `os && arch`, 1, 1, "there has to be true or false here, and this is a text"},
		{"a label by its number", `labels[0] == "x"`, 1, 7, "[ ] cannot be used with labels and a number"},
		{"something of a text", `os.name == "x"`, 1, 3, "only labels have something after a dot, as in labels.ring"},
		{"all of a text", `os.all(c, c == "x")`, 1, 1, "there has to be a list or labels here, and this is a text"},
		{"a time that is none", `enrolled_at > timestamp("yesterday")`, 1, 25, `this is no time such as "2026-01-31T12:00:00Z"`},
		{"a bad regular expression", `name.matches("(")`, 1, 14, "this is no regular expression"},
		{"a rule that is too long", `os == "` + strings.Repeat("x", 5000) + `"`, 1, 1, "the rule has 5008 bytes, and may have 4096 at most"},
		{"a rule that takes too long", `labels.all(a, labels.all(b, labels.all(c, a == b)))`, 1, 1, "the rule could take too long: take out regular expressions, and what goes over all labels or a long list"},
		{"a rule that goes over a long list", "[" + strings.Repeat("1,", 2000) + "1].exists(x, x == 1)", 1, 1, "the rule could take too long: take out regular expressions, and what goes over all labels or a long list"},
		{"a rule of many regular expressions", strings.Repeat(`name.matches("a*b*c*")||`, 170) + "true", 1, 1, "the rule could take too long: take out regular expressions, and what goes over all labels or a long list"},
		{"a rule that is no rule at all", strings.Repeat("a b ", 1000), 1, 1, "the rule cannot be read"},
		{"a rule that is nested deep", strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), 1, 1, "the rule is nested too deep"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := grouprule.Compile(test.rule)
			got, ok := errors.AsType[*grouprule.Error](err)
			if !ok {
				t.Fatalf("%.100s: got %v, want an Error", test.rule, err)
			}
			want := &grouprule.Error{Line: test.line, Column: test.column, Text: test.text}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%.100s (-want +got):\n%s", test.rule, diff)
			}
		})
	}
}

func TestALongPlainRuleIsFine(t *testing.T) {
	long := strings.Repeat(`name == "x" || `, 250) + `os == "linux"`
	r, err := grouprule.Compile(long)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := r.Match(device()); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestSameSeesEveryProperty(t *testing.T) {
	changes := map[string]func(*fleet.Device){
		"name":        func(d *fleet.Device) { d.Name = "other" },
		"hostname":    func(d *fleet.Device) { d.Hostname = "other" },
		"os":          func(d *fleet.Device) { d.OS = "windows" },
		"os_version":  func(d *fleet.Device) { d.OSVersion = "12" },
		"arch":        func(d *fleet.Device) { d.Arch = "arm64" },
		"version":     func(d *fleet.Device) { d.AgentVersion = "2" },
		"labels":      func(d *fleet.Device) { d.Labels = map[string]string{"finance": ""} },
		"enrolled_at": func(d *fleet.Device) { d.EnrolledAt = d.EnrolledAt.Add(time.Second) },
	}
	for _, p := range grouprule.Properties() {
		change, ok := changes[p.Name]
		if !ok {
			t.Errorf("there is no test of %s", p.Name)
			continue
		}
		before, after := device(), device()
		if !grouprule.Same(before, after) {
			t.Fatal("a device is not the same as itself")
		}
		if change(after); grouprule.Same(before, after) {
			t.Errorf("a device with another %s counts as the same", p.Name)
		}
	}
	again := device()
	again.LastSeen, again.Online, again.Version = device().EnrolledAt.Add(time.Hour), true, 7
	if !grouprule.Same(device(), again) {
		t.Error("a device that was seen again counts as another")
	}
}

// The page lists every property in a table; a new one has to be written there
// too.
func TestThePageListsTheProperties(t *testing.T) {
	page, err := os.ReadFile("../../../docs/group-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, p := range grouprule.Properties() {
		want = append(want, p.Name+": "+p.Type+", "+p.Summary)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]+) \\| ([^|]+) \\|$").FindAllStringSubmatch(string(page), -1) {
		got = append(got, row[1]+": "+row[2]+", "+row[3])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-properties +page):\n%s", diff)
	}
	examples := regexp.MustCompile("(?m)^    (.*)$").FindAllStringSubmatch(string(page), -1)
	if len(examples) < 5 {
		t.Errorf("the page has %d examples", len(examples))
	}
	for _, example := range examples {
		if _, err := grouprule.Compile(example[1]); err != nil {
			t.Errorf("the page's example %s: %v", example[1], err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`os == "linux" && "finance" in labels && version < "1.4"`, `version in ["1", v]`, `labels.exists(k, k.matches("a+"))`,
		`enrolled_at > timestamp("2026-01-01T00:00:00Z")`, `((((`, `"\u00"`, `has(labels.x) ? 1 : 2`, "os ==\n\t'x'", `[1,2,3].all(x, x > 0)`, `-version`, `os=`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := grouprule.Compile(text)
		if err != nil {
			e, ok := errors.AsType[*grouprule.Error](err)
			if !ok || e.Line < 1 || e.Column < 1 || e.Text == "" {
				t.Fatalf("%q: error %v", text, err)
			}
		} else if _, err = r.Match(device()); err != nil && !strings.Contains(err.Error(), "desk-7") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// Versions are in one order, whatever they look like.
func FuzzVersions(f *testing.F) {
	f.Add("1.4", "1.4-rc1", "1.4-12")
	f.Add("v1.04+x", "1.4~a_b", "1.4-")
	f.Add("9.2p1", "9.2p1.2", "9.2-p.01")
	rules := make(map[string]*grouprule.Rule)
	for _, operator := range []string{"<", "==", ">"} {
		r, err := grouprule.Compile("version " + operator + " labels.other")
		if err != nil {
			f.Fatal(err)
		}
		rules[operator] = r
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		is := func(a, operator, b string) bool {
			ok, err := rules[operator].Match(&fleet.Device{AgentVersion: a, Labels: map[string]string{"other": b}})
			if err != nil {
				t.Skip()
			}
			return ok
		}
		for _, pair := range [][2]string{{a, b}, {b, c}, {a, c}} {
			x, y := pair[0], pair[1]
			if is(x, "<", y) != is(y, ">", x) || is(x, "==", y) != is(y, "==", x) || is(x, "<", y) == (is(x, "==", y) || is(x, ">", y)) {
				t.Errorf("%q and %q are in no order", x, y)
			}
		}
		if !is(a, ">", b) && !is(b, ">", c) && is(a, ">", c) {
			t.Errorf("%q, %q, %q rise, but the first is after the last", a, b, c)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	r, err := grouprule.Compile(`os == "linux" && "finance" in labels && version < "1.10"`)
	if err != nil {
		b.Fatal(err)
	}
	d := device()
	for b.Loop() {
		if ok, err := r.Match(d); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := grouprule.Compile(`os == "linux" && "finance" in labels && version < "1.10"`); err != nil {
			b.Fatal(err)
		}
	}
}

func TestVersionsInOrder(t *testing.T) {
	// Each is before the next.
	rising := []string{
		"0.9", "1.4.0-alpha", "1.4.0-alpha.1", "1.4.0-alpha.beta", "1.4-beta2", "1.4beta10", "1.4.0-rc1", "v1.4", "1.4.0-12-gabcdef", "1.4.1", "1.9", "1.10", "1.10.0.1",
		"2.0", "10.0.19045", "22.04", "22.04.3", "99999999999999999999999.1",
	}
	equal := [][2]string{{"1.4", "1.4.0"}, {"1.4", "v1.4.0.0"}, {"1.04", "1.4"}, {"1.4+build5", "1.4"}, {"1.4-RC1", "1.4.0-rc1"}, {"12~rc1", "12-rc1"}}
	compare := func(a, operator, b string) bool {
		t.Helper()
		r, err := grouprule.Compile("version " + operator + ` "` + b + `"`)
		if err != nil {
			t.Fatal(err)
		}
		ok, err := r.Match(&fleet.Device{AgentVersion: a})
		if err != nil {
			t.Fatalf("%s %s %s: %v", a, operator, b, err)
		}
		return ok
	}
	for i, a := range rising {
		for j, b := range rising {
			for _, c := range []struct {
				operator string
				want     bool
			}{{"<", i < j}, {"<=", i <= j}, {">", i > j}, {">=", i >= j}, {"==", i == j}, {"!=", i != j}} {
				if got := compare(a, c.operator, b); got != c.want {
					t.Errorf("%s %s %s is %v", a, c.operator, b, got)
				}
			}
		}
	}
	for _, pair := range equal {
		if !compare(pair[0], "==", pair[1]) || compare(pair[1], "!=", pair[0]) {
			t.Errorf("%s and %s differ", pair[0], pair[1])
		}
	}
	for _, text := range []string{"", "dev", "89c8ee3abcde", "c8ee3", "1.", ".1", "1..2", "1.x", "v", "1.4-ä", "1 ", strings.Repeat("1", 65)} {
		if _, err := grouprule.Compile(`version == "` + text + `"`); err == nil {
			t.Errorf("%q counts as a version", text)
		}
	}
}
