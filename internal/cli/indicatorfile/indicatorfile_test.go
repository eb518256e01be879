package indicatorfile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cli/indicatorfile"
	"interdict/internal/indicator"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []indicatorfile.Row
		refused  []indicatorfile.Refused
		wantErr  string
	}{
		{
			"columns in any order, some missing", "\ufeffvalue,type,action\nexample.com,domain,block\n",
			[]indicatorfile.Row{{Indicator: indicatorfile.Indicator{Type: "domain", Value: "example.com", Action: "block", Alert: true}, Line: 2}},
			nil, "",
		},
		{
			"every column", "type,value,action,severity,expires,include_groups,exclude_groups,alert,description\n" +
				"ip,192.0.2.1,audit,high,2026-12-31,a;b,c,false,\"why, because\"\n",
			[]indicatorfile.Row{func() indicatorfile.Row {
				n := indicatorfile.Indicator{
					Type: "ip", Value: "192.0.2.1", Action: "audit", Severity: "high", Description: "why, because",
					ExpiresAt: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC),
				}
				n.Scope.Include, n.Scope.Exclude = []string{"a", "b"}, []string{"c"}
				return indicatorfile.Row{Indicator: n, Line: 2}
			}()},
			nil, "",
		},
		{
			"people and times",
			"type,value,action,include_users,exclude_user_groups,windows\nip,192.0.2.1,block,a;b,c,mon-fri 08:00-17:30 UTC;22:00-06:00\nip,192.0.2.2,block,,,late\n",
			[]indicatorfile.Row{func() indicatorfile.Row {
				n := indicatorfile.Indicator{Type: "ip", Value: "192.0.2.1", Action: "block", Alert: true}
				n.Scope.IncludeUsers, n.Scope.ExcludeUserGroups = []string{"a", "b"}, []string{"c"}
				n.Scope.Windows = []indicator.Window{{Days: indicator.Days()[:5], From: "08:00", To: "17:30", Zone: "UTC"}, {From: "22:00", To: "06:00"}}
				return indicatorfile.Row{Indicator: n, Line: 2}
			}()},
			[]indicatorfile.Refused{{Line: 3, Rule: `reading the window "late": "late" is no span such as 08:00-17:30`}},
			"",
		},
		{"an empty file", "", nil, nil, "the file has no line with the names of the columns"},
		{"an unknown column", "type,wert\n", nil, nil, `column 2 is called "wert"`},
		{
			"lines that cannot be read are refused, the others are not",
			"type,value,expires,alert\ndomain,a.example,soon,\n\ndomain,b.example,,ja\ndomain\ndomain,b\"c,,\ndomain,\"d.example\n\",,\ndomain,e.example,,\n",
			[]indicatorfile.Row{
				{Indicator: indicatorfile.Indicator{Type: "domain", Value: "d.example\n", Alert: true}, Line: 7},
				{Indicator: indicatorfile.Indicator{Type: "domain", Value: "e.example", Alert: true}, Line: 9},
			},
			[]indicatorfile.Refused{
				{Line: 2, Rule: `expires "soon" is not a time`},
				{Line: 4, Rule: `alert is "ja", not true or false`},
				{Line: 5, Rule: "wrong number of fields"},
				{Line: 6, Rule: `bare " in non-quoted-field`},
			},
			"",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := indicatorfile.Read(strings.NewReader(tc.in), noon)
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr {
					t.Fatalf("got error %v, want %s", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(indicatorfile.File{Rows: tc.want, Refused: tc.refused}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
