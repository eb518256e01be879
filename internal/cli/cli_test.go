package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"interdict/internal/fault"
)

func TestEveryCommandIsDocumented(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the short help %q should be a phrase without a full stop", c.CommandPath(), c.Short)
		}
		if c.Args == nil {
			t.Errorf("%s takes whatever arguments it is given", c.CommandPath())
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(newRootCmd(&session{Env: Env{Getenv: func(string) string { return "" }}}))
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"no error", nil, 0},
		{"an error that is no fault", errors.New("disk full"), 1},
		{"a thing that does not exist", fault.New(fault.NotFound, "x"), 1},
		{"a name that is taken", fault.New(fault.Conflict, "x"), 1},
		{"input that breaks a rule", fmt.Errorf("wrapped: %w", fault.New(fault.Invalid, "x")), 2},
		{"no answer", fault.New(fault.Unreachable, "x"), 3},
		{"a server that cannot answer now", fault.New(fault.Unavailable, "x"), 3},
		{"an unknown caller", fault.New(fault.Unauthorized, "x"), 4},
		{"a caller who may not", fault.New(fault.Forbidden, "x"), 4},
		{"an interrupt", context.Canceled, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := exitCode(tc.err); got != tc.want {
				t.Errorf("got %d for %v, want %d", got, tc.err, tc.want)
			}
		})
	}
}

func TestErrorsComeWithTheirHint(t *testing.T) {
	var b bytes.Buffer
	tell(&b, fault.New(fault.NotFound, "no app %q", "a\x1b[31mb").WithHint("type 'interdict app search a'"))
	want := "interdict: no app \"a\\x1b[31mb\"\nhint: type 'interdict app search a'\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestWhatStrangersWroteCannotControlTheTerminal(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain text stays", "Füße 東京 a b", "Füße 東京 a b"},
		{"an escape sequence", "\x1b]0;owned\a", `\x1b]0;owned\a`},
		{"a line break", "a\nb", `a\nb`},
		{"a right-to-left override", "a\u202eb", `a\u202eb`},
		{"bytes that are no text", "a\xffb", "a\ufffdb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := printable(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestListsInEveryFormat(t *testing.T) {
	type thing struct {
		Name string `json:"name"`
		Note string `json:"note"`
	}
	columns := []column[thing]{
		{"name", func(v thing) string { return v.Name }},
		{"some_note", func(v thing) string { return v.Note }},
	}
	items := []json.RawMessage{json.RawMessage(`{"name":"a","note":"x, y"}`), json.RawMessage(`{"name":"bcd","extra":1}`)}
	for _, tc := range []struct{ format, want string }{
		{formatTable, "NAME  SOME NOTE\na     x, y\nbcd   -\n"},
		{formatCSV, "name,some_note\na,\"x, y\"\nbcd,\n"},
		{formatJSON, `{
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
			s := &session{Env: Env{Stdout: &out}, format: tc.format}
			if err := printList(s, items, columns); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadIndicators(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []indicatorRow
		refused  []refusedLine
		wantErr  string
	}{
		{
			"columns in any order, some missing", "\ufeffvalue,type,action\nexample.com,domain,block\n",
			[]indicatorRow{{newIndicator{Type: "domain", Value: "example.com", Action: "block", Alert: true}, 2}},
			nil, "",
		},
		{
			"every column", "type,value,action,severity,expires,include_groups,exclude_groups,alert,description\n" +
				"ip,192.0.2.1,audit,high,2026-12-31,a;b,c,false,\"why, because\"\n",
			[]indicatorRow{func() indicatorRow {
				n := newIndicator{
					Type: "ip", Value: "192.0.2.1", Action: "audit", Severity: "high", Description: "why, because",
					ExpiresAt: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC),
				}
				n.Scope.Include, n.Scope.Exclude = []string{"a", "b"}, []string{"c"}
				return indicatorRow{n, 2}
			}()},
			nil, "",
		},
		{"an empty file", "", nil, nil, "the file has no line with the names of the columns"},
		{"an unknown column", "type,wert\n", nil, nil, `column 2 is called "wert"`},
		{
			"lines that cannot be read are refused, the others are not",
			"type,value,expires,alert\ndomain,a.example,soon,\n\ndomain,b.example,,ja\ndomain\ndomain,b\"c,,\ndomain,\"d.example\n\",,\ndomain,e.example,,\n",
			[]indicatorRow{
				{newIndicator{Type: "domain", Value: "d.example\n", Alert: true}, 7},
				{newIndicator{Type: "domain", Value: "e.example", Alert: true}, 9},
			},
			[]refusedLine{
				{2, `expires "soon" is not a time`},
				{4, `alert is "ja", not true or false`},
				{5, "wrong number of fields"},
				{6, `bare " in non-quoted-field`},
			},
			"",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readIndicators(strings.NewReader(tc.in), noon)
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr {
					t.Fatalf("got error %v, want %s", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			allow := cmp.AllowUnexported(indicatorFile{}, indicatorRow{}, refusedLine{})
			if diff := cmp.Diff(indicatorFile{tc.want, tc.refused}, got, allow); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestADataDirectoryThatCannotBeRead(t *testing.T) {
	for err, want := range map[error]int{
		&fs.PathError{Op: "open", Path: "/srv/admin-token", Err: fs.ErrPermission}: ExitNotPermitted,
		&fs.PathError{Op: "open", Path: "/srv/admin-token", Err: fs.ErrNotExist}:   ExitFailed,
	} {
		if got := exitCode(dataDirFault("/srv", err)); got != want {
			t.Errorf("got exit code %d for %v, want %d", got, err, want)
		}
	}
}

func TestATokenIsNotShownToAnotherServer(t *testing.T) {
	env := Env{ConfigDir: t.TempDir(), Getenv: func(string) string { return "" }}
	s := &session{Env: env, format: formatTable}
	if _, err := s.writeLogin(login{Server: "https://a.example:8443", Token: "secret"}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, server string
		wantToken    string
	}{
		{"the server that was logged in to", "", "secret"},
		{"the same server by its address", "https://A.example:8443/", "secret"},
		{"another server", "https://b.example:8443", ""},
		{"another port", "https://a.example:9443", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := (&session{Env: env, server: tc.server, format: formatTable}).chooseLogin()
			if tc.wantToken == "" {
				if fault.CodeOf(err) != fault.Invalid {
					t.Fatalf("got %+v and error %v, want to be asked for a token", l, err)
				}
				return
			}
			if err != nil || l.Token != tc.wantToken {
				t.Fatalf("got %+v, %v; want the token", l, err)
			}
		})
	}
}
