package groups_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/bypass"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/edit"
	"interdict/internal/control/enrol"
	"interdict/internal/control/groups"
	"interdict/internal/control/indicators"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
	"interdict/internal/store/pgtest"
)

// postgres is the private server of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }

func TestAGroupFollowsItsRule(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			ctx := t.Context()
			_, secret := s.Token(enrol.NewToken{Uses: 3})
			s.Admit(secret, "a", map[string]string{"ring": "1"})
			b := s.Admit(secret, "b", map[string]string{"ring": "2"})
			s.Admit(secret, "c", nil)
			id := s.NewGroup(groups.NewGroup{Name: "ring", Rule: `labels.ring == "1"`, Members: []string{"c"}})

			devices := func(want ...string) {
				t.Helper()
				list, err := s.Devices(ctx, control.DeviceQuery{Group: "ring"})
				var got []string
				for _, d := range list.Items {
					got = append(got, d.Name)
				}
				if !slices.Equal(got, want) || err != nil {
					t.Errorf("the group has %v (%v), want %v", got, err, want)
				}
			}
			devices("a", "c")
			labels := map[string]string{"ring": "1"}
			if _, _, err := s.UpdateDevice(ctx, controltest.Admin(), "b", edit.AnyVersion, control.DeviceUpdate{Labels: &labels}); err != nil {
				t.Fatal(err)
			}
			devices("a", "b", "c")
			g, _, err := s.Groups.Update(ctx, controltest.Admin(), "ring", 1, groups.NewGroup{Name: "ring", Rule: `name in ["b"]`})
			if err != nil || g.Version != 2 || g.Devices != 1 || len(g.Members) != 0 {
				t.Errorf("got %+v (%v), want version 2 with one device", g, err)
			}
			devices("b")
			list, err := s.Groups.List(ctx, page.Query{})
			if err != nil || len(list.Items) != 1 || list.Items[0].ID != id || list.Items[0].Devices != 1 {
				t.Errorf("got %+v (%v), want the group with one device", list.Items, err)
			}
			if _, err := s.DeleteDevice(ctx, controltest.Admin(), string(b.ID), edit.AnyVersion); err != nil {
				t.Fatal(err)
			}
			devices()
		})
	}
}

func TestPreview(t *testing.T) {
	s := controltest.OnSQLite(t)
	_, secret := s.Token(enrol.NewToken{Uses: 3})
	a := s.Admit(secret, "a", map[string]string{"site": "berlin"})
	b := s.Admit(secret, "b", map[string]string{"site": "rome"})
	c := s.Admit(secret, "c", nil)
	named := func(devices ...*controltest.Device) []control.Named {
		all := []control.Named{}
		for i, d := range devices {
			all = append(all, control.Named{ID: string(d.ID), Name: string("abc"[slices.Index([]*controltest.Device{a, b, c}, devices[i])])})
		}
		return all
	}
	const failure = "no answer"
	for _, test := range []struct {
		name string
		q    groups.GroupPreviewQuery
		want groups.GroupPreview
	}{
		{"all", groups.GroupPreviewQuery{Rule: `name != ""`}, groups.GroupPreview{Count: 3, Devices: named(a, b, c)}},
		{"the first of them", groups.GroupPreviewQuery{Rule: `name != ""`, Limit: 1}, groups.GroupPreview{Count: 3, Devices: named(a)}},
		{"static ones", groups.GroupPreviewQuery{Members: []string{"c"}}, groups.GroupPreview{Count: 1, Devices: named(c)}},
		{"one without an answer", groups.GroupPreviewQuery{Rule: `labels.site == "rome"`}, groups.GroupPreview{Count: 1, Devices: named(b), Failed: 1, Failure: failure}},
		{"none", groups.GroupPreviewQuery{Rule: "false"}, groups.GroupPreview{Devices: named()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := s.Groups.Preview(t.Context(), test.q)
			if got.Failure != "" {
				got.Failure = failure
			}
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	_, err := s.Groups.Preview(t.Context(), groups.GroupPreviewQuery{Rule: "os ==\n  labels", Members: []string{"ghost"}, Limit: 1001})
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || len(f.Fields) != 3 || !strings.HasPrefix(f.Fields[0].Rule, "has a mistake at line 1, column 4: ") {
		t.Errorf("got %v, want all three mistakes, and the place in the rule", err)
	}
	_, err = s.Groups.Preview(t.Context(), groups.GroupPreviewQuery{Members: make([]string, 10_001)})
	controltest.WantFault(t, err, fault.Invalid)
}

func TestAGroupInUseIsNotDeleted(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	id := s.NewGroup(groups.NewGroup{Name: "lab"})
	in := indicator.Profile{Scope: indicator.Scope{Include: []string{"lab"}}}
	policy := s.NewPolicy("standard", fleet.ModeAudit, "lab")
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: "unsanctioned", Scope: in})
	i, _, err := s.Indicators.Create(ctx, controltest.Admin(), indicators.NewIndicator{
		Type: indicator.TypeDomain, Value: "a.example", Action: indicator.ActionBlock, Scope: in,
	})
	if err != nil {
		t.Fatal(err)
	}
	token, _ := s.Token(enrol.NewToken{Name: "joins", Groups: []string{"lab"}})
	gone, _ := s.Token(enrol.NewToken{Name: "revoked", Groups: []string{"lab"}})
	if _, err = s.Enrolment.RevokeToken(ctx, controltest.Admin(), gone.ID); err != nil {
		t.Fatal(err)
	}

	_, err = s.Groups.Delete(ctx, controltest.Admin(), "lab", edit.AnyVersion)
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Code != fault.Conflict {
		t.Fatalf("got %v, want a conflict", err)
	}
	want := []fault.Field{
		{Name: "policy", Rule: `"standard" is assigned by it`},
		{Name: "tag", Rule: "of app itunes has it in its scope"},
		{Name: "token", Rule: `"joins" admits devices to it`},
		{Name: "indicator", Rule: i.ID + " (domain a.example) has it in its scope"},
	}
	if diff := cmp.Diff(want, f.Fields); diff != "" {
		t.Errorf("what uses it (-want +got):\n%s", diff)
	}

	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: "none"})
	if _, err = s.Indicators.Delete(ctx, controltest.Admin(), i.ID); err != nil {
		t.Fatal(err)
	}
	if _, err = s.DeletePolicy(ctx, controltest.Admin(), policy, control.PolicyDeletion{Assigned: true}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Groups.Delete(ctx, controltest.Admin(), "lab", edit.AnyVersion)
	controltest.WantFault(t, err, fault.Conflict)
	s.Clock.Advance(token.ExpiresAt.Sub(s.Clock.Now()) + time.Second)
	if _, err = s.Groups.Delete(ctx, controltest.Admin(), id, edit.AnyVersion); err != nil {
		t.Errorf("deleting a group that nothing uses: %v", err)
	}
}

func TestWhatUsesAGroupIsKnownBeforeThisServerCaughtUp(t *testing.T) {
	s := controltest.OnSQLite(t)
	id := s.NewGroup(groups.NewGroup{Name: "lab"})
	scope := indicator.Scope{Exclude: []string{id}}
	for _, test := range []struct {
		name       string
		put, clear func(*store.Tx) error
	}{
		{
			"an indicator", func(tx *store.Tx) error {
				return tx.Indicators().Put(indicator.Indicator{ID: "i", Type: indicator.TypeDomain, Value: "a.example", Scope: indicator.Profile{Scope: scope}})
			},
			func(tx *store.Tx) error { return tx.Indicators().Delete("i") },
		},
		{
			"a revocation", func(tx *store.Tx) error {
				return tx.Revocations().Put(bypass.ScopedRevocation{Scope: scope, Revocation: bypass.Revocation{ID: "r", Before: s.Clock.Now()}})
			},
			func(tx *store.Tx) error { return tx.Revocations().Delete("r") },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			// As another server does: this one is not told.
			if _, err := s.Store.Change(t.Context(), test.put); err != nil {
				t.Fatal(err)
			}
			_, err := s.Groups.Delete(t.Context(), controltest.Admin(), "lab", edit.AnyVersion)
			controltest.WantFault(t, err, fault.Conflict)
			if _, err := s.Store.Change(t.Context(), test.clear); err != nil {
				t.Fatal(err)
			}
		})
	}
	// What can end nothing any more is no use.
	if _, err := s.Store.Change(t.Context(), func(tx *store.Tx) error {
		return tx.Revocations().Put(bypass.ScopedRevocation{Scope: scope, Revocation: bypass.Revocation{ID: "r", Before: s.Clock.Now().Add(-bypass.MaxAge)}})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Groups.Delete(t.Context(), controltest.Admin(), "lab", edit.AnyVersion); err != nil {
		t.Errorf("deleting a group that nothing uses: %v", err)
	}
}
