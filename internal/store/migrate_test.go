package store_test

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // The database/sql driver "pgx".
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // The database/sql driver "sqlite".

	"interdict/internal/fleet"
	"interdict/internal/fleet/grouprule"
	"interdict/internal/store"
)

// openFirst makes a database as the first release did.
func openFirst(t *testing.T, c store.Config) *sql.DB {
	t.Helper()
	const file = "00001_first_tables.sql"
	text, err := fs.ReadFile(os.DirFS("migrations"), file)
	if err != nil {
		t.Fatal(err)
	}
	driver, name, dialect := "sqlite", filepath.Join(c.Dir, "interdict.db"), goose.DialectSQLite3
	if c.URL != "" {
		driver, name, dialect = "pgx", c.URL, goose.DialectPostgres
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(dialect, db, fstest.MapFS{file: {Data: text}}, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestADatabaseOfTheFirstReleaseKeepsWhatItHas(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			db := openFirst(t, c)
			for _, statement := range []string{
				`INSERT INTO devices (id, name, doc) VALUES
					('d1', 'one', '{"id":"d1","name":"one","labels":{"team":"finance \"eu\""},"enrolled_at":"2026-03-01T12:00:00Z","online":false,"applied":{},"version":3}'),
					('d2', 'two', '{"id":"d2","name":"two","enrolled_at":"2026-03-01T12:00:00Z","online":false,"applied":{},"version":1}')`,
				`INSERT INTO device_states (device_id, server, last_seen, applied_version, applied_digest, applied_at, applied_mode, applied_error, facts, updated_at) VALUES
					('d1', '', 5, 7, 'abc', 6, 'block', '', '{"hostname":"h\u00f6st","os":"linux","os_version":"Debian 12","arch":"amd64","agent_version":"1.3.0"}', 8),
					('d2', '', 5, 7, 'abc', 6, 'block', '', '{}', 8)`,
				`INSERT INTO device_groups (id, name, doc) VALUES
					('g1', 'finance', '{"id":"g1","name":"finance","match_labels":{"team":"finance \"eu\""},"version":2,"created_at":"2026-03-01T12:00:00Z"}'),
					('g2', 'static', '{"id":"g2","name":"static","version":1,"created_at":"2026-03-01T12:00:00Z"}')`,
				`INSERT INTO group_members (group_id, device_id) VALUES ('g2', 'd2')`,
				`INSERT INTO events (id, device_id, arrival, time, event_id, action, app_id, host, user_name, alert_key, event_count, doc) VALUES
					('e1', 'd1', 10, 10, 1126, 'blocked', 'itunes', 'itunes.apple.com', 'ada', '', 2, '{"id":"e1","device":"d1","action":"blocked"}')`,
			} {
				if _, err := db.ExecContext(t.Context(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			s := open(t, c)
			view(t, s, func(tx *store.Tx) error { return checkMigrated(t, tx) })
		})
	}
}

func checkMigrated(t *testing.T, tx *store.Tx) error {
	t.Helper()
	d, err := tx.Devices().Get("d1")
	if err != nil {
		return err
	}
	want := fleet.Device{Hostname: "höst", OS: "linux", OSVersion: "Debian 12", Arch: "amd64", AgentVersion: "1.3.0"}
	if d.Hostname != want.Hostname || d.OS != want.OS || d.OSVersion != want.OSVersion || d.Arch != want.Arch || d.AgentVersion != want.AgentVersion {
		t.Errorf("device d1 is %+v, want what it said of itself: %+v", d, want)
	}
	if d.Name != "one" || d.Version != 3 || d.Labels["team"] != `finance "eu"` {
		t.Errorf("device d1 is %+v, want its name, version and labels as they were", d)
	}
	states, err := tx.DeviceStates(time.Time{})
	if err != nil || len(states) != 2 || states[0].Applied.Digest != "abc" {
		t.Errorf("the states are %+v (%v), want both as they were", states, err)
	}
	members, err := tx.MembersOf("g2")
	if err != nil || len(members) != 1 {
		t.Errorf("group g2 has %v (%v), want its member", members, err)
	}
	activity, err := tx.AppActivity("itunes", time.Time{}.Add(1))
	if err != nil || len(activity) != 1 || activity[0].Events != 2 {
		t.Errorf("the activity is %+v (%v), want that of the event from before", activity, err)
	}
	g, err := tx.Groups().Get("g1")
	if err != nil {
		return err
	}
	rule, err := grouprule.Compile(g.Rule)
	if err != nil {
		t.Fatalf("rule %q of the group with labels: %v", g.Rule, err)
	}
	for name, labels := range map[string]map[string]string{"one": d.Labels, "two": {"team": "sales"}, "three": nil} {
		in, failed := rule.Match(&fleet.Device{Name: name, Labels: labels})
		if failed != nil || in != (name == "one") {
			t.Errorf("device %q with labels %v: in the group %v (%v)", name, labels, in, failed)
		}
	}
	static, err := tx.Groups().Get("g2")
	if static.Rule != "" || g.Version != 2 {
		t.Errorf("the groups are %+v and %+v, want no rule and version 2", static, g)
	}
	return err
}
