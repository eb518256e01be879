package indicators_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/indicators"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

func TestIndicatorsCanBeListedAndDeleted(t *testing.T) {
	s := controltest.OnSQLite(t)
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored})
	n := indicators.NewIndicator{Type: indicator.TypeDomain, Value: "bad.example", Action: indicator.ActionBlock, Description: "phishing"}
	i, _, err := s.Indicators.Create(t.Context(), controltest.Admin(), n)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Indicators.Create(t.Context(), controltest.Admin(), n)
	controltest.WantFault(t, err, fault.Conflict)
	all, err := s.Indicators.List(t.Context(), indicators.Query{Search: "PHISH"})
	if err != nil || len(all.Items) != 1 || all.Items[0].ID != i.ID {
		t.Errorf("found %+v (%v), want the custom one", all.Items, err)
	}
	all, err = s.Indicators.List(t.Context(), indicators.Query{Source: indicator.SourceCatalog, App: "itunes"})
	if err != nil || len(all.Items) == 0 || all.Items[0].Action != indicator.ActionWarn {
		t.Errorf("found %+v (%v), want the warnings for iTunes", all.Items, err)
	}
	_, err = s.Indicators.Delete(t.Context(), controltest.Admin(), all.Items[0].ID)
	controltest.WantFault(t, err, fault.Conflict)
	if _, err = s.Indicators.Delete(t.Context(), controltest.Admin(), i.ID); err != nil {
		t.Errorf("deleting: %v", err)
	}
	_, err = s.Indicators.Delete(t.Context(), controltest.Admin(), i.ID)
	controltest.WantFault(t, err, fault.NotFound)
}

func TestAnImportIsOneChangeAndTellsWhatItRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	row := func(value string) indicators.NewIndicator {
		return indicators.NewIndicator{Type: indicator.TypeDomain, Value: value, Action: indicator.ActionBlock}
	}
	rows := []indicators.NewIndicator{row("a.example"), row("not a name"), row("b.example"), row("A.example."), row("com")}
	done, err := s.Indicators.Import(ctx, controltest.Admin(), rows)
	if err != nil || done.Added != 2 || done.Existing != 1 || done.Revision == 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	if len(done.Refused) != 2 || done.Refused[0].Row != 1 || done.Refused[1].Row != 4 || done.Refused[0].Faults[0].Name != "value" {
		t.Errorf("got refused %+v, want rows 1 and 4 for their value", done.Refused)
	}
	again, err := s.Indicators.Import(ctx, controltest.Admin(), rows[:1])
	if err != nil || again.Added != 0 || again.Existing != 1 {
		t.Errorf("importing again: got %+v, %v", again, err)
	}
	none, err := s.Indicators.Import(ctx, controltest.Admin(), rows[1:2])
	if err != nil || none.Revision != 0 || len(none.Refused) != 1 {
		t.Errorf("importing nothing but faults: got %+v, %v", none, err)
	}
	_, err = s.Indicators.Import(ctx, controltest.Admin(), nil)
	controltest.WantFault(t, err, fault.Invalid)
	_, err = s.Indicators.Import(ctx, controltest.Admin(), make([]indicators.NewIndicator, indicators.MaxImport+1))
	controltest.WantFault(t, err, fault.Invalid)
}

func TestAnIndicatorIsChangedInPlace(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	create := func(value string) indicator.Indicator {
		t.Helper()
		i, _, err := s.Indicators.Create(ctx, controltest.Admin(), indicators.NewIndicator{
			Type: indicator.TypeDomain, Value: value, Action: indicator.ActionBlock, ExpiresAt: s.Clock.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	i := create("bad.example")
	warn, never := indicator.ActionWarn, time.Time{}
	people := indicator.Profile{People: indicator.People{IncludeUserGroups: []string{"students"}}}
	got, change, err := s.Indicators.Update(ctx, controltest.Admin(), i.ID, indicators.IndicatorUpdate{Action: &warn, ExpiresAt: &never, Scope: &people})
	want := i
	want.Action, want.ExpiresAt, want.Scope = warn, never, people
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, again, err := s.Indicators.Update(ctx, controltest.Admin(), i.ID, indicators.IndicatorUpdate{Action: &warn})
	if err != nil || again.Revision != change.Revision {
		t.Errorf("revision %d after %d (%v): an update that changes nothing is none", again.Revision, change.Revision, err)
	}

	explode := indicator.Action("explode")
	_, _, err = s.Indicators.Update(ctx, controltest.Admin(), i.ID, indicators.IndicatorUpdate{Action: &explode})
	controltest.WantFault(t, err, fault.Invalid)
	other := create("bad.example")
	_, _, err = s.Indicators.Update(ctx, controltest.Admin(), other.ID, indicators.IndicatorUpdate{Scope: &people})
	controltest.WantFault(t, err, fault.Conflict)
	_, _, err = s.Indicators.Update(ctx, controltest.Admin(), "none", indicators.IndicatorUpdate{})
	controltest.WantFault(t, err, fault.NotFound)
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored})
	_, _, err = s.Indicators.Update(ctx, controltest.Admin(), "itunes:itunes.apple.com", indicators.IndicatorUpdate{})
	controltest.WantFault(t, err, fault.Conflict)
}
