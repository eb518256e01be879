package event_test

import (
	"encoding"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

// full returns a valid event with every field set.
func full() event.Event {
	at := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	uid := uint32(0)
	return event.Event{
		ID: "01JD0000000000000000000000", Time: at, Device: "d", EventID: event.IDBlocked, Action: event.ActionBlocked,
		AppID: "itunes", AppName: "iTunes", IndicatorID: "itunes:itunes.apple.com", Severity: "medium",
		Destination: event.Destination{
			Host: "itunes.apple.com", URL: "http://itunes.apple.com/", IP: netip.MustParseAddr("192.0.2.7"), Port: 80, Protocol: "tcp",
		},
		Evidence: event.EvidenceHTTPHost,
		Process:  event.Process{PID: 7, Path: "/usr/bin/curl", SHA256: "00", Command: "curl", ParentPath: "/bin/sh", Container: "c"},
		User:     event.User{Name: "root", UID: &uid}, PolicyID: "p", BundleVersion: 3, Count: 1, FirstSeen: at, LastSeen: at,
		Alert: true, Cut: true, Change: &event.Change{Setting: "s", Old: "a", New: "b", Channel: "server"}, Reason: "because",
	}
}

func TestAnEventFromOutsideIsChecked(t *testing.T) {
	tests := []struct {
		name   string
		change func(*event.Event)
		want   string
	}{
		{"complete", func(*event.Event) {}, ""},
		{"without a change", func(e *event.Event) { e.Change = nil }, ""},
		{"of a newer agent", func(e *event.Event) { e.EventID, e.Action = 5999, "something_new" }, ""},
		{"without an id", func(e *event.Event) { e.ID = "" }, "id:"},
		{"an id of other letters", func(e *event.Event) { e.ID = strings.Repeat("é", 13) }, "id:"},
		{"an event id of zero", func(e *event.Event) { e.EventID = 0 }, "event_id:"},
		{"an event id too high", func(e *event.Event) { e.EventID = 100000 }, "event_id:"},
		{"without an action", func(e *event.Event) { e.Action = "" }, "action:"},
		{"without a time", func(e *event.Event) { e.Time = time.Time{} }, "time:"},
		{"without its first time", func(e *event.Event) { e.FirstSeen = time.Time{} }, "first_seen:"},
		{"without its last time", func(e *event.Event) { e.LastSeen = time.Time{} }, "last_seen:"},
		{"a count of zero", func(e *event.Event) { e.Count = 0 }, "count:"},
		{"a line break", func(e *event.Event) { e.Process.Command = "curl\n1126" }, "process.command:"},
		{"an escape of ASCII", func(e *event.Event) { e.AppName = "\x1b[2J" }, "app_name:"},
		{"an escape of Latin-1", func(e *event.Event) { e.AppName = "\u009b2J" }, "app_name:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := full()
			tt.change(&e)
			err := e.Validate()
			if tt.want == "" && err == nil {
				return
			}
			if err == nil || tt.want == "" || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want a fault that begins with %q", err, tt.want)
			}
		})
	}
}

// Every field of text is found by its type, so that a new one is not forgotten.
func TestNoTextOfAnEventIsUnbounded(t *testing.T) {
	e := full()
	for name, field := range fields(reflect.ValueOf(&e).Elem(), "") {
		if field.Kind() != reflect.String {
			continue
		}
		before := field.String()
		for what, text := range map[string]string{"endless text": strings.Repeat("a", 1<<16), "a control character": "a\x00", "half a character": "a\xff"} {
			field.SetString(text)
			if err := e.Validate(); err == nil || !strings.HasPrefix(err.Error(), name+":") {
				t.Errorf("with %s in %s: got %v", what, name, err)
			}
		}
		field.SetString(before)
	}
}

func TestEveryEventIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \| ([a-z_, ]+) \|`).FindAllStringSubmatch(string(page), -1)
	var ids, actions []string
	for _, row := range rows {
		ids = append(ids, row[1])
		actions = append(actions, strings.Split(row[2], ", ")...)
	}
	for _, list := range []struct {
		typ string
		got []string
	}{{"ID", ids}, {"Action", actions}} {
		want := constants(t, list.typ)
		slices.Sort(want)
		slices.Sort(list.got)
		if diff := cmp.Diff(want, list.got); diff != "" {
			t.Errorf("docs/events.md has other values of type %s (-want +got):\n%s", list.typ, diff)
		}
	}
	for _, evidence := range constants(t, "Evidence") {
		if !strings.Contains(string(page), evidence) {
			t.Errorf("docs/events.md does not have evidence %q", evidence)
		}
	}
	for _, text := range constants(t, "ID") {
		id, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if title := event.ID(id).Title(); strings.HasPrefix(title, "event ") {
			t.Errorf("event %d has no title", id)
		}
	}
}

// constants returns the values of the package's constants of a type, as text.
func constants(t *testing.T, typ string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for node := range ast.Preorder(file) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			continue
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typ {
			values = append(values, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		}
	}
	if len(values) == 0 {
		t.Fatalf("no constants of type %s were found", typ)
	}
	return values
}

func TestEveryFieldOfAnEventIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	// Everything in backquotes in the table of fields.
	_, table, _ := strings.Cut(string(page), "## Fields")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := make(map[string]bool)
	for _, word := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(table, -1) {
		documented[word[1]] = true
	}
	e := full()
	for name := range fields(reflect.ValueOf(&e).Elem(), "") {
		for word := range strings.SplitSeq(name, ".") {
			if !documented[word] {
				t.Errorf("docs/events.md does not have %q of %s in its table of fields", word, name)
			}
		}
	}
}

// fields returns the fields of v by their names in JSON, nested with dots.
func fields(v reflect.Value, prefix string) map[string]reflect.Value {
	all := make(map[string]reflect.Value)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		field := reflect.Indirect(v.Field(i))
		_, opaque := reflect.TypeAssert[encoding.TextMarshaler](field)
		if field.Kind() != reflect.Struct || opaque {
			all[prefix+name] = field
			continue
		}
		maps.Copy(all, fields(field, prefix+name+"."))
	}
	return all
}

func TestStrongerEvidenceIsMoreDirect(t *testing.T) {
	order := []event.Evidence{event.EvidenceNone, event.EvidenceIP, event.EvidenceDNS, event.EvidenceTLSSNI}
	for i := 1; i < len(order); i++ {
		if order[i-1].Strength() >= order[i].Strength() {
			t.Errorf("%q is as strong as %q", order[i-1], order[i])
		}
	}
}
