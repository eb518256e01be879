package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oklog/ulid/v2"

	"interdict/internal/fleet"
	"interdict/internal/store"
)

func change(tb testing.TB, s *store.Store, fn func(*store.Tx) error) uint64 {
	tb.Helper()
	revision, err := s.Change(tb.Context(), fn)
	if err != nil {
		tb.Fatalf("changing: %v", err)
	}
	return revision
}

func TestDocuments(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			g := fleet.Group{ID: "g1", Name: "lab", Rule: `os == "linux"`, CreatedAt: noon, Version: 1}
			change(t, s, func(tx *store.Tx) error { return tx.Groups().Put(g) })
			g.Description = "after"
			change(t, s, func(tx *store.Tx) error { return tx.Groups().Put(g) })
			view(t, s, func(tx *store.Tx) error {
				one, err := tx.Groups().Get("g1")
				if diff := cmp.Diff(g, one); diff != "" {
					t.Errorf("by id (-want +got):\n%s", diff)
				}
				named, namedErr := tx.Groups().Named("lab")
				all, allErr := tx.Groups().All()
				if diff := cmp.Diff([]fleet.Group{g}, named); diff != "" {
					t.Errorf("by name (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(named, all); diff != "" {
					t.Errorf("all (-want +got):\n%s", diff)
				}
				return errors.Join(err, namedErr, allErr)
			})
			change(t, s, func(tx *store.Tx) error { return tx.Groups().Delete("g1") })
			_, err := s.Change(t.Context(), func(tx *store.Tx) error { return tx.Groups().Delete("g1") })
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("deleting twice: %v, want ErrNotFound", err)
			}
		})
	}
}

func TestAChangeThatFailsLeavesNothing(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			mistake := errors.New("a mistake")
			_, err := s.Change(t.Context(), func(tx *store.Tx) error {
				tx.Audit(store.AuditEntry{ID: ulid.Make().String(), Action: "try"})
				return errors.Join(tx.Groups().Put(fleet.Group{ID: "g", Name: "g"}), mistake)
			})
			if !errors.Is(err, mistake) {
				t.Fatalf("got %v, want the mistake", err)
			}
			view(t, s, func(tx *store.Tx) error {
				groups, err := tx.Groups().All()
				log, logErr := tx.AuditLog(store.AuditQuery{Limit: 10})
				revision, revisionErr := tx.Revision()
				if len(groups) != 0 || len(log) != 0 || revision != 0 {
					t.Errorf("got %d groups, %d audit entries and revision %d, want nothing", len(groups), len(log), revision)
				}
				return errors.Join(err, logErr, revisionErr)
			})
			if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.Groups().Put(fleet.Group{ID: "g"}) }); err == nil {
				t.Error("configuration changed outside a change")
			}
		})
	}
}

func TestConcurrentChangesHaveOneOrder(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			change(t, s, func(tx *store.Tx) error { return tx.Policies().Put(fleet.Policy{ID: "p", Name: "p"}) })
			var writers sync.WaitGroup
			for range 8 {
				writers.Go(func() {
					for range 5 {
						change(t, s, func(tx *store.Tx) error {
							p, err := tx.Policies().Get("p")
							p.Version++
							return errors.Join(err, tx.Policies().Put(p))
						})
					}
				})
			}
			writers.Wait()
			view(t, s, func(tx *store.Tx) error {
				p, err := tx.Policies().Get("p")
				revision, revisionErr := tx.Revision()
				if p.Version != 40 || revision != 41 {
					t.Errorf("policy version %d at revision %d, want 40 at 41: a change was lost", p.Version, revision)
				}
				return errors.Join(err, revisionErr)
			})
		})
	}
}

func TestChangesCanBeFollowed(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			first := change(t, s, func(tx *store.Tx) error { return tx.Groups().Put(fleet.Group{ID: "g", Name: "g"}) })
			change(t, s, func(tx *store.Tx) error {
				return errors.Join(tx.Devices().Put(fleet.Device{ID: "d"}), tx.Join("g", "d"))
			})
			same := change(t, s, func(*store.Tx) error { return nil })
			last := change(t, s, func(tx *store.Tx) error { return errors.Join(tx.Leave("g", "d"), tx.Republish()) })
			if same != first+1 || last != same+1 {
				t.Errorf("revisions %d, %d and %d: only what touches something makes a new one", first, same, last)
			}
			for _, test := range []struct {
				since    uint64
				limit    int
				want     []store.Touched
				complete bool
			}{
				{0, 10, []store.Touched{{Kind: store.KindDevice, ID: "d"}, {Kind: store.KindGroup, ID: "g"}}, true},
				{first, 10, []store.Touched{{Kind: store.KindDevice, ID: "d"}}, true},
				{last, 10, nil, true},
			} {
				view(t, s, func(tx *store.Tx) error {
					got, complete, err := tx.ChangesSince(test.since, test.limit)
					if diff := cmp.Diff(test.want, got); diff != "" || complete != test.complete {
						t.Errorf("since %d: complete %v (-want +got):\n%s", test.since, complete, diff)
					}
					return err
				})
			}
			view(t, s, func(tx *store.Tx) error {
				if _, complete, err := tx.ChangesSince(0, 1); complete || err != nil {
					t.Errorf("two changes fit in one: %v", err)
				}
				return nil
			})
		})
	}
}

func TestDeviceStatesAreWrittenTogether(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			state := store.DeviceState{
				Device: "d1", Server: "s", LastSeen: noon, UpdatedAt: noon,
				Applied: fleet.Applied{
					Version: 7, Digest: "x", At: noon, Since: noon, Mode: fleet.ModeBlock, Error: "none",
					Settings: []fleet.SettingReport{{Setting: "fail_mode", Value: "open", Channel: fleet.ChannelFile, State: fleet.SettingFailed, Text: "no"}},
					Health:   []fleet.HealthItem{{Code: "c", Since: noon, Text: "t"}},
					Held:     map[string]fleet.Held{"fail_mode": {Version: 3, At: noon, Mark: 1<<64 - 1}},
				},
			}
			later := state
			later.Applied.Version, later.UpdatedAt = 8, noon.Add(time.Minute)
			if err := s.PutDeviceStates(t.Context(), state, store.DeviceState{Device: "d2", UpdatedAt: noon}, later); err != nil {
				t.Fatal(err)
			}
			view(t, s, func(tx *store.Tx) error {
				got, err := tx.DeviceStates(noon.Add(time.Second))
				if diff := cmp.Diff([]store.DeviceState{later}, got); diff != "" {
					t.Errorf("since a second later (-want +got):\n%s", diff)
				}
				return err
			})
		})
	}
}

func TestKeysAreMadeOnce(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			for _, value := range []string{"first", "second"} {
				err := s.Write(t.Context(), func(tx *store.Tx) error {
					got, err := tx.EnsureKey("k", []byte(value))
					if string(got) != "first" {
						t.Errorf("got key %q, want the first", got)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestWhatWasWrittenIsThereAfterOpeningAgain(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			s, err := store.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			change(t, s, func(tx *store.Tx) error { return tx.Groups().Put(fleet.Group{ID: "g", Name: "g", CreatedAt: noon}) })
			sent := newEvent("d1", 1)
			add(t, s, sent)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, c)
			view(t, s, func(tx *store.Tx) error {
				_, err := tx.Groups().Get("g")
				return err
			})
			if got := events(t, s, store.EventQuery{}); len(got) != 1 || got[0].ID != sent.ID {
				t.Errorf("got events %+v, want the one sent", got)
			}
		})
	}
}

func TestSeveralServersMayStartAtOnceOnPostgreSQL(t *testing.T) {
	c := store.Config{URL: postgres.URL(t)}
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			s, err := store.Open(t.Context(), c)
			if err != nil {
				t.Errorf("opening: %v", err)
				return
			}
			if err := s.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		})
	}
	starting.Wait()
}

func TestServersHearOfChanges(t *testing.T) {
	c := store.Config{URL: postgres.URL(t)}
	one, two := open(t, c), open(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	heard, ready, ended := make(chan string, 10), make(chan struct{}), make(chan error)
	go func() { ended <- two.Listen(ctx, func() { close(ready) }, func(m string) { heard <- m }) }()
	<-ready
	change(t, one, func(tx *store.Tx) error { return tx.Groups().Put(fleet.Group{ID: "g", Name: "g"}) })
	select {
	case m := <-heard:
		if m != "revision 1" {
			t.Errorf("heard %q, want revision 1", m)
		}
	case <-time.After(10 * time.Second):
		t.Error("heard nothing")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("listening ended with %v, want that it was cancelled", err)
	}
}

func TestADirectoryIsOpenOnceAndPrivate(t *testing.T) {
	c := store.Config{Dir: filepath.Join(t.TempDir(), "data")}
	s := open(t, c)
	change(t, s, func(tx *store.Tx) error { return tx.Groups().Put(fleet.Group{ID: "g", Name: "g"}) })
	if _, err := store.Open(t.Context(), c); err == nil {
		t.Error("a directory that is open was opened again")
	}
	modes := make(map[string]fs.FileMode)
	files, err := os.ReadDir(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[f.Name()] = info.Mode()
	}
	want := map[string]fs.FileMode{"interdict.db": 0o600, "interdict.db-shm": 0o600, "interdict.db-wal": 0o600, "interdict.lock": 0o600}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

func TestOpenWantsOnePlace(t *testing.T) {
	for _, c := range []store.Config{{}, {Dir: t.TempDir(), URL: "postgres://192.0.2.1/x"}, {URL: "mysql://x"}} {
		if _, err := store.Open(t.Context(), c); err == nil {
			t.Errorf("opened %+v", c)
		}
	}
}

func TestTokensCountTheirUses(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			token := store.Token{ID: ulid.Make().String(), Name: "t", CreatedAt: noon, ExpiresAt: noon.Add(time.Hour), Uses: 2}
			err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.CreateToken(token, []byte{1, 2}) })
			if err != nil {
				t.Fatal(err)
			}
			var admitted []bool
			for range 3 {
				err := s.Write(t.Context(), func(tx *store.Tx) error {
					ok, err := tx.UseToken(token.ID, token.Uses)
					admitted = append(admitted, ok)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]bool{true, true, false}, admitted); diff != "" {
				t.Errorf("admitted (-want +got):\n%s", diff)
			}
			view(t, s, func(tx *store.Tx) error {
				got, _, err := tx.TokenBySecret([]byte{1, 2})
				token.Used = 2
				if diff := cmp.Diff(token, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("token (-want +got):\n%s", diff)
				}
				if _, _, missing := tx.TokenBySecret([]byte{9}); !errors.Is(missing, store.ErrNotFound) {
					t.Errorf("another secret: %v, want ErrNotFound", missing)
				}
				return err
			})
		})
	}
}
