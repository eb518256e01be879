package usage_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/appeal"
	"interdict/internal/control/controltest"
	"interdict/internal/control/groups"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/control/usage"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// report sends what a device used in the last five minutes.
func report(d *controltest.Device, key string, uses ...bundle.Use) error {
	now := d.Clock.Now()
	return d.Usage.Report(context.Background(), d.ID, key, bundle.UsageReport{Start: now.Add(-5 * time.Minute), End: now, Uses: uses})
}

func mustReport(tb testing.TB, d *controltest.Device, uses ...bundle.Use) {
	tb.Helper()
	if err := report(d, ulid.Make().String(), uses...); err != nil {
		tb.Fatalf("reporting use: %v", err)
	}
}

func met(d *controltest.Device, id event.ID, action event.Action, user string) event.Event {
	at := d.Clock.Now().UTC()
	return event.Event{
		ID: ulid.Make().String(), Time: at, EventID: id, Action: action, AppID: "itunes", AppName: "iTunes",
		Destination: event.Destination{Host: "init.itunes.apple.com"}, Process: event.Process{Path: "/usr/bin/curl"},
		User: event.User{Name: user}, Count: 2, FirstSeen: at, LastSeen: at,
	}
}

// accessTo is a request for access to a host of iTunes.
func accessTo(host string) access.Request {
	return access.Request{ID: ulid.Make().String(), UID: 1000, User: "ada", AppID: "itunes", Host: host}
}

func scopeOf(group string) indicator.Profile {
	return indicator.Profile{Scope: indicator.Scope{Include: []string{group}}}
}

func impactOf(tb testing.TB, s *controltest.Server, r control.TagRequest) usage.Impact {
	tb.Helper()
	i, err := s.Usage.Impact(tb.Context(), r)
	if err != nil {
		tb.Fatalf("asking for the impact: %v", err)
	}
	return i
}

func TestUseIsAttributedToApps(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d := s.NewDevice("d")
			key := ulid.Make().String()
			for range 2 {
				err := report(d, key,
					bundle.Use{Host: "init.itunes.apple.com", Process: "/usr/bin/curl", User: "ada", Count: 2},
					bundle.Use{Host: "ITUNES.apple.com.", Process: "/usr/bin/curl", User: "ada", Count: 1},
					bundle.Use{Host: "itunes.apple.com", Process: "\x1b[2J" + strings.Repeat("é", 4096), User: "ben", Count: 1},
					bundle.Use{Host: "nothing.example", User: "eve", Count: 5},
					bundle.Use{Host: "itunes.apple.com", User: "eve", Count: -5})
				if err != nil {
					t.Fatal(err)
				}
			}
			got := impactOf(t, s, control.TagRequest{Apps: []string{"iTunes"}, Tag: cloudapp.TagUnsanctioned}).Total
			want := usage.Use{
				Devices: 1, DevicesInScope: 1, Users: 2, Processes: 2,
				TopDevices: []usage.DeviceCount{{ID: d.ID, Name: "d", InScope: true, Count: 4}},
				TopUsers:   []store.NameCount{{Name: "ada", Count: 3}, {Name: "ben", Count: 1}},
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(usage.Use{}, "TopProcesses")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if p := got.TopProcesses; len(p) != 2 || p[0].Name != "/usr/bin/curl" || len(p[1].Name) > 512 || strings.Contains(p[1].Name, "\x1b") {
				t.Errorf("got the processes %v, want curl and a clipped one", p)
			}
		})
	}
}

func TestReportsThatAreNoneAreRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	controltest.WantFault(t, report(d, "key"), fault.Invalid)
	controltest.WantFault(t, report(d, ulid.Make().String(), make([]bundle.Use, bundle.MaxUses+1)...), fault.Invalid)
	err := s.Usage.Report(t.Context(), "stranger", ulid.Make().String(), bundle.UsageReport{})
	controltest.WantFault(t, err, fault.Unauthorized)
}

// A clock that is wrong neither hides use nor keeps it for ever.
func TestTimesThatCannotBeAreClamped(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  time.Duration
		want bool
	}{
		{"from the future", 1000 * time.Hour, true},
		{"from the last month", -29 * 24 * time.Hour, true},
		{"from the month before", -31 * 24 * time.Hour, false},
		{"from long ago", -100 * 365 * 24 * time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := controltest.OnSQLite(t)
			d := s.NewDevice("d")
			end := s.Clock.Now().Add(tt.end)
			err := s.Usage.Report(t.Context(), d.ID, ulid.Make().String(), bundle.UsageReport{
				Start: end.Add(time.Hour), End: end, Uses: []bundle.Use{{Host: "itunes.apple.com", Count: 1}},
			})
			i := impactOf(t, s, control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored})
			if got := i.Total.Devices == 1; err != nil || got != tt.want {
				t.Errorf("it counts: %v (%v), want %v", got, err, tt.want)
			}
			s.Clock.Advance(91 * 24 * time.Hour)
			if n, err := s.Usage.Forget(t.Context(), 90*24*time.Hour); err != nil || n == 0 {
				t.Errorf("forgot %d (%v) after 91 days, want it gone", n, err)
			}
		})
	}
}

func TestWhomAnAppsRulesMetWith(t *testing.T) {
	s := controltest.OnSQLite(t)
	d, other := s.NewDevice("d"), s.NewDevice("other")
	d.Observe(met(d, event.IDBlocked, event.ActionBlocked, "ada"), met(d, event.IDBlocked, event.ActionBlocked, "ben"),
		met(d, event.IDBlocked, event.ActionWarned, "ada"), met(d, event.IDBypassed, event.ActionBypassed, "ada"))
	other.Observe(met(other, event.IDBlocked, event.ActionBlocked, "ada"), met(other, event.IDAudited, event.ActionAudited, ""))
	got, err := s.Usage.Activity(t.Context(), "iTunes", time.Time{})
	want := usage.Activity{
		AppID: "itunes", Since: got.Since,
		Blocked: usage.Count{Users: 2, Devices: 2, Events: 6}, Warned: usage.Count{Users: 1, Devices: 1, Events: 2},
		Bypassed: usage.Count{Users: 1, Devices: 1, Events: 2}, Audited: usage.Count{Users: 0, Devices: 1, Events: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	later, err := s.Usage.Activity(t.Context(), "itunes", s.Clock.Now().Add(time.Hour))
	if err != nil || later.Blocked.Events != 0 {
		t.Errorf("got %+v (%v) for the time after, want nothing", later, err)
	}
	_, err = s.Usage.Activity(t.Context(), "itune", time.Time{})
	controltest.WantFault(t, err, fault.NotFound)
}

func TestTheImpactOfATagIsToldAndNothingElseHappens(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			finance := s.NewGroup(groups.NewGroup{Name: "finance"})
			in, out, idle := s.NewDevice("in", finance), s.NewDevice("out"), s.NewDevice("idle", finance)
			mustReport(t, in, bundle.Use{Host: "itunes.apple.com", User: "ada", Process: "/usr/bin/curl", Count: 3})
			out.Observe(met(out, event.IDAudited, event.ActionAudited, "ben"))
			s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored})
			r, err := s.Appeals.Ask(t.Context(), idle.ID, "", accessTo("files.itunes.apple.com"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Appeals.Approve(t.Context(), controltest.Admin(), r.ID, appeal.Approval{}); err != nil {
				t.Fatal(err)
			}
			before, log := revision(t, s), auditLog(t, s)
			got := impactOf(t, s, control.TagRequest{
				Apps: []string{"itunes", "iTunes"}, Tag: cloudapp.TagUnsanctioned, Scope: scopeOf("finance"),
			})
			if revision(t, s) != before || auditLog(t, s) != log {
				t.Errorf("asking for the impact made revision %d of %d, or %d audit entries of %d", revision(t, s), before, auditLog(t, s), log)
			}
			if diff := cmp.Diff(scopeOf(finance), got.Scope); diff != "" {
				t.Errorf("scope (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]usage.GroupSize{{ID: finance, Name: "finance", Devices: 2}}, got.Include); diff != "" || got.Devices != 2 {
				t.Errorf("%d devices are in scope, want 2 (-want +got):\n%s", got.Devices, diff)
			}
			want := usage.Use{
				Devices: 2, DevicesInScope: 1, Users: 2, Processes: 1,
				TopDevices: []usage.DeviceCount{{ID: in.ID, Name: "in", InScope: true, Count: 3}, {ID: out.ID, Name: "out", Count: 2}},
				TopUsers:   []store.NameCount{{Name: "ada", Count: 3}, {Name: "ben", Count: 2}}, TopProcesses: []store.NameCount{{Name: "/usr/bin/curl", Count: 5}},
			}
			if diff := cmp.Diff(want, got.Total); diff != "" {
				t.Errorf("used by (-want +got):\n%s", diff)
			}
			if len(got.Apps) != 1 {
				t.Fatalf("got %d apps, want one", len(got.Apps))
			}
			app := got.Apps[0]
			both := impactOf(t, s, control.TagRequest{Apps: []string{"itunes", "dropbox"}, Tag: cloudapp.TagSanctioned})
			if diff := cmp.Diff(both.Apps[1].Use, both.Total); diff != "" || both.Apps[0].Use.Devices != 0 || both.Total.DevicesInScope != 2 {
				t.Errorf("with an app that nobody uses, both are used by %+v, want iTunes' two devices (-iTunes +both):\n%s", both.Total, diff)
			}
			if app.Tagging.Tag != cloudapp.TagMonitored || len(app.Domains) == 0 || len(app.Changed) != len(app.Domains) || len(app.Added)+len(app.Removed) != 0 {
				t.Errorf("got %+v, want all of its indicators to change", app)
			}
			if len(app.Allows) != len(app.Domains) || app.Allows[0].CreatedBy != "root" {
				t.Errorf("allowed by %+v, want the access that was given to each domain", app.Allows)
			}
		})
	}
}

func TestTheImpactSaysWhichDevicesItKnowsNothingOf(t *testing.T) {
	s := controltest.OnSQLite(t)
	told, deaf, off, here, out := s.NewDevice("told"), s.NewDevice("deaf"), s.NewDevice("off"), s.NewDevice("here"), s.NewDevice("out")
	s.NewDevice("never")
	s.NewGroup(groups.NewGroup{Name: "others", Members: []string{"out"}})
	s.NewPolicy("audit", fleet.ModeAudit)
	say := func(d *controltest.Device, reports ...fleet.SettingReport) {
		t.Helper()
		if err := s.Applied(t.Context(), d.ID, fleet.Applied{Digest: "d", Mode: fleet.ModeAudit, Settings: reports}); err != nil {
			t.Fatal(err)
		}
	}
	local := func(setting, value string) fleet.SettingReport {
		return fleet.SettingReport{Setting: setting, Value: value, Channel: fleet.ChannelLocal, State: fleet.SettingApplied}
	}
	say(told)
	say(deaf, local(fleet.SettingNetworkProtection, "disabled"))
	say(off, local(fleet.SettingUsageReporting, "off"))
	say(here, local(fleet.SettingNetworkProtection, "block"))
	say(out, local(fleet.SettingUsageReporting, "off"))
	scope := indicator.Profile{Scope: indicator.Scope{Exclude: []string{"others"}}, People: indicator.People{IncludeUsers: []string{"ada"}}}
	got := impactOf(t, s, control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned, Scope: scope})
	want := usage.Reporting{Silent: 3, NeverConnected: 1, Disabled: 1, Off: 1, Delay: 300, UsersTogether: true}
	if diff := cmp.Diff(want, got.Reporting); diff != "" || got.Devices != 5 {
		t.Errorf("of %d devices, want 5 (-want +got):\n%s", got.Devices, diff)
	}
}

func TestWhichNamesATagReaches(t *testing.T) {
	s := controltest.OnSQLite(t)
	for _, tt := range []struct {
		name  string
		apps  []string
		tag   cloudapp.Tag
		first func()
		check func(a *usage.AppImpact) bool
	}{
		{"names of other apps are spared", []string{"amazon"}, cloudapp.TagUnsanctioned, nil, func(a *usage.AppImpact) bool {
			return contains(a.Spared, "aws.amazon.com") && len(a.Added) == len(a.Domains)
		}},
		{"not if these are tagged with it", []string{"amazon", "amazon-web-services"}, cloudapp.TagUnsanctioned, nil, func(a *usage.AppImpact) bool {
			return !contains(a.Spared, "aws.amazon.com")
		}},
		{"a sanctioned app has no indicators", []string{"amazon"}, cloudapp.TagSanctioned, nil, func(a *usage.AppImpact) bool {
			return len(a.Domains)+len(a.Spared)+len(a.Added)+len(a.Allows) == 0
		}},
		{"untagging removes them", []string{"amazon"}, cloudapp.TagNone, func() {
			s.Tag(control.TagRequest{Apps: []string{"amazon"}, Tag: cloudapp.TagUnsanctioned})
		}, func(a *usage.AppImpact) bool { return len(a.Removed) > 0 && len(a.Domains) == 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.first != nil {
				tt.first()
			}
			i := impactOf(t, s, control.TagRequest{Apps: tt.apps, Tag: tt.tag})
			for j := range i.Apps {
				if a := &i.Apps[j]; a.ID == "amazon" && !tt.check(a) {
					t.Errorf("got %+v", a)
				}
			}
		})
	}
}

func contains(all []usage.SparedName, name string) bool {
	for _, s := range all {
		if s.Domain == name {
			return true
		}
	}
	return false
}

func TestImpactsThatCannotBeToldAreRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	for _, tt := range []struct {
		name string
		r    control.TagRequest
	}{
		{"of no app", control.TagRequest{Tag: cloudapp.TagNone}},
		{"of too many", control.TagRequest{Apps: make([]string, 101), Tag: cloudapp.TagNone}},
		{"of one that is not known", control.TagRequest{Apps: []string{"itune"}, Tag: cloudapp.TagNone}},
		{"of no tag", control.TagRequest{Apps: []string{"itunes"}, Tag: "bad"}},
		{"for a group that is not known", control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored, Scope: scopeOf("nobody")}},
	} {
		if _, err := s.Usage.Impact(t.Context(), tt.r); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want a fault", tt.name, err)
		}
	}
}

func revision(t *testing.T, s *controltest.Server) (n uint64) {
	t.Helper()
	err := s.View(t.Context(), func(tx *store.Tx) (err error) {
		n, err = tx.Revision()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func auditLog(t *testing.T, s *controltest.Server) int {
	t.Helper()
	log, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{Query: page.Query{Limit: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	return len(log.Items)
}
