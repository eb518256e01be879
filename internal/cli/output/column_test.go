package output_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cli/output"
)

type thing struct {
	Name string `json:"name"`
	Note string `json:"note"`
}

func thingColumns() []output.Column[thing] {
	return []output.Column[thing]{
		{Head: "name", Cell: func(v thing) string { return v.Name }},
		{Head: "some_note", Cell: func(v thing) string { return v.Note }},
	}
}

func TestListsInEveryFormat(t *testing.T) {
	items := []json.RawMessage{json.RawMessage(`{"name":"a","note":"x, y"}`), json.RawMessage(`{"name":"bcd","extra":1}`)}
	for _, tc := range []struct{ format, want string }{
		{output.FormatTable, "NAME  SOME NOTE\na     x, y\nbcd   -\n"},
		{output.FormatCSV, "name,some_note\na,\"x, y\"\nbcd,\n"},
		{output.FormatJSON, `{
  "items": [
    {
      "name": "a",
      "note": "x, y"
    },
    {
      "name": "bcd",
      "extra": 1
    }
  ]
}
`},
	} {
		t.Run(tc.format, func(t *testing.T) {
			var out bytes.Buffer
			if err := output.List(&out, tc.format, items, thingColumns()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneThingInEveryFormat(t *testing.T) {
	for _, tc := range []struct{ format, want string }{
		{output.FormatTable, "name  a\n"},
		{output.FormatCSV, "name,some_note\na,\n"},
		{output.FormatJSON, "{\n  \"name\": \"a\",\n  \"extra\": 1\n}\n"},
	} {
		t.Run(tc.format, func(t *testing.T) {
			var out bytes.Buffer
			if err := output.One(&out, tc.format, json.RawMessage(`{"name":"a","extra":1}`), thingColumns()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
